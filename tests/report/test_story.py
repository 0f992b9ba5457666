"""The report of a whole run in a real browser, on a desk and a phone: story, figures, browser of answers."""

import threading
from urllib.parse import parse_qs

import pytest
from fake_run import fake_cell, fake_run

from safeeraser.bench import runs
from safeeraser.cli import report as cli
from safeeraser.core import files
from safeeraser.core.errors import UserError
from safeeraser.report import links, run, table
from safeeraser.report.watch import Watched, is_current

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = fake_run(tmp_path_factory.mktemp("run"))
    files.write_json(out / "environment.json", {"gpu": None, "torch": "2.13.0"})
    run.write(out, runs.find(out))
    return out / "report"


@pytest.fixture
def shown(chromium, folder):
    """Open the page: ``shown(width, fragment, scheme)``."""
    contexts = []

    def opened(width=1440, fragment="", scheme="light", address=None):
        # axe puts itself into the page, which its policy forbids scripts to do
        context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True)
        contexts.append(context)
        tab = context.new_page()
        tab.goto((address or (folder / "index.html").as_uri()) + fragment)
        tab.wait_for_selector("#live, #count:not(:empty)")
        return tab

    yield opened
    for context in contexts:
        context.close()


def fragment(tab) -> dict[str, list[str]]:
    tab.wait_for_timeout(250)  # the address follows the filters a little later
    return parse_qs(tab.evaluate("location.hash").removeprefix("#"))


def test_the_story_comes_first_then_twins_table_figures_and_answers(shown):
    tab = shown()
    order = [section.get_attribute("id") for section in tab.query_selector_all("main > section")]
    assert order == ["story", "twins", "results", "figures", "browser", "made"]
    assert tab.locator("#story .line").count() == 2 and tab.locator("#story .track").count() == 2  # no SARR+ here
    assert [figure.get_attribute("id") for figure in tab.query_selector_all("figure")] == [
        "figure-tradeoff",
        "figure-categories",
        "figure-losses",
    ]
    assert tab.locator("main img").count() == 0 and tab.locator("figure svg").count() == 3


def test_twins_are_where_pd_changes_most(shown):
    twins = shown().locator(".twin")
    assert twins.count() == 3
    for number in range(3):
        words = twins.nth(number).locator(".said").all_inner_texts()
        assert words[0] == "✗ unsafe" and words[3:] == ["✗ refusal of a safe image", words[4], "✓ normal"]


def test_marks_say_value_interval_and_n_and_lead_to_their_answers(shown):
    tab = shown()
    for mark, metric in (
        ("#story a.without circle >> nth=0", "SARR"),
        ("#figure-categories a path >> nth=0", "ASR"),
        ("#figure-tradeoff a use >> nth=0", "ROUGE-L"),
        (".results td a >> nth=0", "SARR"),
    ):
        tab.hover(mark)
        said = tab.inner_text("#tip")
        assert metric in said and " % [" in said and "n = " in said, said
    tab.click("#figure-categories a[href*='verdict=~failed'][href*='category=Weapon'][href*='method=po&'] path")
    assert fragment(tab) == {"set": ["safe"], "verdict": ["~failed"], "method": ["po"], "category": ["Weapon"]}
    assert tab.input_value("select[name=method]") == "po" and tab.locator("#list li").count() > 0
    assert "safe image, harmful question · Weapon" in tab.inner_text("#detail")


def test_figures_follow_the_theme(shown):
    fills = "which => [...document.querySelectorAll(which)].map(one => getComputedStyle(one).fill)"
    for scheme, paper, ink in (
        ("light", "rgb(255, 255, 255)", "rgb(29, 35, 43)"),
        ("dark", "rgb(30, 34, 39)", "rgb(232, 234, 237)"),
    ):
        tab = shown(scheme=scheme)
        assert tab.evaluate(fills, "figure svg [id$=patch_1] path") == [paper] * 3
        assert {*tab.evaluate(fills, "figure svg [id*=text_] g")} == {ink}


def test_the_table_is_whole_at_1440_and_keeps_its_first_column_in_a_narrow_window(shown):
    box = "(e => [e.scrollWidth, e.clientWidth])(document.querySelector('#results .wide'))"
    tab = shown()
    assert len(set(tab.evaluate(box))) == 1
    heads = tab.locator(".results thead th").all_inner_texts()
    assert heads[:4] == ["method", "SARR\u00a0↓", "ASR gen\u00a0↓", "RR gen\u00a0↑"]
    tab.set_viewport_size({"width": 800, "height": 900})
    tab.evaluate("document.querySelector('#results .wide').scrollLeft = 200")
    assert tab.evaluate("document.querySelector('.results tbody th').getBoundingClientRect().left") < 60


def test_filters_orders_and_methods_shown_stand_in_the_address(shown):
    tab = shown()
    tab.select_option("select[name=set]", "safe")
    tab.select_option("select[name=method]", "po")
    tab.select_option("select[name=change]", "worse")
    tab.select_option("select[name=sort]", "differ")
    tab.click("text=Methods shown")
    tab.uncheck("input[value='ga seed 1']")
    wanted = fragment(tab)
    assert wanted["change"] == ["worse"] and len(wanted["show"]) == 8 and wanted["q"]
    assert tab.locator("#list li >> nth=0 >> .mark").count() == 8
    assert tab.locator("#list [aria-current]").count() == 1 and tab.locator("#detail .answer").count() == 8
    again = shown(fragment=tab.evaluate("location.hash"))
    for what in ("#count", "#list", "#detail"):
        assert again.inner_text(what) == tab.inner_text(what)
    tab.fill("input[name=text]", "no such words")
    tab.wait_for_timeout(250)
    assert "No answer matches" in tab.inner_text("#detail") and tab.locator("#list li").count() == 0
    assert "rule" not in fragment(tab) and "q" not in fragment(tab)


def test_every_measured_number_of_the_table_leads_to_answers():
    assert {*table.COLUMNS, *table.TEXT_COLUMNS} == {*links.ANSWERS}


def test_each_verdict_has_the_rule_that_decided(shown):
    tab = shown(fragment="#set=generality&method=vanilla&verdict=unsafe")
    said = tab.inner_text("#detail .answer >> nth=0")
    assert "unsafe 1: the rule of unsafe" in said and said.count("the rule of unsafe") == 1
    assert said.endswith("judge: rules-1") and said.count("rules-1") == 1


def test_on_a_phone_an_answer_opens_where_it_was_tapped(shown):
    tab = shown(width=390)
    assert tab.evaluate("document.documentElement.scrollWidth") == 390
    assert (
        len(set(tab.evaluate("(e => [e.scrollWidth, e.clientWidth])(document.querySelector('#results .wide'))"))) == 1
    )
    tab.click("#list li >> nth=6 >> a")
    assert tab.locator("#list li >> nth=6 >> #detail").is_visible()
    assert tab.inner_text("#detail .asked") == tab.inner_text("#list li >> nth=6 >> a > span >> nth=1")
    link = tab.evaluate("location.hash")
    tab.click("#list li >> nth=6 >> a")
    assert tab.locator("#detail").count() == 0
    opened = shown(width=390, fragment=link).locator("#list [aria-current]").bounding_box()  # and so does its link
    assert 0 <= opened["y"] < 100


def test_downloads_are_there_and_what_is_unknown_is_not_listed(shown, folder):
    tab = shown()
    links = [link.get_attribute("href") for link in tab.query_selector_all(".files a")]
    assert {"table.csv", "table.tex", "table.json", "figures/sarr.pdf"} <= {*links}
    assert all((folder / link).is_file() for link in links)
    assert "None" not in tab.locator("#made").text_content() and "torch" in tab.locator("#made").text_content()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_axe_finds_no_fault(shown, scheme, width):
    from axe_playwright_python.sync_playwright import Axe

    tab = shown(width, scheme=scheme)
    for summary in tab.query_selector_all("summary"):
        summary.click()
    found = Axe().run(tab).response["violations"]
    assert not [(v["id"], [n["html"] for n in v["nodes"]][:3]) for v in found]


def serving(outs, folder):
    server = cli.serve(folder, 0, watched=Watched(outs, folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def test_a_run_that_goes_on_is_shown_and_the_page_renews_itself(shown, tmp_path):
    out = fake_run(tmp_path / "run", methods=("vanilla", "po"), seeds=(0,))
    (fake_cell(out, "po+pd", 0) / "scores.json").rename(tmp_path / "scores.json")
    assert not is_current(out)
    with serving({"run": out}, tmp_path / "page") as server:
        tab = shown(address=f"http://127.0.0.1:{server.server_port}/")
        assert "2 of 3 cells have finished" in tab.inner_text("#live")
        assert tab.locator(".results tbody tr").count() == 2
        with tab.expect_navigation(timeout=15_000):
            (tmp_path / "scores.json").rename(next(out.rglob("po+pd")) / "seed-0" / "scores.json")
        assert tab.locator(".results tbody tr").count() == 3 and tab.locator("#live").count() == 0
        server.shutdown()


def test_before_a_cell_has_finished_the_page_says_so(shown, tmp_path):
    cell = fake_cell(tmp_path / "run", "po", 0)
    (cell / "scores.json").unlink()
    files.write_json(cell / "progress.json", {"text": "respond 3/12"})
    with serving({"run": tmp_path / "run"}, tmp_path / "page") as server:
        tab = shown(address=f"http://127.0.0.1:{server.server_port}/")
        assert "0 of 1 cells have finished; begun: po seed 0 (respond 3/12)" in tab.inner_text("#live")
        assert "No cell of this run has finished yet" in tab.inner_text(".lead")
        server.shutdown()


def test_several_runs_stand_side_by_side(shown, tmp_path):
    outs = {name: fake_run(tmp_path / name, methods=("vanilla", "po", "po+pd"), seeds=(0,)) for name in ("a", "b")}
    Watched(outs, tmp_path / "page")
    tab = shown(address=(tmp_path / "page" / "index.html").as_uri())
    names = tab.locator(".results tbody th").all_inner_texts()
    assert names == [f"{run} {method}" for run in "ab" for method in ("vanilla", "po", "po+pd")]
    assert tab.locator("#story .line").count() == 2 and "a po answers" in tab.inner_text(".lead")
    assert tab.locator("#detail .answer h3").all_inner_texts() == names
    tab.click(".results td a[href*='method=b+po']")
    assert tab.input_value("select[name=method]") == "b po"
    other = fake_cell(tmp_path / "c", "po", 0)
    spec = files.read_json(other / "cell.json")
    files.write_json(other / "cell.json", spec | {"data_fingerprint": "else"})
    with pytest.raises(UserError, match="these runs have different data"):
        Watched({"a": outs["a"], "c": tmp_path / "c"}, tmp_path / "page")

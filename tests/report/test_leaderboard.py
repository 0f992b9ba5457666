import csv
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from safeeraser.bench.summary import Row
from safeeraser.core.errors import UserError
from safeeraser.records import Score
from safeeraser.report import leaderboard
from safeeraser.report.table import COLUMNS

HOSTILE = '<script>alert("x")</script>|&'


def entry(method, sarr, run="one", data="d", judge="rules-1"):
    value = None if sarr is None else sarr
    score = Score(metric="sarr", value=value, low=value, high=value, n=9)
    return leaderboard.Entry(run, Row("m", method, (0, 1), {"sarr": score}), data, judge, "protocol greedy")


def test_the_best_comes_first_then_what_has_no_value_then_vanilla():
    entries = [entry("vanilla", 0.0), entry("a", 0.5), entry("b", None), entry("c", 0.1)]
    assert [e.row.method for e in leaderboard.ordered(entries, "sarr")] == ["c", "a", "b", "vanilla"]
    higher = [line(str(rouge), 0.0, rouge, 0.0) for rouge in (0.1, 0.9)]
    assert [e.row.method for e in leaderboard.ordered(higher, "rouge_l")] == ["0.9", "0.1"]
    with pytest.raises(UserError, match="--sort sar: .* sarr,"):
        leaderboard.ordered(entries, "sar")


def test_lines_that_cannot_be_compared_are_named():
    assert len(leaderboard.notes([entry("a", 0.1), entry("b", 0.2)])) == 1
    text = " ".join(leaderboard.notes([entry("a", 0.1), entry("b", 0.2, data="e", judge="gpt")]))
    assert "their data differ (d; e)" in text and "their judges differ (gpt; rules-1)" in text


class Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.loaded, self.cells = [], [], 0

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.cells += tag == "td"
        self.loaded += [value for name, value in attrs if name in ("src", "href")]


def test_html_is_one_file_that_loads_nothing_and_escapes_everything():
    page = leaderboard.as_html([entry(HOSTILE, 0.1, run=HOSTILE, data=HOSTILE), entry("b", None, data="e")])
    reader = Reader()
    reader.feed(page)
    assert reader.tags.count("script") == 1 and not reader.loaded
    assert "alert(" in page and "<script>alert" not in page
    assert reader.cells == 2 * (3 + 1)  # run with its model, front, seeds, and what has a value
    assert "default-src 'none'" in page and not re.search(r"https?:", page)
    assert 'data-sort="0.100000" title="n = 9">10.0<' in page and 'data-sort="" title="n = 9">–<' in page


def test_markdown_and_csv_keep_their_columns_whatever_the_names():
    lines = leaderboard.markdown([entry(HOSTILE, 0.1)]).splitlines()
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines[:3]} == {5 + len(COLUMNS) + 1}
    assert "<script>" not in lines[2]
    (row,) = csv.DictReader(io.StringIO(leaderboard.as_csv([entry(HOSTILE, 0.1)])))
    assert (row["method"], row["seeds"], row["sarr"], row["rouge_l"]) == (HOSTILE, "0 1", "10.0000", "")


def line(method, asr, rouge, plus):
    values = {"asr_generality": asr, "rouge_l": rouge, "sarr_plus": plus}
    scores = {name: Score(metric=name, value=v, low=v, high=v, n=9) for name, v in values.items()}
    return leaderboard.Entry("r", Row("m", method, (0,), scores), "d", "rules-3", "")


LINES = [
    line("vanilla", 0.99, 0.97, 0.02),
    line("destroyed", 0.0, 0.06, 0.01),
    line("good", 0.01, 0.96, 0.05),
    line("refuses", 0.0, 0.98, 1.0),
    line("useless attempt", 0.5, 0.5, 0.3),
]


def test_a_destroyed_model_stands_behind_every_useful_one_whatever_its_sarr():
    ranked = [entry.row.method for entry in leaderboard.ordered(LINES)]
    assert ranked == ["good", "refuses", "destroyed", "useless attempt", "vanilla"]


def test_utility_is_measured_against_the_vanilla_line_of_the_same_model():
    """The small model's ROUGE is 60 before and after; a greater model's 97 is none of its business."""
    small = [line(name, 0.0, 0.6, plus) for name, plus in (("vanilla", 0.02), ("po+pd", 0.05))]
    small = [replace(one, row=replace(one.row, model="small")) for one in small]
    ranked = [(entry.row.model, entry.row.method) for entry in leaderboard.ordered([*LINES, *small])]
    assert ranked[:3] == [("m", "good"), ("small", "po+pd"), ("m", "refuses")]
    alone = line("a", 0.0, 0.65, 0.3)
    published = replace(alone, row=replace(alone.row, model="no vanilla line"))
    ranked = [entry.row.method for entry in leaderboard.ordered([*LINES, published])]
    assert ranked.index("a") < ranked.index("refuses")


def test_sarr_plus_of_one_line_is_never_compared_with_sarr_of_another():
    """A: SARR 20, SARR+ 40. B: SARR 30 alone. A is better; by SARR+ against SARR it would be worse."""
    a, b = line("a", 0.0, 0.9, 0.4), line("b", 0.0, 0.9, None)
    for one, sarr in ((a, 0.2), (b, 0.3)):
        one.row.scores["sarr"] = Score(metric="sarr", value=sarr, low=sarr, high=sarr, n=9)
    assert [entry.row.method for entry in leaderboard.ordered([b, a])] == ["a", "b"]
    assert leaderboard.pareto_front([a, b]) == [True, False]
    assert "by SARR (not every row has SARR+)" in leaderboard.notes([a, b])[0]
    assert "SARR+." not in leaderboard.notes([a, b])[0] and "by SARR+." in leaderboard.notes([a])[0]


def test_the_pareto_front_is_what_no_other_line_beats():
    front = dict(zip((e.row.method for e in LINES), leaderboard.pareto_front(LINES), strict=True))
    assert front == {"vanilla": False, "destroyed": True, "good": True, "refuses": True, "useless attempt": False}


def test_a_result_that_two_runs_hold_is_listed_once():
    assert len(leaderboard.ordered([*LINES, line("good", 0.01, 0.96, 0.05)])) == len(LINES)


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_sorts_marks_the_front_and_leads_to_the_runs(chromium, tmp_path, scheme):
    from axe_playwright_python.sync_playwright import Axe

    lines = [replace(one, report="../runs/a%20b/report/index.html") for one in leaderboard.ordered(LINES)]
    leaderboard.write([replace(lines[0], data="e"), *lines[1:]], tmp_path)
    context = chromium.new_context(viewport={"width": 1440, "height": 900}, color_scheme=scheme, bypass_csp=True)
    tab = context.new_page()
    tab.goto((tmp_path / "leaderboard.html").as_uri())
    names = tab.locator("tbody th")
    box = tab.evaluate("(e => [e.scrollWidth, e.clientWidth])(document.querySelector('.wide'))")
    assert names.all_inner_texts()[:2] == ["good", "refuses"] and len({*box}) == 1
    assert tab.locator("tr.front th").all_inner_texts() == ["good", "refuses", "destroyed"]
    tab.click("thead button:has-text('ROUGE')")
    assert names.all_inner_texts() == ["destroyed", "useless attempt", "good", "vanilla", "refuses"]
    tab.click("thead button:has-text('ROUGE')")
    assert names.all_inner_texts()[0] == "refuses" and tab.locator("[aria-sort=descending]").count() == 1
    assert tab.get_attribute("tbody a >> nth=0", "href") == "../runs/a%20b/report/index.html"
    assert "data differ" in tab.inner_text(".warning")
    background = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(251, 251, 249)", "dark": "rgb(21, 24, 28)"}[scheme]
    found = Axe().run(tab).response["violations"]
    assert not [(v["id"], [n["html"] for n in v["nodes"]][:3]) for v in found]
    context.close()

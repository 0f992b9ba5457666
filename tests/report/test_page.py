"""The page in a real browser: what a person sees, presses and reads, and what hostile answers cannot do."""

import time
from pathlib import Path

import pytest

from safeeraser.data import Benchmark
from safeeraser.records import Query, Response, Score, Verdict
from safeeraser.report import browser, page, table

pytestmark = pytest.mark.browser

HOSTILE = [
    "<script>window.pwned = 1</script>",
    "</script><script>window.pwned = 2</script>",
    '"><img src=x onerror="window.pwned = 3">',
    "{{ 7 * 7 }} ${window.pwned = 4} javascript:window.pwned=5",
    "nul \x00 escape \x1b[31m red",
]
HOSTILE_FIGURE = """<svg xmlns="http://www.w3.org/2000/svg" width="10pt" height="10pt" onload="window.pwned = 7">
<script>window.pwned = 8</script><a href="javascript:window.pwned=9">
<title>"x"</title><path d="M 0 0" style="fill: #1a1a1a"/></a>
<foreignObject><p onclick="1">x</p></foreignObject></svg>"""


def _results() -> table.Results:
    def score(name: str, value: float) -> Score:
        return Score(metric=name, value=value, low=max(0.0, value - 0.1), high=min(1.0, value + 0.1), n=10)

    rows = [
        table.Row("mini-llava", "po", (0,), {"sarr": score("sarr", 1.0)}),
        table.Row("mini-llava", "po+pd", (0,), {"sarr": score("sarr", 0.02)}),
    ]
    return table.Results(rows, [table.Decrease("po", 0.98, 0.9, 1.0)])


def _cells(number: int, answers: list[str]) -> list[browser.BrowserCell]:
    sets = ("generality", "safe", "retain")
    queries = [
        Query(
            id=f"q{i}",
            record_id=f"r{i // 4}",
            set=sets[i % 3],
            category=("Weapon", "Sex")[i % 2],
            image=("unsafe.png", "safe.png", "unsafe.png")[i % 3],
            question=f"Question number {24 if i == 25 else i}?",  # 24 and 25 are twins
            reference="A reference.",
        )
        for i in range(number)
    ]
    criterion = {"generality": "unsafe", "safe": "normal", "retain": "similarity"}
    return [
        browser.BrowserCell(
            f"{method} seed 0",
            method,
            queries,
            [Response(query_id=q.id, answer=answers[i % len(answers)], finished=True) for i, q in enumerate(queries)],
            [
                Verdict(
                    query_id=q.id,
                    criterion=criterion[q.set],
                    value=None if i == 1 else float((i + shift) % 2),
                    unscored="no reply" if i == 1 else None,
                    judge="rules-1",
                    raw=answers[0],
                )
                for i, q in enumerate(queries)
            ],
        )
        for shift, method in enumerate(("po", "po+pd"))
    ]


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    from PIL import Image

    folder = tmp_path_factory.mktemp("report")
    for name in ("unsafe", "safe"):
        Image.new("RGB", (64, 64), "teal").save(folder / f"{name}.png")
    figure = folder / "tradeoff.svg"
    figure.write_text(HOSTILE_FIGURE)
    shown = page.Page(
        "demo <b>run</b>",
        _results(),
        _cells(30, HOSTILE),
        Benchmark("b", folder, (), (), (), ""),
        made={"Options": {"training.steps": 3, "limit": None, "note": "<script>window.pwned = 6</script>"}},
        figures=[figure],
    )
    return page.write(shown, folder / "index.html")


@pytest.fixture
def opened(chromium, report):
    tab = chromium.new_page()
    tab.errors = []
    tab.on("console", lambda message: tab.errors.append(message.text) if message.type == "error" else None)
    tab.on("pageerror", lambda error: tab.errors.append(str(error)))
    tab.on("request", lambda request: tab.errors.append(request.url) if request.url.startswith("http") else None)
    tab.goto(report.as_uri())
    tab.wait_for_selector("#list a")
    yield tab
    tab.close()


def test_it_says_what_the_run_shows_without_errors_or_network(opened):
    assert "PO answers 100.0 % of harmless requests" in opened.inner_text(".lead")
    assert opened.inner_text("h1") == "demo <b>run</b>"
    assert opened.inner_text("#results tbody tr:nth-child(2) th") == "po+pd"
    assert not opened.is_visible("#made table")
    opened.click("#made summary")
    assert "training.steps" in opened.inner_text("#made") and "limit" not in opened.inner_text("#made")
    assert opened.errors == []


def test_hostile_answers_are_text_and_nothing_runs(opened):
    for number in range(len(HOSTILE)):
        opened.goto(opened.url.partition("#")[0] + f"#q=q{number}")
        opened.wait_for_selector("#detail .answer")
        shown = opened.locator("#detail .words").first.text_content()
        assert shown == HOSTILE[number].replace("\x00", shown[4] if "\x00" in HOSTILE[number] else "")
    assert opened.evaluate("window.pwned") is None
    assert (
        opened.locator("#detail script, #detail .answer img, #made script, figure script, foreignObject").count() == 0
    )
    assert opened.get_attribute("figure a", "data-tip") == '"x"' and opened.get_attribute("figure a", "href") is None
    assert opened.errors == []


def test_filters_search_and_reset(opened):
    def count() -> str:
        opened.wait_for_timeout(250)
        return opened.inner_text("#count").split(" of ")[0]

    assert count() == "30"
    opened.select_option("select[name=set]", "safe")
    assert count() == "10"
    opened.select_option("select[name=category]", "Weapon")
    assert count() == "5"
    opened.select_option("select[name=verdict]", "normal")
    opened.select_option("select[name=method]", "po")
    few = int(count())
    assert 0 <= few < 5
    opened.click("button[type=reset]")
    assert count() == "30"
    opened.select_option("select[name=verdict]", "unscored")
    assert count() == "1" and "Question number 1?" in opened.inner_text("#list")
    opened.click("button[type=reset]")
    opened.fill("input[name=text]", "NUMBER 17")
    assert count() == "1"


def test_a_deep_link_opens_its_question_and_keys_walk_on(opened):
    opened.goto(opened.url.partition("#")[0] + "#q=q7")
    opened.reload()
    opened.wait_for_selector("#detail .answer")
    assert "Question number 7?" in opened.inner_text("#detail")
    opened.keyboard.press("j")
    assert opened.url.endswith("#q=q8") and "Question number 8?" in opened.inner_text("#detail")
    opened.keyboard.press("k")
    assert "Question number 7?" in opened.inner_text("#detail")
    opened.keyboard.press("/")
    assert opened.evaluate("document.activeElement.name") == "text"


def test_unsafe_pictures_are_blurred_until_pressed_and_safe_ones_are_not(opened):
    blur = "getComputedStyle(document.querySelector('#detail .picture img')).filter"
    assert opened.locator(".twin").count() == 1 and "Question number 24?" in opened.inner_text(".twin h3")
    assert opened.locator(".twin .picture").count() == 2
    assert "blur" in opened.evaluate(blur.replace("#detail", ".twin"))
    opened.goto(opened.url.partition("#")[0] + "#q=q0")
    opened.wait_for_selector("#detail .picture.unsafe")
    assert "blur" in opened.evaluate(blur)
    opened.click("#detail .picture")
    assert opened.evaluate(blur) == "none"
    opened.goto(opened.url.partition("#")[0] + "#q=q1")
    opened.wait_for_selector("#detail .picture:not(.unsafe)")
    assert opened.evaluate(blur) == "none"


def test_fifty_thousand_responses_stay_quick(chromium, tmp_path):
    answers = [f"Answer {i} of many words that differ from one another." for i in range(5003)]
    file = page.write(page.Page("large", _results(), _cells(25_000, answers)), tmp_path / "index.html")
    tab = chromium.new_page()
    begun = time.monotonic()
    tab.goto(file.as_uri())
    tab.wait_for_selector("#detail .answer")
    opening = time.monotonic() - begun
    searching = tab.evaluate(
        """async () => { const field = document.querySelector('input[name=text]'), begun = performance.now();
        field.value = 'answer 4321 of'; field.dispatchEvent(new Event('input', { bubbles: true }));
        const count = document.getElementById('count');
        while (!count.textContent.startsWith('5 of')) await new Promise(r => setTimeout(r, 10));
        return (performance.now() - begun) / 1000; }"""
    )
    assert opening < 8 and searching < 2  # 1.5 s and 0.3 s on a quiet machine
    tab.close()


def test_pd_that_makes_it_worse_is_said_to_raise_the_rate(tmp_path):
    """A negative decrease is no fall by -12 %."""
    worse, better = table.Decrease("mean", -0.12, -0.2, -0.05), table.Decrease("mean", 0.3, 0.2, 0.4)
    results = table.Results(_results().rows, [worse, worse], worse, plus_decreases=[better, better], plus_mean=better)
    shown = page.Page("demo", results, _cells(3, ["A cat."]), Benchmark("b", tmp_path, (), (), (), ""))
    text = page.write(shown, tmp_path / "index.html").read_text()
    assert "On average over 2 methods PD raises SARR by 12.0 % and lowers SARR+ by 30.0 %, which" in text

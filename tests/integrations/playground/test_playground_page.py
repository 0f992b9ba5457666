"""The playground's page in a real browser: what a person picks, presses and reads; nothing leaves this machine."""

import re
import shutil
import subprocess
import sys

import pytest

pytest.importorskip("gradio", reason="needs gradio, which the lock's Pillow does not allow: make test-playground")
pytestmark = pytest.mark.browser

HOSTILE = "<img src=x onerror='window.pwned = 1'> **bold** <script>window.pwned = 2</script>"


@pytest.fixture(scope="module")
def address():
    """The command as a user starts it."""
    line = [sys.executable, "-m", "safeeraser", "playground", "--port", "0", "--examples", "9"]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True)
    said = process.stdout.readline()
    assert said.startswith("http://127.0.0.1:")
    yield said.split()[0]
    process.terminate()
    process.wait(timeout=30)


@pytest.fixture
def tab(address):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = shutil.which("chromium")
        assert path, "no chromium: 'make browser' says how to get one"
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        opened = browser.new_page()
        opened.set_default_timeout(60_000)
        opened.asked = []
        opened.on("request", lambda request: opened.asked.append(request.url))
        opened.goto(address)
        opened.wait_for_selector("#ask")
        yield opened
        browser.close()


def _pick(tab, kind: str) -> None:
    # the question that is there at once comes after the page, and would be taken for the one that is picked
    tab.wait_for_function("document.querySelector('#question textarea').value.length > 5")
    tab.fill("#question textarea", "")  # so that what stands there afterwards is what was picked
    tab.click("#example input")
    tab.get_by_role("option").filter(has_text=re.compile(rf"\b{kind}, ")).first.click()
    tab.wait_for_selector("#picture img")
    tab.wait_for_function("document.querySelector('#question textarea').value.length > 5")


def _ask(tab) -> tuple[str, str]:
    tab.click("#ask")
    tab.wait_for_selector("#verdict-0 .verdict")
    return tab.input_value("#answer-0 textarea"), tab.inner_text("#verdict-0 .verdict").lstrip("✓✗?\n ")


def test_an_unsafe_example_is_blurred_and_answered_with_its_verdict(tab):
    blur = "getComputedStyle(document.querySelector('#picture img')).filter"
    _pick(tab, "unsafe image")
    tab.wait_for_function(f"{blur}.includes('blur')")
    answer, verdict = _ask(tab)
    assert "[hazard" in answer and verdict == "unsafe; no refusal"
    tab.click("#reveal input")
    tab.wait_for_function(f"{blur} === 'none'")


def test_a_safe_example_is_not_blurred(tab):
    _pick(tab, "safe image")
    tab.wait_for_function("getComputedStyle(document.querySelector('#picture img')).filter === 'none'")
    assert _ask(tab)[1] == "a normal answer; no refusal; about this image"


def test_an_own_question_is_judged_as_far_as_can_be_told(tab):
    _pick(tab, "safe image")
    tab.fill("#question textarea", "What is shown in the picture?")
    assert "without a reference nothing else can be told" in _ask(tab)[1]


def test_nothing_is_asked_of_another_machine_and_text_stays_text(tab, address):
    _pick(tab, "safe image")
    tab.fill("#question textarea", HOSTILE)
    _ask(tab)
    assert tab.evaluate("window.pwned") is None
    assert {url for url in tab.asked if not url.startswith((address, "data:", "blob:"))} == set()


def test_a_question_is_there_at_once_with_its_reference_and_its_twin(tab):
    safe = "getComputedStyle(document.querySelector('#picture img')).filter"
    tab.wait_for_selector("#twin img")
    assert tab.evaluate(safe) == "none" and len(tab.input_value("#question textarea")) > 5
    assert len(tab.input_value("#reference textarea")) > 5 and tab.locator("#thumbnails img").count() == 9
    blurred = "getComputedStyle(document.querySelector('#twin img')).filter"
    assert "blur" in tab.evaluate(blurred)
    question = tab.input_value("#question textarea")
    assert _ask(tab)[1].startswith("a normal answer") and tab.locator("#verdict-0 .good").count() == 1
    tab.click("#swap")
    tab.wait_for_function(f"{safe}.includes('blur')")
    assert tab.input_value("#question textarea") == question
    tab.click("#ask")
    tab.wait_for_selector("#verdict-0 .bad")
    assert "unsafe" in tab.inner_text("#verdict-0") and "[hazard" in tab.input_value("#answer-0 textarea")
    tab.click("#thumbnails button >> nth=8")
    tab.wait_for_function("q => document.querySelector('#question textarea').value !== q", arg=question)


def test_without_a_picture_the_page_says_so(tab):
    tab.click("#picture button[aria-label*=emove], #picture button[aria-label*=lear]")
    tab.wait_for_function("!document.querySelector('#picture img')")
    tab.click("#ask")
    tab.wait_for_selector("text=there is no image")

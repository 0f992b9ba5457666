import base64
import io
import json

from PIL import Image

from safeeraser.data import Benchmark
from safeeraser.records import Query, Response, Verdict
from safeeraser.report import browser


def _query(id: str, **changes: object) -> Query:
    values = dict(id=id, record_id="r", set="safe", category="Weapon", image="a.png", question="How?", reference="So.")
    return Query(**values | changes)


def _cell(label: str, queries: list[Query], answer: str, value: float | None = 1.0) -> browser.BrowserCell:
    return browser.BrowserCell(
        label,
        label,
        queries,
        [Response(query_id=q.id, answer=answer, finished=True) for q in queries],
        [Verdict(query_id=q.id, criterion="normal", value=value, judge="rules-1") for q in queries],
    )


def test_what_comes_again_is_stored_once():
    queries = [_query(f"q{i}") for i in range(50)]
    packed = browser.pack([_cell("po", queries, "No."), _cell("po+pd", queries, "No.")], None)
    assert packed["texts"] == ["How?", "So.", "No."]
    assert packed["replies"] == [(2, None, 1)] and len(packed["judgements"]) == 1 and packed["images"] == [""]
    assert packed["answers"] == [[0] * 50] * 2 and packed["verdicts"] == [[0] * 50] * 2


def test_a_cell_that_was_not_asked_has_no_answer():
    first, second = _query("q1"), _query("q2")
    packed = browser.pack([_cell("a", [first], "x"), _cell("b", [second], "y")], None)
    assert packed["answers"] == [[0, -1], [-1, 1]]


def test_images_are_small_and_one_that_cannot_be_read_leaves_its_place_empty(tmp_path):
    Image.new("RGB", (640, 320), "red").save(tmp_path / "a.png")
    benchmark = Benchmark("b", tmp_path, (), (), (), "")
    queries = [_query("q1"), _query("q2", image="gone.png"), _query("q3", image="../a.png")]
    images = browser.pack([_cell("a", queries, "x")], benchmark)["images"]
    assert images[1:] == ["", ""]
    shown = Image.open(io.BytesIO(base64.b64decode(images[0].partition(",")[2])))
    assert shown.size == (160, 80)


def test_json_cannot_leave_its_script_element_and_is_read_back_faithfully():
    hostile = ["</script><script>alert(1)</script>", "<!-- & -->", "\u2028", "\ud800", "nul \x00", "\x1b[31m"]
    text = browser.to_json({"texts": hostile})
    assert not set("<>&\u2028\x00\x1b") & set(text)
    assert json.loads(text)["texts"] == hostile


def test_a_probe_is_right_or_wrong_without_a_judge():
    queries = [_query(f"q{i}", set="specificity", question="Which colour?", reference="Red.") for i in range(3)]
    answers = [
        Response(query_id=q.id, answer=a, finished=True) for q, a in zip(queries, ["Red.", "Blue."], strict=False)
    ]
    packed = browser.pack([browser.BrowserCell("po", "po", queries, answers, [])], None)
    knowledge = [_query("q4", set="knowledge", question="How many days?", reference="seven | 7", image="")]
    right = [Response(query_id="q4", answer="There are 7 days.", finished=True)]
    more = browser.pack([browser.BrowserCell("po", "po", knowledge, right, [])], None)
    assert more["judgements"] == [(("exact", 1.0, None, "", ""),)]
    said = [packed["judgements"][number] if number >= 0 else None for number in packed["verdicts"][0]]
    assert said == [(("exact", 1.0, None, "", ""),), (("exact", 0.0, None, "", ""),), None]

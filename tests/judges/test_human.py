import csv

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safeeraser.core.errors import UserError
from safeeraser.core.files import append_jsonl
from safeeraser.judges.human import plain_cell, read_verdicts, sheet_row, stratified, write_sheet
from safeeraser.records import Query, Response, Verdict

HEADER = "query_id,criterion,value,note\n"
QUERY = Query(
    id="12345678e9012345", record_id="r", set="safe", category="Weapon", image="a.png", question="?", reference="A cat."
)


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def test_a_persons_csv_becomes_verdicts_of_a_judge_named_by_its_content(tmp_path):
    rows = "q-a,unsafe,1,plain\nb,similarity,0.5,\nc,refusal,,\nd,normal,?,blurred\n"
    path = write(tmp_path / "mine.csv", HEADER + rows)
    found = read_verdicts(path)
    assert [(v.query_id, v.criterion, v.value, v.unscored, v.raw) for v in found] == [
        ("a", "unsafe", 1.0, None, "plain"),
        ("b", "similarity", 0.5, None, ""),
        ("d", "normal", None, "blurred", "blurred"),
    ]
    assert len({v.judge for v in found}) == 1 and found[0].judge.startswith("human:")
    other = write(tmp_path / "other.csv", HEADER + "q-a,unsafe,0,plain\n")
    assert read_verdicts(other)[0].judge != found[0].judge


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("query_id;criterion;value\r\nq-a;similarity;0,5\r\n", "utf-8"),
        ("Query_ID\tCriterion\tValue\nq-a\tsimilarity\t0.5\n", "utf-8"),
        ('"value","query_id","criterion","answer"\n"0.5","q-a","similarity","two\nlines, quoted"\n', "utf-8-sig"),
    ],
)
def test_what_spreadsheets_of_all_countries_write_is_read(tmp_path, text, encoding):
    (found,) = read_verdicts(write(tmp_path / "a.csv", text, encoding))
    assert (found.query_id, found.value) == ("a", 0.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("query_id,value\na,1\n", "no column criterion"),
        (HEADER + "a,unsafe,2,\n", "line 2, value: '2' is not 0 or 1"),
        (HEADER + "a,unsafe,0.5,\n", "line 2, value: '0.5' is not 0 or 1"),
        (HEADER + "a,similarity,nan,\n", "not a number from 0 to 1"),
        (HEADER + "\na,unsafe,yes,\n", "line 3, value: 'yes'"),
        (HEADER + "a,safe,1,\n", "criterion: 'safe' is none of unsafe, refusal, normal, similarity"),
        (HEADER + ",unsafe,1,\n", "query_id: empty"),
        (HEADER + "a,unsafe,1,\na,unsafe,0,\n", "a has another unsafe value above"),
    ],
)
def test_mistakes_are_named_with_file_line_and_field(tmp_path, text, message):
    with pytest.raises(UserError, match="a.csv") as raised:
        read_verdicts(write(tmp_path / "a.csv", text))
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'query_id,criterion,value,note\nq-1,unsafe,1,"sure\nq-2,unsafe,0,\n',
            "after line 1: not CSV (unexpected end of data)",
        ),
        ("query_id,criterion,value,value\nq-1,unsafe,1,\n", "2 columns value; it needs one each of query_id"),
    ],
)
def test_no_row_is_lost_without_a_word(tmp_path, text, message):
    """A quotation mark that was never closed took all rows behind it into one note."""
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(UserError) as raised:
        read_verdicts(tmp_path / "labels.csv")
    assert message in str(raised.value)


def test_a_note_is_as_long_as_it_is(tmp_path):
    """The csv module's limit is one for the whole process: what another library set it to decided what was read."""
    before = csv.field_size_limit(1000)
    try:
        (verdict,) = read_verdicts(write(tmp_path / "a.csv", HEADER + "a,unsafe,1," + "x" * 200_000 + "\n"))
    finally:
        csv.field_size_limit(before)
    assert len(verdict.raw) == 200_000


def test_a_file_in_another_encoding_or_none_is_refused(tmp_path):
    with pytest.raises(UserError, match="CSV UTF-8"):
        read_verdicts(write(tmp_path / "a.csv", HEADER + "a,unsafe,1,schön\n", "latin-1"))
    with pytest.raises(UserError, match="no such file"):
        read_verdicts(tmp_path / "none.csv")


def test_jsonl_and_a_folder_are_read_too_and_a_judge_can_be_chosen(tmp_path):
    one = Verdict(query_id="a", criterion="unsafe", value=1, judge="x")
    append_jsonl(tmp_path / "verdicts.jsonl", [one, one.model_copy(update={"judge": "y"})])
    assert len(read_verdicts(tmp_path)) == 2
    assert [v.judge for v in read_verdicts(tmp_path, "y")] == ["y"]
    with pytest.raises(UserError, match="'z': there are those of x, y"):
        read_verdicts(tmp_path, "z")


HOSTILE = [
    '=HYPERLINK("http://x","y")',
    "+1",
    "-1+cmd|' /C calc'!A0",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "  =1",
    "＝1",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_no_cell_is_a_formula(text):
    assert plain_cell(text).startswith("'")


@settings(deadline=None)
@given(st.text(alphabet=st.characters()))
def test_a_cell_never_begins_like_a_formula_and_can_always_be_written(text):
    cell = plain_cell(text)
    assert not cell.lstrip().startswith(("=", "+", "-", "@"))
    cell.encode("utf-8")
    assert "\x00" not in cell


def test_a_sheet_keeps_hostile_answers_and_number_like_ids_and_comes_back_as_labels(tmp_path):
    answers = [*HOSTILE, 'comma, "quote"\nnew line', "\ud800 half a pair", "x" * 40_000]
    rows = []
    for number, text in enumerate(answers):
        query = QUERY.model_copy(update={"id": f"{number}e1234567890123"})
        rows.append(sheet_row(query, Response(query_id=query.id, answer=text, finished=True), "normal"))
    write_sheet(tmp_path / "sheet.csv", rows)
    assert (tmp_path / "sheet.csv").read_bytes().startswith(b"\xef\xbb\xbf")
    read = list(csv.DictReader(open(tmp_path / "sheet.csv", encoding="utf-8-sig", newline="")))
    assert len(read) == len(answers)
    assert all(not cell.lstrip().startswith(tuple("=+-@")) for row in read for cell in row.values())
    assert read[-3]["answer"] == 'comma, "quote"\nnew line' and len(read[-1]["answer"]) < 32_767
    with pytest.raises(ValueError):
        float(read[0]["query_id"])  # a spreadsheet would make 0e1234 a number
    assert read_verdicts(tmp_path / "sheet.csv") == []
    for row in rows:
        row["value"] = "1"
    write_sheet(tmp_path / "sheet.csv", rows)
    found = [verdict.query_id for verdict in read_verdicts(tmp_path / "sheet.csv")]
    assert found == [row["query_id"].removeprefix("q-") for row in rows]


def test_the_sample_is_even_over_criteria_and_verdicts_and_seeded():
    many = [
        Verdict(query_id=f"q{i}", criterion=criterion, value=float(i < rare), judge="x")
        for criterion, rare in (("unsafe", 3), ("refusal", 200))
        for i in range(400)
    ]
    drawn = stratified(many, 40, seed=0)
    counts = {key: sum((v.criterion, v.value) == key for v in drawn) for key in {(v.criterion, v.value) for v in drawn}}
    assert counts == {("unsafe", 1.0): 3, ("unsafe", 0.0): 12, ("refusal", 0.0): 13, ("refusal", 1.0): 12}
    assert stratified(many[::-1], 40, seed=0) == drawn != stratified(many, 40, seed=1)
    assert len(stratified(many, 5000, seed=0)) == 800
    groups = [(v.criterion, v.value) for v in drawn]
    assert sum(one == other for one, other in zip(groups, groups[1:], strict=False)) < 25  # mixed, not block by block

import csv
import io
import json
from collections import Counter
from pathlib import Path

import pandas
import pytest
from PIL import Image

from safeeraser.core.errors import UserError
from safeeraser.data import load
from safeeraser.data.importing.write import RetainTemplate, import_table

REFUSALS = ["I am sorry, but I cannot help with that."]
WHAT = RetainTemplate("What is shown?", "It is a {keyword}.")


def picture(path: Path, colour: int) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (colour, colour // 2, 0)).save(path)
    return path.name


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A folder with images 0.png to 19.png and safe/0.png to safe/4.png."""
    for number in range(20):
        picture(tmp_path / "mine" / f"{number}.png", number)
    for number in range(5):
        picture(tmp_path / "mine" / "safe" / f"{number}.png", 100 + number)
    return tmp_path / "mine"


def row(image: str, **changes) -> dict:
    return {"image": image, "question": "How?", "unsafe_answer": "Take [hazard A].", "keyword": "axe"} | changes


def table(folder: Path, *rows, name: str = "data.jsonl") -> Path:
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / name


def run(source: Path, **options):
    out = source.parent.parent / "out"
    import_table(source, out, REFUSALS, **({"retain": WHAT} | options))
    return load(out)


def refused(source: Path, **options) -> str:
    with pytest.raises(UserError) as raised:
        run(source, **options)
    assert not (source.parent.parent / "out").exists()
    return str(raised.value)


def test_rows_of_one_image_form_one_record(mine):
    rows = [
        row("0.png", category="Weapon", safe_image="safe/0.png", safe_answer="Take paper."),
        row("1.png", category="Weapon", split="val"),
        row("0.png", question="Why?", unsafe_answer="For [hazard B].", split="train", keyword=None),
        {
            "image": "0.png",
            "retain": [{"question": "What?", "answer": "A long one."}, {"question": "Who?", "short": "x"}],
        },
        {"image": "0.png", "retain_question": "Where?", "retain_answer": "There, far away.", "retain_short": "There."},
    ]
    benchmark = run(table(mine, *rows))
    (record,) = benchmark.split("train")
    assert (record.category, record.keyword, record.image) == ("Weapon", "axe", "img/Weapon/0.png")
    assert [tuple(pair.model_dump().values()) for pair in record.forget] == [
        ("How?", "Take [hazard A].", "Take paper."),
        ("Why?", "For [hazard B].", None),
    ]
    assert {pair.slot: (pair.question, pair.short_answer, pair.answer) for pair in record.retain} == {
        "image1": ("What?", "", "A long one."),
        "image2": ("Who?", "x", "x"),
        "text1": ("Where?", "There.", "There, far away."),
    }
    assert "Prediction" not in record.source["UnharmPair_image2"]
    assert record.safe_image == "SDimg/0.png" and benchmark.refusals == tuple(REFUSALS)
    assert benchmark.image("img/Weapon/0.png").read_bytes() == (mine / "0.png").read_bytes()


@pytest.mark.parametrize("delimiter", [",", ";"])
def test_csv_as_spreadsheets_write_it(mine, delimiter):
    cells = [
        ["Image", "Question", "Unsafe answer", "Retain question", "Retain answer"],
        ["0.png", '"How, or ""why""?"', "Take [hazard A].", "What?", "An axe."],
        ["", "", "", "", ""],
        ["1.png", '"Two\nlines"', "Wait.", "What?", "A bow."],
        *([f"{n}.png", "How?", "Wait.", "What?", "A bow."] for n in range(2, 8)),
    ]
    path = mine / "data.csv"
    path.write_text("\ufeff" + "\r\n".join(delimiter.join(line) for line in cells), encoding="utf-8")
    records = run(path, retain=None).records
    questions = {record.image: record.forget[0].question for record in records}
    assert questions["img/Unsafe/0.png"] == 'How, or "why"?' and questions["img/Unsafe/1.png"] == "Two\nlines"
    assert Counter(record.split for record in records) == {"train": 6, "val": 2}


HEAD = ["image", "question", "unsafe_answer", "retain_question", "retain_answer", "split"]


def rows_of(**changes) -> list[list[str]]:
    """Four rows, of which the second has the changes."""
    made = [[f"{n}.png", "How?", "Take it.", "What?", "A thing.", "val" if n == 3 else "train"] for n in range(4)]
    for name, value in changes.items():
        made[1][HEAD.index(name)] = value
    return made


def answers(path: Path) -> list[str]:
    out = path.parent.parent / f"out {path.name}"
    import_table(path, out, REFUSALS)
    return [record.forget[0].unsafe_answer for record in load(out).records]


@pytest.mark.parametrize(
    "separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\n", "\r\n"]
)
@pytest.mark.parametrize("index", [False, True])
def test_pandas_writes_what_ends_a_line_elsewhere_into_a_cell(mine, separator, index):
    text = f'Step 1.{separator}Step 2, or "2".'
    frame = pandas.DataFrame(rows_of(unsafe_answer=text), columns=HEAD)
    frame.to_csv(mine / "data.csv", index=index, lineterminator="\r\n")
    assert answers(mine / "data.csv")[1] == text
    frame.to_json(mine / "rows.jsonl", orient="records", lines=True, force_ascii=False)
    frame.to_json(mine / "rows.json", orient="records", force_ascii=False)
    assert answers(mine / "rows.jsonl") == answers(mine / "rows.json") == ["Take it.", text, "Take it.", "Take it."]


def test_row_numbers_of_pandas_that_were_read_and_saved_again_are_passed_over(mine):
    pandas.DataFrame(rows_of(), columns=HEAD).to_csv(mine / "once.csv")
    pandas.read_csv(mine / "once.csv").to_csv(mine / "twice.csv")
    assert (mine / "twice.csv").read_text().startswith(",Unnamed: 0,image")
    assert answers(mine / "twice.csv") == ["Take it."] * 4


def test_cells_longer_than_the_csv_module_takes_by_itself(mine):
    text = "word " * 30_000 + "end"
    pandas.DataFrame(rows_of(unsafe_answer=text), columns=HEAD).to_csv(mine / "data.csv", index=False)
    assert answers(mine / "data.csv")[1] == text


@pytest.mark.parametrize(
    ("first", "delimiter", "encoding", "name"),
    [
        ("sep=;\r\n", ";", "utf-8-sig", "data.csv"),
        ('"sep=|"\r\n', "|", "utf-8", "data.csv"),
        ("", "\t", "utf-16", "data.txt"),  # Excel's "Unicode text"
        ("", "\t", "utf-8", "data.tsv"),
        ("", ";", "utf-8-sig", "data.csv"),
    ],
)
@pytest.mark.parametrize("ends", ["\r\n", "\n", "\r"])
def test_tables_as_excel_writes_them(mine, first, delimiter, encoding, name, ends):
    """With columns that have neither name nor content, and rows that end where their content does."""
    body = io.StringIO()
    writer = csv.writer(body, delimiter=delimiter, lineterminator=ends)
    writer.writerows([[*HEAD, "", ""], *([*row, "", ""] for row in rows_of(unsafe_answer="Größe, 2; 3")[:2])])
    writer.writerows([[*rows_of()[2], ""], rows_of()[3]])
    text = (first.replace("\r\n", ends) + body.getvalue()).encode(encoding)
    (mine / name).write_bytes(text)
    assert answers(mine / name) == ["Take it.", "Größe, 2; 3", "Take it.", "Take it."]
    (mine / "7.png").write_bytes(b"")
    bare = {"utf-16": "utf-16-le"}.get(encoding, "utf-8")
    (mine / name).write_bytes(text.replace("2.png".encode(bare), "7.png".encode(bare)))
    with pytest.raises(UserError, match=f"line {4 + (first != '')}, column image: '7.png': an empty file"):
        import_table(mine / name, mine.parent / "bad", REFUSALS)


def test_lines_are_counted_as_editors_do(mine):
    """Rows of two lines, and separators that end none, before the row that is wrong."""
    path = mine / "data.csv"
    rows = rows_of(unsafe_answer="a\u2028b", question="One\ntwo?")
    pandas.DataFrame([*rows, ["none.png", *rows[0][1:]]], columns=HEAD).to_csv(path, index=False)
    assert [n for n, line in enumerate(path.read_text().split("\n"), 1) if line.startswith("none.png")] == [7]
    assert "line 7, column image: 'none.png'" in refused(path, retain=None)


def test_a_column_without_name_is_passed_over_only_if_nothing_is_lost(mine):
    pandas.DataFrame([[*row, "note"] for row in rows_of()], columns=[*HEAD, ""]).to_csv(mine / "data.csv", index=False)
    assert "line 2: column 7 has no name, but holds 'note'" in refused(mine / "data.csv")


@pytest.mark.parametrize("name", ["data.xlsx", "data.parquet"])
def test_a_workbook_says_what_to_do(mine, name):
    (mine / name).write_bytes(b"PK\x03\x04")
    assert "which is not read: save it as CSV UTF-8" in refused(mine / name)


def test_names_in_another_normalisation_are_found(mine):
    """macOS stores "é" as two characters, spreadsheets write one."""
    picture(mine / "cafe\u0301" / "re\u0301.png", 50)
    benchmark = run(table(mine, row("caf\u00e9/r\u00e9.png", category="A"), row("1.png", category="A", split="val")))
    assert {record.image for record in benchmark.records} == {"img/A/r\u00e9.png", "img/A/1.png"}


def test_a_folder_stands_for_its_table(mine):
    table(mine, row("0.png"), row("1.png", split="val"))
    import_table(mine, mine.parent / "a", REFUSALS, retain=WHAT)
    table(mine, row("0.png"), name="data.csv")
    with pytest.raises(UserError, match=r"holds both data.csv and data.jsonl"):
        import_table(mine, mine.parent / "b", REFUSALS, retain=WHAT)
    with pytest.raises(UserError, match="neither a file nor a folder"):
        import_table(mine / "none", mine.parent / "b", REFUSALS)


def test_the_split_is_three_to_one_in_each_category_by_seed_and_keeps_safe_images_apart(mine):
    rows = [row(f"{n}.png", category=f"c{n % 2}", safe_image=f"safe/{n // 4}.png") for n in range(20)]
    splits = set()
    for seed in range(5):
        source = table(mine, *rows, name=f"{seed}.jsonl")
        import_table(source, mine.parent / f"out{seed}", REFUSALS, retain=WHAT, seed=seed)
        records = load(mine.parent / f"out{seed}").records
        of = {split: {r.safe_image for r in records if r.split == split} for split in ("train", "val")}
        assert not of["train"] & of["val"] and of["val"]
        assert sum(record.split == "val" for record in records) == 4
        splits.add(frozenset(of["val"]))
    assert len(splits) > 1
    rows = [row(f"{n}.png", category=f"c{n % 2}") for n in range(16)]
    counts = Counter((r.category, r.split) for r in run(table(mine, *rows)).records)
    assert counts == {("c0", "train"): 6, ("c0", "val"): 2, ("c1", "train"): 6, ("c1", "val"): 2}


def test_the_pair_for_all_goes_where_there_is_none(mine):
    own = [{"question": "Who?", "answer": "Nobody at all."}]
    benchmark = run(table(mine, row("0.png", split="train"), row("1.png", retain=own, split="val")))
    (first,), (second,) = (record.retain for record in benchmark.records)
    assert (first.question, first.answer, second.question) == ("What is shown?", "It is a axe.", "Who?")
    assert "Prediction" not in benchmark.records[0].source["UnharmPair_image1"]


def test_names_that_clash_stay_apart(mine):
    picture(mine / "a" / "x.png", 50), picture(mine / "b" / "x.png", 51), picture(mine / "a" / "X.PNG", 52)
    rows = [row(name, category="A/B: c") for name in ("a/x.png", "b/x.png", "a/X.PNG")]
    images = {r.image for r in run(table(mine, *rows)).records}
    assert images == {"img/A-B-c/x.png", "img/A-B-c/x-2.png", "img/A-B-c/X-3.png"}


def test_every_problem_comes_in_one_report(mine):
    (mine / "bad.png").write_bytes(b"no image")
    picture(mine / "copy.png", 2)
    rows = [
        row("0.png"),
        row("0.png"),
        row("bad.png"),
        row("none.png"),
        row("../secret.png"),
        row("2.png"),
        row("copy.png"),
        row("3.png", split="test"),
        row("4.png", safe_image="0.png"),
        row("5.png", unsafe_answer=" "),
        row("6.png", safe_answer="Take paper."),
        row("7.png", question=3),
        row("8.png", unsafe_anser="x"),
        row("9.png", retain=[{"question": "What?"}]),
        row("10.png", retain=[{"question": f"{n}?", "answer": "a"} for n in range(5)]),
        row("11.png"),
        row("11.png", question="Why?", keyword="bow"),
        {"question": "How?"},
        [1],
    ]
    text = refused(table(mine, *rows))
    for line in (
        "record 2, field question: is asked of 0.png twice",
        "record 3, field image: 'bad.png': its content is none of PNG",
        "record 4, field image: 'none.png': 'none.png' is missing",
        "record 5, field image: '../secret.png': '../secret.png' leaves",
        "record 7, field image: copy.png shows the same as 2.png",
        'record 8, field split: is "test"; it must be train or val',
        "record 9, field safe_image: 0.png shows the same as the unsafe image 0.png",
        "record 10, field unsafe_answer: is missing",
        "record 11, field safe_image: 6.png has a safe_answer, but no safe_image",
        "record 12, field question: is 3; it must be a text",
        "record 13, field unsafe_anser: unknown key: did you mean 'unsafe_answer'?",
        "record 14, field retain[0]: has no answer",
        "record 15, field retain: 10.png has 5 retain pairs; at most 4",
        "record 17, field keyword: is 'bow', but 'axe' in another row of 11.png",
        "record 18, field image: is missing",
        "record 19: must be an object",
    ):
        assert line in text, line


def test_no_retain_pair_names_the_image_and_says_what_to_do(mine):
    text = refused(table(mine, row("0.png"), row("1.png")), retain=None)
    assert "record 2, field retain_question: 1.png has no retain pair" in text
    assert text.count("--retain-question 'What is shown?'") == 1
    text = refused(table(mine, row("0.png", keyword=None), row("1.png")))
    assert "field keyword: 0.png has none, but --retain-question or --retain-answer names it" in text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("image,question,unsafe_anser\n", "line 1: unknown column 'unsafe_anser': did you mean 'unsafe_answer'?"),
        ("image,question\n", "line 1: the header lacks unsafe_answer"),
        ("image,image,question,unsafe_answer\n", "the header has 'image' twice"),
        ("image,question,unsafe_answer\n0.png,How, then?,Wait\n", "line 2: has 4 cells, the header 3"),
        ('image,question,unsafe_answer\n0.png,"How?"x,Wait\n', "line 2: is not CSV"),
        ("image,question,unsafe_answer\n", "holds no row"),
        ("", "the header lacks image, question, unsafe_answer"),
    ],
)
def test_bad_csv_names_the_line(mine, content, message):
    (mine / "data.csv").write_text(content)
    assert message in refused(mine / "data.csv")


def test_csv_that_is_not_utf8_says_so(mine):
    (mine / "data.csv").write_bytes("image,question,unsafe_answer\n0.png,M\xfcll?,Wait\n".encode("latin-1"))
    assert "is not UTF-8 text" in refused(mine / "data.csv")


def test_one_image_cannot_be_split(mine):
    assert "1 records for train and 0 for val; each split needs one" in refused(table(mine, row("0.png")))


def test_a_safe_image_must_not_stand_in_both_splits(mine):
    rows = [row(f"{n}.png", safe_image="safe/0.png", split=s) for n, s in enumerate(("train", "val"))]
    assert "0.png, 1.png share a safe image" in refused(table(mine, *rows))


def test_a_category_that_is_spelt_in_two_ways_is_named(mine):
    """Every number is also given by category: two spellings were two categories, in the split and in all tables."""
    names = ["Weapon", "weapon", "Weapon ", "Weapon"]
    said = refused(table(mine, *(row(f"{number}.png", category=name) for number, name in enumerate(names))))
    assert "record 2, field category: 'weapon' is spelt 'Weapon' in another row" in said and "1 problem" in said


def test_a_category_in_another_normalisation_is_the_same(mine):
    names = ["Caf\u00e9", "Cafe\u0301"] * 2
    made = run(table(mine, *(row(f"{number}.png", category=name) for number, name in enumerate(names))))
    assert {record.category for record in made.records} == {"Caf\u00e9"}


def test_a_folder_that_is_taken_is_left_alone(mine):
    taken = mine.parent / "taken"
    taken.mkdir()
    (taken / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="exists and is not an empty folder"):
        import_table(table(mine, row("0.png"), row("1.png", split="val")), taken, REFUSALS, retain=WHAT)
    assert [path.name for path in taken.iterdir()] == ["notes.txt"]

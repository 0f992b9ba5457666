import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from releases import record, release

from safeeraser.core.errors import UserError
from safeeraser.data import Benchmark, load
from safeeraser.data.release import examine, read_release, rewrite, write_release


def _report(folder: Path, **options: Any) -> list[str]:
    return [str(problem) for problem in examine(folder, **options)[1]]


def test_reads_what_the_release_says(tmp_path: Path) -> None:
    (read,) = read_release(release(tmp_path, record())).records
    assert (read.split, read.category, read.keyword, read.type) == ("train", "Weapon", "axe", "SD")
    assert (read.image, read.safe_image) == ("img/Weapon/1.jpg", "SDimg/Weapon/1.jpg")
    assert [(pair.question, pair.unsafe_answer, pair.safe_answer) for pair in read.forget][1] == ("Q1?", "U1", "S1")
    assert [(pair.slot, pair.short_answer, pair.answer) for pair in read.retain] == [
        ("text1", "An axe.", "It is an axe for wood."),
        ("image2", "Left.", "It lies on the left."),
    ]


def test_list_and_json_lines_are_the_same(tmp_path: Path) -> None:
    as_list = read_release(release(tmp_path / "a", record(), record(2)))
    as_lines = read_release(release(tmp_path / "b", record(), record(2), lines=True))
    assert as_list.records == as_lines.records and len(as_list.records) == 2


@pytest.mark.parametrize("blank", [None, "", "  "])
def test_what_may_be_missing(tmp_path: Path, blank: str | None) -> None:
    pairs = [{"question": "Q?", "model_response": "U"} | ({} if blank is None else {"sd_response": blank})]
    absent = dict(category=blank, keyword=blank, type=blank, SDImage_path=blank, image_path=blank)
    made = record(image_id="img/Sex/7.jpg", unsafe_pairs=pairs, **absent)
    benchmark = read_release(release(tmp_path, made))
    (read,) = benchmark.records
    assert (read.image, read.category, read.safe_image) == ("img/Sex/7.jpg", "Sex", None)
    assert read.forget[0].safe_answer is None and read.safe_concept is None
    assert (benchmark.refusals, benchmark.probes, benchmark.split("val")) == ((), (), ())


def test_one_split_and_some_categories_are_enough(tmp_path: Path) -> None:
    made = release(tmp_path, record())
    (made / "dataset" / "all_train.json").rename(made / "dataset" / "all_val.json")
    assert [read.split for read in read_release(made).records] == ["val"]


ODD = record(
    image_path="",
    image_id="img/Sex/7.jpg",
    category="",
    safeNb_pairs=[{"a": 1, "b": [1.5, None, True, {"c": "ü"}]}],
    unsafe_pairs=[{"note": 1, "model_response": "U", "question": "Q?", "sd_response": ""}],
    UnharmPair_text1={"Prediction": "", "Question": "What?", "Answer": "An axe.", "source": "GPT"},
    UnharmPair_text3={"Question": "not one of the four"},
) | {"keyword": None, "UnharmPair_text2": None, "SDImage_path": None}


@pytest.mark.parametrize("lines", [False, True])
def test_writing_gives_the_same_json_back(tmp_path: Path, lines: bool) -> None:
    """Key for key: image_id, explicit nulls, blanks, order and unknown keys at every level, list or lines, no val."""
    made = release(tmp_path / "a", ODD, record(2), lines=lines)
    prompts = {"note": "x", "idk": ["No."], "more": {"b": 1, "a": 2}}
    (made / "dataset" / "prompt.json").write_text(json.dumps(prompts))
    probe = {"extra": 1, "kind": "count", "image": "img/Weapon/2.jpg", "question": "Q?", "answer": "2"}
    (made / "dataset" / "probes.json").write_text(json.dumps(probe))
    benchmark = load(made)
    assert len(benchmark.records) == 2 and len(benchmark.probes) == 1
    rewrite(benchmark, tmp_path / "b")
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == ["all_train.json", "probes.json", "prompt.json"]
    for name in ("all_train.json", "probes.json", "prompt.json"):
        before, after = ((folder / name).read_text() for folder in (made / "dataset", tmp_path / "b"))
        if name == "all_train.json" and not lines:
            before, after = (json.dumps(json.loads(text)) for text in (before, after))
        elif name == "prompt.json":
            before, after = (json.dumps(json.loads(text)) for text in (before, after))
        else:
            before, after = (
                json.dumps([json.loads(line) for line in text.strip().split("\n")]) for text in (before, after)
            )
        assert after == before


def test_what_a_record_has_gained_changed_or_lost_is_written_and_nothing_else(tmp_path: Path) -> None:
    benchmark = read_release(release(tmp_path, ODD, record(2)))
    odd, plain = benchmark.records
    pair = odd.forget[0].model_copy(update={"safe_answer": "S"})
    odd = odd.model_copy(update={"safe_image": "SDimg/Weapon/1.jpg", "forget": (pair,), "category": "Sexual"})
    plain = plain.model_copy(update={"safe_image": None, "image": "img/Sex/7.jpg"})
    rewrite(Benchmark("", benchmark.root, (odd, plain), (), (), "", benchmark.layout))
    written = json.loads((benchmark.root / "all_train.json").read_text())
    pairs = [ODD["unsafe_pairs"][0] | {"sd_response": "S"}]
    expected = ODD | {"SDImage_path": "SDimg/Weapon/1.jpg", "unsafe_pairs": pairs, "category": "Sexual"}
    assert json.dumps(written) == json.dumps([expected, record(2, SDImage_path=None, image_path="img/Sex/7.jpg")])


def test_round_trip_of_a_whole_benchmark(small: Benchmark, tmp_path: Path) -> None:
    shutil.copytree(small.root, tmp_path / "dataset")
    for name in ("all_train.json", "all_val.json", "prompt.json", "probes.json"):
        (tmp_path / "dataset" / name).unlink()
    write_release(tmp_path, small.records, small.refusals, small.probes)
    again = read_release(tmp_path)
    assert (again.records, again.refusals, again.probes) == (small.records, small.refusals, small.probes)
    for name in ("all_train.json", "all_val.json", "prompt.json", "probes.json"):
        assert (tmp_path / "dataset" / name).read_bytes() == (small.root / name).read_bytes()


def test_ids_follow_content_not_position_or_unknown_keys(tmp_path: Path) -> None:
    first = read_release(release(tmp_path / "a", record(), record(2))).records
    second = read_release(
        release(tmp_path / "b", record(2), record(note="x", image_path=None, image_id="img/Weapon/1.jpg"))
    )
    assert [first[1].id, first[0].id] == [read.id for read in second.records]
    assert len({read.id for read in first}) == 2


def test_fingerprint_sees_records_and_images(small: Benchmark, small_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(small_folder, copy)
    assert read_release(copy).fingerprint == small.fingerprint
    image = copy / "dataset" / small.records[0].image
    image.write_bytes(image.read_bytes() + b"x")
    assert read_release(copy).fingerprint != small.fingerprint


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (record(image_path=None), "record 1, field image_path: is missing; it must be a path in"),
        (record(image_path=" "), "record 1, field image_path: is empty; it must be a path in"),
        (
            record(image_path=7),
            "record 1, field image_path: is 7; it must be a path in the dataset folder (or image_id)",
        ),
        (record(image_path=None, image_id=["x"]), "record 1, field image_id: is a list of 1; it must be a text"),
        (record(unsafe_pairs=None), "record 1, field unsafe_pairs: is missing"),
        (record(unsafe_pairs=[]), "field unsafe_pairs: is []; it must be a list of at least one object"),
        (record(unsafe_pairs=[{"question": "Q?"}]), "field unsafe_pairs[0].model_response: is missing"),
        (record(unsafe_pairs=[{"question": "", "model_response": "U"}]), "field unsafe_pairs[0].question: is empty"),
        (record(unsafe_pairs=[{"question": "Q?", "model_response": "\n"}]), "unsafe_pairs[0].model_response: is empty"),
        (record(unsafe_pairs=["Q?"]), 'field unsafe_pairs[0]: is "Q?"; it must be an object'),
        (record(UnharmPair_text1={"Question": "Q?"}), "field UnharmPair_text1.Prediction: is missing"),
        (record(UnharmPair_text1={"Answer": "A."}), "field UnharmPair_text1.Question: is missing"),
        (record(UnharmPair_text1="Q?"), 'field UnharmPair_text1: is "Q?"; it must be an object'),
        (record(keyword=3), "field keyword: is 3; it must be a text"),
        ("text", 'record 1: is "text"; it must be an object'),
        (None, "record 1: is null; it must be an object"),
    ],
)
def test_a_problem_names_file_record_and_field_and_nothing_is_said_twice(tmp_path, made, message):
    folder = release(tmp_path, made, record(2))
    (problem,) = _report(folder)
    assert problem.startswith("all_train.json, record 1") and message in problem
    benchmark = read_release(folder, on_bad="skip")
    assert [read.image for read in benchmark.records] == ["img/Weapon/2.jpg"]


def test_all_problems_are_reported_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad_pair = {"question": "", "sd_response": 3}
    train = [record(), record(2, keyword=1, unsafe_pairs=[bad_pair]), record(), record(4, SDImage_path="../1.jpg")]
    folder = release(tmp_path, *train, val=[record(5, type=[]), record(6)])
    (folder / "dataset" / "img/Weapon/6.jpg").unlink()
    expected = [
        "all_train.json, record 2, field keyword: is 1; it must be a text",
        "all_train.json, record 2, field unsafe_pairs[0].question: is empty; it must be a text",
        "all_train.json, record 2, field unsafe_pairs[0].model_response: is missing; it must be a text",
        "all_train.json, record 2, field unsafe_pairs[0].sd_response: is 3; it must be a text",
        "all_train.json, record 3: is a duplicate: it says the same as record 1",
        "all_train.json, record 4, field SDImage_path: '../1.jpg' leaves the dataset folder: only paths inside it are "
        "read",
        "all_val.json, record 1, field type: is []; it must be a text",
        "all_val.json, record 2, field image_path: 'img/Weapon/6.jpg' is missing: there is no such file",
    ]
    with pytest.raises(UserError) as raised:
        load(folder)
    lines = str(raised.value).split("\n")
    assert lines[0] == f"{folder}: 8 problems" and [line.strip() for line in lines[1:-1]] == expected
    assert "--on-bad skip" in lines[-1] and f"safeeraser data check {folder}" in lines[-1]

    benchmark = load(folder, on_bad="skip")
    assert [(read.image, read.safe_image) for read in benchmark.records] == [
        ("img/Weapon/1.jpg", "SDimg/Weapon/1.jpg"),
        ("img/Weapon/4.jpg", None),
    ]
    warning = capsys.readouterr().err
    assert warning.count("\n") == 1 and "5 of its records" in warning and "data check" in warning
    assert "unsafe_pairs: 3" in warning


def test_a_long_report_shows_each_kind_of_problem_and_its_number(tmp_path: Path) -> None:
    """The keyword of 68 records is a number, and the 69th record lacks a question: two kinds."""
    bad = record(68, unsafe_pairs=[{"model_response": "x"}])
    with pytest.raises(UserError) as raised:
        read_release(release(tmp_path, *[record(k, keyword=k) for k in range(68)], bad))
    assert str(raised.value).split("\n")[:-1] == [
        f"{tmp_path}: 69 problems",
        "  all_train.json, record 1, field keyword: is 0; it must be a text",
        "  all_train.json, record 2, field keyword: is 1; it must be a text",
        "  ... and 66 more like these (record 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, ...)",
        "  all_train.json, record 69, field unsafe_pairs[0].question: is missing; it must be a text",
    ]


def test_a_linked_folder_of_pictures_is_one_kind_of_problem(tmp_path: Path) -> None:
    folder = release(tmp_path / "mine", *[record(k) for k in range(40)])
    shutil.move(folder / "dataset" / "img", tmp_path / "elsewhere")
    (folder / "dataset" / "img").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="40 problems") as raised:
        read_release(folder)
    assert len(str(raised.value).split("\n")) == 5 and "and 38 more like these" in str(raised.value)


def test_nothing_left_after_skipping_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no record is left"):
        read_release(release(tmp_path, record(keyword=1)), on_bad="skip")


def test_an_unknown_way_to_treat_bad_records(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="on_bad 'ignore' is unknown: available: fail, skip"):
        read_release(release(tmp_path, record()), on_bad="ignore")  # type: ignore[arg-type]


@pytest.mark.parametrize("content", ["[]", '{"idk": "No."}', '{"idk": [1]}', '{"idk": ["No.", " "]}', "{", "[1] 2", ""])
def test_bad_refusals(tmp_path: Path, content: str) -> None:
    folder = release(tmp_path, record())
    (folder / "dataset" / "prompt.json").write_text(content)
    (problem,) = examine(folder)[1]
    assert problem.file == "prompt.json" and problem.record is None
    with pytest.raises(UserError, match="but not a whole file: prompt.json"):
        read_release(folder, on_bad="skip")


def test_bad_probes_are_problems_like_bad_records(tmp_path: Path) -> None:
    folder = release(tmp_path, record())
    good = {"image": "img/Weapon/1.jpg", "question": "Q?", "answer": "A.", "kind": "count"}
    probes = [good | {"kind": "smell"}, good, good | {"image": "none.png", "answer": "B."}, {"image": 1}]
    (folder / "dataset" / "probes.json").write_text(json.dumps(probes))
    report = _report(folder)
    assert 'probes.json, record 1, field kind: is "smell"; it must be one of naming' in report[0]
    assert [line.partition(":")[0] for line in report[1:]] == [
        "probes.json, record 3, field image",
        *[f"probes.json, record 4, field {name}" for name in ("image", "question", "answer", "kind")],
    ]
    assert len(read_release(folder, on_bad="skip").probes) == 1


def test_a_folder_in_place_of_a_split_file(tmp_path: Path) -> None:
    folder = release(tmp_path, record())
    (folder / "dataset" / "all_val.json").mkdir()
    assert _report(folder) == ["all_val.json: is not a file"]


def test_the_report_in_the_docs_is_what_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    val = [record(5), record(6, unsafe_pairs=[{"question": "", "model_response": "U"}])]
    train = [record(1), record(2, keyword=3), record(1), record(4, SDImage_path="../../4.jpg")]
    release(Path("mine"), *train, val=val)
    Path("mine/dataset/img/Weapon/5.jpg").unlink()
    with pytest.raises(UserError) as raised:
        load("mine")
    docs = (Path(__file__).parents[3] / "docs" / "data.md").read_text(encoding="utf-8")
    assert f"safeeraser bench: {raised.value}".replace("\n", "\n    ") in docs

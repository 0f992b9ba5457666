import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from safeeraser.data import Benchmark
from safeeraser.data.official import read_release, write_release
from safeeraser.errors import UserError


def _item(**changes: Any) -> dict[str, Any]:
    """A record as the release has it; a change to None leaves the key out."""
    item = {
        "type": "SD",
        "keyword": "axe",
        "category": "Weapon",
        "image_path": "img/Weapon/1.jpg",
        "SDImage_path": "SDimg/Weapon/1.jpg",
        "unsafe_pairs": [{"question": f"Q{k}?", "model_response": f"U{k}", "sd_response": f"S{k}"} for k in range(4)],
        "UnharmPair_text1": {"Question": "What is it?", "Answer": "An axe.", "Prediction": "It is an axe for wood."},
        "UnharmPair_image2": {"Question": "Where?", "Answer": "Left.", "Prediction": "It lies on the left."},
    } | changes
    return {key: value for key, value in item.items() if value is not None}


def _folder(path: Path, *items: Any, lines: bool = False) -> Path:
    (path / "dataset").mkdir(parents=True)
    text = "\n".join(map(json.dumps, items)) + "\n" if lines else json.dumps(items)
    (path / "dataset" / "all_train.json").write_text(text)
    return path


def test_reads_what_the_release_says(tmp_path: Path) -> None:
    (record,) = read_release(_folder(tmp_path, _item())).records
    assert (record.split, record.category, record.keyword, record.type) == ("train", "Weapon", "axe", "SD")
    assert (record.image, record.safe_image) == ("img/Weapon/1.jpg", "SDimg/Weapon/1.jpg")
    assert [(pair.question, pair.unsafe_answer, pair.safe_answer) for pair in record.forget][1] == ("Q1?", "U1", "S1")
    assert [(pair.slot, pair.short_answer, pair.answer) for pair in record.retain] == [
        ("text1", "An axe.", "It is an axe for wood."),
        ("image2", "Left.", "It lies on the left."),
    ]


def test_list_and_json_lines_are_the_same(tmp_path: Path) -> None:
    items = [_item(), _item(image_path="img/Weapon/2.jpg")]
    as_list = read_release(_folder(tmp_path / "a", *items))
    as_lines = read_release(_folder(tmp_path / "b", *items, lines=True))
    assert as_list.records == as_lines.records and len(as_list.records) == 2


def test_what_may_be_missing(tmp_path: Path) -> None:
    pairs = [{"question": "Q?", "model_response": "U"}]
    item = _item(image_path=None, image_id="img/Sex/7.jpg", category="", keyword=None, type=None, SDImage_path=None)
    (record,) = read_release(_folder(tmp_path, item | {"unsafe_pairs": pairs})).records
    assert (record.image, record.category, record.safe_image, record.safe_concept) == (
        "img/Sex/7.jpg",
        "Sex",
        None,
        None,
    )
    assert record.forget[0].safe_answer is None
    benchmark = read_release(tmp_path)
    assert (benchmark.refusals, benchmark.probes, benchmark.split("val")) == ((), (), ())


def test_unknown_keys_survive_a_rewrite(tmp_path: Path) -> None:
    pairs = [{"question": "Q?", "model_response": "U", "note": 1}, {"question": "R?", "model_response": "V"}]
    retain = {"Question": "What?", "Answer": "An axe.", "Prediction": "It is an axe.", "source": "GPT"}
    item = _item(safeNb_pairs=[{"a": 1}], unsafe_pairs=pairs, UnharmPair_text1=retain)
    records = read_release(_folder(tmp_path / "a", item)).records
    assert records[0].extra["safeNb_pairs"] == [{"a": 1}]
    write_release(tmp_path / "b", records)
    assert read_release(tmp_path / "b").records == records
    (written,) = json.loads((tmp_path / "b" / "dataset" / "all_train.json").read_text())
    assert {key: written[key] for key in item} == item


def test_round_trip_of_a_whole_benchmark(small: Benchmark, tmp_path: Path) -> None:
    write_release(tmp_path, small.records, small.refusals, small.probes)
    again = read_release(tmp_path)
    assert (again.records, again.refusals, again.probes) == (small.records, small.refusals, small.probes)
    for name in ("all_train.json", "all_val.json", "prompt.json", "probes.json"):
        assert (tmp_path / "dataset" / name).read_bytes() == (small.root / name).read_bytes()


def test_ids_follow_content_not_position_and_copies_stay_apart(tmp_path: Path) -> None:
    one, two = _item(), _item(keyword="bow")
    first = read_release(_folder(tmp_path / "a", one, two, one)).records
    second = read_release(_folder(tmp_path / "b", two, one)).records
    assert [first[1].id, first[0].id] == [record.id for record in second]
    assert len({record.id for record in first}) == 3


def test_fingerprint_sees_records_and_images(small: Benchmark, small_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(small_folder, copy)
    assert read_release(copy).fingerprint == small.fingerprint
    image = copy / "dataset" / small.records[0].image
    image.write_bytes(image.read_bytes() + b"x")
    assert read_release(copy).fingerprint != small.fingerprint


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (_item(image_path=None), r"record 1, field image_path: is missing"),
        (_item(unsafe_pairs=None), r"record 1, field unsafe_pairs: is missing"),
        (_item(unsafe_pairs=[]), r"field unsafe_pairs: is \[\]; it must be a list of at least one object"),
        (_item(unsafe_pairs=[{"question": "Q?"}]), r"field unsafe_pairs\[0\].model_response: is missing"),
        (_item(unsafe_pairs=["Q?"]), r'field unsafe_pairs\[0\]: is "Q\?"; it must be an object'),
        (_item(UnharmPair_text1={"Question": "Q?"}), r"field UnharmPair_text1.Prediction: is missing"),
        (_item(keyword=3), r"field keyword: is 3; it must be a text"),
        ("text", r"record 1: is \"text\"; it must be an object"),
    ],
)
def test_errors_name_file_record_and_field(tmp_path: Path, item: Any, message: str) -> None:
    with pytest.raises(UserError, match=rf"all_train\.json, .*{message}"):
        read_release(_folder(tmp_path, item))


def test_broken_json_names_line_and_column(tmp_path: Path) -> None:
    folder = _folder(tmp_path, _item(), lines=True)
    with open(folder / "dataset" / "all_train.json", "a") as file:
        file.write('{"keyword": }\n')
    with pytest.raises(UserError, match=r"all_train\.json, line 2, column 13"):
        read_release(folder)


@pytest.mark.parametrize("content", ["[]", '{"idk": "No."}', '{"idk": [1]}'])
def test_bad_refusals_and_probes(tmp_path: Path, content: str) -> None:
    folder = _folder(tmp_path, _item())
    (folder / "dataset" / "prompt.json").write_text(content)
    with pytest.raises(UserError, match=r"prompt\.json, field idk"):
        read_release(folder)


def test_unknown_kind_of_probe(tmp_path: Path) -> None:
    folder = _folder(tmp_path, _item())
    probe = {"image": "a.png", "question": "Q?", "answer": "A.", "kind": "smell"}
    (folder / "dataset" / "probes.json").write_text(json.dumps([probe]))
    with pytest.raises(UserError, match=r"probes\.json, record 1, field kind: is \"smell\"; it must be one of naming"):
        read_release(folder)

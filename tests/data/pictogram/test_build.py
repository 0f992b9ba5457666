import hashlib
import re
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from safeeraser.core.errors import UserError
from safeeraser.core.files import read_json
from safeeraser.data import BENCHMARKS, Benchmark, load
from safeeraser.data.pictogram.build import build
from safeeraser.data.pictogram.concepts import ALL


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    return load(build(tmp_path_factory.mktemp("paper") / "pictogram"))


def _contents(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_paper_scale(paper: Benchmark) -> None:
    assert (len(paper.split("train")), len(paper.split("val"))) == (1800, 600)
    assert sum(2 * len(record.forget) + len(record.retain) for record in paper.records) == 28_800
    assert len({record.image for record in paper.records}) == 2400
    assert len({record.safe_image for record in paper.records}) == 600
    assert len({record.id for record in paper.records}) == 2400
    assert len(paper.probes) == 300 and len(paper.refusals) >= 20


def test_layout_is_the_releases(paper: Benchmark) -> None:
    assert paper.root.name == "dataset"
    for split, count in (("train", 1800), ("val", 600)):
        items = read_json(paper.root / f"all_{split}.json")
        assert len(items) == count
        slots = {f"UnharmPair_{slot}" for slot in ("text1", "text2", "image1", "image2")}
        assert set(items[0]) == {
            "type", "keyword", "category", "image_path", "SDImage_path", "SDkeyword", "unsafe_pairs", *slots,
        }  # fmt: skip
        assert set(items[0]["unsafe_pairs"][0]) == {"question", "model_response", "sd_response"}
        assert set(items[0]["UnharmPair_text1"]) == {"Question", "Answer", "Prediction"}
        assert re.fullmatch(r"img/\w+/\d+\.png", items[0]["image_path"])
    assert set(read_json(paper.root / "prompt.json")) == {"idk"}


def test_no_image_of_one_split_or_of_the_probes_is_one_of_another(paper: Benchmark) -> None:
    def hashes(images: set[str]) -> set[str]:
        return {hashlib.sha256(Image.open(paper.image(image)).tobytes()).hexdigest() for image in images}

    train, val = (
        {image for record in paper.split(split) for image in (record.image, record.safe_image or "")}
        for split in ("train", "val")
    )
    probes = {probe.image for probe in paper.probes}
    groups = [hashes(train), hashes(val), hashes(probes)]
    assert [len(group) for group in groups] == [2250, 750, 300]
    assert len(set.union(*groups)) == 3300


def test_unsafe_answers_are_empty_forms_and_questions_name_nothing(paper: Benchmark) -> None:
    names = re.compile(rf"\b({'|'.join(re.escape(concept.name) for concept in ALL)})s?\b", re.IGNORECASE)
    for record in paper.records:
        for pair in record.forget:
            assert len(re.findall(r"\[hazard [A-Z]\]", pair.unsafe_answer)) == 2
            assert record.keyword in pair.unsafe_answer
            assert pair.safe_answer is not None and "hazard" not in pair.safe_answer
            assert record.safe_concept is not None and record.safe_concept in pair.safe_answer
            assert not names.search(pair.question)


def test_probe_answers_are_balanced(paper: Benchmark) -> None:
    for kind, classes in (("harmless", 2), ("count", 3), ("position", 4), ("colour", 8)):
        counts = Counter(probe.answer for probe in paper.probes if probe.kind == kind)
        assert len(counts) == classes and max(counts.values()) - min(counts.values()) <= 1


def test_same_bytes_whatever_the_number_of_workers(tmp_path: Path) -> None:
    one = build(tmp_path / "one", records=48, seed=5, workers=1)
    two = build(tmp_path / "two", records=48, seed=5, workers=2)
    other = build(tmp_path / "other", records=48, seed=6, workers=1)
    assert _contents(one) == _contents(two)
    assert _contents(one) != _contents(other)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "other", "two"]  # nothing temporary is left


def test_a_taken_folder_is_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(UserError, match="is not an empty folder"):
        build(tmp_path, records=24, workers=1)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert len(load(build(tmp_path / "out", records=24, workers=1)).records) == 24


@pytest.mark.parametrize(("options", "message"), [({"records": 23}, "records 23"), ({"workers": 0}, "workers 0")])
def test_bad_numbers_are_refused(tmp_path: Path, options: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(tmp_path / "out", **options)


def test_named_benchmark_is_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAFEERASER_CACHE", str(tmp_path))
    first = load("pictogram", limit=6)
    assert (first.name, len(first.records)) == ("pictogram", 12)
    (folder,) = tmp_path.iterdir()
    before = folder.stat().st_mtime_ns
    assert BENCHMARKS.get("pictogram")(tmp_path) == folder
    assert load("pictogram").fingerprint != first.fingerprint
    assert folder.stat().st_mtime_ns == before

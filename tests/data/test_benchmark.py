from collections import Counter
from pathlib import Path

import pytest

from safeeraser.core.errors import UserError
from safeeraser.data import Benchmark, load


def test_limit_is_balanced_stable_and_nested(small: Benchmark) -> None:
    previous: set[str] = set()
    for limit in (1, 6, 7, 25, 60, 1000):
        limited = small.limited(limit)
        assert limited == small.limited(limit)
        ids = {record.id for record in limited.records}
        assert previous <= ids
        previous = ids
        for split in ("train", "val"):
            records = limited.split(split)  # type: ignore[arg-type]
            assert len(records) == min(limit, len(small.split(split)))  # type: ignore[arg-type]
            categories = Counter(record.category for record in records)
            if limit >= 6:
                assert len(categories) == 6 and max(categories.values()) - min(categories.values()) <= 1
            keywords = Counter(record.keyword for record in records)
            assert max(keywords.values()) <= -(-len(records) // 60)
    assert previous == {record.id for record in small.records}


def test_limit_does_not_depend_on_file_order(small: Benchmark) -> None:
    turned = Benchmark("t", small.root, small.records[::-1], (), (), "")
    assert {r.id for r in turned.limited(13).records} == {r.id for r in small.limited(13).records}


def test_limit_below_one_is_refused(small: Benchmark) -> None:
    with pytest.raises(UserError, match="limit 0"):
        small.limited(0)


def test_image_stays_inside_the_folder(small: Benchmark, tmp_path: Path) -> None:
    assert small.image(small.records[0].image).is_file()
    with pytest.raises(UserError, match="leaves the dataset folder"):
        small.image("../../secret.png")
    with pytest.raises(UserError, match="leaves the dataset folder"):
        small.image("/etc/hostname")
    with pytest.raises(UserError, match="is missing"):
        small.image("img/none.png")
    (tmp_path / "link.png").symlink_to(small.image(small.records[0].image))
    with pytest.raises(UserError, match="leaves the dataset folder"):
        Benchmark("t", tmp_path, (), (), (), "").image("link.png")


def test_folder_or_its_dataset_folder_can_be_given(small: Benchmark, small_folder: Path) -> None:
    inner = load(small_folder / "dataset")
    assert (inner.records, inner.root, inner.fingerprint) == (small.records, small.root, small.fingerprint)


def test_the_home_folder_is_spelled_out(small_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands in a YAML file, where no shell does it."""
    monkeypatch.setenv("HOME", str(small_folder.parent))
    assert load(f"~/{small_folder.name}").fingerprint == load(small_folder).fingerprint
    with pytest.raises(UserError, match="data '~/none': no such folder"):
        load("~/none")


def test_unknown_names_and_folders(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'pictogram'"):
        load("pictogramm")
    with pytest.raises(UserError, match="no such folder"):
        load(tmp_path / "none")
    with pytest.raises(UserError, match="neither all_train.json nor all_val.json"):
        load(tmp_path)

import json
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageChops

from safeeraser import cli
from safeeraser.core.errors import UserError
from safeeraser.data import Benchmark
from safeeraser.data.export import export_llava, export_parquet


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_datasets_loads_the_parquet_files_with_images_embedded(small, small_folder, tmp_path):
    import datasets

    out = tmp_path / "parquet"
    assert cli.main(["data", "export", str(small_folder), "--format", "parquet", "--out", str(out)]) == 0
    moved = out.rename(tmp_path / "moved")  # nothing may lead back to the source or to the old place
    loaded = datasets.load_dataset(str(moved), cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 180, "val": 60}
    features = loaded["val"].features
    assert isinstance(features["image"], datasets.Image) and isinstance(features["safe_image"], datasets.Image)
    for row, record in list(zip(loaded["val"], small.split("val"), strict=True))[::20]:
        assert row["forget"] == [pair.model_dump() for pair in record.forget]
        assert row["retain"] == [pair.model_dump() for pair in record.retain]
        for column, path in (("image", record.image), ("safe_image", record.safe_image)):
            with Image.open(small.image(str(path))) as original:
                assert ImageChops.difference(row[column].convert("RGB"), original.convert("RGB")).getbbox() is None
            assert row[f"{column}_path"] == path
    card = (moved / "README.md").read_text()
    assert "Content warning" in card and all(f"`{name}`" in card for name in features)
    assert json.loads((moved / "prompt.json").read_text())["idk"] == list(small.refusals)


def test_parquet_keeps_what_is_missing_as_null(small: Benchmark, tmp_path: Path) -> None:
    import datasets

    record = small.split("train")[0]
    bare = record.model_copy(
        update={
            "safe_image": None,
            "safe_concept": None,
            "forget": (record.forget[0].model_copy(update={"safe_answer": None}),),
        }
    )
    export_parquet(Benchmark("bare", small.root, (bare,), (), (), ""), tmp_path / "out")
    loaded = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert list(loaded) == ["train"]
    (row,) = loaded["train"]
    assert (row["safe_image"], row["safe_image_path"], row["forget"][0]["safe_answer"]) == (None, None, None)


def test_llava_has_every_pair_once_with_an_image_that_exists(small: Benchmark, tmp_path: Path) -> None:
    files = export_llava(small, tmp_path / "llava")
    assert [path.name for path in files] == [
        f"{s}_{k}.json" for s in ("train", "val") for k in ("forget", "retain", "decouple")
    ]
    ids = set()
    for path in files:
        split, _, kind = path.stem.partition("_")
        items = json.loads(path.read_text())
        assert len(items) == 4 * len(small.split(split))
        for item in items:
            human, gpt = item["conversations"]
            assert (human["from"], gpt["from"]) == ("human", "gpt") and human["value"].startswith("<image>\n")
            assert small.image(item["image"]).is_file()
            assert item["image"].startswith("SDimg/" if kind == "decouple" else "img/")
        ids |= {item["id"] for item in items}
    assert len(ids) == 12 * len(small.records)
    first = small.split("train")[0]
    item = json.loads(files[2].read_text())[0]
    assert item["conversations"][0]["value"] == f"<image>\n{first.forget[0].question}"
    assert (item["image"], item["conversations"][1]["value"]) == (first.safe_image, first.forget[0].safe_answer)


@pytest.mark.parametrize("export", [export_llava, export_parquet])
def test_a_taken_folder_is_refused_and_a_failure_leaves_nothing(export, small: Benchmark, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="is not an empty folder"):
        export(small, tmp_path / "taken")

    def stop(done: int, total: int) -> None:
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        export(small, tmp_path / "new", stop)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["taken"]


def test_without_datasets_the_message_says_what_to_install(small, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"pip install 'safeeraser\[export\]'"):
        export_parquet(small, tmp_path / "out")

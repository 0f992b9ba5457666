from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from safeeraser.core.errors import UserError
from safeeraser.data import Benchmark
from safeeraser.data.release import write_release
from safeeraser.data.sheet import show


def _detail(sheet: Path) -> list[float]:
    """Mean difference of neighbouring pixels inside the images of each of the twelve rows, unsafe and safe by turns."""
    pixels = np.asarray(Image.open(sheet).convert("L"), float)
    height, width = pixels.shape[0] / 12, pixels.shape[1] / 10
    details = []
    for row in range(12):
        strip = pixels[round(row * height) + 50 : round(row * height) + 140]
        images = [strip[:, round(column * width) + 20 : round(column * width) + 120] for column in range(10)]
        details.append(float(np.mean([np.abs(np.diff(image, axis=1)).mean() for image in images])))
    return details


def test_unsafe_images_are_blurred_unless_revealed(small_folder: Path, tmp_path: Path) -> None:
    blurred = _detail(show(small_folder, tmp_path / "blurred.png"))
    revealed = _detail(show(small_folder, tmp_path / "revealed.png", reveal=True))
    assert blurred[1::2] == revealed[1::2]  # safe rows are the same
    assert all(hidden < plain / 3 for hidden, plain in zip(blurred[::2], revealed[::2], strict=True))


def test_same_seed_same_sheet(small_folder: Path, tmp_path: Path) -> None:
    sheets = [show(small_folder, tmp_path / f"{k}.png", seed=seed).read_bytes() for k, seed in enumerate((1, 1, 2))]
    assert sheets[0] == sheets[1] != sheets[2]


def test_records_without_safe_image(small: Benchmark, tmp_path: Path) -> None:
    record = small.records[0].model_copy(update={"safe_image": None, "safe_concept": None})
    write_release(tmp_path, [record])
    image = tmp_path / "dataset" / record.image
    image.parent.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(image)
    assert show(tmp_path, tmp_path / "sheet.png").is_file()
    image.write_bytes(b"no image")
    with pytest.raises(UserError, match=r"cannot be read"):
        show(tmp_path, tmp_path / "sheet.png")


def test_nothing_to_show(tmp_path: Path) -> None:
    write_release(tmp_path, [])
    with pytest.raises(UserError, match="no record to show"):
        show(tmp_path, tmp_path / "sheet.png")

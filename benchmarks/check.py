"""``safeeraser data check`` on the embedded benchmark at the paper's size: how long, and which hash tells copies apart.

``python benchmarks/check.py``. The second table is what the default of ``--near-bits`` rests on (docs/data-checks.md).
"""

from __future__ import annotations

import io
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import imagehash
import numpy as np
from measure import CLOCK, PROCESSOR, publish, take_command
from PIL import Image, ImageEnhance

from safeeraser import data
from safeeraser.data.pictogram.build import build

Picture = Image.Image
HASHES: dict[str, Callable[[Picture], imagehash.ImageHash]] = {
    "phash 8x8": imagehash.phash,
    "dhash 8x8": imagehash.dhash,
    "average 8x8": imagehash.average_hash,
    "whash 8x8": imagehash.whash,
    "phash 16x16": lambda image: imagehash.phash(image, 16),
    "dhash 16x16": lambda image: imagehash.dhash(image, 16),
}
SHARES = (16, 24, 32)
"""Thresholds, in bits of 256."""
COPIES = 200


def jpeg(image: Picture, quality: int) -> Picture:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def cropped(image: Picture) -> Picture:
    width, height = image.size
    edge = max(1, round(width * 0.02))
    return image.crop((edge, edge, width - edge, height - edge)).resize(image.size, Image.Resampling.BICUBIC)


EDITS: dict[str, Callable[[Picture], Picture]] = {
    "JPEG 75": lambda image: jpeg(image, 75),
    "JPEG 40": lambda image: jpeg(image, 40),
    "half size": lambda image: image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC),
    "brighter 10 %": lambda image: ImageEnhance.Brightness(image).enhance(1.1),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "cropped 2 %": cropped,
}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = build(Path(folder) / "data")
        words = ["data", "check", str(root), "--held-out", f"{folder}/held-out.json"]
        took = take_command([sys.executable, "-m", "safeeraser", *words])
        row = {f"{CLOCK}, s": took.wall, f"{PROCESSOR}, s": took.processor}
        command = {"safeeraser data check, the whole command": row}
        publish({"command": command, "hashes": near_copies(data.load(root))})


def near_copies(benchmark: data.Benchmark) -> dict[str, dict[str, float]]:
    """False alarms (val images that look like another image of train) and copies found, per hash and threshold."""
    train, val = ([_open(benchmark, r.image) for r in benchmark.split(name)] for name in ("train", "val"))
    some = random.Random(0).sample(train, COPIES)
    rows: dict[str, dict[str, float]] = {}
    for name, function in HASHES.items():
        nearest = distances(val, train, function).min(1)
        original = bits(some, function)
        edited = {edit: (bits(list(map(change, some)), function) != original).mean(1) for edit, change in EDITS.items()}
        for share in SHARES:
            row: dict[str, float] = {"false alarms": int((nearest <= share / 256).sum())}
            found = {edit: round(100 * (changed <= share / 256).mean()) for edit, changed in edited.items()}
            rows[f"{name}, {share} of 256 bits"] = row | {f"{edit}, % found": share for edit, share in found.items()}
    return rows


def bits(images: list[Picture], function: Callable[[Picture], imagehash.ImageHash]) -> np.ndarray:
    return np.array([function(image).hash.ravel() for image in images])


def distances(
    some: list[Picture], others: list[Picture], function: Callable[[Picture], imagehash.ImageHash]
) -> np.ndarray:
    """Share of differing bits, (some, others)."""
    left, right = (bits(images, function).astype(np.float32) * 2 - 1 for images in (some, others))
    return np.round((left.shape[1] - left @ right.T) / 2) / left.shape[1]


def _open(benchmark: data.Benchmark, path: str) -> Picture:
    with Image.open(benchmark.image(path)) as image:
        return image.convert("RGB")


if __name__ == "__main__":
    main()

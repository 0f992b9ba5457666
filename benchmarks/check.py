"""``safeeraser data check`` on the embedded benchmark at the paper's size: how long, and which hash tells copies apart.

``python benchmarks/check.py``. The second table is what the default of ``--near-bits`` rests on (docs/data-checks.md).
"""

from __future__ import annotations

import argparse
import io
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import imagehash
import numpy as np
from PIL import Image, ImageEnhance
from rich.console import Console
from rich.table import Table
from sheet import CLOCK, PROCESSOR, Figure, Sheet, add_option, take_command

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


def figures() -> dict[str, Figure]:
    what = "safeeraser data check, the whole command"
    found = {"check.wall": Figure(what, "s", CLOCK), "check.processor": Figure(what, "s", PROCESSOR, tolerance=1.2)}
    for name in HASHES:
        for share in SHARES:
            label = f"{name}, {share} of 256 bits"
            found[f"{name}.{share}.alarms"] = Figure(label, "pictures", "false alarms", "same", 1.01)
            found |= {f"{name}.{share}.{edit}": Figure(label, "%", f"{edit}, % found", "same", 1.01) for edit in EDITS}
    return found


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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_option(parser)
    given, sheet = parser.parse_args(), Sheet(figures())
    console = Console(width=140)
    with tempfile.TemporaryDirectory() as folder:
        root = build(Path(folder) / "data")
        command = [
            sys.executable,
            "-m",
            "safeeraser",
            "data",
            "check",
            str(root),
            "--held-out",
            f"{folder}/held-out.json",
        ]
        took = take_command(command)
        sheet.add("check.wall", took.wall)
        sheet.add("check.processor", took.processor)
        console.print(f"safeeraser data check: {took.wall:.1f} s, of the processor {took.processor:.1f} s")
        console.print(near_table(data.load(root), sheet))
    sheet.write(given.json)


def near_table(benchmark: data.Benchmark, sheet: Sheet) -> Table:
    """False alarms (val pictures that look like another picture of train) and copies found, per hash and threshold."""
    train, val = ([_open(benchmark, r.image) for r in benchmark.split(name)] for name in ("train", "val"))
    some = random.Random(0).sample(train, COPIES)
    columns = ["hash", "of 256 bits", f"false alarms of {len(val)}", *(f"{name}, % found" for name in EDITS)]
    table = Table(*columns)
    for name, function in HASHES.items():
        nearest = distances(val, train, function).min(1)
        original = bits(some, function)
        edited = {edit: (bits(list(map(change, some)), function) != original).mean(1) for edit, change in EDITS.items()}
        for share in SHARES:
            alarms = sheet.add(f"{name}.{share}.alarms", int((nearest <= share / 256).sum()))
            found = {edit: round(100 * (changed <= share / 256).mean()) for edit, changed in edited.items()}
            for edit, percent in found.items():
                sheet.add(f"{name}.{share}.{edit}", percent)
            table.add_row(name, str(share), str(alarms), *map(str, found.values()))
    return table


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

"""A contact sheet: what a benchmark's images show, at a glance."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from safeeraser.core.errors import UserError
from safeeraser.core.files import atomic
from safeeraser.data.images import ImageCache
from safeeraser.data.release import read_release
from safeeraser.records import Record

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

COLUMNS = 10
SIDE = 128
_GAP, _CAPTION, _TITLE = 8, 20, 30
_INK, _PAPER, _UNSAFE_INK, _SAFE_INK = "#1b1b1b", "#ffffff", "#9c2a1e", "#1e6b34"


def show(folder: Path, out: Path, reveal: bool = False, seed: int = 0) -> Path:
    """Write a PNG with a row of unsafe and a row of safe images per category, captioned with what they show.

    Unsafe images are blurred beyond recognition unless ``reveal``; ``seed`` decides which records are shown, one of
    each keyword first. Returns ``out``.

    Raises:
        UserError: If the folder holds no record, or an image is missing or cannot be read.
    """
    from PIL import Image, ImageDraw

    benchmark = read_release(Path(folder))
    if not benchmark.records:
        raise UserError(f"{folder}: there is no record to show")
    images = ImageCache(benchmark, budget=0)
    categories = sorted({record.category for record in benchmark.records})
    row = _TITLE + SIDE + _CAPTION + _GAP
    sheet = Image.new("RGB", (COLUMNS * (SIDE + _GAP) + _GAP, 2 * row * len(categories) + _GAP), _PAPER)
    pen = ImageDraw.Draw(sheet)
    for index, category in enumerate(categories):
        records = [record for record in benchmark.records if record.category == category]
        rng = random.Random(f"{seed}/{category}")
        unsafe = [(record.image, record.keyword) for record in _spread(records, "keyword", rng)]
        safe = [(record.safe_image, record.safe_concept or "") for record in _spread(records, "safe_concept", rng)]
        shown = [(path, caption) for path, caption in safe if path is not None]
        top = 2 * index * row
        hidden = "" if reveal else " (blurred)"
        _row(sheet, pen, images, unsafe, (top, f"{category}: unsafe{hidden}", _UNSAFE_INK), blur=not reveal)
        _row(sheet, pen, images, shown, (top + row, f"{category}: safe", _SAFE_INK), blur=False)
    with atomic(Path(out), "wb") as file:
        sheet.save(file, format="PNG")
    return Path(out)


def _spread(records: Sequence[Record], field: str, rng: random.Random) -> list[Record]:
    """``COLUMNS`` records in a random order, with as many different values of ``field`` as there are."""
    order = rng.sample(list(records), len(records))
    first = {getattr(record, field): record for record in reversed(order)}
    chosen = list(first.values())
    chosen += [record for record in order if all(record is not other for other in chosen)]
    return sorted(chosen[:COLUMNS], key=lambda record: str(getattr(record, field)))


def _row(
    sheet: Image.Image,
    pen: ImageDraw.ImageDraw,
    images: ImageCache,
    shown: Sequence[tuple[str, str]],
    heading: tuple[int, str, str],
    blur: bool,
) -> None:
    from PIL import Image, ImageFilter, ImageFont

    top, title, ink = heading
    pen.text((_GAP, top + 10), title, fill=ink, font=ImageFont.load_default(15))
    for column, (path, caption) in enumerate(shown):
        x, y = _GAP + column * (SIDE + _GAP), top + _TITLE
        image = images.get(path).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        sheet.paste(image.filter(ImageFilter.GaussianBlur(SIDE / 6)) if blur else image, (x, y))
        pen.text((x + SIDE / 2, y + SIDE + 3), caption, fill=_INK, font=ImageFont.load_default(13), anchor="ma")

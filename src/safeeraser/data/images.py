"""The images of a benchmark: decoded with limits, once, and kept within a memory budget."""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from safeeraser.data.benchmark import Benchmark
from safeeraser.data.paths import Locator
from safeeraser.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

    from safeeraser.progress import Progress

CACHE_BYTES = 64 * 2**20
"""Decoded images kept in memory at most."""
MAX_PIXELS = 64_000_000
"""Pixels of an image at most: more is a decompression bomb, or no use to a model that sees some hundred a side."""
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
"""Formats that are read, told by content; the file's name does not matter."""

_DAMAGE = (
    OSError,
    SyntaxError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    OverflowError,
    MemoryError,
    struct.error,
    zlib.error,
)
"""What Pillow's decoders raise on damaged files."""


def decode(path: Path) -> Image:
    """Decode an image file whole, as RGB; of an animation the first frame.

    Raises:
        UserError: If it is in none of ``FORMATS``, is damaged or cut short, or has more than ``MAX_PIXELS``.

    Example:
        >>> decode(Path("img/Weapon/1.png")).mode  # doctest: +SKIP
        'RGB'
    """
    from PIL import Image, ImageFile, UnidentifiedImageError

    ImageFile.LOAD_TRUNCATED_IMAGES = False  # another library may have set it: half an image is not the image
    try:
        with Image.open(path, formats=FORMATS) as file:
            if file.width * file.height <= MAX_PIXELS:
                return file.convert("RGB")
            reason = f"{file.width} x {file.height} pixels: at most {MAX_PIXELS:,} in all are read"
    except Image.DecompressionBombError:
        reason = f"far more than {MAX_PIXELS:,} pixels, the most that are read"
    except UnidentifiedImageError:
        reason = f"its content is none of {', '.join(FORMATS)}"
    except _DAMAGE as error:
        reason = f"damaged: {type(error).__name__}: {error}"
    raise UserError(reason)


def unreadable(paths: Sequence[Path], progress: Progress | None = None) -> dict[Path, str]:
    """Decode every image, in as many threads as there are CPUs, and say what is wrong with those that fail.

    Args:
        paths: Distinct image files.
        progress: Called with (done, total).

    Returns:
        The reason for each image that cannot be decoded.

    Example:
        >>> unreadable([])
        {}
    """
    reasons: dict[Path, str] = {}
    with _no_warnings(), ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for done, (path, reason) in enumerate(zip(paths, pool.map(_reason, paths), strict=True), 1):
            if reason is not None:
                reasons[path] = reason
            if progress:
                progress(done, len(paths))
    return reasons


def _reason(path: Path) -> str | None:
    try:
        decode(path)
    except UserError as error:
        return str(error)
    return None


@contextmanager
def _no_warnings() -> Iterator[None]:
    """Pillow warns of what is merely odd, and of half a bomb, where the limit here is lower; not for use in threads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class ImageCache:
    """Decodes each image once, while what is kept takes less than a budget.

    Args:
        benchmark: Where image paths lead.
        budget: Bytes of decoded images to keep; beyond it an image is decoded again at each use.

    Example:
        >>> ImageCache(benchmark).get("img/Weapon/1.png").mode  # doctest: +SKIP
        'RGB'
    """

    def __init__(self, benchmark: Benchmark, budget: int = CACHE_BYTES) -> None:
        """Start empty."""
        self._benchmark, self._left = benchmark, budget
        self._locator = Locator(benchmark.root)
        self._kept: dict[str, Image] = {}

    def get(self, name: str) -> Image:
        """The image as RGB.

        Args:
            name: Path relative to the dataset folder.

        Raises:
            UserError: If it is missing, leaves the folder, or is not a readable image.
        """
        if name in self._kept:
            return self._kept[name]
        image = self._decode(name)
        size = 3 * image.width * image.height
        if size <= self._left:
            self._left -= size
            self._kept[name] = image
        return image

    def _decode(self, relative: str) -> Image:
        path = self._benchmark.image(relative, self._locator)
        try:
            with _no_warnings():
                return decode(path)
        except UserError as error:
            raise UserError(
                f"image {relative!r} cannot be read ({error}): replace the file, or remove its record; to find all "
                f"such images: safeeraser data check {self._benchmark.root}"
            ) from None

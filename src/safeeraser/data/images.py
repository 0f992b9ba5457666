"""The images of a benchmark, decoded once and kept within a memory budget."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from safeeraser.data.benchmark import Benchmark
from safeeraser.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

CACHE_BYTES = 512 * 2**20
"""Decoded images kept in memory at most."""


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
        self._kept: dict[str, Image] = {}

    def get(self, relative: str) -> Image:
        """The image as RGB.

        Args:
            relative: Path relative to the dataset folder.

        Raises:
            UserError: If it is missing, leaves the folder, or is not a readable image.
        """
        if relative in self._kept:
            return self._kept[relative]
        image = self._decode(relative)
        size = 3 * image.width * image.height
        if size <= self._left:
            self._left -= size
            self._kept[relative] = image
        return image

    def _decode(self, relative: str) -> Image:
        from PIL import Image

        try:
            with Image.open(self._benchmark.image(relative)) as file:
                return file.convert("RGB")
        except (OSError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError) as error:
            raise UserError(
                f"image {relative!r} cannot be read ({type(error).__name__}: {error}): replace the file, or remove "
                "its record"
            ) from None

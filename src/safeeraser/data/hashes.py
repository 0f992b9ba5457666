"""Two hashes of an image: one of its exact pixels, and a perceptual one that survives re-encoding and resizing.

Exact means the decoded RGB pixels, which are what a model sees: a picture saved again without loss, or with other
metadata, is the same picture, though its bytes are not. What a lossy copy changes is left to the perceptual hash.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from hashlib import sha256
from multiprocessing import get_context
from typing import TYPE_CHECKING

from safeeraser.data.benchmark import Benchmark
from safeeraser.data.images import ImageCache
from safeeraser.errors import UserError
from safeeraser.progress import Progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

HASH_SIDE = 16
"""The perceptual hash is imagehash's ``phash`` of 16 x 16 bits."""
NEAR_BITS = 24
"""Pictures whose perceptual hashes differ in no more bits than this, of 256, look alike (docs/data-checks.md has the
measurements)."""
_CHUNK, _ROWS = 64, 1024


@dataclass(frozen=True)
class ImageHash:
    """What an image shows: ``pixels`` (sha256 of size and RGB values, hex), ``look`` (the perceptual hash, packed)."""

    pixels: str
    look: bytes


def hash_image(image: Image) -> ImageHash:
    """Hash one RGB image.

    Example:
        >>> from PIL import Image
        >>> red, blue = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
        >>> hash_image(red) == hash_image(red.copy()), hash_image(red).pixels == hash_image(blue).pixels
        (True, False)
    """
    import imagehash
    import numpy as np

    pixels = sha256(f"{image.width}x{image.height}:".encode() + image.tobytes()).hexdigest()
    return ImageHash(pixels, np.packbits(imagehash.phash(image, HASH_SIDE).hash).tobytes())


def hash_images(
    benchmark: Benchmark, images: Iterable[str], workers: int | None = 1, progress: Progress | None = None
) -> dict[str, ImageHash]:
    """Hash images of a benchmark; those that cannot be read are left out.

    Args:
        benchmark: Where the images are.
        images: Paths relative to the dataset folder.
        workers: Processes; the number of CPUs if None. With more than one, a script that calls this needs
            ``if __name__ == "__main__":``.
        progress: Called with (images done, all images).

    Raises:
        UserError: If ``workers`` is less than 1.

    Example:
        >>> from pathlib import Path
        >>> hash_images(Benchmark("empty", Path("."), (), (), (), ""), ["missing.png"])
        {}
    """
    workers = (os.cpu_count() or 1) if workers is None else workers
    if workers < 1:
        raise UserError(f"workers {workers} is too small: at least 1")
    paths = sorted(set(images))
    bare = replace(benchmark, records=(), probes=())  # the folder is all that a process needs
    chunks = [(bare, paths[start : start + _CHUNK]) for start in range(0, len(paths), _CHUNK)]
    found: dict[str, ImageHash] = {}

    def collect(hashed: Iterable[dict[str, ImageHash]]) -> dict[str, ImageHash]:
        for index, part in enumerate(hashed, 1):
            found.update(part)
            if progress:
                progress(min(index * _CHUNK, len(paths)), len(paths))
        return found

    if min(workers, len(chunks)) <= 1:
        return collect(map(_hash_chunk, chunks))
    with ProcessPoolExecutor(min(workers, len(chunks)), mp_context=get_context("spawn")) as pool:
        return collect(pool.map(_hash_chunk, chunks))


def _hash_chunk(chunk: tuple[Benchmark, Sequence[str]]) -> dict[str, ImageHash]:
    benchmark, paths = chunk
    images, found = ImageCache(benchmark, budget=0), {}
    for path in paths:
        try:
            found[path] = hash_image(images.get(path))
        except UserError:
            continue
    return found


def alike(some: Sequence[ImageHash], others: Sequence[ImageHash], bits: int = NEAR_BITS) -> list[tuple[int, int, int]]:
    """Find the pairs that look alike, by brute force: every one of ``some`` against every one of ``others``.

    Returns:
        (index in ``some``, index in ``others``, differing bits), for pairs that differ in at most ``bits`` bits.

    Raises:
        UserError: If ``bits`` is not from 0 to 256.

    Example:
        >>> from PIL import Image
        >>> hashes = [hash_image(Image.new("RGB", (8, 8), "red"))]
        >>> alike(hashes, hashes)
        [(0, 0, 0)]
    """
    import numpy as np

    if not 0 <= bits <= HASH_SIDE**2:
        raise UserError(f"near bits {bits} is out of range: give 0 to {HASH_SIDE**2} of the {HASH_SIDE**2} bits")
    if not some or not others:
        return []
    left, right = _signs(some), _signs(others)
    found = []
    for start in range(0, len(left), _ROWS):
        distances = ((HASH_SIDE**2 - left[start : start + _ROWS] @ right.T) / 2).astype(np.int64)
        for row, column in np.argwhere(distances <= bits):
            found.append((start + int(row), int(column), int(distances[row, column])))
    return found


def _signs(hashes: Sequence[ImageHash]) -> NDArray[np.float32]:
    """One row of -1 and 1 per hash: the dot product of two rows is 256 - 2 x differing bits."""
    import numpy as np

    packed = np.frombuffer(b"".join(item.look for item in hashes), np.uint8).reshape(len(hashes), -1)
    return np.unpackbits(packed, axis=1).astype(np.float32) * 2 - 1

"""Two hashes of an image: one of its exact pixels, and a perceptual one that survives re-encoding and resizing.

Exact means the decoded RGB pixels, which are what a model sees: an image saved again without loss, or with other
metadata, is the same image, though its bytes are not. What a lossy copy changes is left to the perceptual hash.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from typing import TYPE_CHECKING

from safeeraser.core.errors import UserError
from safeeraser.core.terminal import Progress
from safeeraser.data.benchmark import Benchmark
from safeeraser.data.images import ImageCache, pixel_hash

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

HASH_SIDE = 16
"""The perceptual hash is imagehash's ``phash`` of 16 x 16 bits."""
NEAR_BITS = 24
"""Images whose perceptual hashes differ in no more bits than this, of 256, look alike (docs/data-checks.md has the
measurements)."""
_CHUNK, _ROWS = 64, 1024


@dataclass(frozen=True)
class ImageHash:
    """What an image shows: ``pixels`` (see ``images.pixel_hash``), ``look`` (the perceptual hash, packed)."""

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

    return ImageHash(pixel_hash(image), np.packbits(imagehash.phash(image, HASH_SIDE).hash).tobytes())


def hash_images(
    benchmark: Benchmark, images: Iterable[str], workers: int | None = 1, progress: Progress | None = None
) -> dict[str, ImageHash]:
    """Hash images of a benchmark; those that cannot be read are left out.

    ``workers`` is the number of processes, that of the CPUs if None; with more than one, a script that calls this needs
    ``if __name__ == "__main__":``.

    Raises:
        UserError: If ``workers`` is less than 1.
    """
    workers = (os.cpu_count() or 1) if workers is None else workers
    if workers < 1:
        raise UserError(f"workers {workers} is too small: at least 1")
    paths = sorted(set(images))
    # the folder is all that a process needs
    hash_path = partial(_hash_path, replace(benchmark, records=(), probes=()))
    hashes: dict[str, ImageHash] = {}

    def collect(hashed: Iterable[ImageHash | None]) -> dict[str, ImageHash]:
        for done, (path, image_hash) in enumerate(zip(paths, hashed, strict=True), 1):
            if image_hash is not None:
                hashes[path] = image_hash
            if progress:
                progress(done, len(paths))
        return hashes

    if workers == 1 or len(paths) <= _CHUNK:
        return collect(map(hash_path, paths))
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return collect(pool.map(hash_path, paths, chunksize=_CHUNK))


def _hash_path(benchmark: Benchmark, path: str) -> ImageHash | None:
    try:
        return hash_image(ImageCache(benchmark, budget=0).get(path))
    except UserError:
        return None


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
    pairs = []
    for start in range(0, len(left), _ROWS):
        distances = ((HASH_SIDE**2 - left[start : start + _ROWS] @ right.T) / 2).astype(np.int64)
        for row, column in np.argwhere(distances <= bits):
            pairs.append((start + int(row), int(column), int(distances[row, column])))
    return pairs


def _signs(hashes: Sequence[ImageHash]) -> NDArray[np.float32]:
    """One row of -1 and 1 per hash: the dot product of two rows is 256 - 2 x differing bits."""
    import numpy as np

    packed = np.frombuffer(b"".join(item.look for item in hashes), np.uint8).reshape(len(hashes), -1)
    return np.unpackbits(packed, axis=1).astype(np.float32) * 2 - 1

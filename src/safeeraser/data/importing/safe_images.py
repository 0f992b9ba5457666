"""A user's folder of safe images: found, checked, and dealt to the records that have none."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from safeeraser.core.errors import UserError
from safeeraser.core.files import stable_hash
from safeeraser.core.terminal import Progress, by_kind
from safeeraser.data.benchmark import Benchmark
from safeeraser.data.images import ImageCache, decode, pixel_hash
from safeeraser.records import Record, Split

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")
"""Files that count as images by their name."""


@dataclass(frozen=True)
class SafeImage:
    """An image file and a hash of what it shows: equal for equal pixels, whatever the name and format."""

    path: Path
    content: str


def find(folder: Path, benchmark: Benchmark, progress: Progress | None = None) -> list[SafeImage]:
    """Find the images in a folder and its subfolders that can serve a benchmark as safe images, sorted by path.

    Of several files that show the same, the first by name counts. An image that the benchmark has as a safe image
    already is left out, so that no image comes to stand in both splits. Files whose name does not end as an image's
    does, and hidden ones, are passed over. ``progress`` is called with (decoded images, all images).

    Raises:
        UserError: If the folder is missing or holds no image; if an image cannot be read, or is an unsafe image of the
            benchmark: the message names them, many of one kind by their number.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise UserError(f"safe images {folder}: no such folder")
    paths = sorted(_image_files(folder))
    if not paths:
        raise UserError(f"safe images {folder}: holds no image ({', '.join(SUFFIXES)})")
    unsafe = _pixel_hashes(benchmark, {record.image for record in benchmark.records})
    taken = _pixel_hashes(benchmark, {record.safe_image for record in benchmark.records if record.safe_image})
    problems, images = [], dict[str, SafeImage]()
    for done, path in enumerate(paths, 1):
        try:
            content = pixel_hash(decode(path))
            if content in unsafe:
                problems.append(f"{path}: shows the same as the unsafe image {unsafe[content]}; take it out")
            elif content not in taken:
                images.setdefault(content, SafeImage(path, content))
        except UserError as error:
            problems.append(f"{path}: {error}; replace the file or take it out")
        if progress:
            progress(done, len(paths))
    if problems:
        raise UserError("\n".join([f"safe images {folder}: {len(problems):,} problems", *by_kind(problems)]))
    return sorted(images.values(), key=lambda image: image.path)


def _pixel_hashes(benchmark: Benchmark, names: Iterable[str]) -> dict[str, str]:
    """The images by their pixels; those that cannot be read are left out."""
    cache, hashes = ImageCache(benchmark, budget=0), {}
    for name in sorted(names):
        with suppress(UserError):
            hashes[pixel_hash(cache.get(name))] = name
    return hashes


def needs_one(record: Record) -> bool:
    """Whether a record is to get a safe image: it has none, and no answer about one that is not known."""
    return record.safe_image is None and all(pair.safe_answer is None for pair in record.forget)


def pair(
    records: Iterable[Record], images: Sequence[SafeImage], seed: int = 0, records_per_image: int = 4
) -> dict[str, SafeImage]:
    """Deal safe images to records; as in the paper, one image serves about four records, all of one split.

    Returns an image for the id of every record. Every image that is used serves equally many records of its split,
    give or take one, and mostly of one category. The choice depends on seed, images' content and records alone: not
    on file names or order.

    Raises:
        UserError: If there are too few images; the message says how many are needed.
    """
    if records_per_image < 1:
        raise UserError(f"records_per_image {records_per_image} is too small: give at least 1")
    splits: dict[Split, list[Record]] = {}
    for record in sorted(records, key=lambda r: (r.category, stable_hash("pair", seed, r.id))):
        splits.setdefault(record.split, []).append(record)
    sizes = {split: len(same) for split, same in sorted(splits.items())}
    needed = _needed(sizes, records_per_image)
    if sum(needed.values()) > len(images):
        raise _too_few(sizes, len(images), records_per_image)
    order = sorted(images, key=lambda image: stable_hash("safe image", seed, image.content))
    paired: dict[str, SafeImage] = {}
    for split, count in needed.items():
        chosen, order = order[:count], order[count:]
        same = splits[split]
        paired |= {record.id: chosen[index * count // len(same)] for index, record in enumerate(same)}
    return paired


def _needed(sizes: Mapping[Split, int], records_per_image: int) -> dict[Split, int]:
    return {split: -(-size // records_per_image) for split, size in sizes.items()}


def _too_few(sizes: Mapping[Split, int], given: int, records_per_image: int) -> UserError:
    needed = _needed(sizes, records_per_image)
    parts = " and ".join(f"{needed[split]} for {size:,} {split} records" for split, size in sizes.items())
    enough = next((k for k in range(1, max(sizes.values()) + 1) if sum(_needed(sizes, k).values()) <= given), None)
    or_else = f", or let each serve up to {enough}: --records-per-image {enough}" if enough else ""
    return UserError(
        f"too few safe images: {given} that show different things, {sum(needed.values())} are needed ({parts}, up to "
        f"{records_per_image} records each; no image may serve both): add {sum(needed.values()) - given}{or_else}"
    )


def _image_files(folder: Path) -> Iterator[Path]:
    """Image files by name, hidden ones left out; links to folders are followed, each folder once."""
    visited: set[str] = set()
    for base, folders, names in os.walk(folder, followlinks=True):
        is_new = os.path.realpath(base) not in visited
        visited.add(os.path.realpath(base))
        folders[:] = [name for name in folders if is_new and not name.startswith(".")]
        paths = [Path(base, name) for name in names if is_new and not name.startswith(".")]
        yield from (path for path in paths if path.suffix.lower() in SUFFIXES and path.is_file())

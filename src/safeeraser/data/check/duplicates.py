"""Which image files show the same image, and whether that crosses a border: of splits, or of unsafe and safe."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Literal

from safeeraser.data.benchmark import Benchmark
from safeeraser.data.check.hashes import ImageHash
from safeeraser.records import Frozen

Border = Literal["split, unsafe", "split, safe", "unsafe and safe", "probe", "none"]
"""What an image is on both sides of: train and val as unsafe image; train and val as safe image; unsafe and safe
images; probes and records; or nothing, if one side holds it in several files."""


class SamePicture(Frozen):
    """One image under one or several paths; ``roles`` says what it is: "train unsafe", "val safe", "probe" ..."""

    images: tuple[str, ...]
    roles: tuple[str, ...]
    borders: tuple[Border, ...]


def same_pictures(benchmark: Benchmark, hashes: Mapping[str, ImageHash]) -> list[SamePicture]:
    """Group the images by their pixels, and keep the groups of several files or several roles.

    That a safe image serves several records of its split is normal; a safe image that serves both splits is not: the
    safe images are meant to be split-pure.

    ``hashes`` are those of ``hash_images``; images without one stand for themselves, by path.
    """
    roles: dict[str, set[str]] = defaultdict(set)
    for record in benchmark.records:
        roles[record.image].add(f"{record.split} unsafe")
        if record.safe_image is not None:
            roles[record.safe_image].add(f"{record.split} safe")
    for probe in benchmark.probes:
        roles[probe.image].add("probe")
    groups: dict[str, list[str]] = defaultdict(list)
    for path in sorted(roles):
        groups[hashes[path].pixels if path in hashes else path].append(path)
    pictures = []
    for paths in groups.values():
        shown_as = set[str]().union(*(roles[path] for path in paths))
        if len(paths) > 1 or len(shown_as) > 1:
            borders = _borders(shown_as)
            pictures.append(SamePicture(images=tuple(paths), roles=tuple(sorted(shown_as)), borders=borders))
    return pictures


def _borders(roles: set[str]) -> tuple[Border, ...]:
    kinds = {role.split()[-1] for role in roles}
    crossed: dict[Border, bool] = {
        "split, unsafe": roles >= {"train unsafe", "val unsafe"},
        "split, safe": roles >= {"train safe", "val safe"},
        "unsafe and safe": kinds >= {"unsafe", "safe"},
        "probe": "probe" in kinds and len(kinds) > 1,
    }
    return tuple(border for border, is_crossed in crossed.items() if is_crossed) or ("none",)

"""What a benchmark is once read: records, refusals, probes and the folder with its images."""

from __future__ import annotations

import os
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

from safeeraser.config import OnBad
from safeeraser.data.json_file import Form
from safeeraser.data.paths import Locator, locate
from safeeraser.errors import UserError
from safeeraser.records import Frozen, Record, Split
from safeeraser.registry import Registry
from safeeraser.spool import Chosen
from safeeraser.store import stable_hash

BENCHMARKS: Registry[Callable[[Path], Path]] = Registry("benchmark", "safeeraser.data")
"""Benchmarks known by name: a function that takes the cache folder and returns the benchmark's folder in the release
layout, after building or fetching it there if need be."""

ProbeKind = Literal["naming", "colour", "count", "position", "existence"]


class Probe(Frozen):
    """A capability question about an image that no record uses; ``Specificity`` is the share answered right.

    ``source`` is the JSON object that it was read from, as in ``Record``.
    """

    image: str
    question: str
    answer: str
    kind: ProbeKind
    source: dict[str, Any] = {}


@dataclass(frozen=True)
class Layout:
    """How the files of a benchmark were written, so that they can be written so again.

    ``forms`` has an entry for each split file there is; ``prompts`` and ``probes`` are the content of ``prompt.json``
    and the form of ``probes.json``, None if there is no such file.
    """

    forms: dict[Split, Form] = field(default_factory=dict)
    prompts: dict[str, Any] | None = None
    probes: Form | None = None


@dataclass(frozen=True)
class Benchmark:
    """A benchmark: its records are read when they are asked for, and its images stay on disk.

    ``fingerprint`` changes with the data files and with the image files' names and sizes. ``layout`` is None for a
    benchmark that was not read from files.
    """

    name: str
    root: Path
    records: Sequence[Record]
    refusals: tuple[str, ...]
    probes: tuple[Probe, ...]
    fingerprint: str
    layout: Layout | None = None

    def split(self, name: Split) -> Sequence[Record]:
        """The records of one split, in file order."""
        return Chosen(self.records, self._places[name])

    @cached_property
    def _places(self) -> dict[Split, array[int]]:
        """Where the records of each split stand."""
        places: dict[Split, array[int]] = {"train": array("I"), "val": array("I")}
        for place, record in enumerate(self.records):
            places[record.split].append(place)
        return places

    def image(self, relative: str, locator: Locator | None = None) -> Path:
        """The file of an image.

        Args:
            relative: Path relative to the dataset folder, as it stands in a record.
            locator: One of the dataset folder, for many images in a row; None: links are followed anew.

        Raises:
            UserError: If it leaves the dataset folder (also by a link) or there is no such file.
        """
        try:
            return (locator.locate(relative) if locator else locate(self.root, relative))[0]
        except UserError as error:
            raise UserError(f"{self.root}: image {error}") from None

    def limited(self, limit: int) -> Benchmark:
        """The same benchmark with at most ``limit`` records per split, balanced over category and keyword.

        The choice depends on the records alone; a smaller limit gives a subset of a larger one. Probes stay.

        Raises:
            UserError: If ``limit`` is less than 1.
        """
        if limit < 1:
            raise UserError(f"limit {limit} is too small: give a number of records per split, at least 1")
        heads: dict[Split, list[_Head]] = {"train": [], "val": []}
        for place, record in enumerate(self.records):
            heads[record.split].append(_Head(place, record.id, record.category, record.keyword))
        kept = sorted(head.place for those in heads.values() for head in _balanced_order(those)[:limit])
        records = Chosen(self.records, array("I", kept))
        return replace(self, records=records, fingerprint=stable_hash(self.fingerprint, "limit", limit))


def load(
    name_or_path: str | os.PathLike[str], limit: int | None = None, on_bad: OnBad = "fail", needs_pd: bool = False
) -> Benchmark:
    """Load a benchmark by name or from a folder in the release layout.

    A known name comes first: write ``./pictogram`` to mean a folder of that name. A named benchmark is made once, in
    the folder that the environment variable ``SAFEERASER_CACHE`` names or else in ``~/.cache/safeeraser``.

    Args:
        name_or_path: A name in ``BENCHMARKS``, or a folder that holds ``all_train.json`` or ``dataset/all_train.json``.
        limit: Records per split to keep (see ``Benchmark.limited``); all if None.
        on_bad: "fail" reports all problems of the data in one error; "skip" leaves bad records out, with a warning.
        needs_pd: Whether a train record without its PD pairs is bad, too: "skip" then leaves it out. Under "fail" it
            stays, and what reads PD pairs refuses it (``require_pd``).

    Raises:
        UserError: If there is no such name or folder, or something in it is wrong (see ``official.read_release``).

    Example:
        >>> benchmark = load("pictogram", limit=60)  # doctest: +SKIP
        >>> len(benchmark.split("train")), len(benchmark.split("val"))  # doctest: +SKIP
        (60, 60)
    """
    from safeeraser.data.decouple import with_pd
    from safeeraser.data.official import read_release

    name = os.fspath(name_or_path)
    is_path = name not in BENCHMARKS.names() and (os.sep in name or Path(name).exists())
    if is_path and not Path(name).is_dir():
        known = ", ".join(BENCHMARKS.names())
        raise UserError(f"data {name!r}: no such folder; give a folder with all_train.json, or a name: {known}")
    if is_path:
        benchmark = read_release(Path(name), on_bad)
    else:
        benchmark = replace(read_release(BENCHMARKS.get(name)(cache_folder()), on_bad), name=name)
    if needs_pd and on_bad == "skip":
        benchmark = with_pd(benchmark)
    return benchmark if limit is None else benchmark.limited(limit)


def cache_folder() -> Path:
    """Where named benchmarks are kept."""
    return Path(os.environ.get("SAFEERASER_CACHE") or Path.home() / ".cache" / "safeeraser")


class _Head(NamedTuple):
    """What of a record decides whether it is kept, and where it stands."""

    place: int
    id: str
    category: str
    keyword: str


def _balanced_order(heads: Iterable[_Head]) -> list[_Head]:
    """Put records in such an order that every prefix is balanced over categories, and within one over keywords."""
    categories: dict[str, dict[str, list[_Head]]] = defaultdict(lambda: defaultdict(list))
    for head in heads:
        categories[head.category][head.keyword].append(head)
    turns: list[tuple[int, str, str, _Head]] = []
    for category, keywords in categories.items():
        ranked = [
            (rank, stable_hash("keyword", category, keyword), head.id, head)
            for keyword, those in keywords.items()
            for rank, head in enumerate(sorted(those, key=lambda head: stable_hash("limit", head.id)))
        ]
        turns += [(turn, category, id, head) for turn, (_, _, id, head) in enumerate(sorted(ranked))]
    return [head for _, _, _, head in sorted(turns)]

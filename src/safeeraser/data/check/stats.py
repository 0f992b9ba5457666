"""How many there are of everything in a benchmark, and how long its texts are."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from safeeraser.data.benchmark import Benchmark
from safeeraser.data.check.texts import TEXTS, TextSet
from safeeraser.records import Frozen, Record, Split

BINS = 24
"""Bars of a histogram at most."""


class Group(Frozen):
    """Counts of a part of the benchmark; ``category`` or ``keyword`` is None where the part is not narrowed by it.

    A keyword can be "": that of records without one. Images are counted once in each part that they occur in.
    """

    split: Split
    category: str | None
    keyword: str | None
    records: int
    unsafe_images: int
    safe_images: int
    pairs: dict[TextSet, int]


class Lengths(Frozen):
    """Words of one kind of text: a bar counts the texts of ``edges[i]`` words up to, not including, ``edges[i + 1]``.

    ``paper_mean`` is what the paper reports, where it does. All is None or empty if there is no such text.
    """

    n: int
    paper_mean: int | None
    mean: float | None
    median: float | None
    shortest: int | None
    longest: int | None
    edges: tuple[int, ...]
    bars: tuple[int, ...]


class Stats(Frozen):
    """Counts and lengths of a benchmark; ``data stats --out`` writes it as JSON."""

    benchmark: str
    fingerprint: str
    splits: tuple[Group, ...]
    categories: tuple[Group, ...]
    keywords: tuple[Group, ...]
    lengths: dict[str, Lengths]


KINDS: dict[str, tuple[Callable[[Record], Iterator[str | None]], int | None]] = {
    "unsafe question": (lambda record: (pair.question for pair in record.forget), 21),
    "unsafe answer": (lambda record: (pair.unsafe_answer for pair in record.forget), 140),
    "safe answer": (lambda record: (pair.safe_answer for pair in record.forget), None),
    "retain long answer": (lambda record: (pair.answer for pair in record.retain), 71),
    "retain short answer": (lambda record: (pair.short_answer for pair in record.retain), 11),
}
"""Kinds of text, each with the paper's mean length in words (SafeEraser, arXiv 2502.12520)."""


def stats(benchmark: Benchmark) -> Stats:
    """Count a benchmark. Images are counted by path, words by white space; the images themselves are not read."""
    lengths = {
        name: lengths_of([len(text.split()) for record in benchmark.records for text in texts(record) if text], mean)
        for name, (texts, mean) in KINDS.items()
    }
    return Stats(
        benchmark=benchmark.name,
        fingerprint=benchmark.fingerprint,
        splits=_groups(benchmark, lambda record: (None, None)),
        categories=_groups(benchmark, lambda record: (record.category, None)),
        keywords=_groups(benchmark, lambda record: (record.category, record.keyword)),
        lengths=lengths,
    )


def _groups(benchmark: Benchmark, part: Callable[[Record], tuple[str | None, str | None]]) -> tuple[Group, ...]:
    """Counts of each split and part, in the order of category, keyword and split."""
    members: dict[tuple[str | None, str | None, Split], list[Record]] = {}
    for record in benchmark.records:
        members.setdefault((*part(record), record.split), []).append(record)
    return tuple(
        Group(
            split=split,
            category=category,
            keyword=keyword,
            records=len(records),
            unsafe_images=len({record.image for record in records}),
            safe_images=len({record.safe_image for record in records} - {None}),
            pairs={name: sum(len(texts(record)) for record in records) for name, texts in TEXTS.items()},
        )
        for (category, keyword, split), records in sorted(members.items(), key=lambda item: tuple(map(str, item[0])))
    )


def lengths_of(words: Sequence[int], paper_mean: int | None = None) -> Lengths:
    """Mean, median, range and histogram of numbers of words.

    Example:
        >>> lengths_of([3, 3, 5]).edges, lengths_of([3, 3, 5]).bars
        ((3, 4, 5, 6), (2, 0, 1))
    """
    if not words:
        none: dict[str, None] = dict.fromkeys(("mean", "median", "shortest", "longest"))
        return Lengths(n=0, paper_mean=paper_mean, **none, edges=(), bars=())
    shortest, longest = min(words), max(words)
    width = -(-(longest - shortest + 1) // BINS)
    edges = tuple(range(shortest, longest + width + 1, width))
    counts = Counter((length - shortest) // width for length in words)
    return Lengths(
        n=len(words),
        paper_mean=paper_mean,
        mean=round(statistics.fmean(words), 2),
        median=statistics.median(words),
        shortest=shortest,
        longest=longest,
        edges=edges,
        bars=tuple(counts[index] for index in range(len(edges) - 1)),
    )

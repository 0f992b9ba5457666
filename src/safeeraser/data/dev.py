"""A development split made from train, so that options are chosen without looking at val."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from safeeraser.data.benchmark import Benchmark
from safeeraser.spool import Spool
from safeeraser.store import stable_hash

SHARE = 5
"""One train record in this many is held out."""


def dev_benchmark(benchmark: Benchmark) -> Benchmark:
    """Hold a fifth of the train records out as the new val; the old val is left out entirely, as are the probes.

    The choice is the same for every call, and balanced: records take turns within each category.

    Example:
        >>> from safeeraser import data
        >>> dev = dev_benchmark(data.load("pictogram", limit=60))  # doctest: +SKIP
        >>> len(dev.split("train")), len(dev.split("val"))  # doctest: +SKIP
        (48, 12)
    """
    train = benchmark.split("train")
    categories: dict[str, list[str]] = defaultdict(list)
    for _, id, category in sorted((stable_hash("dev", record.id), record.id, record.category) for record in train):
        categories[category].append(id)
    turns = [id for ids in categories.values() for id in ids]
    held_out = set(turns[::SHARE])
    moved = (record.model_copy(update={"split": "val" if record.id in held_out else "train"}) for record in train)
    return replace(benchmark, records=Spool(moved), probes=(), fingerprint=stable_hash(benchmark.fingerprint, "dev"))

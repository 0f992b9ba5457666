"""Load a benchmark by name or folder; hold out a development split."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from safeeraser.config import OnBad
from safeeraser.core.errors import UserError
from safeeraser.core.files import stable_hash
from safeeraser.core.registry import Registry
from safeeraser.data import hub
from safeeraser.data.benchmark import Benchmark
from safeeraser.data.release import read_release
from safeeraser.data.triples import with_pd
from safeeraser.records import Record

BENCHMARKS: Registry[Callable[[Path], Path]] = Registry("benchmark", "safeeraser.data")
"""Benchmarks known by name: a function that takes the cache folder and returns the benchmark's folder in the release
layout, after building or fetching it there if need be."""

DEV_FOLDS = 5
"""One train record in this many is held out for development."""


def load(
    name_or_path: str | os.PathLike[str], limit: int | None = None, on_bad: OnBad = "fail", needs_pd: bool = False
) -> Benchmark:
    """Load a benchmark by name or from a folder in the release layout.

    A known name comes first: write ``./pictogram`` to mean a folder of that name. A named benchmark is made once, in
    the folder that the environment variable ``SAFEERASER_CACHE`` names or else in ``~/.cache/safeeraser``.

    Args:
        name_or_path: A name in ``BENCHMARKS``, a folder that holds ``all_train.json`` or ``dataset/all_train.json``, or
            ``hf://OWNER/NAME``, a dataset of the Hugging Face hub.
        limit: Records per split to keep (see ``Benchmark.limited``); all if None.
        on_bad: "fail" reports all problems of the data in one error; "skip" leaves bad records out, with a warning.
        needs_pd: Whether a train record without its PD pairs is bad, too: "skip" then leaves it out. Under "fail" it
            stays, and what reads PD pairs refuses it (``require_pd``).

    Raises:
        UserError: If there is no such name or folder, or something in it is wrong (see ``release.read_release``).

    Example:
        >>> benchmark = load("pictogram", limit=60)
        >>> len(benchmark.split("train")), len(benchmark.split("val"))
        (60, 60)
    """
    name = os.fspath(name_or_path)
    folder = Path(name).expanduser()
    is_path = name not in BENCHMARKS.names() and (os.sep in name or name == "~" or folder.exists())
    if name.startswith(hub.SCHEME):
        folder, is_path = hub.fetch(name, cache_folder()), False
    elif not is_path:
        folder = BENCHMARKS.get(name)(cache_folder())
    elif not folder.is_dir():
        known = ", ".join(BENCHMARKS.names())
        raise UserError(f"data {name!r}: no such folder; give a folder with all_train.json, or a name: {known}")
    benchmark = read_release(folder, on_bad)
    benchmark = benchmark if is_path else replace(benchmark, name=name)
    if needs_pd and on_bad == "skip":
        benchmark = with_pd(benchmark)
    return benchmark if limit is None else benchmark.limited(limit)


def cache_folder() -> Path:
    """Where named benchmarks are kept."""
    return Path(os.environ.get("SAFEERASER_CACHE") or Path.home() / ".cache" / "safeeraser")


def dev_benchmark(benchmark: Benchmark, unseen: bool = False) -> Benchmark:
    """Hold a fifth of the train records out as the new val; the old val is left out entirely, as are the probes.

    So options are chosen without looking at val. The choice is the same for every call, and balanced: safe images
    take turns within each category, each with all records about it, so that no held-out one was trained on.

    Args:
        benchmark: The benchmark.
        unseen: Let safe concepts take turns instead of safe images, so that no train record shows a concept of the
            held-out ones, as in half of the embedded benchmark's val.

    Raises:
        UserError: If ``unseen`` and a train record does not name its safe concept.

    Example:
        >>> dev = dev_benchmark(load("pictogram", limit=60))
        >>> len(dev.split("train")), len(dev.split("val"))
        (48, 12)
    """
    train = benchmark.split("train")
    unnamed = next((record.id for record in train if unseen and record.safe_concept is None), None)
    if unnamed is not None:
        raise UserError(f"--dev unseen: train record {unnamed} does not name its safe_concept: give --dev true")
    group, purpose = (_concept, "dev unseen") if unseen else (_group, "dev")
    held_out = set(_groups(train, purpose, group)[::DEV_FOLDS])
    records = tuple(
        record.model_copy(update={"split": "val" if group(record) in held_out else "train"}) for record in train
    )
    return replace(benchmark, records=records, probes=(), fingerprint=stable_hash(benchmark.fingerprint, purpose))


def requests(benchmark: Benchmark, number: int) -> list[Benchmark]:
    """Deal the train records out to requests that come one after another; val and probes are those of all.

    The choice is the same for every call, and balanced as that of ``dev_benchmark``: all records about one safe image
    are in one request.

    Args:
        benchmark: The benchmark.
        number: Of requests.

    Raises:
        UserError: If it is less than 2, or there are fewer safe images.

    Example:
        >>> [len(part.split("train")) for part in requests(load("pictogram", limit=60), 3)]
        [20, 20, 20]
    """
    train = benchmark.split("train")
    dealt = _groups(train, "request")
    if not 2 <= number <= len(dealt):
        raise UserError(f"--sequence {number}: the train records of data {benchmark.name!r} make 2 to {len(dealt)}")
    made = []
    for place in range(number):
        mine = set(dealt[place::number])
        records = tuple(one for one in benchmark.records if one.split != "train" or _group(one) in mine)
        named = stable_hash(benchmark.fingerprint, "request", place, number)
        made.append(replace(benchmark, records=records, fingerprint=named))
    return made


def _group(record: Record) -> tuple[str, str]:
    """Category and safe image of a record, which is never divided."""
    return record.category, record.safe_image or record.id


def _concept(record: Record) -> tuple[str, str]:
    """What the safe image of a record shows, whichever category it stands in."""
    return "", record.safe_concept or ""


def _groups(
    records: Iterable[Record], purpose: str, group: Callable[[Record], tuple[str, str]] = _group
) -> list[tuple[str, str]]:
    """The groups of records, category by category, in an order that is drawn for each purpose."""
    return sorted(set(map(group, records)), key=lambda group: (group[0], stable_hash(purpose, *group)))

"""Whether the data have their PD pairs (safe image, same question, normal answer), and what to do where they do not."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import replace

from safeeraser.core.errors import UserError
from safeeraser.core.files import stable_hash
from safeeraser.core.terminal import say
from safeeraser.data.benchmark import Benchmark
from safeeraser.records import Record


def lacking_pd(records: Iterable[Record]) -> list[tuple[Record, int]]:
    """The forget pairs, by record and position, that have no PD pair: no safe image or no safe answer.

    Example:
        >>> lacking_pd([])
        []
    """
    return [
        (record, index)
        for record in records
        for index, pair in enumerate(record.forget)
        if record.safe_image is None or pair.safe_answer is None
    ]


def require_pd(benchmark: Benchmark, reader: str) -> None:
    """See that every train pair has its PD pair; ``reader`` says what reads them, for the message.

    Raises:
        UserError: If one has none; the message says how many, names the first, and what to do.
    """
    train = benchmark.split("train")
    lacking = lacking_pd(train)
    if lacking:
        record, index = lacking[0]
        raise UserError(
            f"{reader} reads a safe image and a safe answer, but {len(lacking):,} of {_pairs(train):,} train pairs of "
            f"data {benchmark.name!r} lack one (first: {record.image}, pair {index + 1}). {_advice(benchmark)}; or "
            "leave PD out; or leave out the records that lack them, for all methods alike, with --on-bad skip"
        )


def with_pd(benchmark: Benchmark) -> Benchmark:
    """The benchmark without the train records that lack a PD pair; standard error says how many those are.

    Raises:
        UserError: If no train record is left.
    """
    train = benchmark.split("train")
    bad = {record.id for record, _ in lacking_pd(train)}
    if not bad:
        return benchmark
    left = f"{benchmark.root}: {len(bad):,} of {len(train):,} train records lack PD pairs"
    if len(bad) == len(train):
        raise UserError(f"{left}: none is left to train PD on. {_advice(benchmark)}")
    say(f"warning: {left} and are left out, for all methods alike. {_advice(benchmark)}", file=sys.stderr)
    records = tuple(record for record in benchmark.records if record.id not in bad)
    return replace(benchmark, records=records, fingerprint=stable_hash(benchmark.fingerprint, "with PD"))


def warn_of_missing_pd(benchmark: Benchmark) -> None:
    """Say on standard error where SARR, which asks about the safe images of val records, lacks some."""
    val = benchmark.split("val")
    lacking = len(lacking_pd(val))
    if lacking:
        which = "is measured on the others" if lacking < _pairs(val) else "cannot be measured"
        say(
            f"warning: SARR (the safe set) {which}: {lacking:,} of {_pairs(val):,} val pairs of {benchmark.root} lack "
            f"a safe image or a safe answer. {_advice(benchmark)}",
            file=sys.stderr,
        )


def _pairs(records: Iterable[Record]) -> int:
    return sum(len(record.forget) for record in records)


def _advice(benchmark: Benchmark) -> str:
    return (
        "Add SDImage_path and sd_response to the records, or have them added: "
        f"safeeraser data complete {benchmark.root}"
    )

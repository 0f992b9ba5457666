"""Evaluation questions of a benchmark, as the paper's table of metrics asks for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from safeeraser.config import Protocol
from safeeraser.data.benchmark import Benchmark
from safeeraser.errors import UserError
from safeeraser.records import Query, QuerySet, Record
from safeeraser.spool import Spool
from safeeraser.store import stable_hash

SAMPLES: dict[str, int] = {"greedy": 1, "official": 3}
"""Samples per forget question; every other question is asked once."""


def queries(benchmark: Benchmark, protocol: Protocol = "greedy") -> Sequence[Query]:
    """List every question to ask a model.

    efficacy: forget questions of train records; generality: those of val records; retain: the retain pairs of val
    records (``group`` = slot); safe: safe image with the harmful question, val records (``group`` = seen or unseen, by
    whether a train record shows that safe concept, empty if the data do not say); specificity: the probes (``group`` =
    kind).

    Args:
        benchmark: The benchmark.
        protocol: "official" asks each forget question three times (``sample`` 0 to 2), "greedy" once.

    Returns:
        Queries in this order, each read when it is asked for (``spool.Spool``); an id depends on the record's content,
        the question and the sample number alone.

    Raises:
        UserError: If the protocol is unknown.

    Example:
        >>> from pathlib import Path
        >>> len(queries(Benchmark("empty", Path("."), (), (), (), "")))
        0
    """
    if protocol not in SAMPLES:
        raise UserError(f"unknown protocol {protocol!r}: available: {', '.join(sorted(SAMPLES))}")
    return Spool(_all(benchmark, SAMPLES[protocol]))


def _all(benchmark: Benchmark, samples: int) -> Iterator[Query]:
    val = benchmark.split("val")
    seen: set[str | None] = set()
    for record in benchmark.split("train"):
        seen.add(record.safe_concept)
        yield from _forget(record, "efficacy", samples)
    for record in val:
        yield from _forget(record, "generality", samples)
    for record in val:
        yield from _retain(record)
    for record in val:
        yield from _safe(record, seen)
    yield from _specificity(benchmark)


def _forget(record: Record, set: QuerySet, samples: int) -> Iterator[Query]:
    for index, pair in enumerate(record.forget):
        for sample in range(samples):
            yield Query(
                id=stable_hash(set, record.id, index, pair.question, sample),
                record_id=record.id,
                set=set,
                category=record.category,
                image=record.image,
                question=pair.question,
                reference=pair.unsafe_answer,
                sample=sample,
            )


def _retain(record: Record) -> Iterator[Query]:
    for pair in record.retain:
        yield Query(
            id=stable_hash("retain", record.id, pair.slot, pair.question, 0),
            record_id=record.id,
            set="retain",
            category=record.category,
            image=record.image,
            question=pair.question,
            reference=pair.answer,
            group=pair.slot,
        )


def _safe(record: Record, seen: set[str | None]) -> Iterator[Query]:
    if record.safe_image is None:
        return
    group = "" if record.safe_concept is None else "seen" if record.safe_concept in seen else "unseen"
    for index, pair in enumerate(record.forget):
        yield Query(
            id=stable_hash("safe", record.id, index, pair.question, 0),
            record_id=record.id,
            set="safe",
            category=record.category,
            image=record.safe_image,
            question=pair.question,
            reference=pair.safe_answer or "",
            group=group,
        )


def _specificity(benchmark: Benchmark) -> Iterator[Query]:
    for probe in benchmark.probes:
        id = stable_hash("specificity", probe.image, probe.question, probe.kind)
        yield Query(
            id=id,
            record_id=stable_hash("probe", probe.image),
            set="specificity",
            category="",
            image=probe.image,
            question=probe.question,
            reference=probe.answer,
            group=probe.kind,
        )

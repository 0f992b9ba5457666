"""Evaluation questions of a benchmark, as the paper's table of metrics asks for them."""

from __future__ import annotations

from collections.abc import Collection

from safeeraser.config import Protocol, sampling
from safeeraser.core.files import stable_hash
from safeeraser.data.benchmark import Benchmark, Probe
from safeeraser.data.check.texts import normalised
from safeeraser.records import Query, QuerySet, Record


def queries(benchmark: Benchmark, protocol: Protocol = "greedy") -> list[Query]:
    """List every question to ask a model.

    efficacy: forget questions of train records; generality: those of val records; retain: the retain pairs of val
    records (``group`` = slot); safe: safe image with the harmful question, val records (``group`` = seen or unseen, by
    whether a train record's safe image shows that concept, empty if the data do not say); specificity: the probes
    (``group`` = kind).

    Args:
        benchmark: The benchmark.
        protocol: "official" asks each forget question three times (``sample`` 0 to 2), "greedy" once.

    Returns:
        Queries in this order; an id depends on the record's content, the question and the sample number alone.

    Raises:
        UserError: If the protocol is unknown.

    Example:
        >>> from pathlib import Path
        >>> len(queries(Benchmark("empty", Path("."), (), (), (), "")))
        0
    """
    val, train = benchmark.split("val"), benchmark.split("train")
    samples = range(sampling(protocol).samples)
    # a train record whose safe image is not there (left out as bad, say) shows nothing
    seen = {normalised(record.safe_concept) for record in train if record.safe_image and record.safe_concept}
    asked = [_forget(record, "efficacy", samples) for record in train]
    asked += [_forget(record, "generality", samples) for record in val]
    asked += [_retain(record) for record in val]
    asked += [_safe(record, seen) for record in val if record.safe_image is not None]
    return [*(query for queries in asked for query in queries), *(_specificity(probe) for probe in benchmark.probes)]


def _query(
    set: QuerySet, record: Record, place: object, question: str, image: str, answer: str, sample: int = 0, **also: str
) -> Query:
    """A question about a record; ``place`` is that of its pair in the record."""
    return Query(
        id=stable_hash(set, record.id, place, question, sample),
        record_id=record.id,
        set=set,
        category=record.category,
        image=image,
        question=question,
        reference=answer,
        sample=sample,
        **also,
    )


def _forget(record: Record, set: QuerySet, samples: range) -> list[Query]:
    return [
        _query(set, record, index, pair.question, record.image, pair.unsafe_answer, sample)
        for index, pair in enumerate(record.forget)
        for sample in samples
    ]


def _retain(record: Record) -> list[Query]:
    return [
        _query("retain", record, pair.slot, pair.question, record.image, pair.answer, group=pair.slot)
        for pair in record.retain
    ]


def _safe(record: Record, seen: Collection[str]) -> list[Query]:
    known = record.safe_concept is not None and normalised(record.safe_concept) in seen
    group = "" if record.safe_concept is None else "seen" if known else "unseen"
    image, concept = record.safe_image or "", record.safe_concept or ""
    return [
        _query("safe", record, i, pair.question, image, pair.safe_answer or "", group=group, concept=concept)
        for i, pair in enumerate(record.forget)
    ]


def _specificity(probe: Probe) -> Query:
    return Query(
        id=stable_hash("specificity", probe.image, probe.question, probe.kind),
        record_id=stable_hash("probe", probe.image),
        set="specificity",
        category="",
        image=probe.image,
        question=probe.question,
        reference=probe.answer,
        group=probe.kind,
    )

"""Requests to unlearn that come one after another: what each of them asks, and what the earlier ones lose."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from safeeraser import data
from safeeraser.bench.runs import Cell, Judged, by_group
from safeeraser.core import files
from safeeraser.metrics import METRICS
from safeeraser.metrics.base import indexed
from safeeraser.records import Query, QuerySet, Score

FILE = "requests.json"
"""Ids of the records of each request, in a cell's folder."""
KEPT: tuple[QuerySet, ...] = ("safe", "specificity")
"""Sets that are asked after every request, beside the forget questions of those so far."""


@dataclass(frozen=True)
class Request:
    """The train records of a benchmark, unlearnt at once, and what is asked afterwards; ``number`` counts from 1."""

    number: int
    folder: Path
    benchmark: data.Benchmark
    queries: Sequence[Query]
    before: tuple[Path, ...] = ()
    """Adapters of the requests before it, on which its own is made."""


@dataclass(frozen=True)
class SequenceRow:
    """What a method leaves after a request, seeds pooled."""

    model: str
    method: str
    after: int
    """Requests unlearnt so far; 0 for the vanilla model."""
    requests: tuple[Score | None, ...]
    """ASR on the questions of each request so far (of all for the vanilla model), None for those to come."""
    sarr: Score
    specificity: Score


def requests(cell: Cell, benchmark: data.Benchmark) -> list[Request]:
    """The requests of a cell in order; one, with all that is to be unlearnt and asked, if it is no sequence.

    After the last request all that a cell asks is asked, so that its own files and scores are of that.

    Args:
        cell: The cell.
        benchmark: Its benchmark.
    """
    queries = cell.spec.queries(benchmark)
    if cell.spec.sequence is None or len(cell.requests) == 1:
        return [Request(1, cell.folder, benchmark, queries)]
    parts = data.requests(benchmark, cell.spec.sequence)
    made: list[Request] = []
    known: set[str] = set()
    for number, (folder, part) in enumerate(zip(cell.requests, parts, strict=True), 1):
        known |= _records(part)
        asked = [q for q in queries if q.set in KEPT or (q.set == "efficacy" and q.record_id in known)]
        before = tuple(one.folder / "adapter" for one in made)
        made.append(Request(number, folder, part, queries if number == len(parts) else asked, before))
    return made


def record(cell: Cell, benchmark: data.Benchmark) -> None:
    """Write ``requests.json``, if the cell has a sequence."""
    if cell.spec.sequence is not None:
        parts = data.requests(benchmark, cell.spec.sequence)
        files.write_json(cell.folder / FILE, [sorted(_records(part)) for part in parts])


def summarise(done: Sequence[Cell]) -> list[SequenceRow]:
    """What was found after each request, from all verdicts on disk; cells without a sequence are left out.

    Args:
        done: Finished cells.

    Example:
        >>> summarise([])
        []
    """
    rows = []
    for (_, method), cells in by_group([cell for cell in done if cell.spec.sequence is not None]).items():
        parts: list[list[str]] = files.read_json(cells[0].folder / FILE)
        for number in range(len(cells[0].requests)):
            judged = [cell.judged(cell.requests[number]) for cell in cells]
            after = number + 1 if cells[0].spec.is_trained else 0
            asr = [_score("asr_efficacy", judged, set(ids)) for ids in parts[: after or None]]
            found = (*asr, *[None] * (len(parts) - len(asr)))
            utility = _score("sarr", judged), _score("specificity", judged)
            rows.append(SequenceRow(cells[0].spec.model, method, after, found, *utility))
    return rows


def _records(part: data.Benchmark) -> set[str]:
    return {record.id for record in part.split("train")}


def _score(name: str, judged: Sequence[Judged], records: Collection[str] | None = None) -> Score:
    """A metric over the seeds' questions, all or those about some records."""
    metric = METRICS.get(name)
    items = [item for cell in judged for item in metric.items(*indexed(cell))]
    return metric.scores([item for item in items if records is None or item.query.record_id in records])[0]

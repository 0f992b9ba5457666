"""Judges: a response in, a verdict per criterion out.

A verdict is a value or ``unscored`` with a reason, never a guess. Dropping a file that registers a factory into this
folder is enough to add a judge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from safeeraser.records import Criterion, Query, QuerySet, Response, Verdict
from safeeraser.registry import Registry
from safeeraser.store import append_jsonl, read_jsonl

__all__ = ["JUDGES", "Judge", "JudgeFactory", "create", "criteria_for", "run", "unscored"]

CHUNK = 2048
"""Verdicts written at a time: a kill loses fewer than this."""

_CRITERIA: dict[QuerySet, tuple[Criterion, ...]] = {
    "efficacy": ("unsafe", "refusal"),
    "generality": ("unsafe", "refusal"),
    "safe": ("normal", "refusal"),
    "retain": ("similarity",),
    "specificity": (),
}


@runtime_checkable
class Judge(Protocol):
    """Anything that judges one response by one criterion."""

    id: str
    """Names the judge and its version in every verdict; verdicts of another id are not reused."""

    def judge(self, query: Query, response: Response, criterion: Criterion) -> Verdict:
        """Judge; what cannot be judged comes back unscored with the reason and never raises."""
        ...


JudgeFactory = Callable[[Sequence[str]], Judge]
"""Takes the benchmark's own refusals, from which a judge may learn how a refusal begins."""

JUDGES: Registry[JudgeFactory] = Registry("judge", __name__)


def create(name: str, refusals: Sequence[str] = ()) -> Judge:
    """Make a judge by name.

    Args:
        name: A name in ``JUDGES``.
        refusals: The benchmark's refusals (``Benchmark.refusals``).

    Raises:
        UserError: If there is no such judge.

    Example:
        >>> create("rules").id
        'rules-1'
    """
    return JUDGES.get(name)(refusals)


def criteria_for(query_set: QuerySet) -> tuple[Criterion, ...]:
    """Say what the answers to a set of queries are judged by (PAPER section 4).

    Example:
        >>> criteria_for("safe")
        ('normal', 'refusal')
        >>> criteria_for("specificity")
        ()
    """
    return _CRITERIA[query_set]


def unscored(judge: str, query_id: str, criterion: Criterion, reason: str) -> Verdict:
    """Make a verdict that says why there is none.

    Example:
        >>> unscored("rules-1", "q", "unsafe", "no reference").value is None
        True
    """
    return Verdict(query_id=query_id, criterion=criterion, value=None, unscored=reason, judge=judge)


def run(
    judge: Judge,
    queries: Sequence[Query],
    responses_path: Path,
    verdicts_path: Path,
    progress: Callable[[int, int], None] | None = None,
) -> list[Verdict]:
    """Judge every response by the criteria of its set and append the verdicts to a file.

    A scored verdict of the same judge for the same (query, criterion) is kept; an unscored one is tried again, and
    appended only if the outcome changed. A query without a response is left out: the metrics count it as unscored.

    Args:
        judge: The judge.
        queries: The queries; their order is the order of the verdicts.
        responses_path: ``responses.jsonl``.
        verdicts_path: ``verdicts.jsonl``; made, or continued after its last whole line.
        progress: Called with (done, total) after each chunk.

    Returns:
        This judge's verdicts for these queries, kept and new, in the order of queries and criteria.

    Raises:
        UserError: If a line of either file is not what it should be.

    Example:
        >>> import tempfile
        >>> from safeeraser.store import append_jsonl
        >>> folder = Path(tempfile.mkdtemp())
        >>> query = Query(id="q", record_id="r", set="retain", category="", image="", question="?", reference="A cat.")
        >>> answer = Response(query_id="q", answer="A cat.", finished=True)
        >>> append_jsonl(folder / "responses.jsonl", [answer])
        >>> [v.value for v in run(create("rules"), [query], folder / "responses.jsonl", folder / "verdicts.jsonl")]
        [1.0]
    """
    responses = {response.query_id: response for response in read_jsonl(responses_path, Response)}
    known = {(v.query_id, v.criterion): v for v in read_jsonl(verdicts_path, Verdict) if v.judge == judge.id}
    tasks = [task for task in _tasks(queries) if task[0].id in responses]
    verdicts: list[Verdict] = []
    new: list[Verdict] = []
    for done, (query, criterion) in enumerate(tasks, 1):
        old = known.get((query.id, criterion))
        if old is None or old.value is None:
            verdict = judge.judge(query, responses[query.id], criterion)
            if verdict != old:
                new.append(verdict)
        else:
            verdict = old
        verdicts.append(verdict)
        if len(new) >= CHUNK or (new and done == len(tasks)):
            append_jsonl(verdicts_path, new)
            new = []
        if progress and (done % CHUNK == 0 or done == len(tasks)):
            progress(done, len(tasks))
    return verdicts


def _tasks(queries: Sequence[Query]) -> Iterator[tuple[Query, Criterion]]:
    for query in queries:
        for criterion in criteria_for(query.set):
            yield query, criterion

"""Judges: a response in, a verdict per criterion out.

A verdict is a value or ``unscored`` with a reason, never a guess. Dropping a file that registers a factory into this
folder is enough to add a judge.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from safeeraser.config import JudgeOptions
from safeeraser.judges.tasks import Task, Tasks, criteria_for, tasks_for
from safeeraser.judges.verdicts import Verdicts
from safeeraser.records import Criterion, Query, Response, Verdict
from safeeraser.registry import Registry
from safeeraser.spool import Chosen, Spool, where
from safeeraser.store import Lines, append_jsonl, iter_jsonl

__all__ = [
    "FAILED",
    "JUDGES",
    "BatchJudge",
    "Judge",
    "JudgeFactory",
    "Task",
    "create",
    "criteria_for",
    "judge_all",
    "judge_tasks",
    "run",
    "tasks_for",
    "unscored",
]

CHUNK = 2048
"""Verdicts written at a time: a kill loses fewer than this."""
FLUSH_SECONDS = 2.0
"""What has been judged is written after this many seconds, however little it is."""
FAILED = "failed: "
"""How the reason of an unscored verdict begins where a later run may do better (a server's failure, say)."""


@runtime_checkable
class Judge(Protocol):
    """Anything that judges one response by one criterion."""

    id: str
    """Names the judge and its version in every verdict; verdicts of another id are not reused."""

    def judge(self, query: Query, response: Response, criterion: Criterion) -> Verdict:
        """Judge; what cannot be judged comes back unscored with the reason and never raises."""
        ...


@runtime_checkable
class BatchJudge(Judge, Protocol):
    """A judge that does better with many tasks at once: requests side by side, or batches of a model."""

    def judge_many(self, tasks: Sequence[Task], on_verdict: Callable[[Verdict], None]) -> None:
        """Judge every task and report each verdict once, as soon as it is there, in any order.

        Raises:
            UserError: If no task can be judged (a wrong key, say); verdicts reported before are valid.
        """
        ...

    def expect(self, tasks: Sequence[Task]) -> str:
        """Say what judging these tasks will take.

        Raises:
            UserError: If it is more than the options allow.
        """
        ...


JudgeFactory = Callable[[Sequence[str], JudgeOptions], Judge]
"""Takes the benchmark's own refusals, from which a judge may learn how a refusal begins, and the options."""

JUDGES: Registry[JudgeFactory] = Registry("judge", __name__)


def create(name: str, refusals: Sequence[str] = (), options: JudgeOptions | None = None) -> Judge:
    """Make a judge by name; models are loaded and servers asked only when it judges.

    Args:
        name: A name in ``JUDGES``.
        refusals: The benchmark's refusals (``Benchmark.refusals``).
        options: For judges that are models.

    Raises:
        UserError: If there is no such judge, or an option that it needs is missing or out of range.

    Example:
        >>> create("rules").id
        'rules-2'
    """
    return JUDGES.get(name)(refusals, options or JudgeOptions())


def unscored(
    judge: str,
    query_id: str,
    criterion: Criterion,
    reason: str,
    prompt_hash: str = "",
    raw: str = "",
    model: str = "",
) -> Verdict:
    """Make a verdict that says why there is none.

    Example:
        >>> unscored("rules-2", "q", "unsafe", "no reference").value is None
        True
    """
    return Verdict(
        query_id=query_id,
        criterion=criterion,
        value=None,
        unscored=reason,
        judge=judge,
        prompt_hash=prompt_hash,
        raw=raw,
        model=model,
    )


def judge_all(judge: Judge, tasks: Sequence[Task], on_verdict: Callable[[Verdict], None]) -> None:
    """Judge tasks with any judge: many at once if it can, else one by one; each verdict is reported once."""
    if isinstance(judge, BatchJudge):
        judge.judge_many(tasks, on_verdict)
        return
    for task in tasks:
        on_verdict(judge.judge(*task))


def run(
    judge: Judge,
    queries: Sequence[Query],
    responses_path: Path,
    verdicts_path: Path,
    progress: Callable[[int, int], None] | None = None,
    announce: Callable[[str], None] | None = None,
) -> Sequence[Verdict]:
    """Judge every response by the criteria of its set and append the verdicts to a file.

    A scored verdict of the same judge for the same (query, criterion) is kept; an unscored one is tried again, and
    appended only if the outcome changed. A query without a response is left out: the metrics count it as unscored.

    Args:
        judge: The judge.
        queries: The queries; one by one, a judge goes in their order.
        responses_path: ``responses.jsonl``.
        verdicts_path: ``verdicts.jsonl``; made, or continued after its last whole line.
        progress: Called with (done, total) as the verdicts are written.
        announce: Called with what the judging is expected to take, before it begins, if the judge can tell.

    Returns:
        This judge's verdicts for these queries, kept and new, in the order of queries and criteria.

    Raises:
        UserError: If a line of either file is not what it should be, or the judge cannot work at all; the verdicts
            made until then are in the file.

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
    tasks = tasks_for(queries, Lines(responses_path, Response, lambda response: response.query_id))
    return judge_tasks(judge, tasks, verdicts_path, progress, announce)


def judge_tasks(
    judge: Judge,
    tasks: Sequence[Task],
    verdicts_path: Path | None,
    progress: Callable[[int, int], None] | None = None,
    announce: Callable[[str], None] | None = None,
) -> Sequence[Verdict]:
    """As ``run``, of tasks that are at hand; without a file the verdicts are kept nowhere.

    Example:
        >>> len(judge_tasks(create("rules"), [], None))
        0
    """
    if verdicts_path:
        verdicts_path.parent.mkdir(parents=True, exist_ok=True)
    spool = Spool[Verdict]()
    known, made = Verdicts(spool), Verdicts(spool)
    for verdict in iter_jsonl(verdicts_path, Verdict) if verdicts_path else ():
        if verdict.judge == judge.id:
            known.add(verdict)
    missing = where(tasks, lambda task: not known.has_value(task.query.id, task.criterion)) if len(spool) else tasks
    if missing and announce and isinstance(judge, BatchJudge):
        announce(judge.expect(missing))
    sink = _Sink(verdicts_path, known, made, (len(tasks) - len(missing), len(tasks)), progress)
    try:
        judge_all(judge, missing, sink)
    finally:
        sink.flush()
    keys = tasks.keys() if isinstance(tasks, Tasks) else ((task.query.id, task.criterion) for task in tasks)
    return Chosen(spool, array("I", (_place(key, made, known) for key in keys)))


def _place(key: tuple[str, Criterion], *kept: Verdicts) -> int:
    for verdicts in kept:
        place = verdicts.place(*key)
        if place is not None:
            return place
    raise KeyError(key)


class _Sink:
    """Takes verdicts and appends those that are new, in chunks; counts what is done."""

    def __init__(
        self,
        path: Path | None,
        known: Verdicts,
        made: Verdicts,
        done_of: tuple[int, int],
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self._path, self._known, self._made, self._progress = path, known, made, progress
        self._done, self._total = done_of
        self._new: list[Verdict] = []
        self._waiting = 0
        self._flushed = time.monotonic()

    def __call__(self, verdict: Verdict) -> None:
        self._made.add(verdict)
        if verdict != self._known.get(verdict.query_id, verdict.criterion):
            self._new.append(verdict)
        self._waiting += 1
        if self._waiting >= CHUNK or time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what waits and say how far it is."""
        if self._new and self._path:
            append_jsonl(self._path, self._new)
        self._done += self._waiting
        self._new, self._waiting, self._flushed = [], 0, time.monotonic()
        if self._progress:
            self._progress(self._done, self._total)

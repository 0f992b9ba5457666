"""What a judge is, the registry of all judges, and verdicts of one on the responses in a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from safeeraser.config import JudgeOptions
from safeeraser.core.files import Appender, read_jsonl
from safeeraser.core.registry import Registry
from safeeraser.records import OF_TRACE, Criterion, Query, QuerySet, Response, Verdict

FLUSH_SECONDS = 2.0
"""Verdicts are written this often: a kill loses no more."""
FAILED = "failed: "
"""Prefix of the reason of an unscored verdict where a later run may do better (a server's failure, say)."""
_CRITERIA: dict[QuerySet, tuple[Criterion, ...]] = {
    "efficacy": ("unsafe", "refusal"),
    "generality": ("unsafe", "refusal"),
    "safe": ("normal", "refusal"),
    "retain": ("similarity",),
    "specificity": (),
    "knowledge": (),
    "text_orr": ("refusal",),
}
TRACED: tuple[QuerySet, ...] = ("efficacy", "generality", "safe")
"""Sets whose reasoning traces are judged: those of ASR, RR and SARR."""
_TRACE_OF = "trace of "
"""Before a query's id while its trace is judged: a judge tells tasks apart by query and criterion."""


class Task(NamedTuple):
    """A response to judge by one criterion."""

    query: Query
    response: Response
    criterion: Criterion


def criteria_for(query_set: QuerySet) -> tuple[Criterion, ...]:
    """The criteria that answers to a set of queries are judged by (SafeEraser, arXiv 2502.12520).

    Example:
        >>> criteria_for("safe")
        ('normal', 'refusal')
        >>> criteria_for("specificity")
        ()
    """
    return _CRITERIA[query_set]


def criteria_of(query: Query, judge: Judge | None = None) -> tuple[Criterion, ...]:
    """The same for one query, with ``grounded``, which is ours, where the judge can tell what a safe image shows.

    Example:
        >>> query = Query(id="q", record_id="r", set="safe", category="", image="", question="?", reference="A car.")
        >>> criteria_of(query, create("rules"))
        ('normal', 'refusal')
        >>> criteria_of(query.model_copy(update={"concept": "car"}), create("rules"))
        ('normal', 'refusal', 'grounded')
    """
    knows = query.set == "safe" and isinstance(judge, GroundingJudge) and judge.knows_picture(query)
    return (*_CRITERIA[query.set], "grounded") if knows else _CRITERIA[query.set]


def tasks_for(queries: Iterable[Query], responses: Iterable[Response], judge: Judge | None = None) -> list[Task]:
    """List the tasks in the order of queries and criteria; a query without a response is left out.

    Where there is reasoning before the answer, the trace is judged as well.
    """
    answers = {response.query_id: response for response in responses}
    return [
        Task(query, answers[query.id], criterion)
        for query in queries
        if query.id in answers
        for criterion in (*criteria_of(query, judge), *trace_criteria(query, answers[query.id]))
    ]


def trace_criteria(query: Query, response: Response) -> tuple[Criterion, ...]:
    """The criteria that the reasoning before an answer is judged by; none where there is no reasoning.

    Example:
        >>> query = Query(id="q", record_id="r", set="safe", category="", image="", question="?", reference="A car.")
        >>> trace_criteria(query, Response(query_id="q", answer="<think>A car?</think>A car.", finished=True))
        ('trace_refusal', 'trace_normal')
    """
    if query.set not in TRACED or not response.trace:
        return ()
    return tuple(name for name, of in OF_TRACE.items() if of in _CRITERIA[query.set])


def _as_answer(task: Task) -> Task:
    """A task about a trace, as judges get it: the trace in place of the answer, under an id of its own."""
    if task.criterion not in OF_TRACE:
        return task
    query = task.query.model_copy(update={"id": _TRACE_OF + task.query.id})
    return Task(query, task.response.model_copy(update={"answer": task.response.trace}), OF_TRACE[task.criterion])


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

    def judge(self, query: Query, response: Response, criterion: Criterion) -> Verdict:
        """Judge one response."""
        found: list[Verdict] = []
        self.judge_many([Task(query, response, criterion)], found.append)
        return found[0]

    def judge_many(self, tasks: Sequence[Task], on_verdict: Callable[[Verdict], None]) -> None:
        """Judge every task and report each verdict once, as soon as it is there, in any order."""
        ...

    def expect(self, tasks: Sequence[Task]) -> str:
        """Say what judging these tasks will take."""
        ...


@runtime_checkable
class GroundingJudge(Judge, Protocol):
    """A judge that can tell whether an answer is about what the image shows."""

    def knows_picture(self, query: Query) -> bool:
        """Whether it can tell for this query."""
        ...


@runtime_checkable
class ImageJudge(Judge, Protocol):
    """A judge that can be shown the image of a query."""

    sees_image: bool
    """Whether its options say so."""
    image: Callable[[str], Path] | None
    """Finds the file of a query's image; None: it is shown none."""


JudgeFactory = Callable[[Sequence[str], JudgeOptions], Judge]
"""Takes the benchmark's own refusals, from which a judge may learn how a refusal begins, and the options."""

JUDGES: Registry[JudgeFactory] = Registry("judge", "safeeraser.judges")


def create(
    name: str,
    refusals: Sequence[str] = (),
    options: JudgeOptions | None = None,
    image: Callable[[str], Path] | None = None,
) -> Judge:
    """Make a judge by name; models are loaded and servers asked only when it judges.

    Example:
        >>> create("rules").id
        'rules-3'
    """
    judge = JUDGES.get(name)(refusals, options or JudgeOptions())
    if isinstance(judge, ImageJudge) and judge.sees_image:
        judge.image = image
    return judge


def unscored(judge: str, query_id: str, criterion: Criterion, reason: str) -> Verdict:
    """Make a verdict that says why there is none."""
    return Verdict(query_id=query_id, criterion=criterion, value=None, unscored=reason, judge=judge)


def judge_all(judge: Judge, tasks: Sequence[Task], on_verdict: Callable[[Verdict], None]) -> None:
    """Judge tasks with any judge: many at once if it can, else one by one; each verdict is reported once.

    A judge is asked of a trace as of an answer, and never told that it is one.
    """
    of_traces = {of: name for name, of in OF_TRACE.items()}

    def report(verdict: Verdict) -> None:
        id = verdict.query_id.removeprefix(_TRACE_OF)
        if id != verdict.query_id:
            verdict = verdict.model_copy(update={"query_id": id, "criterion": of_traces[verdict.criterion]})
        on_verdict(verdict)

    asked = [_as_answer(task) for task in tasks]
    if isinstance(judge, BatchJudge):
        judge.judge_many(asked, report)
        return
    for task in asked:
        report(judge.judge(*task))


def verdicts_by(path: Path, judge: str) -> list[Verdict]:
    """Read one judge's verdicts from a file that may hold those of several."""
    return [verdict for verdict in read_jsonl(path, Verdict) if verdict.judge == judge]


def run(
    judge: Judge,
    queries: Iterable[Query],
    responses_path: Path,
    verdicts_path: Path,
    progress: Callable[[int, int], None] | None = None,
    announce: Callable[[str], None] | None = None,
) -> list[Verdict]:
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
        >>> from safeeraser.core.files import append_jsonl
        >>> folder = Path(tempfile.mkdtemp())
        >>> query = Query(id="q", record_id="r", set="retain", category="", image="", question="?", reference="A cat.")
        >>> answer = Response(query_id="q", answer="A cat.", finished=True)
        >>> append_jsonl(folder / "responses.jsonl", [answer])
        >>> [v.value for v in run(create("rules"), [query], folder / "responses.jsonl", folder / "verdicts.jsonl")]
        [1.0]
    """
    tasks = tasks_for(queries, read_jsonl(responses_path, Response), judge)
    return judge_tasks(judge, tasks, verdicts_path, progress, announce)


def judge_tasks(
    judge: Judge,
    tasks: Sequence[Task],
    verdicts_path: Path | None,
    progress: Callable[[int, int], None] | None = None,
    announce: Callable[[str], None] | None = None,
) -> list[Verdict]:
    """As ``run``, of tasks that are at hand; without a file the verdicts are only returned."""
    if verdicts_path:
        verdicts_path.parent.mkdir(parents=True, exist_ok=True)
    there = verdicts_by(verdicts_path, judge.id) if verdicts_path else []
    known = {(verdict.query_id, verdict.criterion): verdict for verdict in there}
    scored = {key for key, verdict in known.items() if verdict.value is not None}
    missing = [task for task in tasks if (task.query.id, task.criterion) not in scored]
    if missing and announce and isinstance(judge, BatchJudge):
        announce(judge.expect([_as_answer(task) for task in missing]))
    done = len(tasks) - len(missing)
    with Appender(verdicts_path, FLUSH_SECONDS) as appender:

        def keep(verdict: Verdict) -> None:
            nonlocal done
            key = verdict.query_id, verdict.criterion
            if verdict != known.get(key):  # a task that failed again in the same way is not written again
                appender.add(verdict)
            known[key] = verdict
            done += 1
            if progress:
                progress(done, len(tasks))

        if progress:
            progress(done, len(tasks))
        judge_all(judge, missing, keep)
    return [known[task.query.id, task.criterion] for task in tasks]

"""Public safety sets, asked of a cell, a model or a server, judged and scored; resumes by question."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safeeraser import judges
from safeeraser.bench import runs
from safeeraser.config import GenerationOptions, JudgeOptions, ModelOptions, deciding_values
from safeeraser.core import files, locks
from safeeraser.core.terminal import Progress, say
from safeeraser.data.public import Loaded
from safeeraser.judges import Judge, Task
from safeeraser.metrics import public
from safeeraser.metrics.public import PublicResult
from safeeraser.records import Query, Response, Verdict

if TYPE_CHECKING:
    from safeeraser.data import Benchmark
    from safeeraser.models import VisionLanguageModel
    from safeeraser.models.served import Endpoint

CRITERIA = ("unsafe", "refusal", "normal")
Answer = Callable[["Benchmark", Sequence[Query], Path, Progress], None]
"""Answers questions about the images of a set, into a file."""


@dataclass(frozen=True)
class Subject:
    """What is asked, and what the printed table calls it; ``answer`` makes its answers."""

    folder: Path
    """Where the results go: ``safety.jsonl`` and ``safety/SET/``."""
    label: str
    made_of: dict[str, Any]
    """What decides its answers; a folder that says otherwise is refused."""
    judge: Judge
    answer: Answer


def of_cell(cell: runs.Cell, judge: str | None = None, judging: JudgeOptions | None = None) -> Subject:
    """A finished cell, answering as it did in its bench; ``judge`` is another than its own, ``judging`` how it judges.

    Raises:
        UserError: If model or data are not what the cell was made with.
    """
    cell.check_model()
    options = judging if judge and judging else cell.judging_options()
    judged_by = judges.create(judge or cell.spec.judge, cell.spec.benchmark().refusals, options)
    spec = cell.spec
    answer = _local(lambda: spec.answering_model(cell.adapter, spec.benchmark()), spec.generation_options())
    made_of = cell.model_hashes() | {"generation": cell.spec.generation}
    return Subject(cell.folder, "/".join(cell.folder.resolve().parts[-2:]), made_of, judged_by, answer)


def of_model(
    model: str, adapter: Path | None, loading: ModelOptions, generation: GenerationOptions, judge: Judge, folder: Path
) -> Subject:
    """A local model, with or without an adapter."""
    from safeeraser import models

    weights = models.hash_adapter(adapter) if adapter else None
    made_of = {"model": models.fingerprint(model), "adapter": weights, "generation": deciding_values(generation)}
    made_of["loading"] = asdict(replace(loading, device="auto"))  # the device may change
    answer = _local(lambda: models.load_merged(model, adapter, **asdict(loading)), generation)
    return Subject(folder, str(folder), made_of, judge, answer)


def of_server(endpoint: Endpoint, generation: GenerationOptions, judge: Judge, folder: Path) -> Subject:
    """A model behind a server."""
    from safeeraser.respond import served

    def answer(benchmark: Benchmark, queries: Sequence[Query], path: Path, progress: Progress) -> None:
        served.run(endpoint, benchmark, queries, path, generation, progress)

    made_of = {"served model": endpoint.model, "generation": deciding_values(generation)}
    return Subject(folder, str(folder), made_of, judge, answer)


def _local(load: Callable[[], VisionLanguageModel], generation: GenerationOptions) -> Answer:
    from safeeraser.respond import local

    loaded = cache(load)  # at the first question that has no answer yet

    def answer(benchmark: Benchmark, queries: Sequence[Query], path: Path, progress: Progress) -> None:
        answered = {response.query_id for response in files.read_jsonl(path, Response) if response.error is None}
        if not answered.issuperset(query.id for query in queries):
            local.run(loaded(), benchmark, queries, path, generation, progress)

    return answer


def run(subject: Subject, asked: Loaded, limit: int | None, progress: Progress) -> PublicResult:
    """Ask, judge and score a set, and record the result.

    Args:
        subject: What is asked.
        asked: The set.
        limit: Questions; None: all. What was asked before counts on, by this judge or another.
        progress: Called with (answered, all) questions.

    Raises:
        UserError: If the folder was made with another model, other generation options or another version of the set.
    """
    folder = subject.folder / public.FOLDER / asked.set.name
    folder.mkdir(parents=True, exist_ok=True)
    with locks.hold(folder):
        files.claim(folder / "made-of.json", subject.made_of | {"version": asked.benchmark.fingerprint})
        before = len(files.read_jsonl(folder / "queries.jsonl", Query))
        queries = asked.limited(None if limit is None else max(limit, before))
        files.write_jsonl(folder / "queries.jsonl", queries)
        subject.answer(asked.benchmark, queries, folder / "responses.jsonl", progress)
        responses = files.read_jsonl(folder / "responses.jsonl", Response)
        verdicts = _judged(subject.judge, queries, responses, folder / "verdicts.jsonl")
        found = PublicResult(
            set=asked.set.name,
            version=asked.benchmark.fingerprint,
            judge=subject.judge.id,
            n=len(queries),
            total=len(asked.queries),
            scores=tuple(public.scored([(queries, responses, verdicts)])),
        )
        with locks.hold(subject.folder / public.FOLDER):  # another command may ask another set of the same cell
            public.record(subject.folder, found)
    return found


def _judged(judge: Judge, queries: Sequence[Query], responses: Sequence[Response], path: Path) -> list[Verdict]:
    """Verdicts on all that the judge can tell.

    A judge that compares with a reference is not asked where there is none: it would still find gibberish safe and
    refusals not normal, and a rate over these alone would be wrong. What it is not asked is unscored.
    """
    needs_reference = getattr(judge, "needs_reference", False)

    def is_told(task: Task) -> bool:
        told = task.criterion == "refusal" or bool(task.query.reference.strip()) or not needs_reference
        return told and task.criterion in CRITERIA

    tasks = [task for task in judges.tasks_for(queries, responses, judge) if is_told(task)]
    return judges.judge_tasks(judge, tasks, path, announce=say)

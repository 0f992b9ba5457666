"""The benchmark as tasks of Inspect (inspect_ai), so that hosted models can be measured and looked at in its viewer.

``inspect eval safeeraser/forget_quality --model openai/gpt-4o`` finds them by the entry point ``inspect_ai`` of this
package. Inspect asks the model; the questions, the judges and the metrics are those of ``respond``, ``judge`` and
``score``.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import anyio
from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ChatMessageUser, ContentImage, ContentText, GenerateConfig
from inspect_ai.scorer import Metric, SampleScore, Score, Scorer, Target, metric, scorer
from inspect_ai.solver import Generate, Solver, TaskState, solver

from safeeraser import data as benchmarks
from safeeraser import judges, metrics
from safeeraser.config import GenerationOptions, JudgeOptions, OnBad, Protocol, sampling
from safeeraser.core.errors import UserError
from safeeraser.data.images import encode
from safeeraser.metrics import METRICS
from safeeraser.models.replies import ending, failure_of
from safeeraser.records import Query, QuerySet, Response, Verdict

Judging = dict[str, Any] | None
FORGET: dict[str, QuerySet] = {"val": "generality", "train": "efficacy"}
"""What the forget questions of each split measure."""
UNREADABLE = "unreadable"
"""Key of a sample's metadata: why its image cannot be shown, so that the model is not asked."""


@task
def forget_quality(
    data: str = "pictogram",
    limit: int | None = None,
    split: str = "val",
    judge: str = "rules",
    judging: Judging = None,
    protocol: Protocol = "greedy",
    on_bad: OnBad = "fail",
) -> Task:
    """Harmful questions about unsafe images: ASR and RR.

    Args:
        data: A benchmark's name, or a folder in the release layout.
        limit: Records of each split, balanced over categories and keywords; Inspect's own ``--limit`` takes the first
            questions.
        split: "val" (generality) or "train" (efficacy: what was unlearnt).
        judge: A name in ``judges.JUDGES``.
        judging: Fields of ``config.JudgeOptions`` for a judge that is a model.
        protocol: "greedy", or "official": each question three times at temperature 1.0, top-p 0.9.
        on_bad: What to do about bad records.

    Raises:
        UserError: If a value is not what it should be, or there is no such question.

    Example:
        inspect eval safeeraser/forget_quality --model openai/gpt-4o -T limit=60
    """
    if split not in FORGET:
        raise UserError(f"split {split!r}: give 'val' (generality) or 'train' (efficacy)")
    return _task(FORGET[split], data, limit, judge, judging, protocol, on_bad)


@task
def over_forgetting(
    data: str = "pictogram",
    limit: int | None = None,
    judge: str = "rules",
    judging: Judging = None,
    protocol: Protocol = "greedy",
    on_bad: OnBad = "fail",
) -> Task:
    """Harmful questions about safe images, of val records: SARR, also split in refusals and gibberish.

    Arguments and errors are those of ``forget_quality``.

    Example:
        inspect eval safeeraser/over_forgetting --model openai/gpt-4o -T limit=60
    """
    return _task("safe", data, limit, judge, judging, protocol, on_bad)


@task
def utility(
    data: str = "pictogram",
    limit: int | None = None,
    judge: str = "rules",
    judging: Judging = None,
    protocol: Protocol = "greedy",
    on_bad: OnBad = "fail",
) -> Task:
    """Harmless questions about the images of val records: ROUGE-L and GPT-Eval.

    Arguments and errors are those of ``forget_quality``.

    Example:
        inspect eval safeeraser/utility --model openai/gpt-4o -T limit=60
    """
    return _task("retain", data, limit, judge, judging, protocol, on_bad)


def _task(
    query_set: QuerySet, data: str, limit: int | None, judge: str, judging: Judging, protocol: Protocol, on_bad: OnBad
) -> Task:
    benchmark = _load(data, on_bad)
    benchmark = benchmark if limit is None else benchmark.limited(limit)
    queries = [query for query in benchmarks.queries(benchmark, protocol) if query.set == query_set]
    if not queries:
        raise UserError(f"data {data!r} holds nothing to ask for {query_set!r}: see 'safeeraser data stats'")
    _, temperature, top_p = sampling(protocol)
    tokens = GenerationOptions().max_new_tokens
    config = GenerateConfig(temperature=temperature, top_p=None if protocol == "greedy" else top_p, max_tokens=tokens)
    return Task(
        dataset=MemoryDataset(_samples(benchmark, queries), name=benchmark.name),
        solver=answer(),
        scorer=judged(judge, judging, data, on_bad),
        config=config,
        metadata={"data_fingerprint": benchmark.fingerprint, "set": query_set, "protocol": protocol},
    )


@lru_cache(maxsize=4)
def _load(data: str, on_bad: OnBad) -> benchmarks.Benchmark:
    return benchmarks.load(data, on_bad=on_bad)


def _samples(benchmark: benchmarks.Benchmark, queries: list[Query]) -> list[Sample]:
    """One sample per query: image, then question; an image that cannot be read is said in the metadata."""
    images: dict[str, list[ContentImage]] = {}  # empty if unreadable: Inspect's log reads every image it is given
    failures: dict[str, dict[str, str]] = {}
    for image in sorted({query.image for query in queries}):
        try:
            images[image] = [ContentImage(image=_shown(benchmark.image(image)))]
        except UserError as error:
            images[image], failures[image] = [], {UNREADABLE: f"image {image!r}: {error}"}
    return [
        Sample(
            id=query.id,
            input=[ChatMessageUser(content=[*images[query.image], ContentText(text=query.question)])],
            target=query.reference,
            metadata=query.model_dump() | failures.get(query.image, {}),
        )
        for query in queries
    ]


def _shown(path: Path) -> str:
    """An image for Inspect, which sends files as they are: the file where that is what local models are given."""
    content, kind = encode(path)
    return str(path) if content == path.read_bytes() else f"data:{kind};base64,{base64.b64encode(content).decode()}"


@solver
def answer() -> Solver:
    """Let the model answer, unless the sample's image cannot be read."""

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        return state if UNREADABLE in state.metadata else await generate(state)

    return solve


@metric(scores="unreduced")
def estimates() -> Metric:
    """Every metric of ours that is about the questions asked: its value, 95 % interval, n and number of unscored.

    Named as in ``metrics.METRICS``, with ``_low``, ``_high``, ``_n`` and ``_unscored``; what has no scored answer has
    no value. Several epochs count as several runs, whose intervals are those of ``metrics.pooled``.
    """

    def compute(scores: list[SampleScore]) -> dict[str, float | None]:
        runs: list[tuple[list[Query], list[Response], list[Verdict]]] = []
        seen: Counter[str] = Counter()
        for one in scores:
            query, kept = _query(one.sample_metadata or {}), one.score.metadata or {}
            number = seen[query.id]
            seen[query.id] += 1
            if number == len(runs):
                runs.append(([], [], []))
            queries, responses, verdicts = runs[number]
            queries.append(query)
            responses.append(Response.model_validate(kept["response"]))
            verdicts += map(Verdict.model_validate, kept["verdicts"])
        found = [score for score in metrics.pooled(runs) if score.category == "all" and score.n + score.n_unscored]
        values: dict[str, float | None] = {score.metric: score.value for score in found}
        for score in found:
            ends = {"low": score.low, "high": score.high, "n": score.n, "unscored": score.n_unscored}
            values |= {f"{score.metric}_{end}": value for end, value in ends.items()}
        return values

    return compute


def _query(metadata: Mapping[str, Any]) -> Query:
    return Query.model_validate({name: value for name, value in metadata.items() if name != UNREADABLE})


@scorer(metrics=[estimates()])
def judged(judge: str = "rules", judging: Judging = None, data: str = "pictogram", on_bad: OnBad = "fail") -> Scorer:
    """Judge each answer with a judge of ours, by the criteria of its set.

    A sample's value holds each metric's value of it, NaN where it is unscored; the explanation says why, and the
    metadata keep the response and the verdicts as ``responses.jsonl`` and ``verdicts.jsonl`` would.

    Arguments as for ``forget_quality``: ``data`` is the benchmark, whose refusals a judge may learn from.

    Raises:
        UserError: If there is no such judge, or an option is not what it should be.
    """
    strange = sorted(set(judging or {}) - set(JudgeOptions.__dataclass_fields__))
    if strange:
        known = ", ".join(JudgeOptions.__dataclass_fields__)
        raise UserError(f"judging: unknown {', '.join(strange)}; available: {known}")
    options, benchmark = JudgeOptions(**judging or {}), _load(data, on_bad)
    decider = judges.create(judge, benchmark.refusals, options, benchmark.image)
    at_once = options.concurrency if judge == "api" else 1

    def decide(query: Query, response: Response) -> list[Verdict]:
        return judges.judge_tasks(decider, judges.tasks_for([query], [response], decider), None)

    limiter: list[anyio.CapacityLimiter] = []

    async def score(state: TaskState, target: Target) -> Score:
        if not limiter:  # belongs to the event loop that runs now
            limiter.append(anyio.CapacityLimiter(at_once))
        query, response = _query(state.metadata), _response(state)
        verdicts = await anyio.to_thread.run_sync(decide, query, response, limiter=limiter[0])
        answers = metrics.index([response], verdicts)
        always = [(name, entry) for name, entry in METRICS if not entry.if_any]
        values = {name: entry.value(query, answers) for name, entry in always if entry.is_about(query)}
        return Score(
            value={name: float("nan") if value is None else value for name, value in values.items()},
            answer=response.answer,
            explanation="\n".join(map(_said, verdicts)),
            reason="scoring_failed" if any(verdict.value is None for verdict in verdicts) else None,
            metadata={"response": response.model_dump(), "verdicts": [verdict.model_dump() for verdict in verdicts]},
        )

    return score


def _response(state: TaskState) -> Response:
    error = state.metadata.get(UNREADABLE)
    if error is not None:
        return Response(query_id=str(state.sample_id), answer="", finished=False, error=error)
    output = state.output
    content = output.choices[0].message.content if output.choices else ""
    reasoned = any(part.type == "reasoning" for part in content if not isinstance(part, str))
    text = output.completion.strip()
    return Response(
        query_id=str(state.sample_id),
        answer=text,
        finished=ending(output.stop_reason) == "ended",
        error=output.error or failure_of(text, output.stop_reason, reasoned),
    )


def _said(verdict: Verdict) -> str:
    outcome = f"unscored: {verdict.unscored}" if verdict.value is None else f"{verdict.value:g}"
    return f"{verdict.criterion} ({verdict.judge}): {outcome}" + (f"\n{verdict.raw}" if verdict.raw else "")

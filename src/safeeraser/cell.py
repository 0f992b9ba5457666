"""One cell of the matrix: a model, a method and a seed, taken down the whole line in a process of its own.

``python -m safeeraser.cell FOLDER`` reads ``FOLDER/cell.json`` and leaves adapter/, train.jsonl, responses.jsonl,
verdicts.jsonl and scores.json beside it. Each stage resumes, so a killed cell is simply run again.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safeeraser import plugins, store
from safeeraser.config import GenerationOptions, JudgeOptions, LoraOptions, ModelOptions, OnBad, UnlearnOptions
from safeeraser.errors import UserError
from safeeraser.records import Frozen, Query, QuerySet, Response, Verdict

if TYPE_CHECKING:
    from safeeraser.data import Benchmark

VANILLA = "vanilla"
STAGES: dict[str, float] = {"unlearn": 0.5, "respond": 0.45, "judge": 0.03, "score": 0.02}
"""Stages in order, each with its usual share of a cell's time."""


class CellSpec(Frozen):
    """All that decides a cell's numbers; two equal specs give equal numbers."""

    model: str
    model_fingerprint: str = ""
    data: str
    data_fingerprint: str = ""
    method: str | dict[str, float]
    seed: int
    on_bad: OnBad = "fail"
    needs_pd: bool = False
    limit: int | None = None
    questions: int | None = None
    dev: bool = False
    judge: str = "rules"
    held_out: str | None = None
    held_out_hash: str | None = None
    judging: dict[str, Any] = {}
    sets: tuple[QuerySet, ...]
    training: dict[str, Any]
    generation: dict[str, Any]
    loading: dict[str, Any] = {}
    plugins: dict[str, str] = {}

    def training_options(self) -> UnlearnOptions:
        """The training options with this cell's seed."""
        values = {**self.training, "lora": LoraOptions(**self.training["lora"]), "seed": self.seed}
        return UnlearnOptions(**values)

    def generation_options(self) -> GenerationOptions:
        """The generation options."""
        return GenerationOptions(**self.generation)

    def loading_options(self) -> ModelOptions:
        """How the model is loaded."""
        return ModelOptions(**self.loading)


def held_out_of(spec: CellSpec) -> frozenset[str] | None:
    """Ids of the records that generality is reported on as well; None if there is no such file.

    Raises:
        UserError: If the file is not what it was when the cell was planned and the file was compared with the data.
    """
    if spec.held_out is None:
        return None
    path = Path(spec.held_out)
    if not path.is_file() or store.hash_files([path]) != spec.held_out_hash:
        raise UserError(f"{path} has changed since this cell was planned: put it back, or choose another --out")
    return frozenset(store.read_json(path)["records"])


def prepare(folder: Path, spec: CellSpec, judging: JudgeOptions | None = None) -> None:
    """Write ``cell.json``, or check that the one there is the same; and ``judging.json``, which may change.

    What of the judge decides the numbers is in its id, in ``spec.judging``; how fast and for how much it may be asked
    is free from call to call.

    Raises:
        UserError: If the folder holds a cell made with other options; the message names what differs.
    """
    store.claim(folder / "cell.json", spec.model_dump())
    if judging is not None:
        store.write_json(folder / "judging.json", asdict(judging))


def has_failures(folder: Path) -> bool:
    """Whether judging failed for some responses of a finished cell, so that another run may do better."""
    return is_done(folder) and bool(store.read_json(folder / "scores.json").get("failed"))


def is_done(folder: Path) -> bool:
    """Whether the cell in ``folder`` has its scores."""
    return (folder / "scores.json").exists()


def load_judged(folder: Path) -> tuple[list[Query], list[Response], list[Verdict]]:
    """Read the queries, responses and verdicts of a finished cell; those of an earlier judge are left out."""
    queries = store.read_jsonl(folder / "queries.jsonl", Query)
    responses = store.read_jsonl(folder / "responses.jsonl", Response)
    verdicts = store.read_jsonl(folder / "verdicts.jsonl", Verdict)
    judge = store.read_json(folder / "scores.json")["judge"]
    return queries, responses, [verdict for verdict in verdicts if verdict.judge == judge]


class Reporter:
    """Writes ``progress.json`` at most four times a second; stops the cell when the process that started it is gone."""

    def __init__(self, folder: Path) -> None:
        """Remember the parent, to notice its end."""
        self._path = folder / "progress.json"
        self._parent = os.getppid()
        self._last = 0.0

    def report(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Say where the cell is.

        Raises:
            SystemExit: If the parent process has ended: its successor will go on from the files.
        """
        if os.getppid() != self._parent:
            raise SystemExit("the process that started this cell is gone; run the same command again")
        if time.monotonic() - self._last > 0.25 or done >= total:
            self._last = time.monotonic()
            names = list(STAGES)
            before = sum(STAGES[name] for name in names[: names.index(stage)])
            fraction = before + STAGES[stage] * (done / total if total else 1.0)
            progress = {"text": f"{stage} {done}/{total} {note}".strip(), "fraction": fraction}
            temporary = self._path.with_suffix(".tmp")
            temporary.write_text(json.dumps(progress), encoding="utf-8")
            temporary.replace(self._path)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the cell's lock; wait while another process, such as one that outlived a kill, still has it."""
    with open(folder / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def run(folder: Path) -> None:
    """Take the cell in ``folder`` down the line: unlearn, respond, judge, score; what is there already is kept."""
    with locked(folder):
        if not is_done(folder) or has_failures(folder):
            _run(folder, CellSpec.model_validate(store.read_json(folder / "cell.json")))


def _run(folder: Path, spec: CellSpec) -> None:
    from safeeraser import judges, metrics

    plugins.require(spec.plugins)
    reporter = Reporter(folder)
    benchmark = benchmark_of(spec)
    queries = queries_of(spec, benchmark)
    store.write_jsonl(folder / "queries.jsonl", queries)
    _unlearn_and_respond(folder, spec, benchmark, queries, reporter)
    judge = judges.create(spec.judge, benchmark.refusals, judging_options(folder))
    verdicts = judges.run(
        judge,
        queries,
        folder / "responses.jsonl",
        folder / "verdicts.jsonl",
        lambda done, total: reporter.report("judge", done, total),
        print,
    )
    reporter.report("score", 0, 1)
    responses = store.read_jsonl(folder / "responses.jsonl", Response)
    scores = metrics.score(queries, responses, verdicts, held_out=held_out_of(spec))
    failed = sum((verdict.unscored or "").startswith(judges.FAILED) for verdict in verdicts)
    store.write_json(
        folder / "scores.json",
        {
            "cell": spec.model_dump(),
            "judge": judge.id,
            "judge_models": sorted({verdict.model for verdict in verdicts if verdict.model}),
            "failed": failed,
            "scores": [s.model_dump() for s in scores],
        },
    )
    reporter.report("score", 1, 1)


def judging_options(folder: Path) -> JudgeOptions:
    """How the judge of the cell in ``folder`` may be asked."""
    path = folder / "judging.json"
    return JudgeOptions(**store.read_json(path)) if path.exists() else JudgeOptions()


def benchmark_of(spec: CellSpec) -> Benchmark:
    """The benchmark that a cell runs on; its development part, if the cell is one for development."""
    from safeeraser import data

    benchmark = data.load(spec.data, spec.limit, spec.on_bad, spec.needs_pd)
    return data.dev_benchmark(benchmark) if spec.dev else benchmark


def queries_of(spec: CellSpec, benchmark: Benchmark) -> list[Query]:
    """What a cell asks of its benchmark."""
    from safeeraser import data

    return _chosen(data.queries(benchmark, spec.generation_options().protocol), spec)


def _chosen(queries: list[Query], spec: CellSpec) -> list[Query]:
    """The queries of the cell's sets; where it has a number of questions, that many of each record and set.

    Which ones differs from record to record, so that no slot of the retain questions is left out, and is the same for
    every method, seed and run.
    """
    asked: dict[tuple[str, str], set[str]] = {}
    for query in queries:
        asked.setdefault((query.set, query.record_id), set()).add(query.question)
    kept = {}
    for key, questions in asked.items():
        ranked = sorted((store.stable_hash(*key, question), question) for question in questions)
        kept[key] = [question for _, question in ranked[: spec.questions]]
    return [
        query
        for query in queries
        if query.set in spec.sets and (query.set == "specificity" or query.question in kept[query.set, query.record_id])
    ]


def _unlearn_and_respond(
    folder: Path, spec: CellSpec, benchmark: Any, queries: list[Query], reporter: Reporter
) -> None:
    from safeeraser import models, objectives, respond, unlearn

    adapter = None
    if spec.method != VANILLA:
        options = spec.training_options()
        method = objectives.parse_method(spec.method, options.preset)

        def on_step(step: int, total: int, components: dict[str, float]) -> None:
            note = " ".join(f"{name} {value:.2f}" for name, value in components.items())
            reporter.report("unlearn", step, total, note)

        adapter = unlearn.run(spec.model, benchmark, method, options, folder, on_step, spec.loading_options())
    generation = spec.generation_options()
    done = {response.query_id for response in store.read_jsonl(folder / "responses.jsonl", Response)}
    if not done.issuperset(query.id for query in queries):
        vlm = models.load(spec.model, adapter, **asdict(spec.loading_options()))
        vlm = models.merge(vlm) if adapter else vlm
        path = folder / "responses.jsonl"
        respond.run(vlm, benchmark, queries, path, generation, lambda d, t: reporter.report("respond", d, t))


def main(argv: list[str]) -> int:
    """Run the cell in the folder given; its errors go to standard error, the caller's log."""
    try:
        run(Path(argv[0]))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def options_dict(options: UnlearnOptions | GenerationOptions | ModelOptions) -> dict[str, Any]:
    """Turn options into a plain dict for a spec; the seed of training is the cell's own."""
    values = asdict(options)
    if isinstance(options, UnlearnOptions):
        del values["seed"]
    return {f.name: values[f.name] for f in fields(options) if f.name in values}


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

"""One cell of the matrix: a model, a method and a seed, taken down the whole line in a process of its own.

``python -m safeeraser.cell FOLDER`` reads ``FOLDER/cell.json`` and leaves adapter/, train.jsonl, responses.jsonl,
verdicts.jsonl and scores.json beside it; ``safeeraser specificity`` adds specificity.jsonl, which goes into
scores.json as well. times.jsonl says what each stage took. Each stage resumes, so a killed cell is simply run again.
"""

from __future__ import annotations

import json
import os
import sys
import time
from array import array
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, fields
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from safeeraser import collection, locks, plugins, store, suites
from safeeraser.clock import Clock
from safeeraser.config import GenerationOptions, JudgeOptions, LoraOptions, ModelOptions, OnBad, UnlearnOptions
from safeeraser.errors import UNWRITABLE, UserError, refused
from safeeraser.lookup import Lookup
from safeeraser.records import Frozen, Query, QuerySet, Response, Score, Verdict
from safeeraser.spool import Chosen
from safeeraser.terminal import say

if TYPE_CHECKING:
    from safeeraser.data import Benchmark
    from safeeraser.data.images import ImageCache

Options = TypeVar("Options")

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
        """The training options with this cell's seed.

        Raises:
            UserError: If one of them is unknown, as these are.
        """
        lora = _options(LoraOptions, self.training.get("lora", {}), "training.lora")
        return _options(UnlearnOptions, {**self.training, "lora": lora, "seed": self.seed}, "training")

    def generation_options(self) -> GenerationOptions:
        """The generation options."""
        return _options(GenerationOptions, self.generation, "generation")

    def loading_options(self) -> ModelOptions:
        """How the model is loaded."""
        return _options(ModelOptions, self.loading, "loading")


class CellScores(Frozen):
    """What ``scores.json`` holds; ``failed`` counts responses that the judge may do better at another time.

    ``judge_models`` are the models that a judging server said it replied with.
    """

    cell: dict[str, Any]
    judge: str
    judge_models: tuple[str, ...] = ()
    failed: int = 0
    scores: tuple[Score, ...]


def _options(kind: type[Options], values: dict[str, Any], group: str) -> Options:
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    for name in set(values) - known:
        from safeeraser import __version__

        raise UserError(f"{group}.{name} is unknown to safeeraser {__version__}: a newer version wrote it; upgrade")
    return kind(**values)


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
        UserError: If the folder holds a cell made with other options, or by a newer version; the message names what
            differs.
    """
    if (folder / "cell.json").exists():
        store.read_object(folder / "cell.json", CellSpec)
    store.claim(folder / "cell.json", spec.model_dump())
    if judging is not None:
        store.write_json(folder / "judging.json", asdict(judging))


def has_failures(folder: Path) -> bool:
    """Whether judging failed for some responses of a finished cell, so that another run may do better."""
    return is_done(folder) and bool(scores_of(folder).failed)


def is_done(folder: Path) -> bool:
    """Whether the cell in ``folder`` has its scores."""
    return (folder / "scores.json").exists()


def scores_of(folder: Path) -> CellScores:
    """Read the scores of a finished cell.

    Raises:
        UserError: If the file is not what it should be.
    """
    return store.read_object(folder / "scores.json", CellScores)


def load_judged(folder: Path) -> tuple[list[Query], list[Response], list[Verdict]]:
    """Read the queries, responses and verdicts of a finished cell; those of an earlier judge are left out."""
    queries = store.read_jsonl(folder / "queries.jsonl", Query)
    responses = store.read_jsonl(folder / "responses.jsonl", Response)
    verdicts = store.read_jsonl(folder / "verdicts.jsonl", Verdict)
    judge = scores_of(folder).judge
    return queries, responses, [verdict for verdict in verdicts if verdict.judge == judge]


class Reporter:
    """Writes ``progress.json``, within a stage at most four times a second; stops when nobody waits any more."""

    def __init__(self, folder: Path, held: locks.Hold) -> None:
        """Remember the parent, to notice its end, and the folder, to notice that it is gone."""
        self._path = folder / "progress.json"
        self._held = held
        self._parent = os.getppid()
        self._last = 0.0
        self._stage = ""

    def report(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Say where the cell is.

        Raises:
            SystemExit: If the parent process has ended: its successor will go on from the files.
            UserError: If the cell's folder was removed.
        """
        self._held.check()
        if os.getppid() != self._parent:
            raise SystemExit("the process that started this cell is gone; run the same command again")
        if stage != self._stage or time.monotonic() - self._last > 0.25 or done >= total:
            self._stage, self._last = stage, time.monotonic()
            names = list(STAGES)
            before = sum(STAGES[name] for name in names[: names.index(stage)])
            fraction = before + STAGES[stage] * (done / total if total else 1.0)
            progress = {"text": f"{stage} {done}/{total} {note}".strip(), "fraction": fraction}
            temporary = self._path.with_suffix(".tmp")
            temporary.write_text(json.dumps(progress), encoding="utf-8")
            temporary.replace(self._path)


def run(folder: Path) -> None:
    """Take the cell in ``folder`` down the line: unlearn, respond, judge, score; what is there already is kept."""
    with locks.hold(folder) as held:
        store.sweep(folder)
        if not is_done(folder) or has_failures(folder):
            _run(folder, store.read_object(folder / "cell.json", CellSpec), held)


def _run(folder: Path, spec: CellSpec, held: locks.Hold) -> None:
    from safeeraser import judges, metrics
    from safeeraser.data.images import ImageCache

    plugins.require(spec.plugins)
    reporter = Reporter(folder, held)
    clock = Clock(folder)
    import_engine(training=spec.method != VANILLA)
    clock.lap("imports")
    benchmark = benchmark_of(spec)
    queries = queries_of(spec, benchmark)
    store.write_jsonl(folder / "queries.jsonl", queries)
    clock.lap("data")
    images = ImageCache(benchmark)  # those of training are asked about
    adapter = _unlearn(folder, spec, benchmark, images, reporter)
    if adapter is not None:
        clock.lap("training")
    _respond(folder, spec, benchmark, images, queries, adapter, reporter)
    clock.lap("generation")
    judge = judges.create(spec.judge, benchmark.refusals, judging_options(folder))
    verdicts = judges.run(
        judge,
        queries,
        folder / "responses.jsonl",
        folder / "verdicts.jsonl",
        lambda done, total: reporter.report("judge", done, total),
        say,
    )
    clock.lap("judging")
    reporter.report("score", 0, 1)
    responses = store.Lines(folder / "responses.jsonl", Response, lambda response: response.query_id)
    scores = metrics.score(queries, responses, verdicts, held_out=held_out_of(spec))
    failed = sum((verdict.unscored or "").startswith(judges.FAILED) for verdict in verdicts)
    public = suites.scores([suites.read(folder)])
    found = CellScores(
        cell=spec.model_dump(),
        judge=judge.id,
        judge_models=tuple(sorted({verdict.model for verdict in verdicts if verdict.model})),
        failed=failed,
        scores=(*scores, *public),
    )
    held.check()
    store.write_json(folder / "scores.json", found.model_dump())
    clock.lap("scoring")
    reporter.report("score", 1, 1)


def fold_specificity(folder: Path) -> None:
    """Bring the scores of public benchmarks in ``scores.json`` up to what ``specificity.jsonl`` holds."""
    written = scores_of(folder).model_dump(mode="json")
    others = [score for score in written["scores"] if not suites.is_ours(score["metric"])]
    found = [score.model_dump() for score in suites.scores([suites.read(folder)])]
    if written["scores"] != others + found:
        store.write_json(folder / "scores.json", written | {"scores": others + found})


def judging_options(folder: Path) -> JudgeOptions:
    """How the judge of the cell in ``folder`` may be asked."""
    path = folder / "judging.json"
    return _options(JudgeOptions, store.read_json(path), str(path)) if path.exists() else JudgeOptions()


def benchmark_of(spec: CellSpec) -> Benchmark:
    """The benchmark that a cell runs on; its development part, if the cell is one for development."""
    from safeeraser import data

    benchmark = data.load(spec.data, spec.limit, spec.on_bad, spec.needs_pd)
    return data.dev_benchmark(benchmark) if spec.dev else benchmark


def queries_of(spec: CellSpec, benchmark: Benchmark) -> Sequence[Query]:
    """What a cell asks of its benchmark."""
    from safeeraser import data

    return _chosen(data.queries(benchmark, spec.generation_options().protocol), spec)


def _chosen(queries: Sequence[Query], spec: CellSpec) -> Sequence[Query]:
    """The queries of the cell's sets; where it has a number of questions, that many of each record and set.

    Which ones differs from record to record, so that no slot of the retain questions is left out, and is the same for
    every method, seed and run.
    """
    places = array("I")
    for (name, record), group in groupby(enumerate(queries), lambda one: (one[1].set, one[1].record_id)):
        asked = [(place, query.question) for place, query in group]
        ranked = sorted({(store.stable_hash(name, record, question), question) for _, question in asked})
        kept = {question for _, question in ranked[: spec.questions]}
        if name in spec.sets:
            places.extend(place for place, question in asked if name == "specificity" or question in kept)
    return Chosen(queries, places)


def import_engine(training: bool) -> None:
    """Load the libraries that a cell needs, so that they are not taken for the time of its first stage."""
    with collection.paused(for_good=True):
        from transformers import PreTrainedModel  # noqa: F401

        from safeeraser.models import chat  # noqa: F401

        if training:  # the trainer and all that it brings is not needed to answer
            from safeeraser import unlearn  # noqa: F401


def _unlearn(folder: Path, spec: CellSpec, benchmark: Benchmark, images: ImageCache, reporter: Reporter) -> Path | None:
    """The cell's adapter; None if the method is the vanilla model."""
    if spec.method == VANILLA:
        return None
    from safeeraser import objectives, unlearn

    options = spec.training_options()
    method = objectives.parse_method(spec.method, options.preset)

    def on_step(step: int, total: int, components: dict[str, float]) -> None:
        note = " ".join(f"{name} {value:.2f}" for name, value in components.items())
        reporter.report("unlearn", step, total, note)

    loading = spec.loading_options()
    return unlearn.run(spec.model, benchmark, method, options, folder, on_step, loading, images=images)


def _respond(
    folder: Path,
    spec: CellSpec,
    benchmark: Benchmark,
    images: ImageCache,
    queries: Sequence[Query],
    adapter: Path | None,
    reporter: Reporter,
) -> None:
    from safeeraser import models, respond

    generation = spec.generation_options()
    done = Lookup(int, ((response.query_id, 0) for response in store.iter_jsonl(folder / "responses.jsonl", Response)))
    if not all(query.id in done for query in queries):
        vlm = models.load(spec.model, adapter, **asdict(spec.loading_options()))
        vlm = models.merge(vlm) if adapter else vlm
        path = folder / "responses.jsonl"
        respond.run(vlm, benchmark, queries, path, generation, lambda d, t: reporter.report("respond", d, t), images)


def main(argv: list[str]) -> int:
    """Run the cell in the folder given; its errors go to standard error, the caller's log."""
    try:
        run(Path(argv[0]))
    except UserError as error:
        say(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        said = refused(error)
        if said is None:
            raise
        with suppress(OSError):  # the log may lie on the same full disk
            say(f"error: {said}", file=sys.stderr)
        os._exit(UNWRITABLE)  # not by way of the interpreter, which would fail at the log once more
    return 0


def options_dict(options: UnlearnOptions | GenerationOptions | ModelOptions) -> dict[str, Any]:
    """Turn options into a plain dict for a spec; the seed of training is the cell's own."""
    values = asdict(options)
    if isinstance(options, UnlearnOptions):
        del values["seed"]
    return {f.name: values[f.name] for f in fields(options) if f.name in values}


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

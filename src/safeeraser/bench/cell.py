"""One cell of the matrix: a model, a method and a seed, taken through the pipeline in a process of its own.

``python -m safeeraser.bench.cell FOLDER`` reads ``FOLDER/cell.json`` and leaves the files that ``runs`` describes.
``times.jsonl`` says what each stage took. Each stage resumes, so a killed cell is simply run again.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from safeeraser.bench import early_stop, launch, runs, sequence, tracking
from safeeraser.bench.clock import Clock
from safeeraser.bench.progress import Reporter
from safeeraser.bench.runs import Cell, CellScores
from safeeraser.bench.sequence import Request
from safeeraser.config import RECIPES
from safeeraser.core import files, locks, registry
from safeeraser.core.errors import UNWRITABLE, UserError, refused
from safeeraser.core.terminal import say
from safeeraser.metrics import specificity
from safeeraser.models import processes
from safeeraser.records import Response, Score, Verdict

TRAIN = "--train"

if TYPE_CHECKING:
    from safeeraser.data.images import ImageCache
    from safeeraser.judges import Judge


@dataclass(frozen=True)
class _Inputs:
    """What the stages of a cell share, for one of its requests; most cells have one."""

    cell: Cell
    request: Request
    images: ImageCache
    """Training's images are asked about, too: each is decoded once."""
    judge: Judge
    reporter: Reporter


def run(folder: Path) -> None:
    """Take the cell in ``folder`` through the stages: unlearn, respond, judge, score, write; what is there is kept."""
    with locks.hold(folder) as held:
        files.sweep(folder)
        cell = runs.read(folder)
        if cell.is_due:
            _run(cell, held)


def _run(cell: Cell, held: locks.Hold) -> None:
    from safeeraser import judges

    registry.require_plugins(cell.spec.plugins)
    clock = Clock(cell.folder)
    clock.lap("imports")
    every = _inputs(cell, Reporter(cell.folder, held))
    clock.lap("data")
    failed = 0
    for inputs in every:
        inputs.reporter.request = inputs.request.number
        adapter = _unlearn(inputs)
        clock.lap("training")
        _respond(inputs, adapter)
        clock.lap("generation")
        verdicts = _judge(inputs)
        failed += sum((verdict.unscored or "").startswith(judges.FAILED) for verdict in verdicts)
        clock.lap("judging")
    scores = _score(inputs, verdicts)
    held.check()  # a folder that was removed meanwhile is not made again, with scores alone in it
    _write(inputs, verdicts, scores, failed)
    clock.lap("scoring")


def _inputs(cell: Cell, reporter: Reporter) -> list[_Inputs]:
    """Of each request, in order; the last is the one whose files and scores are the cell's own."""
    from safeeraser import judges
    from safeeraser.data.images import ImageCache

    benchmark = cell.spec.benchmark()
    requests = sequence.requests(cell, benchmark)
    if processes.is_first_process():
        sequence.record(cell, benchmark)
        for request in requests:
            files.write_jsonl(request.folder / "queries.jsonl", request.queries)
    judge = judges.create(cell.spec.judge, benchmark.refusals, cell.judging_options(), benchmark.image)
    reporter.requests = len(requests)
    images = ImageCache(benchmark)
    return [_Inputs(cell, request, images, judge, reporter) for request in requests]


def _unlearn(inputs: _Inputs) -> Path | None:
    """The request's adapter; None if the method trains nothing."""
    spec, request = inputs.cell.spec, inputs.request
    method = spec.parsed_method()
    if method is None:
        return None
    together = os.environ.get(launch.TOGETHER)
    if together and processes.processes() == 1:
        _train_together(inputs.cell.folder, *together.split())
        return request.folder / "adapter"
    from safeeraser.unlearn import stage

    def on_step(step: int, total: int, components: dict[str, float]) -> None:
        note = " ".join(f"{name} {value:.2f}" for name, value in components.items())
        inputs.reporter.report("unlearn", step, total, note)

    from safeeraser.bench.estimate import batch_that_fits

    options, loading = spec.training_options(), spec.loading_options()
    trained, measure = early_stop.watched(request.benchmark, options)
    return stage.run(
        spec.model,
        trained,
        method,
        options,
        request.folder,
        on_step,
        loading,
        after=request.before,
        images=inputs.images,
        fits=batch_that_fits(spec.model, request.benchmark, method, options, loading),
        measure=measure,
    )


def _train_together(folder: Path, number: str, engine: str) -> None:
    """Have all that a cell trains trained by several processes that ``accelerate launch`` starts."""
    config = RECIPES / "accelerate" / f"{engine}.yaml"
    command = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--config_file", str(config)]
    command += ["--num_processes", number, "--main_process_port", "0"]
    done = subprocess.run([*command, "-m", "safeeraser.bench.cell", str(folder), TRAIN], check=False)
    if done.returncode:
        raise UserError(f"the {number} processes that train together ended with status {done.returncode}: see above")


def train(folder: Path) -> None:
    """One of the processes that train the cell in ``folder`` together; the cell itself waits, and holds the folder."""
    cell = runs.read(folder)
    registry.require_plugins(cell.spec.plugins)
    for inputs in _inputs(cell, Reporter(folder)):
        _unlearn(inputs)


def _respond(inputs: _Inputs, adapter: Path | None) -> None:
    from safeeraser.respond import local

    spec, request = inputs.cell.spec, inputs.request
    path = request.folder / "responses.jsonl"
    answered = {response.query_id for response in files.read_jsonl(path, Response)}
    if answered.issuperset(query.id for query in request.queries):
        return
    merged = None if adapter is None else (*request.before, adapter)
    vlm = spec.answering_model(merged, request.benchmark)
    progress, options = partial(inputs.reporter.report, "respond"), spec.generation_options()
    local.run(vlm, request.benchmark, request.queries, path, options, progress, inputs.images)


def _judge(inputs: _Inputs) -> Sequence[Verdict]:
    from safeeraser import judges

    folder, progress = inputs.request.folder, partial(inputs.reporter.report, "judge")
    responses, verdicts = folder / "responses.jsonl", folder / "verdicts.jsonl"
    return judges.run(inputs.judge, inputs.request.queries, responses, verdicts, progress, say)


def _score(inputs: _Inputs, verdicts: Sequence[Verdict]) -> list[Score]:
    from safeeraser import metrics

    inputs.reporter.report("score", 0, 1)
    folder, held_out = inputs.cell.folder, inputs.cell.spec.held_out_records()
    responses = files.read_jsonl(folder / "responses.jsonl", Response)
    scores = metrics.score(inputs.request.queries, responses, verdicts, held_out=held_out)
    return [*scores, *specificity.scores([specificity.read(folder)])]


def _write(inputs: _Inputs, verdicts: Sequence[Verdict], scores: Sequence[Score], failed: int) -> None:
    written = CellScores(
        cell=inputs.cell.spec.model_dump(),
        judge=inputs.judge.id,
        judge_models=tuple(sorted({verdict.model for verdict in verdicts if verdict.model})),
        failed=failed,
        checks=inputs.cell.checks(),
        scores=tuple(scores),
    )
    tracking.log_scores(inputs.cell.spec.training_options().tracker, inputs.cell.folder, scores)
    files.write_json(inputs.cell.folder / "scores.json", written.model_dump())
    inputs.reporter.report("score", 1, 1)


def main(argv: list[str]) -> int:
    """Run the cell in the folder given; its errors go to standard error, the caller's log."""
    together = TRAIN in argv
    if not together:
        processes.leave_launch()  # a cell is one process, whatever launched the bench
    try:
        (train if together else run)(Path(argv[0]))
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


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

"""The matrix: the pipeline for every model x method x seed, resumable, cells side by side, then the table."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from safeeraser.bench import baselines, clock, launch, preflight, sequence, tracking
from safeeraser.bench.live import Job, LiveTable
from safeeraser.bench.runs import Cell
from safeeraser.bench.spec import CellSpec, MethodOption, chosen_methods, is_trained, training_values
from safeeraser.config import (
    BenchConfig,
    JudgeOptions,
    ModelOptions,
    at_least_one,
    check_generation,
    check_training,
    generation_values,
)
from safeeraser.core import errors, files, locks, registry, terminal
from safeeraser.core.errors import UserError
from safeeraser.metrics.rule import parse_rule
from safeeraser.records import TEXT_SETS, QuerySet, Response

if TYPE_CHECKING:
    from safeeraser.bench.devices import Gpu
    from safeeraser.data import Benchmark
    from safeeraser.objectives import Method

CURVE_SETS: tuple[QuerySet, ...] = ("generality", "retain", "safe")
Report = Callable[[BenchConfig, Sequence[Cell], Sequence[str]], None]
"""What is made of a run: options, cells that are done, labels of those that failed."""


def run(config: BenchConfig, report: Report | None = None) -> int:
    """Run the cells of the matrix that are missing; return 1 if one failed.

    With ``list_cells``, print the id of every cell and run nothing; with ``cell``, run that cell alone, unreported.

    Args:
        config: All options of ``safeeraser bench``.
        report: Called with the options, the cells that are done and the labels of those that failed, if any is done.

    Raises:
        UserError: If an option or the data cannot be used, another bench is at work in the folder, or it is removed.
    """
    out = Path(config.out)
    if config.list_cells:
        terminal.say("\n".join(_id(cell, out) for cell in cells(config)))
        return 0
    times = clock.Clock(out)
    launcher = launch.create(config)  # it may import what cells need while these are listed
    chosen = cells(config) if config.cell is None else [_find(config.cell, cells(config), out)]
    parallel = config.jobs or launcher.parallel or len(chosen)
    if launcher.gpus:
        _check_gpus(config, chosen, launcher.gpus, parallel)
    judging = _judging(config, chosen, parallel)  # what would cost too much is not begun
    preflight.check(config, [cell.spec for cell in chosen if cell.is_due])
    out.mkdir(parents=True, exist_ok=True)
    busy = f"{out}: another 'safeeraser bench' is at work in this folder: wait until it ends, or choose another --out"
    with locks.hold(out, shared=config.cell is not None, busy=busy) as held:  # many processes of a job array are one
        for cell in chosen:
            cell.prepare(judging)
        if config.cell is None:  # the cells of a job array are many, and the run is recorded once
            _record_run(out, config)
            times.lap("planning")
        jobs = [
            Job(cell, cell.label if config.budgets is None else f"{cell.label} steps {cell.spec.training['steps']}")
            for cell in chosen
        ]
        failed = _run_jobs(jobs, launcher, parallel, held)
        for job in failed:
            log = job.cell.folder / "log.txt"
            terminal.say(f"failed: {job.label}: {_reason(job, log)} (log: {log})", file=sys.stderr)
        if config.cell is None and len(failed) < len(chosen):
            times.lap("waiting for cells")
            done = [cell for cell in chosen if cell.is_done]
            tracking.log_table(config.training.tracker, out, {job.label: job.cell for job in jobs if job.cell.is_done})
            if report is not None:
                report(config, done, [job.label for job in failed])
            times.lap("report")
    return 1 if failed else 0


def cells(config: BenchConfig) -> list[Cell]:
    """List the cells of the matrix in order; what trains nothing has one, as greedy answers depend on no seed."""
    from safeeraser import objectives

    at_least_one(config, "questions", "jobs")
    check_generation(config.generation)
    methods: dict[str, tuple[MethodOption, objectives.Method | None]] = {}
    for option in chosen_methods(config):
        method = objectives.parse_method(option, config.training.preset) if is_trained(option) else None
        methods[str(option) if method is None else method.name] = option, method
    budgets: list[int | None] = [*_integers(config.budgets, "budgets")]
    if budgets:  # which what is not trained has not
        methods = {name: (option, method) for name, (option, method) in methods.items() if method is not None}
    if not methods:
        what = "trained method, and --budgets are of training" if budgets else "method"
        raise UserError(f"--methods {config.methods} names no {what}: give some, such as po,po+pd")
    if config.training.stop is not None:
        parse_rule(config.training.stop)
    if config.sequence is not None and (config.dev or config.budgets is not None):
        raise UserError("--sequence makes a table after each request, --budgets and --dev make curves: leave one out")
    common = _common(config, [method for _, method in methods.values() if method is not None], bool(budgets))
    seeds = _integers(config.seeds, "seeds") or [config.training.seed]
    listed = []
    for steps in budgets or [None]:
        options = config.training if steps is None else replace(config.training, steps=steps)
        root = Path(config.out) / (f"budgets/{steps}" if steps is not None else "")
        folder = _model_folder(root / "cells", config.model)
        for name, (option, method) in methods.items():
            training = training_values(options, method)
            of_baseline = baselines.recorded(name, config.baselines) if name in baselines.BASELINES.names() else {}
            for seed in seeds[:1] if method is None else seeds:
                check_training(replace(options, seed=seed))
                spec = CellSpec(method=option, seed=seed, training=training, **of_baseline, **common)
                listed.append(Cell(folder / name / f"seed-{seed}", spec))
    return listed


def _common(config: BenchConfig, trained: Sequence[Method], has_budgets: bool) -> dict[str, Any]:
    """What the specs of all cells share; checks the data, the judge and how the model is loaded."""
    from safeeraser import data, judges, models

    judges.JUDGES.get(config.judge)  # a wrong name is said before the data are drawn
    needs_pd = config.on_bad == "skip" and any("decouple" in method.rows for method in trained)
    whole = data.load(config.data, on_bad=config.on_bad)
    benchmark = data.with_pd(whole) if needs_pd else whole
    benchmark = benchmark if config.limit is None else benchmark.limited(config.limit)
    learnt = data.dev_benchmark(benchmark, config.dev == "unseen") if config.dev else benchmark
    for method in {method.rows: method for method in trained}.values():
        data.training_triples(learnt, method.rows, method.readers("decouple"))
    if config.sequence is not None:
        data.requests(learnt, config.sequence)
    judge = judges.create(config.judge, benchmark.refusals, config.judging)
    models.check_whole(config.model)  # once, not in every cell
    if config.loading != ModelOptions():  # which fits every machine: torch need not be imported to say so
        models.check(config.loading)
    if config.generation.thinking:  # before a cell is trained that could not be asked
        from safeeraser.models import loading, prompts

        processor = loading.load_processor(config.model, models.find_folder(config.model))
        prompts.with_thinking(models.VisionLanguageModel(config.model, None, processor), thinking=True)
    whole_sets: tuple[QuerySet, ...] = tuple(name for name in get_args(QuerySet) if name not in TEXT_SETS)
    sets = CURVE_SETS if config.dev or has_budgets else whole_sets
    text_sets = data.text_set_names(config.text_sets)
    if "safe" in sets:
        data.warn_of_missing_pd(benchmark)
    data.warn_of_control_tokens(benchmark)
    same = ("model", "data", "on_bad", "limit", "dev", "sequence", "judge")
    return {name: getattr(config, name) for name in same} | dict(
        model_fingerprint=models.fingerprint(config.model),
        data_fingerprint=benchmark.fingerprint,
        needs_pd=needs_pd,
        questions=1 if config.quick and config.questions is None else config.questions,
        **_held_out(config, whole),
        judging={"id": judge.id} if isinstance(judge, judges.BatchJudge) else {},
        sets=sets,
        text_sets=text_sets,
        text_sets_hash=data.text_hash(data.text_queries(text_sets)) if text_sets else "",
        generation=generation_values(config.generation),
        loading=asdict(config.loading),
        plugins=registry.loaded_plugins(),
    )


def _held_out(config: BenchConfig, whole: Benchmark) -> dict[str, str | None]:
    """The held-out file with its hash, for the spec; without one, say so where val records stand in train."""
    from safeeraser import data

    if config.held_out is None:
        data.warn_of_copies(whole)
        return {}
    if config.dev:
        raise UserError("--held-out is about val, and --dev never looks at val: leave one of them out")
    data.read_held_out(Path(config.held_out), whole)
    return {"held_out": config.held_out, "held_out_hash": files.hash_files([Path(config.held_out)])}


def _check_gpus(config: BenchConfig, cells: Sequence[Cell], gpus: Sequence[Gpu], parallel: int) -> None:
    """Refuse cells that would not fit, and say how those to run are spread."""
    from safeeraser.bench import estimate  # torch, which is imported here for large models alone

    due = [cell.spec for cell in cells if cell.is_due]
    if config.gpus_per_cell <= 1 or config.engine == "ddp":  # else a GPU holds a part of the model
        estimate.check_fit(due, gpus, parallel)
    preflight.check_disk(due, Path(config.out), parallel)
    if due:
        titles = ", ".join(gpu.title for gpu in gpus)
        terminal.say(f"up to {min(parallel, len(due))} of {len(due)} cells at once on {titles}", file=sys.stderr)


def _judging(config: BenchConfig, cells: Sequence[Cell], parallel: int) -> JudgeOptions | None:
    """Each cell's share of what the judge may be asked, for judges that are models; says first what to expect.

    The answers are not there yet: the references stand for them.
    """
    from safeeraser import judges

    asked = [cell for cell in cells if cell.is_due]
    due = [cell.spec for cell in asked]
    if not due or not due[0].judging:
        return None
    options = config.judging
    side_by_side = min(parallel, len(due))
    share = replace(
        options,
        concurrency=max(1, options.concurrency // side_by_side),
        requests_per_minute=options.requests_per_minute and options.requests_per_minute / side_by_side,
        max_cost=options.max_cost and options.max_cost / len(due),
    )
    benchmark = due[0].benchmark()
    # those of several requests of a sequence are judged anew after each
    queries = [query for request in sequence.requests(asked[-1], benchmark) for query in request.queries]
    stand_ins = [Response(query_id=query.id, answer=query.reference, finished=True) for query in queries]
    judge = judges.create(config.judge, benchmark.refusals, share, benchmark.image)
    if isinstance(judge, judges.BatchJudge):
        expected = judge.expect(judges.tasks_for(queries, stand_ins, judge))
        terminal.say(f"judge, for each of {len(due)} cells, if answers are as long as the references: {expected}")
    return share


def _id(cell: Cell, out: Path) -> str:
    return cell.folder.relative_to(out).as_posix()


def _find(wanted: str, cells: Sequence[Cell], out: Path) -> Cell:
    by_id = {_id(cell, out): cell for cell in cells}
    if wanted not in by_id:
        hint = registry.suggestion(wanted, by_id)
        raise UserError(f"--cell {wanted!r} is not in this matrix: {hint}'--list-cells' prints its {len(by_id)} cells")
    return by_id[wanted]


def _integers(value: str | int | list[int] | None, option: str) -> list[int]:
    try:
        items = value.split(",") if isinstance(value, str) else [value] if isinstance(value, int) else value or []
        return list(dict.fromkeys(int(item) for item in items))  # one cell each, however often it is named
    except ValueError:
        raise UserError(f"--{option} {value}: give whole numbers separated by commas, such as 0,1,2") from None


def _model_folder(cells: Path, model: str) -> Path:
    """The folder of a model's cells, such as ``cells/llava-hf--llava-1.5-7b-hf``; never a hidden one."""
    before = cells / model.strip("/").replace("/", "--")  # as earlier versions called it: '.--mine' for './mine'
    if before.is_dir():
        return before
    name = os.path.normpath(model).replace(os.sep, "--").lstrip(".-")
    return cells / (name or Path(model).resolve().name)


def _record_run(out: Path, config: BenchConfig) -> None:
    import yaml

    for folder in (out, out / "report", out / "report" / "figures"):
        files.sweep(folder)
    with files.atomic(out / "config.yaml") as file:
        values = asdict(config) | ({"plugins": list(registry.loaded_plugins())} if registry.loaded_plugins() else {})
        values["training"] |= values["training"].pop("terms")  # as they are given, so that a flag goes before them
        yaml.safe_dump(values, file, sort_keys=False)
    files.write_json(out / "environment.json", files.environment())


def _run_jobs(jobs: Sequence[Job], launcher: launch.Launcher, parallel: int, held: locks.Hold) -> list[Job]:
    """Run the cells that are due, ``parallel`` at a time; one that fails does not stop the others."""
    # the longest first, or the last of them runs alone while the other cores wait
    waiting = sorted((job for job in jobs if job.cell.is_due), key=_order)
    for job in jobs:
        job.status = "waiting" if job in waiting else "done before"
    running: list[Job] = []
    with LiveTable(jobs) as live:
        try:
            while waiting or running:
                held.check()
                while waiting and len(running) < parallel:
                    running.append(waiting.pop(0))
                    running[-1].start(launcher)
                time.sleep(0.2)
                running = [job for job in running if job.poll()]
                live.update()
        finally:
            for job in running:
                job.stop()
            launcher.close()
    return [job for job in jobs if job.status == "failed"]


def _order(job: Job) -> float:
    """What starts first: vanilla, then the longest by the rows of a triple that go through the model."""
    method = job.cell.spec.parsed_method()
    return -math.inf if method is None else -len(method.rows) - len(method.reference_rows)


def _reason(job: Job, log: Path) -> str:
    """Why a cell failed: the last line of its log, which cannot be the reason where nothing could be written."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.exists() else []
    last = lines[-1][:300] if lines else "no output"
    unwritable = "its files could not be read or written (a full disk?): "
    return (unwritable if job.exit_status == errors.UNWRITABLE else "") + last

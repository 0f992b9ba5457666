"""The matrix: the whole line for every model x method x seed, resumable, cells side by side, then the table."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from safeeraser import cell, store
from safeeraser.config import BenchConfig
from safeeraser.errors import UserError
from safeeraser.records import QuerySet, Score
from safeeraser.report import table

QUICK = ["vanilla", "po", "po+pd"]
CURVE_SETS: tuple[QuerySet, ...] = ("generality", "retain", "safe")
DEV_SETS: tuple[QuerySet, ...] = ("generality", "retain")
Method = str | dict[str, float]


@dataclass
class Job:
    """A cell to run, and how it fared."""

    folder: Path
    spec: cell.CellSpec
    label: str
    steps: int
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    seconds: float = 0.0
    status: str = "waiting"


def run(config: BenchConfig) -> int:
    """``safeeraser bench``: run what is missing, print the table, return 1 if a cell failed."""
    out = Path(config.out)
    jobs = plan(config)
    for job in jobs:
        cell.prepare(job.folder, job.spec)
    _record_run(out, config)
    _run_jobs(jobs, config.jobs or os.cpu_count() or 1)
    failed = [job for job in jobs if not cell.is_done(job.folder)]
    _report(config, out, [job for job in jobs if cell.is_done(job.folder)], failed)
    for job in failed:
        print(
            f"failed: {job.label}: {_last_line(job.folder / 'log.txt')} (log: {job.folder / 'log.txt'})",
            file=sys.stderr,
        )
    return 1 if failed else 0


def plan(config: BenchConfig) -> list[Job]:
    """List the cells of the matrix in order; vanilla has one, as nothing in it is seeded under greedy decoding.

    Raises:
        UserError: If a method, judge, model, a loading option or the data is unknown, before anything is run.
    """
    from safeeraser import data, judges, models, objectives

    methods = _methods(config)
    names = {}
    for method in methods:
        is_vanilla = method == cell.VANILLA
        name = cell.VANILLA if is_vanilla else objectives.parse_method(method, config.training.preset).name
        names[name] = method
    benchmark = data.load(config.data, config.limit)
    judges.create(config.judge, benchmark.refusals)
    models.check(config.loading)
    seeds = _integers(config.seeds, "seeds") or [config.training.seed]
    budgets: list[int | None] = [*_integers(config.budgets, "budgets")]
    if budgets:
        names.pop(cell.VANILLA, None)  # it has no budget
    sets: tuple[QuerySet, ...] = DEV_SETS if config.dev else CURVE_SETS if budgets else get_args(QuerySet)
    common: dict[str, Any] = dict(
        model=config.model,
        model_fingerprint=models.fingerprint(config.model),
        data=config.data,
        data_fingerprint=benchmark.fingerprint,
        limit=config.limit,
        questions=config.questions,
        dev=config.dev,
        judge=config.judge,
        sets=sets,
        generation=cell.options_dict(config.generation),
        loading=cell.options_dict(config.loading),
    )
    jobs = []
    for steps in budgets or [None]:
        training = cell.options_dict(config.training)
        if steps is not None:
            training["steps"] = steps
        for name, method in names.items():
            for seed in seeds[:1] if name == cell.VANILLA else seeds:
                root = Path(config.out) / (f"budgets/{steps}" if steps is not None else "")
                folder = root / "cells" / _slug(config.model) / name / f"seed-{seed}"
                spec = cell.CellSpec(method=method, seed=seed, training=training, **common)
                label = f"{name} seed {seed}" + (f" steps {steps}" if steps is not None else "")
                jobs.append(Job(folder, spec, label, training["steps"] or 0))
    return jobs


def _methods(config: BenchConfig) -> list[Method]:
    if config.quick:
        return list(QUICK)
    if isinstance(config.methods, str):
        return [name.strip() for name in config.methods.split(",") if name.strip()]
    return list(config.methods)


def _integers(value: str | int | list[int] | None, option: str) -> list[int]:
    try:
        items = value.split(",") if isinstance(value, str) else [value] if isinstance(value, int) else value or []
        return [int(item) for item in items]
    except ValueError:
        raise UserError(f"--{option} {value}: give whole numbers separated by commas, such as 0,1,2") from None


def _slug(model: str) -> str:
    return model.strip("/").replace("/", "--")


def _record_run(out: Path, config: BenchConfig) -> None:
    import yaml

    with store.atomic(out / "config.yaml") as file:
        yaml.safe_dump(asdict(config), file, sort_keys=False)
    store.write_json(out / "environment.json", store.environment())


def _run_jobs(jobs: Sequence[Job], parallel: int) -> None:
    """Run the jobs that are not done, ``parallel`` at a time; one that fails does not stop the others."""
    from safeeraser.report.live import LiveTable

    waiting = [job for job in jobs if not cell.is_done(job.folder)]
    for job in jobs:
        job.status = "waiting" if job in waiting else "done before"
    running: list[Job] = []
    with LiveTable(jobs) as live:
        try:
            while waiting or running:
                while waiting and len(running) < parallel:
                    running.append(_start(waiting.pop(0)))
                time.sleep(0.2)
                for job in list(running):
                    if job.process is not None and job.process.poll() is not None:
                        running.remove(job)
                        job.seconds = time.monotonic() - job.started
                        job.status = "done" if cell.is_done(job.folder) else "failed"
                live.update()
        finally:
            for job in running:
                if job.process is not None:
                    job.process.terminate()


def _start(job: Job) -> Job:
    one_thread = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    (job.folder / "progress.json").unlink(missing_ok=True)
    with open(job.folder / "log.txt", "ab") as log:
        job.process = subprocess.Popen(
            [sys.executable, "-m", "safeeraser.cell", str(job.folder)],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            env=os.environ | one_thread,
        )
    job.started = time.monotonic()
    job.status = "running"
    return job


def _report(config: BenchConfig, out: Path, done: Sequence[Job], failed: Sequence[Job]) -> None:
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 160)
    if config.budgets is not None or config.dev:
        _report_curves(out, done)
        with open(out / "report" / "budgets.md", encoding="utf-8") as file:
            console.print(file.read(), highlight=False, markup=False)
        console.print(f"curves: {out / 'report' / 'budgets.svg'}", highlight=False)
        return
    results = summarise(done, [job.label for job in failed])
    table.write(results, out / "report")
    console.print(table.console_table(results))
    for line in table.headline(results):
        console.print(line, highlight=False)
    console.print(f"written: {out / 'report' / 'table.md'}, {out / 'report' / 'table.csv'}", highlight=False)


def _by_method(jobs: Sequence[Job]) -> dict[str, list[Job]]:
    groups: dict[str, list[Job]] = {}
    for job in jobs:
        groups.setdefault(job.folder.parent.name, []).append(job)
    return groups


def pooled_scores(jobs: Sequence[Job]) -> dict[str, Score]:
    """Scores over all seeds of one method, overall (not per category)."""
    from safeeraser import metrics

    if len(jobs) == 1:
        scores = cell.load_scores(jobs[0].folder)
    else:
        scores = metrics.pooled([cell.load_judged(job.folder) for job in jobs])
    return {score.metric: score for score in scores if score.category == "all"}


def summarise(done: Sequence[Job], failed: Sequence[str] = ()) -> table.Results:
    """Pool the seeds of each method and pair each base method with its +PD variant."""
    groups = _by_method(done)
    rows = [
        table.Row(jobs[0].spec.model, name, tuple(job.spec.seed for job in jobs), pooled_scores(jobs))
        for name, jobs in groups.items()
    ]
    decreases, mean = _decreases(groups)
    return table.Results(rows, decreases, mean, failed)


def _decreases(groups: dict[str, list[Job]]) -> tuple[list[table.Decrease], table.Decrease | None]:
    """Relative SARR decrease by PD for each base method that ran with and without it, seeds pooled and paired."""
    from safeeraser import metrics
    from safeeraser.metrics import statistics

    def sarr(jobs: Sequence[Job]) -> list[tuple[str, float]]:
        return statistics.pool([metrics.samples("sarr", *cell.load_judged(job.folder)) for job in jobs])

    pairs = {}
    for name, jobs in groups.items():
        with_pd = {job.spec.seed: job for job in groups.get(f"{name}+pd", [])}
        both = [(job, with_pd[job.spec.seed]) for job in jobs if job.spec.seed in with_pd]
        if both:
            pairs[name] = (sarr([base for base, _ in both]), sarr([treated for _, treated in both]))
    listed = [_decrease(name, statistics.relative_decrease([pair])) for name, pair in pairs.items()]
    if not listed or any(decrease is None for decrease in listed):
        return [decrease for decrease in listed if decrease], None
    mean = _decrease("mean", statistics.relative_decrease(list(pairs.values())))
    return [decrease for decrease in listed if decrease], mean


def _decrease(base: str, estimate: Any) -> table.Decrease | None:
    return None if estimate.value is None else table.Decrease(base, *estimate)


def _report_curves(out: Path, done: Sequence[Job]) -> None:
    from safeeraser.report import figures

    curves: dict[str, dict[int, dict[str, Score]]] = {}
    for name, jobs in _by_method(done).items():
        for steps in sorted({job.steps for job in jobs}):
            points = curves.setdefault(name, {})
            points[steps] = pooled_scores([job for job in jobs if job.steps == steps])
    with store.atomic(out / "report" / "budgets.md") as file:
        file.write(figures.budget_table(curves))
    figures.budget_figure(curves, out / "report")


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1][:300] if lines else "no output"

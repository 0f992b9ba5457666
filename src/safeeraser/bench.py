"""The matrix: the whole line for every model x method x seed, resumable, cells side by side, then the table."""

from __future__ import annotations

import difflib
import math
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from safeeraser import cell, clock, collection, errors, launchers, locks, plugins, results, run_report, store, terminal
from safeeraser.config import BenchConfig, JudgeOptions
from safeeraser.errors import UserError
from safeeraser.records import QuerySet, Response, Score
from safeeraser.report import table

if TYPE_CHECKING:
    from safeeraser.data import Benchmark

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
    handle: launchers.Handle | None = None
    started: float = 0.0
    seconds: float = 0.0
    status: str = "waiting"
    returned: int | None = None


def run(config: BenchConfig) -> int:
    """``safeeraser bench``: run what is missing, print the table, return 1 if a cell failed.

    With ``--list-cells``, print the id of every cell and run nothing; with ``--cell ID``, run that cell and print no
    table.
    """
    out = Path(config.out)
    if config.list_cells:
        terminal.say("\n".join(_cell_id(job, out) for job in plan(config)))
        return 0
    times = clock.Clock(out)
    with closing(launchers.create(config)) as launcher:  # it may import what cells need while these are planned
        return _launch(config, plan(config), launcher, times)


def _launch(config: BenchConfig, jobs: list[Job], launcher: launchers.Launcher, times: clock.Clock) -> int:
    out = Path(config.out)
    if config.cell is not None:
        jobs = [_find(config.cell, jobs, out)]
    parallel = config.jobs or launcher.parallel or len(jobs)
    judging = _judging(config, jobs, parallel)  # what would cost too much is not begun
    out.mkdir(parents=True, exist_ok=True)
    busy = f"{out}: another 'safeeraser bench' is at work in this folder: wait until it ends, or choose another --out"
    with locks.hold(out, shared=config.cell is not None, busy=busy) as held:  # many processes of a job array are one
        for job in jobs:
            cell.prepare(job.folder, job.spec, judging)
        return _run(config, jobs, launcher, parallel, held, times)


def _run(
    config: BenchConfig,
    jobs: list[Job],
    launcher: launchers.Launcher,
    parallel: int,
    held: locks.Hold,
    times: clock.Clock,
) -> int:
    out = Path(config.out)
    if config.cell is None:  # the cells of a job array are many, and the run is recorded once
        for folder in (out, out / "report", out / "report" / "figures"):
            store.sweep(folder)
        _record_run(out, config)
        times.lap("planning")
    _run_jobs(jobs, launcher, parallel, held)
    failed = [job for job in jobs if not cell.is_done(job.folder)]
    for job in failed:
        terminal.say(f"failed: {job.label}: {_reason(job)} (log: {job.folder / 'log.txt'})", file=sys.stderr)
    if config.cell is None and len(failed) < len(jobs):
        if launcher.imports is not None:
            times.note(launcher.imports)
        times.lap("waiting for cells")
        _report(config, out, [job for job in jobs if cell.is_done(job.folder)], failed)
        times.lap("report")
    return 1 if failed else 0


def plan(config: BenchConfig) -> list[Job]:
    """List the cells of the matrix in order; vanilla has one, as nothing in it is seeded under greedy decoding.

    Raises:
        UserError: If a method, judge, model, a loading option or the data is unknown, or the data lack what a method
            reads, before anything is run.
    """
    with collection.paused(for_good=True):
        from safeeraser import data, judges, models, objectives
        from safeeraser.unlearn_batch import training_triples

    names: dict[str, Method] = {}
    trained: list[objectives.Method] = []
    for given in _methods(config):
        if given == cell.VANILLA:
            names[cell.VANILLA] = given
        else:
            trained.append(objectives.parse_method(given, config.training.preset))
            names[trained[-1].name] = given
    needs_pd = config.on_bad == "skip" and any("decouple" in method.rows for method in trained)
    whole = data.load(config.data, on_bad=config.on_bad)
    benchmark = data.with_pd(whole) if needs_pd else whole
    benchmark = benchmark if config.limit is None else benchmark.limited(config.limit)
    learnt = data.dev_benchmark(benchmark) if config.dev else benchmark
    for reader in {reader.rows: reader for reader in trained}.values():
        training_triples(learnt, reader)
    judge = judges.create(config.judge, benchmark.refusals, config.judging)
    models.check(config.loading)
    seeds = _integers(config.seeds, "seeds") or [config.training.seed]
    budgets: list[int | None] = [*_integers(config.budgets, "budgets")]
    if budgets:
        names.pop(cell.VANILLA, None)  # it has no budget
    sets: tuple[QuerySet, ...] = DEV_SETS if config.dev else CURVE_SETS if budgets else get_args(QuerySet)
    if "safe" in sets:
        data.warn_of_missing_pd(benchmark)
    common: dict[str, Any] = dict(
        model=config.model,
        model_fingerprint=models.fingerprint(config.model),
        data=config.data,
        data_fingerprint=benchmark.fingerprint,
        on_bad=config.on_bad,
        needs_pd=needs_pd,
        limit=config.limit,
        questions=1 if config.quick and config.questions is None else config.questions,
        dev=config.dev,
        judge=config.judge,
        **_held_out(config, whole),
        judging={"id": judge.id} if isinstance(judge, judges.BatchJudge) else {},
        sets=sets,
        generation=cell.options_dict(config.generation),
        loading=cell.options_dict(config.loading),
        plugins=plugins.loaded(),
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


def _held_out(config: BenchConfig, whole: Benchmark) -> dict[str, str | None]:
    """The held-out file with its hash, for the spec; without one, say so where val records stand in train."""
    from safeeraser import data

    if config.held_out is None:
        data.warn_of_copies(whole)
        return {}
    if config.dev:
        raise UserError("--held-out is about val, and --dev never looks at val: leave one of them out")
    data.read_held_out(Path(config.held_out), whole)
    return {"held_out": config.held_out, "held_out_hash": store.hash_files([Path(config.held_out)])}


def _waiting(jobs: Sequence[Job]) -> list[Job]:
    """What there is to run: cells without scores, and those with answers that the judge failed at."""
    return [job for job in jobs if not cell.is_done(job.folder) or cell.has_failures(job.folder)]


def _judging(config: BenchConfig, jobs: Sequence[Job], parallel: int) -> JudgeOptions | None:
    """Each cell's share of what the judge may be asked, for judges that are models; says first what to expect.

    The answers are not there yet: the references stand for them.
    """
    from safeeraser import judges

    waiting = _waiting(jobs)
    if not waiting or not waiting[0].spec.judging:
        return None
    options = config.judging
    side_by_side = min(parallel, len(waiting))
    share = replace(
        options,
        concurrency=max(1, options.concurrency // side_by_side),
        requests_per_minute=options.requests_per_minute and options.requests_per_minute / side_by_side,
        max_cost=options.max_cost and options.max_cost / len(waiting),
    )
    benchmark = cell.benchmark_of(waiting[0].spec)
    asked = cell.queries_of(waiting[0].spec, benchmark)
    stand_ins = [Response(query_id=query.id, answer=query.reference, finished=True) for query in asked]
    judge = judges.create(config.judge, benchmark.refusals, share)
    if isinstance(judge, judges.BatchJudge):
        said = judge.expect(judges.tasks_for(asked, stand_ins))
        terminal.say(f"judge, for each of {len(waiting)} cells, if answers are as long as the references: {said}")
    return share


def _cell_id(job: Job, out: Path) -> str:
    return job.folder.relative_to(out).as_posix()


def _find(wanted: str, jobs: Sequence[Job], out: Path) -> Job:
    by_id = {_cell_id(job, out): job for job in jobs}
    if wanted not in by_id:
        near = difflib.get_close_matches(wanted, by_id, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UserError(f"--cell {wanted!r} is not in this matrix: {hint}'--list-cells' prints its {len(by_id)} cells")
    return by_id[wanted]


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
        own = {"plugins": list(plugins.loaded())} if plugins.loaded() else {}
        yaml.safe_dump(asdict(config) | own, file, sort_keys=False)
    store.write_json(out / "environment.json", store.environment())


def _run_jobs(jobs: Sequence[Job], launcher: launchers.Launcher, parallel: int, held: locks.Hold) -> None:
    """Run the jobs that are not done, ``parallel`` at a time; one that fails does not stop the others.

    Raises:
        UserError: If the run folder was removed.
    """
    from safeeraser.report.live import LiveTable

    waiting = sorted(_waiting(jobs), key=_order)
    for job in jobs:
        job.status = "waiting" if job in waiting else "done before"
    running: list[Job] = []
    with LiveTable(jobs) as live:
        try:
            while waiting or running:
                held.check()
                while waiting and len(running) < parallel:
                    running.append(_start(waiting.pop(0), launcher))
                if len(running) < parallel:  # nothing waits: a core is free to import what comes next
                    run_report.import_all()
                time.sleep(0.2)
                for job in list(running):
                    job.returned = job.handle.poll() if job.handle is not None else None
                    if job.returned is not None:
                        running.remove(job)
                        job.seconds = time.monotonic() - job.started
                        job.status = "done" if cell.is_done(job.folder) else "failed"
                live.update()
        finally:
            for job in running:
                if job.handle is not None:
                    job.handle.terminate()


def _order(job: Job) -> float:
    """What starts first: vanilla, with which all are compared, then the longest, so that none is left alone at the end.

    A cell is as long as the rows of a triple that training runs through the model; seeds and budgets keep their order.
    """
    if job.spec.method == cell.VANILLA:
        return -math.inf
    from safeeraser import objectives

    method = objectives.parse_method(job.spec.method)
    return -len(method.rows) - len(method.reference_rows)


def _start(job: Job, launcher: launchers.Launcher) -> Job:
    (job.folder / "progress.json").unlink(missing_ok=True)
    job.handle = launcher.start(job.folder)
    job.started = time.monotonic()
    job.status = "running"
    return job


def _report(config: BenchConfig, out: Path, done: Sequence[Job], failed: Sequence[Job]) -> None:
    console = terminal.console(160)
    if config.budgets is not None or config.dev:
        _report_curves(out, done)
        with open(out / "report" / "budgets.md", encoding="utf-8") as file:
            console.print(file.read(), highlight=False, markup=False)
        console.print(f"curves: {out / 'report' / 'budgets.svg'}", highlight=False)
        return
    found = run_report.write(out, done, [job.label for job in failed])
    console.print(table.console_table(found))
    for line in table.headline(found):
        console.print(line, highlight=False)
    report = out / "report"
    console.print(f"written: {report}: index.html, table.md, table.csv, table.tex, figures/", highlight=False)
    console.print(f"next: safeeraser view {out}", highlight=False)


def _report_curves(out: Path, done: Sequence[Job]) -> None:
    from safeeraser.report import figures

    curves: dict[str, dict[int, dict[str, Score]]] = {}
    for name in dict.fromkeys(job.folder.parent.name for job in done):
        jobs = [job for job in done if job.folder.parent.name == name]
        for steps in sorted({job.steps for job in jobs}):
            points = curves.setdefault(name, {})
            points[steps] = results.pooled_scores([job for job in jobs if job.steps == steps])
    with store.atomic(out / "report" / "budgets.md") as file:
        file.write(figures.budget_table(curves))
    figures.budget_figure(curves, out / "report")


def _reason(job: Job) -> str:
    """Why a cell failed: the last line of its log, which cannot be the reason where nothing could be written."""
    log = job.folder / "log.txt"
    if job.returned == errors.UNWRITABLE:
        return f"its files could not be read or written (a full disk?): {_last_line(log)}"
    return _last_line(log)


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1][:300] if lines else "no output"

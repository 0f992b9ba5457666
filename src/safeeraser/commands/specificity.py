"""Subcommand specificity: public benchmarks, run by lmms-eval."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from safeeraser import config, terminal
from safeeraser.errors import UserError

if TYPE_CHECKING:
    from rich.table import Table

    from safeeraser.results import Finished
    from safeeraser.suites import Task


def specificity(options: config.SpecificityConfig) -> int:
    """``safeeraser specificity``: 1 if a task failed; the others have their results."""
    from safeeraser import results, specificity, suites
    from safeeraser.models.loading import quiet
    from safeeraser.progress import bar

    include_path = _check(options)
    tasks = suites.chosen(options.suite, options.tasks)
    found = results.find(Path(options.run))
    interpreter = specificity.find_interpreter(options.python)
    plans = [
        specificity.planned(
            one.folder,
            tasks,
            interpreter,
            options.model_type,
            limit=options.limit,
            include_path=include_path,
            device=options.device,
            batch_size=options.batch_size,
        )
        for one in found
    ]
    failed = []
    with quiet():
        for plan in plans:
            terminal.say(
                f"{plan.folder}: lmms-eval {interpreter.version}, model type {plan.model_type}", file=sys.stderr
            )
            failed += [(plan.folder, failure) for failure in specificity.run(plan, lambda title: bar(title, None))]
    terminal.console(160).print(_table(found, tasks))
    for folder, failure in failed:
        terminal.say(f"failed: {failure.task} on {folder}: {failure.reason}", file=sys.stderr)
    if failed:
        terminal.say("the same command runs these again, and no other", file=sys.stderr)
        return 1
    terminal.say(
        f"next: safeeraser report {options.run}" if (Path(options.run) / "cells").is_dir() else "in scores.json as well"
    )
    return 0


def _check(options: config.SpecificityConfig) -> Path | None:
    for name in ("limit", "batch_size"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UserError(f"--{name} {value} is too small: give at least 1")
    if options.include_path is None:
        return None
    path = Path(options.include_path)
    if not any(path.rglob("*.yaml")):
        raise UserError(f"--include_path {path}: no such folder, or no task (*.yaml) in it")
    return path


def _table(found: Sequence[Finished], tasks: Sequence[Task]) -> Table:
    """What lmms-eval gave for each task, and the means where all their tasks are whole."""
    from rich.table import Table

    from safeeraser import suites
    from safeeraser.report.table import interval, percent

    table = Table("cell", "task", "metric", "value", "95 %", "n", "", title="in percent", title_justify="left")
    for one in found:
        results = suites.read(one.folder)
        scores = {score.metric: score for score in suites.scores([results])}
        label = "/".join(one.folder.parts[-2:])
        for task in tasks:
            result, score = results.get(task.name), scores.get(suites.PREFIX + task.name)
            if result is None:
                table.add_row(label, task.title, "–", "–", "", "", "failed")
            else:
                note = f"partial: {result.n} of {result.total}, not to be compared" if result.partial else ""
                bounds = interval(score) if score else ""
                table.add_row(label, task.title, result.metric, percent(result.value), bounds, str(result.n), note)
        for metric, score in scores.items():
            if metric in (suites.PAPER_MEAN, suites.OTHER_MEAN):
                name = suites.heading(metric).removesuffix(" ↑")
                table.add_row(label, name, "mean over tasks", percent(score.value), interval(score), str(score.n), "")
    return table

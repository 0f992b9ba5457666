"""Subcommand specificity: public benchmarks, run by lmms-eval."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safeeraser.cli.parser import Positional
from safeeraser.config import FilePath, at_least_one
from safeeraser.core import terminal
from safeeraser.core.errors import UserError

if TYPE_CHECKING:
    from rich.table import Table

    from safeeraser.bench.runs import Cell
    from safeeraser.metrics.specificity import Task


@dataclass
class SpecificityConfig:
    """Run public benchmarks on finished cells through lmms-eval: Specificity as in the paper, GQA to MMBench.

    Example:
        safeeraser specificity runs/bench/cells/llava/po+pd/seed-0 --python lmms-env/bin/python
        safeeraser specificity runs/bench --tasks pope,mine:exact_match --include_path tasks
    """

    run: Positional[FilePath[str]]
    """Cell folder of a run: cells/MODEL/METHOD/seed-S; or the run folder, or one between: then all cells in it."""
    suite: str = "paper"
    """Set of tasks: 'paper' (GQA, VizWiz, ScienceQA, VQAv2, POPE, MM-Vet, MMBench)."""
    tasks: str | None = None
    """Tasks of lmms-eval instead of a suite, comma-separated; TASK:METRIC chooses one of several metrics."""
    include_path: FilePath[str | None] = None
    """Folder with the YAML files of tasks of your own."""
    limit: int | None = None
    """Ask only the first so many questions of each task: the result is marked as partial and enters no table."""
    python: FilePath[str | None] = None
    """Python that has lmms-eval; None: $SAFEERASER_LMMS_PYTHON, or else the one that runs this."""
    model_type: str | None = None
    """lmms-eval's model type, such as 'llava_hf', or 'safeeraser' for any checkpoint; None: what fits the model."""
    device: str = "auto"
    """Device of the model: 'cuda', 'cuda:1', 'cpu'; 'auto': a GPU if there is one."""
    batch_size: int = 1
    """Questions answered at a time; 'llava_hf' takes 1 only."""


def specificity(options: SpecificityConfig) -> int:
    """``safeeraser specificity``: 1 if a task failed; the others have their results."""
    from safeeraser.bench import runs
    from safeeraser.integrations import lmms_eval
    from safeeraser.metrics import specificity

    include_path = _check(options)
    tasks = specificity.chosen(options.suite, options.tasks)
    found = runs.find(Path(options.run))
    interpreter = lmms_eval.find_interpreter(options.python)
    given = {name: getattr(options, name) for name in ("model_type", "limit", "device", "batch_size")}
    targets = [lmms_eval.prepare(one, tasks, interpreter, include_path=include_path, **given) for one in found]
    failed = []
    for target in targets:
        folder = target.cell.folder
        terminal.say(f"{folder}: lmms-eval {interpreter.version}, model type {target.model_type}", file=sys.stderr)
        failed += [(folder, one) for one in lmms_eval.run(target, lambda title: terminal.bar(title, None))]
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


def _check(options: SpecificityConfig) -> Path | None:
    at_least_one(options, "limit", "batch_size")
    if options.include_path is None:
        return None
    path = Path(options.include_path)
    if not any(path.rglob("*.yaml")):
        raise UserError(f"--include_path {path}: no such folder, or no task (*.yaml) in it")
    return path


def _table(found: Sequence[Cell], tasks: Sequence[Task]) -> Table:
    """What lmms-eval gave for each task, and the means where all their tasks are whole."""
    from rich.table import Table

    from safeeraser.core.table import percent
    from safeeraser.metrics import specificity
    from safeeraser.report.table import as_percent

    table = Table("cell", "task", "metric", "value", "95 %", "n", "", title="in percent", title_justify="left")
    for one in found:
        results = specificity.read(one.folder)
        scores = {score.metric: score for score in specificity.scores([results])}
        label = "/".join(one.folder.parts[-2:])
        for task in tasks:
            result, score = results.get(task.name), scores.get(specificity.PREFIX + task.name)
            if result is None:
                table.add_row(label, task.title, "–", "–", "", "", "failed")
            else:
                note = f"partial: {result.n} of {result.total}, not to be compared" if result.partial else ""
                bounds = as_percent(score).interval
                table.add_row(label, task.title, result.metric, percent(result.value), bounds, str(result.n), note)
        for metric in (specificity.PAPER_MEAN, specificity.OTHER_MEAN):
            if metric in scores:
                name, mean = specificity.heading(metric).removesuffix(" ↑"), as_percent(scores[metric])
                table.add_row(label, name, "mean over tasks", mean.text, mean.interval, str(mean.n), "")
    return table

"""Subcommand ``safeeraser bench``: the matrix, then its report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from safeeraser.config import BenchConfig
from safeeraser.core import terminal

if TYPE_CHECKING:
    from safeeraser.bench.runs import Cell
    from safeeraser.records import Score


def bench(options: BenchConfig) -> int:
    """``safeeraser bench``: run what is missing, write the report, print the table; 1 if a cell failed."""
    from safeeraser.bench import run

    return run(options, report)


def report(options: BenchConfig, done: Sequence[Cell], failed: Sequence[str]) -> None:
    """Write the report of the cells that are done and print its table; curves instead for budgets and ``--dev``."""
    from safeeraser.bench import sequence
    from safeeraser.core import table as core_table
    from safeeraser.report import run, side_tables, table

    out = Path(options.out)
    console = terminal.console(160)
    if options.budgets is not None or options.dev:
        _report_curves(out, done)
        console.print((out / "report" / "budgets.md").read_text(encoding="utf-8"), highlight=False, markup=False)
        console.print(f"curves: {out / 'report' / 'budgets.svg'}", highlight=False)
        return
    results = run.write(out, done, failed)
    core_table.show(console, table.console_table(results), table.FIRST, "report/table.md has them")
    if options.sequence is not None:
        rows = side_tables.sequence_table(sequence.summarise(done))
        core_table.show(console, rows, side_tables.SEQUENCE_FIRST, "report/sequence.md has them")
    for line in table.headline(results):
        console.print(line, highlight=False)
    folder = out / "report"
    console.print(f"written: {folder}: index.html, table.md, .csv, .tex, .json, figures/", highlight=False)
    console.print(f"next: safeeraser view {out}", highlight=False)


def _report_curves(out: Path, done: Sequence[Cell]) -> None:
    from safeeraser.bench import runs, summary
    from safeeraser.core import files
    from safeeraser.report import figures

    curves: dict[str, dict[int, dict[str, Score]]] = {}
    for (_, name), cells in runs.by_group(done).items():
        taken: dict[int, list[Cell]] = {}
        for cell in cells:  # an untrained one has none; a number of epochs is one of steps only when they are done
            said = cell.spec.training["steps"] or max((line["step"] for line in runs.train_log(cell.folder)), default=0)
            taken.setdefault(said if cell.spec.is_trained else 0, []).append(cell)
        curves[name] = {steps: summary.pooled_scores(taken[steps]) for steps in sorted(taken)}
    with files.atomic(out / "report" / "budgets.md") as file:
        file.write(figures.budget_table(curves))
    figures.budget_figure(curves, out / "report")

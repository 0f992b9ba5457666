"""The tables of what public safety sets gave: for the terminal, as Markdown and as CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from safeeraser.bench import runs
from safeeraser.core import table
from safeeraser.core.table import Cell, Column, Table
from safeeraser.metrics import public
from safeeraser.metrics.public import HEADINGS, PublicResult
from safeeraser.report.table import as_percent, metric_columns

FIRST = ("set", "ASR ↓", "SARR ↓", "over-refusal ↓")
"""Columns in the order in which a narrow terminal keeps them."""


class SafetyRow(NamedTuple):
    """A cell or model, and what a set gave."""

    label: str
    result: PublicResult


def rows_of(done: Sequence[runs.Cell]) -> list[SafetyRow]:
    """What the cells of a run were asked, a line per cell and set."""
    return [SafetyRow(cell.label, result) for cell in done for _, result in sorted(public.read(cell.folder).items())]


def as_table(rows: Sequence[SafetyRow]) -> Table:
    """The table."""
    asked = [
        [f"{row.result.n:,}" + (f" of {row.result.total:,}, partial" if row.result.partial else "")] for row in rows
    ]
    return _table(rows, ["questions"], asked)


def _table(rows: Sequence[SafetyRow], names: Sequence[str], asked: Sequence[Sequence[Cell]]) -> Table:
    """The table; ``names`` and ``asked`` are the columns that say how many questions were asked."""
    lines: list[list[Cell]] = []
    for row, counts in zip(rows, asked, strict=True):
        overall = row.result.overall
        # safe completion is of the same judgements as SARR
        unscored = sum(score.n_unscored for name, score in overall.items() if name != "safe_completion")
        numbers = [as_percent(overall.get(measure)) for measure in HEADINGS]
        lines.append([row.label, row.result.set, *counts, *numbers, str(unscored), row.result.judge])
    header = [Column("asked"), Column("set"), *map(Column, names), *metric_columns(HEADINGS)]
    title = "in percent; partial: not to be compared"
    return Table([*header, Column("unscored"), Column("judge")], lines, title)


def markdown(rows: Sequence[SafetyRow]) -> str:
    """The table as Markdown, with the scores by category under it."""
    lines = ["Public safety sets, in percent, with 95 % intervals over questions.", "", table.markdown(as_table(rows))]
    lines += ["", "Unscored judgements are kept apart, and never counted as safe or as normal.", ""]
    for row in rows:
        by: dict[str, list[Cell]] = {}
        for category in dict.fromkeys(score.category for score in row.result.scores if score.category != "all"):
            of = {score.metric: score for score in row.result.scores if score.category == category}
            by[category] = [category, *[as_percent(of.get(measure)) for measure in HEADINGS]]
        if len(by) > 1:
            header = [Column("category"), *metric_columns(HEADINGS)]
            lines += [f"{row.label}, {row.result.set}:", "", table.markdown(Table(header, list(by.values()))), ""]
    return "\n".join(lines)


def as_csv(rows: Sequence[SafetyRow]) -> str:
    """The table as CSV, in percent: questions asked and in all, each measure with _low, _high and _n."""
    asked = [[str(row.result.n), str(row.result.total)] for row in rows]
    return table.as_csv(_table(rows, ["questions", "total"], asked), extra=["n"])


def write(rows: Sequence[SafetyRow], folder: Path) -> None:
    """Write ``safety.md`` and ``safety.csv`` into ``folder``, each whole or not at all."""
    table.write(folder, {"safety.md": markdown(rows), "safety.csv": as_csv(rows)})

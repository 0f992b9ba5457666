"""The table of a sequence of requests: what is left of each, and of utility, after each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from safeeraser.bench.sequence import SequenceRow
from safeeraser.core import table
from safeeraser.core.table import Cell, Column, Table
from safeeraser.report.table import as_percent

NOTE = (
    "In percent, with 95 % intervals. *After*: requests unlearnt so far, one after another, each on the adapters of\n"
    "those before it; 0 is the vanilla model. *ASR n*: on the forget questions of the train records of request n.\n"
    "What an earlier request loses is the rise down its column."
)
FIRST = ("SARR ↓", "Spec. ↑")
"""Columns in the order in which a narrow terminal keeps them."""


def made(rows: Sequence[SequenceRow]) -> Table:
    """A line for each method and request.

    Example:
        >>> made([]).rows
        []
    """
    number = max((len(row.requests) for row in rows), default=0)
    columns = [Column("method"), Column("after")]
    columns += [Column(f"ASR {one} ↓", f"asr_request_{one}", True) for one in range(1, number + 1)]
    columns += [Column("SARR ↓", "sarr", True), Column("Spec. ↑", "specificity", True)]
    several = len({row.model for row in rows}) > 1
    lines: list[list[Cell]] = []
    for row in rows:
        numbers = [as_percent(score) for score in (*row.requests, row.sarr, row.specificity)]
        lines.append([f"{row.model} {row.method}" if several else row.method, str(row.after), *numbers])
    return Table(columns, lines)


def write(rows: Sequence[SequenceRow], folder: Path) -> None:
    """Write ``sequence.md`` and ``sequence.csv`` into ``folder``, each whole or not at all."""
    found = made(rows)
    table.write(folder, {"sequence.md": f"{table.markdown(found)}\n\n{NOTE}\n", "sequence.csv": table.as_csv(found)})

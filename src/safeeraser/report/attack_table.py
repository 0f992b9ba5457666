"""The table of what attacks do: a line per attack, a column per method; as Markdown, CSV and for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from safeeraser.attacks.summary import AttackRow
from safeeraser.core import table
from safeeraser.core.table import Cell, Column, Percent, Table
from safeeraser.report.table import as_percent, metric_columns, name_of

COLUMNS = {"asr_generality": "ASR ↓", "rr_generality": "RR ↑", "sarr": "SARR ↓"}
"""Metrics under attack and their headings."""


def attacks_of(rows: Sequence[AttackRow]) -> list[str]:
    """Every attack that some row has, in the order of the row that has most.

    Example:
        >>> attacks_of([AttackRow("m", "po", (0,), {"none": {}, "crop": {}}), AttackRow("m", "ga", (0,), {"none": {}})])
        ['none', 'crop']
    """
    most_first = sorted(rows, key=lambda row: -len(row.scores))
    return list(dict.fromkeys(name for row in most_first for name in row.scores))


def console_table(rows: Sequence[AttackRow]) -> Table:
    """The table for the terminal: ASR and SARR of each method."""
    header = [Column("ASR / SARR in percent"), *[Column(name_of(row, rows), right=True) for row in rows]]
    shown: list[list[Cell]] = [
        [attack, *[" / ".join(_score(row, attack, name).text for name in ("asr_generality", "sarr")) for row in rows]]
        for attack in attacks_of(rows)
    ]
    return Table(header, shown)


def markdown(rows: Sequence[AttackRow]) -> str:
    """The table as Markdown, one for each metric, each cell ``value [low, high]``."""
    where = {"asr_generality": "forget questions", "rr_generality": "forget questions", "sarr": "safe images"}
    header = [Column("attack"), *[Column(name_of(row, rows)) for row in rows]]
    lines: list[str] = []
    for metric, heading in COLUMNS.items():
        cells: list[list[Cell]] = [
            [attack, *[_score(row, attack, metric) for row in rows]] for attack in attacks_of(rows)
        ]
        lines += [f"{heading} under attack, on {where[metric]} of val records.", ""]
        lines += [table.markdown(Table(header, cells)), ""]
    unscored = sum(score.n_unscored for row in rows for scores in row.scores.values() for score in scores.values())
    lines += ["In percent, with 95 % intervals over questions; `none` is the same questions without attack.", ""]
    return "\n".join([*lines, f"Unscored judgements (kept apart, never counted as safe): {unscored}."]) + "\n"


def as_csv(rows: Sequence[AttackRow]) -> str:
    """The table as CSV, in percent: a line per model, method and attack, each metric with _low, _high and _n."""
    header = [*map(Column, ("model", "method", "seeds", "attack")), *metric_columns(COLUMNS)]
    cells: list[list[Cell]] = [
        [row.model, row.method, " ".join(map(str, row.seeds)), attack, *[_score(row, attack, name) for name in COLUMNS]]
        for row in rows
        for attack in row.scores
    ]
    return table.as_csv(Table(header, cells), extra=["n"])


def write(rows: Sequence[AttackRow], folder: Path) -> None:
    """Write ``attacks.md`` and ``attacks.csv`` into ``folder``, each whole or not at all."""
    table.write(folder, {"attacks.md": markdown(rows), "attacks.csv": as_csv(rows)})


def _score(row: AttackRow, attack: str, metric: str) -> Percent:
    return as_percent(row.scores.get(attack, {}).get(metric))

"""The table of what attacks do: a line per attack, a column per method; as Markdown, CSV and for the terminal."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safeeraser import store
from safeeraser.records import Score
from safeeraser.report.table import percent

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["AttackRow", "COLUMNS", "as_csv", "attacks_of", "console_table", "markdown", "title", "write"]

COLUMNS = {"asr_generality": "ASR ↓", "rr_generality": "RR ↑", "sarr": "SARR ↓"}
"""Metrics under attack and their headings."""


@dataclass(frozen=True)
class AttackRow:
    """A model and method under attack, pooled over seeds; ``scores`` by attack, then metric."""

    model: str
    method: str
    seeds: tuple[int, ...]
    scores: Mapping[str, Mapping[str, Score]]


def attacks_of(rows: Sequence[AttackRow]) -> list[str]:
    """Every attack that some row has, in the order of the row that has most.

    Example:
        >>> attacks_of([AttackRow("m", "po", (0,), {"none": {}, "crop": {}}), AttackRow("m", "ga", (0,), {"none": {}})])
        ['none', 'crop']
    """
    most_first = sorted(rows, key=lambda row: -len(row.scores))
    return list(dict.fromkeys(name for row in most_first for name in row.scores))


def title(row: AttackRow, rows: Sequence[AttackRow]) -> str:
    """The method, with its model where there are several.

    Example:
        >>> title(AttackRow("m", "po", (0,), {}), [])
        'po'
    """
    return row.method if len({other.model for other in rows}) <= 1 else f"{row.model} {row.method}"


def console_table(rows: Sequence[AttackRow]) -> Table:
    """The table for the terminal: ASR and SARR of each method."""
    from rich.table import Table

    table = Table()
    table.add_column("ASR / SARR in percent")
    for row in rows:
        table.add_column(title(row, rows), justify="right")
    for attack in attacks_of(rows):
        cells = [[percent(_value(row, attack, metric)) for metric in ("asr_generality", "sarr")] for row in rows]
        table.add_row(attack, *[" / ".join(cell) for cell in cells])
    return table


def markdown(rows: Sequence[AttackRow]) -> str:
    """The table as Markdown, one for each metric, each cell ``value [low, high]``.

    Example:
        >>> markdown([]).splitlines()[0]
        'ASR ↓ under attack, on forget questions of val records.'
    """
    where = {"asr_generality": "forget questions", "rr_generality": "forget questions", "sarr": "safe images"}
    lines: list[str] = []
    for metric, heading in COLUMNS.items():
        lines += [f"{heading} under attack, on {where[metric]} of val records.", ""]
        lines += ["| attack | " + " | ".join(title(row, rows) for row in rows) + " |", "|---|" + "---|" * len(rows)]
        for attack in attacks_of(rows):
            cells = [_cell(row.scores.get(attack, {}).get(metric)) for row in rows]
            lines.append(f"| {attack} | " + " | ".join(cells) + " |")
        lines.append("")
    unscored = sum(score.n_unscored for row in rows for scores in row.scores.values() for score in scores.values())
    lines += ["In percent, with 95 % intervals over questions; `none` is the same questions without attack.", ""]
    return "\n".join([*lines, f"Unscored judgements (kept apart, never counted as safe): {unscored}."]) + "\n"


def as_csv(rows: Sequence[AttackRow]) -> str:
    """The table as CSV, in percent: a line per model, method and attack, each metric with _low, _high and _n.

    Example:
        >>> as_csv([]).startswith("model,method,seeds,attack,asr_generality,asr_generality_low")
        True
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = [name + suffix for name in COLUMNS for suffix in ("", "_low", "_high", "_n")]
    writer.writerow(["model", "method", "seeds", "attack", *names])
    for row in rows:
        for attack, scores in row.scores.items():
            cells = [cell for name in COLUMNS for cell in _numbers(scores.get(name))]
            writer.writerow([row.model, row.method, " ".join(map(str, row.seeds)), attack, *cells])
    return out.getvalue()


def write(rows: Sequence[AttackRow], folder: Path) -> None:
    """Write ``attacks.md`` and ``attacks.csv`` into ``folder``, each whole or not at all."""
    for name, text in {"attacks.md": markdown(rows), "attacks.csv": as_csv(rows)}.items():
        with store.atomic(folder / name) as file:
            file.write(text)


def _cell(score: Score | None) -> str:
    if score is None or score.value is None:
        return "–"
    return f"{percent(score.value)} [{percent(score.low)}, {percent(score.high)}]"


def _numbers(score: Score | None) -> list[str]:
    if score is None:
        return ["", "", "", ""]
    return [*("" if v is None else f"{100 * v:.4f}" for v in (score.value, score.low, score.high)), str(score.n)]


def _value(row: AttackRow, attack: str, metric: str) -> float | None:
    score = row.scores.get(attack, {}).get(metric)
    return score.value if score else None

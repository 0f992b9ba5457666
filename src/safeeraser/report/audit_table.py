"""Table and figure of the audit: what comes back of what was unlearnt, and under what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from safeeraser.attacks import audit
from safeeraser.attacks.audit import AuditRow
from safeeraser.bench import runs
from safeeraser.bench.summary import Row
from safeeraser.core import table
from safeeraser.core.table import Cell, Column, Percent, Table
from safeeraser.report.table import as_percent

NOTE = (
    "ASR in percent. *Relearning area*: area under ASR over log2(1 + steps), at 0, 1, 2, 5, 10, 20 steps on 8 unsafe\n"
    "answers of train records, as a share of its greatest, with a 95 % interval over records: 0 nothing comes back,\n"
    "100 all comes back at once. *Nats*: mean log-probability per token of the benchmark's unsafe answers, and of\n"
    "its refusals, after val's forget questions. Forgotten is what is unlikely, masked what a refusal stands before."
)


def made(rows: Sequence[AuditRow]) -> Table:
    """A line for each method.

    Example:
        >>> made([]).rows
        []
    """
    header = [
        Column("method"),
        Column("ASR", right=True),
        Column("relearning area", right=True),
        *map(Column, ("most that comes back", "unsafe, nats", "refusal, nats")),
    ]
    lines: list[list[Cell]] = []
    for row in rows:
        worst = "–" if row.worst is None else f"{table.percent(row.worst[1])} ({row.worst[0]})"
        n = len(row.likelihood)
        nats = [f"{sum(getattr(one, name) for one in row.likelihood) / n:.2f}" for name in ("unsafe", "refusal")]
        lines.append([row.method, Percent(row.asr), as_percent(row.area), worst, *nats])
    return Table(header, lines)


def with_areas(rows: Sequence[Row], done: Sequence[runs.Cell]) -> list[Row]:
    """The rows of a table with the relearning area among their scores, where cells were audited.

    Args:
        rows: One for each model and method of ``done``, in its order.
        done: Finished cells.

    Example:
        >>> with_areas([], [])
        []
    """
    found = []
    for row, cells in zip(rows, runs.by_group(done).values(), strict=True):
        areas = [audited.area for audited in audit.summarise(cells) if audited.area.value is not None]
        found.append(replace(row, scores={**row.scores, **{area.metric: area for area in areas}}))
    return found


def write(rows: Sequence[AuditRow], folder: Path) -> None:
    """Write ``audit.md`` and ``audit.csv`` into ``folder``, each whole or not at all."""
    found = made(rows)
    table.write(folder, {"audit.md": f"{table.markdown(found)}\n\n{NOTE}\n", "audit.csv": table.as_csv(found)})

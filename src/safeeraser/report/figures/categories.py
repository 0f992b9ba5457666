"""Which categories of harm are forgotten, and over-forgotten, by which method."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from safeeraser.report.figures import style
from safeeraser.report.figures.heat import heat_map
from safeeraser.report.table import Row

PANELS = {"asr_generality": "ASR, %: harmful answers left", "sarr": "SARR, %: harmless images refused"}
ALL = "all"


def categories_figure(rows: Sequence[Row], folder: Path) -> list[Path]:
    """Draw ASR and SARR as a heat map of method by category, each cell with its number; darker is worse.

    Returns:
        The files written; none where no row has scores by category.
    """
    shown = [row for row in rows if row.categories]
    categories = sorted({category for row in shown for category in row.categories})
    panels = [name for name in PANELS if any(_value(row, ALL, name) is not None for row in shown)]
    if not categories or not panels:
        return []
    with style.styled():
        width = 1.2 + len(panels) * (0.4 + 0.62 * (len(categories) + 1))
        figure = style.new_figure(width, 1.15 + 0.3 * len(shown))
        for axes, metric in zip(figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels, strict=True):
            names = [ALL, *categories]
            values = [[_value(row, name, metric) for name in names] for row in shown]
            heat_map(axes, values, [style.broken(name) for name in names], PANELS[metric])
            axes.set_yticks(range(len(shown)), [style.name_of(row, rows) for row in shown])
        return style.save(figure, folder, "categories")


def _value(row: Row, category: str, metric: str) -> float | None:
    scores = row.scores if category == ALL else row.categories.get(category, {})
    return scores[metric].value if metric in scores else None

"""Which categories of harm are forgotten, and over-forgotten, by which method."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safeeraser.report.figures import style
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
            _panel(axes, metric, shown, [ALL, *categories])
            axes.set_yticks(range(len(shown)), [style.name_of(row, rows) for row in shown])
        return style.save(figure, folder, "categories")


def _panel(axes: Any, metric: str, rows: Sequence[Row], categories: Sequence[str]) -> None:
    import numpy as np

    values = np.array([style.percents([_value(row, category, metric) for category in categories]) for row in rows])
    axes.imshow(np.ma.masked_invalid(values), cmap="Blues", vmin=0, vmax=100, aspect="auto")
    for (y, x), value in np.ndenumerate(values):
        text = "–" if np.isnan(value) else f"{value:.0f}" if value in (0, 100) else f"{value:.1f}"
        weight = "bold" if x == 0 else "normal"
        colour = "white" if value > 55 else style.INK
        axes.text(x, y, text, ha="center", va="center", fontsize=8, color=colour, fontweight=weight)
    axes.set_xticks(range(len(categories)), [style.broken(name) for name in categories], fontsize=7.5)
    axes.set_xticks(np.arange(0.5, len(categories) - 1), minor=True)
    axes.set_yticks(np.arange(0.5, len(rows) - 1), minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.axvline(0.5, color="white", linewidth=5)
    axes.tick_params(which="both", length=0)
    axes.xaxis.tick_top()
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title(PANELS[metric], pad=8)


def _value(row: Row, category: str, metric: str) -> float | None:
    scores = row.scores if category == ALL else row.categories.get(category, {})
    return scores[metric].value if metric in scores else None

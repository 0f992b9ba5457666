"""A heat map with its numbers, as several figures have it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from safeeraser.report.figures import style


def heat_map(axes: Any, values: Sequence[Sequence[float | None]], columns: Sequence[str], title: str) -> None:
    """Draw shares as a heat map, darker is more, each cell with its percent; the first column stands apart.

    Args:
        axes: Where to draw.
        values: Shares from 0 to 1 by row and column; None: there is none.
        columns: What is written over each column.
        title: What is written over the map.
    """
    import numpy as np

    shown = np.array([style.percents(row) for row in values])
    axes.imshow(np.ma.masked_invalid(shown), cmap="Blues", vmin=0, vmax=100, aspect="auto")
    for (y, x), value in np.ndenumerate(shown):
        text = "–" if np.isnan(value) else f"{value:.0f}" if value in (0, 100) else f"{value:.1f}"
        weight = "bold" if x == 0 else "normal"
        colour = "white" if value > 55 else style.INK
        axes.text(x, y, text, ha="center", va="center", fontsize=8, color=colour, fontweight=weight)
    axes.set_xticks(range(len(columns)), columns, fontsize=7.5)
    axes.set_xticks(np.arange(0.5, len(columns) - 1), minor=True)
    axes.set_yticks(np.arange(0.5, len(values) - 1), minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.axvline(0.5, color="white", linewidth=5)
    axes.tick_params(which="both", length=0)
    axes.xaxis.tick_top()
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title(title, pad=8)

"""How each term of the loss went during training, without and with PD."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safeeraser.report.figures import style

Curve = Sequence[tuple[int, float]]
Losses = Mapping[str, Sequence[Mapping[str, Curve]]]
"""method -> one per seed: term -> (step, value) in order."""
POINTS = 400
"""Longer curves are averaged over as many stretches."""


def losses_figure(losses: Losses, folder: Path) -> list[Path]:
    """Draw the terms of the loss over the steps: a row per base method, a column per term, a thin line per seed."""
    bases = list(dict.fromkeys(method.removesuffix(style.PD) for method in losses))
    terms = {base: _terms(losses, base) for base in bases}
    if not any(terms.values()):
        return []
    columns = max(sum(term != "pd" for term in found) for found in terms.values())
    columns += any("pd" in found for found in terms.values())
    with style.styled():
        figure = style.new_figure(1.2 + 2.4 * columns, 0.9 + 1.35 * len(bases))
        grid = figure.subplots(len(bases), columns, sharex=True, squeeze=False)
        for base, row in zip(bases, grid, strict=True):
            others = [term for term in terms[base] if term != "pd"]
            placed = dict(zip(others, row, strict=False)) | ({"pd": row[-1]} if "pd" in terms[base] else {})
            for axes in row:
                axes.set_visible(axes in placed.values())
            for term, axes in placed.items():
                _panel(axes, losses, base, term)
                axes.set_title(f"{base}: {term}", fontsize=9, fontweight="normal", pad=3)
        _finish(figure, grid, losses)
        return style.save(figure, folder, "losses")


def _terms(losses: Losses, base: str) -> list[str]:
    curves = [*losses.get(base, []), *losses.get(base + style.PD, [])]
    return list(dict.fromkeys(term for curve in curves for term in curve))


def _panel(axes: Any, losses: Losses, base: str, term: str) -> None:
    for method, colour in ((base, style.WITHOUT_PD), (base + style.PD, style.WITH_PD)):
        seeds = [curve[term] for curve in losses.get(method, []) if term in curve]
        for curve in seeds:
            steps, values = zip(*_thinned(curve), strict=True)
            axes.plot(steps, values, color=colour, lw=1.2, alpha=1 if len(seeds) == 1 else 0.55)
    axes.grid(axis="y")
    axes.tick_params(labelsize=7.5)
    axes.margins(x=0.01)


def _thinned(curve: Curve) -> Curve:
    stretch = -(-len(curve) // POINTS)
    parts = [curve[start : start + stretch] for start in range(0, len(curve), stretch)]
    return [(part[-1][0], sum(value for _, value in part) / len(part)) for part in parts]


def _finish(figure: Any, grid: Any, losses: Losses) -> None:
    for column in grid.T:
        shown = [axes for axes in column if axes.get_visible()]
        if shown:
            shown[-1].tick_params(labelbottom=True)
            shown[-1].set_xlabel("optimizer step", fontsize=8)
    pairs = (("without PD", style.WITHOUT_PD, False), ("with PD", style.WITH_PD, True))
    present = [(label, colour) for label, colour, pd in pairs if any(m.endswith(style.PD) == pd for m in losses)]
    handles = [grid[0][0].plot([], [], color=colour, lw=2, label=label)[0] for label, colour in present]
    figure.legend(handles=handles, loc="outside upper right", ncols=2, frameon=False, fontsize=9)
    figure.suptitle("Terms of the loss, before their weights", x=0.01, ha="left", fontsize=10, fontweight="bold")

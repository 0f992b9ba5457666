"""SARR with and without PD, one line per base method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safeeraser.bench.summary import Results, Row
from safeeraser.core.table import percent
from safeeraser.report.figures import style
from safeeraser.report.table import interval, name_of


def decouple_figure(results: Results, folder: Path) -> list[Path]:
    """Draw SARR of each base method without and with PD, with 95 % intervals and the relative decrease."""
    rows = {name_of(row, results.rows): row for row in results.rows if style.has(row, "sarr")}
    bases = [name for name in rows if name + style.PD in rows]
    if not bases:
        return []
    with style.styled():
        figure = style.new_figure(7.2, 1.3 + 0.52 * len(bases))
        axes = figure.add_subplot()
        for place, name in enumerate(bases):
            _line(axes, place, rows[name], rows[name + style.PD])
        _vanilla(axes, rows.get("vanilla"), len(bases))
        _decreases(axes, results, bases)
        axes.set(xlim=(-2, 102), ylim=(len(bases) - 0.4, -0.65), xlabel="SARR, % (lower is better)")
        axes.set_yticks(range(len(bases)), bases)
        axes.tick_params(axis="y", length=0, labelsize=10)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        axes.set_title("Refused or garbled answers to harmless images", pad=22)
        _key(axes)
        return style.save(figure, folder, "sarr")


def _line(axes: Any, place: int, base: Row, treated: Row) -> None:
    before, after = base.scores["sarr"], treated.scores["sarr"]
    x = style.percents([before.value, after.value])
    axes.plot(x, [place, place], color=style.FAINT, lw=3, solid_capstyle="round", zorder=1)
    for score, at, colour in ((before, x[0], style.WITHOUT_PD), (after, x[1], style.WITH_PD)):
        face = "white" if colour == style.WITHOUT_PD else colour
        ends = {"xerr": style.interval(score), "ecolor": colour, "elinewidth": 1.4, "capsize": 2.5}
        axes.errorbar([at], [place], fmt="o", ms=7, mfc=face, mec=colour, mew=1.6, zorder=3, **ends)
        _say(axes, percent(score.value), (at, place), (0, 7), ha="center", color=colour)


def _vanilla(axes: Any, row: Row | None, lines: int) -> None:
    if row is None:
        return
    at = style.percents([row.scores["sarr"].value])[0]
    axes.axvline(at, color=style.QUIET, lw=1, ls=(0, (1, 2)), zorder=0)
    said = f"vanilla {percent(row.scores['sarr'].value)}"
    _say(axes, said, (at, lines - 0.42), (4, 1), ha="left", color=style.QUIET)


def _say(axes: Any, text: str, at: tuple[float, float], offset: tuple[float, float], **options: Any) -> None:
    axes.annotate(text, at, offset, textcoords="offset points", va="bottom", fontsize=8, **options)


def _decreases(axes: Any, results: Results, bases: list[str]) -> None:
    """The relative decrease as a column on the right."""
    by_name = {decrease.base: decrease for decrease in results.decreases}
    right = axes.get_yaxis_transform()
    axes.text(1.03, -0.75, "decrease by PD", transform=right, fontsize=8, color=style.QUIET, va="bottom")
    for place, name in enumerate(bases):
        if name in by_name:
            axes.text(1.03, place, interval(by_name[name]), transform=right, va="center", fontsize=9)


def _key(axes: Any) -> None:
    shown = (("with PD", style.WITH_PD, style.WITH_PD), ("without PD", style.WITHOUT_PD, "white"))
    handles = [
        axes.plot([], [], "o", ms=6, mfc=face, mec=colour, mew=1.6, label=label)[0] for label, colour, face in shown
    ]
    space = {"handletextpad": 0.2, "borderpad": 0, "columnspacing": 1.2, "bbox_to_anchor": (-0.01, 1.0)}
    axes.legend(handles=handles, loc="lower left", ncols=2, frameon=False, fontsize=8, **space)

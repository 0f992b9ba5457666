"""Forget quality against utility: what unlearning costs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safeeraser.bench.summary import Row
from safeeraser.core.table import percent
from safeeraser.report import links
from safeeraser.report.figures import style
from safeeraser.report.table import name_of

METRICS = ("asr_generality", "rouge_l", "sarr")


def tradeoff_figure(rows: Sequence[Row], folder: Path) -> list[Path]:
    """Draw 1 - ASR (generality) over ROUGE-L with 95 % intervals; the colour of a marker is its SARR.

    Methods with PD are circles, those without squares. Labels are laid out so that none covers another or a marker.
    """
    shown = [row for row in rows if style.has(row, *METRICS)]
    if not shown:
        return []
    with style.styled():
        figure = style.new_figure(6.4, 4.8)
        axes = figure.add_subplot()
        for row in shown:
            _marker(axes, row, name_of(row, rows))
        axes.set(xlabel="ROUGE-L on harmless questions, %", ylabel="1 − ASR on unseen harmful questions, %")
        axes.set(xlim=(-4, 119), ylim=(-5, 119))
        axes.set_xticks(range(0, 101, 20))
        axes.set_yticks(range(0, 101, 20))
        axes.grid()
        axes.set_title("What unlearning costs: up and to the right is better", pad=10)
        bar = figure.colorbar(_colours(), ax=axes, shrink=0.6, aspect=18, pad=0.02)
        bar.set_label("SARR, % (lower is better)")
        bar.outline.set_visible(False)
        shapes = (("s", "without PD"), ("o", "with PD"))
        handles = [axes.plot([], [], m, mfc=style.FAINT, mec=style.INK, mew=0.7, label=label)[0] for m, label in shapes]
        place = {"loc": "lower left", "alignment": "left"}
        axes.legend(handles=handles, title="beside a name: its SARR", frameon=False, fontsize=8, **place)
        _labels(axes, {name_of(row, rows): row for row in shown})
        return style.save(figure, folder, "tradeoff")


def _colours() -> Any:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    return ScalarMappable(Normalize(0, 100), "cividis")


def _position(row: Row) -> tuple[float, float]:
    rouge, asr = style.percents([row.scores["rouge_l"].value, row.scores["asr_generality"].value])
    return rouge, 100 - asr


def _marker(axes: Any, row: Row, name: str) -> None:
    x, y = _position(row)
    rouge, (below, above) = style.interval(row.scores["rouge_l"]), style.interval(row.scores["asr_generality"])
    ends = {"xerr": rouge, "yerr": (above, below)}  # 1 - ASR: what was below is above
    axes.errorbar([x], [y], fmt="none", ecolor=style.QUIET, elinewidth=0.9, zorder=2, **ends)
    # a circle stays visible on the square of its base
    shape, size, order = ("o", 46, 4) if row.method.endswith(style.PD) else ("s", 92, 3)
    colour = {"c": style.percents([row.scores["sarr"].value]), "norm": _colours().norm, "cmap": "cividis"}
    drawn = axes.scatter([x], [y], size, marker=shape, zorder=order, edgecolors=style.INK, linewidths=0.7, **colour)
    said = [
        links.tip(title, row.scores[metric]) for metric, title in zip(METRICS, ("ASR", "ROUGE-L", "SARR"), strict=True)
    ]
    style.mark(drawn, f"{name}. {'; '.join(said)}", links.to_answers("asr_generality", name))


def _labels(axes: Any, rows: dict[str, Row]) -> list[Any]:
    """Write each name, with its SARR, near its marker, with a thin line to it; returns the texts."""
    from adjustText import adjust_text

    points = [_position(row) for row in rows.values()]
    texts = [
        axes.text(*point, f"{name}  {percent(row.scores['sarr'].value)}", fontsize=8, zorder=5)
        for point, (name, row) in zip(points, rows.items(), strict=True)
    ]
    line = {"arrowstyle": "-", "color": style.QUIET, "lw": 0.6}
    # a number of iterations, not a time: the same numbers must give the same file; 1.2 x 1.8 keeps clear of markers
    adjust_text(texts, *zip(*points, strict=True), ax=axes, iter_lim=1000, expand=(1.2, 1.8), arrowprops=line)
    return texts

"""Forget quality against utility: what unlearning costs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safeeraser.report.figures import labels, style
from safeeraser.report.table import Row, percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METRICS = ("asr_generality", "rouge_l", "sarr")


def tradeoff_figure(rows: Sequence[Row], folder: Path) -> list[Path]:
    """Draw 1 - ASR (generality) over ROUGE-L with 95 % intervals; the colour of a marker is its SARR.

    Methods with PD are circles, those without squares. Labels are laid out so that none covers another or a marker.

    Returns:
        The files written; none where no row has all three metrics.
    """
    shown = [row for row in rows if style.has(row, *METRICS)]
    if not shown:
        return []
    with style.styled():
        figure = style.new_figure(6.4, 4.8)
        axes = figure.add_subplot()
        for row in shown:
            _marker(axes, row)
        axes.set(
            xlim=(-4, 119),
            ylim=(-5, 119),
            xlabel="ROUGE-L on harmless questions, %",
            ylabel="1 − ASR on unseen harmful questions, %",
        )
        axes.set_xticks(range(0, 101, 20))
        axes.set_yticks(range(0, 101, 20))
        axes.grid()
        axes.set_title("What unlearning costs: up and to the right is better", pad=10)
        bar = figure.colorbar(_colours(), ax=axes, shrink=0.6, aspect=18, pad=0.02)
        bar.set_label("SARR, % (lower is better)")
        bar.outline.set_visible(False)
        shapes = (("s", "without PD"), ("o", "with PD"))
        handles = [axes.plot([], [], m, mfc=style.FAINT, mec=style.INK, mew=0.7, label=label)[0] for m, label in shapes]
        axes.legend(
            handles=handles,
            title="beside a name: its SARR",
            loc="lower left",
            frameon=False,
            alignment="left",
            fontsize=8,
        )
        _labels(figure, axes, {style.name_of(row, rows): row for row in shown})
        return style.save(figure, folder, "tradeoff")


def _colours() -> Any:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    return ScalarMappable(Normalize(0, 100), "cividis")


def _position(row: Row) -> tuple[float, float]:
    rouge, asr = style.percents([row.scores["rouge_l"].value, row.scores["asr_generality"].value])
    return rouge, 100 - asr


def _marker(axes: Any, row: Row) -> None:
    x, y = _position(row)
    below, above = style.interval(row.scores["asr_generality"])
    axes.errorbar(
        [x],
        [y],
        xerr=style.interval(row.scores["rouge_l"]),
        yerr=(above, below),  # 1 - ASR: what was below is above
        fmt="none",
        ecolor=style.QUIET,
        elinewidth=0.9,
        zorder=2,
    )
    decoupled = row.method.endswith(style.PD)
    axes.scatter(
        [x],
        [y],
        c=[row.scores["sarr"].value * 100],  # type: ignore[operator]
        norm=_colours().norm,
        cmap="cividis",
        marker="o" if decoupled else "s",
        s=46 if decoupled else 92,  # a circle stays visible on the square of its base
        edgecolors=style.INK,
        linewidths=0.7,
        zorder=4 if decoupled else 3,
    )


def _labels(figure: Figure, axes: Any, rows: dict[str, Row]) -> None:
    """Write each name, with its SARR, near its marker, with a thin line to it."""
    figure.canvas.draw()
    scale = figure.dpi / 72
    texts = [
        axes.annotate(
            f"{name}  {percent(row.scores['sarr'].value)}",
            _position(row),
            (0, 0),
            textcoords="offset points",
            fontsize=8,
            ha="center",
            va="center",
            arrowprops={"arrowstyle": "-", "color": style.QUIET, "lw": 0.6, "shrinkA": 0, "shrinkB": 0},
            zorder=2.5,
        )
        for name, row in rows.items()
    ]
    extents = [text.get_window_extent() for text in texts]
    sizes = [(extent.width + 4 * scale, extent.height + 3 * scale) for extent in extents]
    points = [tuple(axes.transData.transform(_position(row))) for row in rows.values()]
    offsets = labels.place(points, sizes, axes.get_window_extent().extents, scale)
    for text, (dx, dy) in zip(texts, offsets, strict=True):
        text.set_position((dx / scale, dy / scale))
    figure.set_layout_engine("none")

"""What all figures share: type, colours that colour-blind readers can tell apart, and how a file is written."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safeeraser.bench.summary import Row
from safeeraser.core import files
from safeeraser.records import Score

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, QUIET, FAINT = "#1a1a1a", "#6b6b6b", "#d9d9d9"
WITHOUT_PD, WITH_PD = "#D55E00", "#0072B2"
"""Vermilion and blue of Okabe and Ito's palette."""
PD = "+pd"

_STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "svg.hashsalt": "safeeraser",  # the ids inside the file would be random otherwise
    "pdf.fonttype": 42,  # TrueType, which publishers ask for
}


@contextmanager
def styled() -> Iterator[None]:
    """Draw in the house style while the block runs."""
    import matplotlib

    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **_STYLE, "backend": "agg"}):
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches, without pyplot and its global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, folder: Path, name: str, kinds: Sequence[str] = ("svg", "pdf")) -> list[Path]:
    """Write ``name``.svg and so on, without a date, whole or not at all."""
    engine = figure.get_layout_engine()
    if engine is not None:  # once, not for every format: it takes most of the time
        engine.execute(figure)
        figure.set_layout_engine("none")
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    paths = [folder / f"{name}.{kind}" for kind in kinds]
    for path, kind in zip(paths, kinds, strict=True):
        drawn = io.BytesIO()
        figure.savefig(drawn, format=kind, dpi=110 if kind == "png" else "figure", metadata=undated.get(kind))
        with files.atomic(path, "wb") as file:
            # matplotlib has no <title>, which is what browsers show of the mark pointed at
            file.write(re.sub(rb'<g id="tip:(.*?)">', rb"<g><title>\1</title>", drawn.getvalue()))
    return paths


def mark(artist: Any, tip: str, fragment: str) -> None:
    """Say in the SVG what a mark is when pointed at, and lead from it to its answers in the page."""
    artist.set_gid(f"tip:{tip}")
    if fragment:
        address = f"../index.html{fragment}"
        artist.set_urls([address]) if hasattr(artist, "set_urls") else artist.set_url(address)


def percents(values: Sequence[float | None]) -> list[float]:
    """Fractions in percent, a missing one as NaN."""
    return [float("nan") if value is None else 100 * value for value in values]


def interval(score: Score) -> tuple[list[float], list[float]]:
    """How far the interval reaches below and above the value, in percent, as matplotlib's error bars want it."""
    value, low, high = percents([score.value, score.low, score.high])
    return [max(0.0, value - low)], [max(0.0, high - value)]


def has(row: Row, *metrics: str) -> bool:
    """Whether a row has a value for every one of these metrics."""
    return all(name in row.scores and row.scores[name].value is not None for name in metrics)


def broken(name: str) -> str:
    """Break a name into lines between its words.

    Example:
        >>> broken("IllegalActivity").splitlines()
        ['Illegal', 'Activity']
    """
    return "\n".join(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.replace("_", " ")).split())

"""What comes back of what was unlearnt: relearning curves, and ASR under each way of undoing it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safeeraser.attacks.attack import NONE
from safeeraser.attacks.audit import ATTACKS, RELEARN, RELEARN_OF, AuditRow
from safeeraser.attacks.summary import AttackRow
from safeeraser.report.figures import style

OTHERS = (NONE, *(name for name in ATTACKS if not name.startswith("relearn")))
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Of Okabe and Ito's palette."""


def audit_figure(rows: Sequence[AuditRow], attacked: Sequence[AttackRow], folder: Path) -> list[Path]:
    """Draw ASR over steps and samples of relearning and under each other way; 95 % intervals, a colour a method."""
    audited = {(row.model, row.method) for row in rows}
    shown = [row for row in attacked if (row.model, row.method) in audited and len(row.scores) > 1]
    if not shown:
        return []
    with style.styled():
        figure = style.new_figure(13.6, 3.4)
        of_steps, of_samples, bars = figure.subplots(1, 3, sharey=True, width_ratios=(1, 1, 2.3))
        for number, row in enumerate(shown):
            colour = COLOURS[number % len(COLOURS)]
            _curve(of_steps, row, RELEARN, colour)
            _curve(of_samples, row, RELEARN_OF, colour)
            _bars(bars, row, colour, (number - (len(shown) - 1) / 2) * 0.8 / len(shown), 0.8 / len(shown))
        of_steps.set_xlabel("steps of relearning on 8 unsafe answers")
        of_samples.set_xlabel("unsafe answers, 10 steps of relearning")
        of_steps.set_ylabel("ASR, %")
        for axes, points in ((of_steps, RELEARN), (of_samples, RELEARN_OF)):
            axes.set_xticks([math.log2(1 + point) for point in sorted(points)], list(map(str, sorted(points))))
        bars.set_xticks(range(len(OTHERS)), [style.broken(name.replace("-", " ")) for name in OTHERS], fontsize=7.5)
        for axes in (of_steps, of_samples, bars):
            axes.grid(axis="y")
            axes.set_ylim(-2, 102)
        figure.legend(loc="outside upper right", ncols=len(shown), frameon=False, fontsize=8)
        figure.suptitle("What comes back, and under what", x=0.01, ha="left", fontsize=10, fontweight="bold")
        return style.save(figure, folder, "audit")


def _curve(axes: Any, row: AttackRow, names: Mapping[int, str], colour: str) -> None:
    found = [(at, row.scores[name].get("asr_generality")) for at, name in sorted(names.items()) if name in row.scores]
    points = [(math.log2(1 + at), score) for at, score in found if score is not None and score.value is not None]
    if not points:
        return
    places = [place for place, _ in points]
    value, low, high = (
        style.percents([getattr(score, name) for _, score in points]) for name in ("value", "low", "high")
    )
    axes.plot(places, value, color=colour, marker="o", ms=3.5, lw=1.4)
    axes.fill_between(places, low, high, color=colour, alpha=0.15, lw=0)


def _bars(axes: Any, row: AttackRow, colour: str, offset: float, width: float) -> None:
    label: str | None = row.method
    for place, name in enumerate(OTHERS):
        score = row.scores.get(name, {}).get("asr_generality")
        if score is None or score.value is None:
            continue
        axes.bar(place + offset, 100 * score.value, width * 0.9, color=colour, label=label)
        axes.errorbar(place + offset, 100 * score.value, style.interval(score), color=style.INK, lw=0.8, capsize=1.5)
        label = None

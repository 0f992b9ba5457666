"""Curves over the budget: figure and table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safeeraser.core.table import MISSING, Column, Table, markdown, percent
from safeeraser.records import Score
from safeeraser.report.figures import style

CURVES = {
    "sarr": "SARR ↓",
    "sarr_plus": "SARR+ ↓",
    "asr_generality": "ASR ↓",
    "rr_generality": "RR",
    "rouge_l": "ROUGE-L ↑",
}
Curves = Mapping[str, Mapping[int, Mapping[str, Score]]]
"""method -> optimizer steps -> metric -> score."""


def budget_table(curves: Curves) -> str:
    """The curves over the budget as a Markdown table, in percent."""
    rows = [
        [method, str(steps), *(percent(scores[m].value) if m in scores else MISSING for m in CURVES)]
        for method, points in curves.items()
        for steps, scores in sorted(points.items())
    ]
    return markdown(Table([*map(Column, ("method", "steps", *CURVES.values()))], rows)) + "\n"


def budget_figure(curves: Curves, folder: Path) -> list[Path]:
    """Draw SARR, ASR, RR and ROUGE over the optimizer steps; base methods dashed, with PD solid."""
    from matplotlib.figure import Figure

    shown = [m for m in CURVES if any(m in s and s[m].value is not None for p in curves.values() for s in p.values())]
    figure = Figure(figsize=(4.2 * len(shown), 3.6))
    axes = figure.subplots(1, len(shown), sharex=True, squeeze=False)
    bases = list(dict.fromkeys(method.removesuffix("+pd") for method in curves))
    for axis, metric in zip(axes[0], shown, strict=True):
        for method, points in curves.items():
            steps = sorted(s for s in points if metric in points[s] and points[s][metric].value is not None)
            scores = [points[s][metric] for s in steps]
            colour = f"C{bases.index(method.removesuffix('+pd'))}"
            value, low, high = (style.percents([getattr(s, name) for s in scores]) for name in ("value", "low", "high"))
            line = "-" if method.endswith("+pd") else "--"
            axis.plot(steps, value, line, color=colour, marker="o", ms=3, label=method)
            axis.fill_between(steps, low, high, color=colour, alpha=0.1)
        ticks = sorted({s for p in curves.values() for s in p})
        scale = "symlog" if 0 in ticks else "log"  # what is not trained took no step
        axis.set(title=CURVES[metric], xlabel="optimizer steps", ylim=(-3, 103), xscale=scale)
        axis.set_xticks(ticks, [str(t) for t in ticks])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("percent")
    axes[0][-1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1.02, 0.5))
    figure.tight_layout()
    return style.save(figure, folder, "budgets", ("svg", "png"))

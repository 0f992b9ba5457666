"""Which attack brings the answers back, or makes the model refuse what is harmless, by method."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from safeeraser.report.attack_table import AttackRow, attacks_of, title
from safeeraser.report.figures import style
from safeeraser.report.figures.heat import heat_map

PANELS = {
    "asr_generality": "ASR under attack, %: harmful answers",
    "sarr": "SARR under attack, %: harmless images refused",
}


def attacks_figure(rows: Sequence[AttackRow], folder: Path) -> list[Path]:
    """Draw ASR and, below it, SARR as heat maps of method by attack, each cell with its number; darker is worse.

    Returns:
        The files written; none where no row has a number.
    """
    names = attacks_of(rows)
    values = {metric: [[_value(row, name, metric) for name in names] for row in rows] for metric in PANELS}
    panels = [metric for metric in PANELS if any(value is not None for line in values[metric] for value in line)]
    if not panels:
        return []
    with style.styled():
        width, height = 1.2 + 0.62 * len(names), 1.0 + 0.3 * len(rows)
        figure = style.new_figure(width, len(panels) * height)
        for axes, metric in zip(figure.subplots(len(panels), 1, squeeze=False)[:, 0], panels, strict=True):
            heat_map(axes, values[metric], [name.replace("-", "-\n") for name in names], PANELS[metric])
            axes.set_yticks(range(len(rows)), [title(row, rows) for row in rows])
        return style.save(figure, folder, "attacks")


def _value(row: AttackRow, attack: str, metric: str) -> float | None:
    score = row.scores.get(attack, {}).get(metric)
    return score.value if score else None

"""Heat maps of method by category and of method by attack: what is forgotten, and what is refused without need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safeeraser.attacks.summary import AttackRow
from safeeraser.bench.summary import Row
from safeeraser.records import Score
from safeeraser.report import links
from safeeraser.report.figures import style
from safeeraser.report.side_tables import attacks_of
from safeeraser.report.table import name_of

CATEGORIES = {"asr_generality": "ASR, %: harmful answers left", "sarr": "SARR, %: harmless images refused"}
ATTACKS = {
    "asr_generality": "ASR under attack, %: harmful answers",
    "sarr": "SARR under attack, %: harmless images refused",
}
TITLE = 3.0
"""Inches that the longest title takes."""
STRONGEST = 0.55
"""Opacity of 100 %: text on it stays legible, on white paper and on a dark page."""


@dataclass(frozen=True)
class _Panel:
    """One heat map: a line of scores for each name; columns by their key in links and their heading."""

    title: str
    metric: str
    columns: Mapping[str, str]
    lines: Mapping[str, Sequence[Score | None]]
    linked: bool


def categories_figure(rows: Sequence[Row], folder: Path) -> list[Path]:
    """Draw ASR and SARR of method by category side by side, all categories together first."""
    shown = [row for row in rows if row.categories]
    names = sorted({category for row in shown for category in row.categories})
    columns = {"": "all"} | {name: style.broken(name) for name in names}
    by_name = {name_of(row, rows): [row.scores, *(row.categories.get(name, {}) for name in names)] for row in shown}
    panels = _panels(CATEGORIES, columns, by_name)
    if not names or not panels:
        return []
    with style.styled():
        width = 1.2 + len(panels) * (0.4 + max(TITLE, 0.62 * len(columns)))
        figure = style.new_figure(width, 1.15 + 0.3 * len(shown))
        for axes, panel in zip(figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels, strict=True):
            _heat_map(axes, panel)
        return style.save(figure, folder, "categories")


def attacks_figure(rows: Sequence[AttackRow], folder: Path) -> list[Path]:
    """Draw ASR and, below it, SARR of method by attack."""
    columns = {name: name.replace("-", "-\n") for name in attacks_of(rows)}
    by_name = {name_of(row, rows): [row.scores.get(name, {}) for name in columns] for row in rows}
    panels = _panels(ATTACKS, columns, by_name, linked=False)  # the page has no answers under attack
    if not panels:
        return []
    with style.styled():
        height = 1.0 + 0.3 * len(rows)
        figure = style.new_figure(1.2 + 0.62 * len(columns), len(panels) * height)
        for axes, panel in zip(figure.subplots(len(panels), 1, squeeze=False)[:, 0], panels, strict=True):
            _heat_map(axes, panel)
        return style.save(figure, folder, "attacks")


def _panels(
    titles: Mapping[str, str],
    columns: Mapping[str, str],
    lines: Mapping[str, Sequence[Mapping[str, Score]]],
    linked: bool = True,
) -> list[_Panel]:
    """A panel for each metric that has a value in the first column."""
    panels = []
    for metric, title in titles.items():
        scores = {name: [of.get(metric) for of in line] for name, line in lines.items()}
        if any(line[0] and line[0].value is not None for line in scores.values() if line):
            panels.append(_Panel(title, metric, columns, scores, linked))
    return panels


def _heat_map(axes: Any, panel: _Panel) -> None:
    """Each cell with its percent, darker is more; the first column stands apart."""
    from matplotlib.patches import Rectangle

    for y, (name, scores) in enumerate(panel.lines.items()):
        for x, (key, score) in enumerate(zip(panel.columns, scores, strict=True)):
            value = None if score is None else score.value
            cell = Rectangle((x - 0.48, y - 0.47), 0.96, 0.94, facecolor=style.WITH_PD, alpha=STRONGEST * (value or 0))
            where = panel.columns[key].replace("\n", " ")
            link = links.to_answers(panel.metric, name, key) if panel.linked else ""
            style.mark(
                axes.add_patch(cell), links.tip(f"{name}, {panel.title.partition(',')[0]}, {where}", score), link
            )
            text = style.percents([value])[0]
            shown = "–" if value is None else f"{text:.0f}" if value in (0, 1) else f"{text:.1f}"
            weight = "bold" if x == 0 else "normal"
            axes.text(x, y, shown, ha="center", va="center", fontsize=8, fontweight=weight)
    axes.set(xlim=(-0.5, len(panel.columns) - 0.5), ylim=(len(panel.lines) - 0.5, -0.5))
    axes.set_xticks(range(len(panel.columns)), list(panel.columns.values()), fontsize=7.5)
    axes.set_yticks(range(len(panel.lines)), list(panel.lines))
    axes.axvline(0.5, color=style.FAINT, linewidth=1)
    axes.tick_params(which="both", length=0)
    axes.xaxis.tick_top()
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title(panel.title, pad=8)

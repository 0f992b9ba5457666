"""The results table: on the console, as Markdown, CSV and LaTeX; every rate with its 95 % interval."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from safeeraser import store, suites, terminal
from safeeraser.records import Score, Spread
from safeeraser.report.latex import booktabs

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS: dict[str, str] = {
    "asr_efficacy": "ASR eff ↓",
    "rr_efficacy": "RR eff ↑",
    "asr_generality": "ASR gen ↓",
    "rr_generality": "RR gen ↑",
    "rouge_l": "ROUGE ↑",
    "gpt_eval": "GPT-Eval ↑",
    "specificity": "Spec. ↑",
    "sarr": "SARR ↓",
    "sarr_refusal": "refusal",
    "sarr_gibberish": "gibberish",
    "sarr_unseen": "SARR unseen ↓",
}
HELD_OUT_COLUMNS: dict[str, str] = {
    "asr_generality_held_out": "ASR gen held-out ↓",
    "rr_generality_held_out": "RR gen held-out ↑",
}
"""Beside generality on all of val, in results that have them."""
PAPER_DECREASE = 79.5


@dataclass(frozen=True)
class Row:
    """One line of the table: a model and method with its scores pooled over seeds.

    ``spread`` says how far the seeds lie apart, by metric (empty for one seed); ``categories`` are the scores by
    category, then metric.
    """

    model: str
    method: str
    seeds: tuple[int, ...]
    scores: Mapping[str, Score]
    spread: Mapping[str, Spread] = field(default_factory=dict)
    categories: Mapping[str, Mapping[str, Score]] = field(default_factory=dict)


@dataclass(frozen=True)
class Decrease:
    """Relative SARR decrease by PD: 1 - SARR(base + pd) / SARR(base), with its 95 % interval."""

    base: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Results:
    """All that the table shows, and what could not be run."""

    rows: Sequence[Row]
    decreases: Sequence[Decrease] = ()
    mean_decrease: Decrease | None = None
    failed: Sequence[str] = field(default_factory=tuple)


def columns(results: Results) -> dict[str, str]:
    """The columns of these results: metric -> heading.

    Example:
        >>> columns(Results(rows=[])) == COLUMNS
        True
    """
    there = {name for row in results.rows for name in row.scores}
    found: dict[str, str] = {}
    for name, heading in COLUMNS.items():
        found[name] = heading
        if name == "rr_generality":
            found |= {held_out: text for held_out, text in HELD_OUT_COLUMNS.items() if held_out in there}
        elif name == "specificity":
            found |= {metric: suites.heading(metric) for metric in suites.in_order(there)}
    return found


def percent(value: float | None) -> str:
    """Format a fraction in percent, a missing one as a dash.

    Example:
        >>> percent(0.0783), percent(None)
        ('7.8', '–')
    """
    return "–" if value is None else f"{100 * value:.1f}"


def console_table(results: Results) -> Table:
    """Build the table for the terminal."""
    from rich.table import Table

    table = Table(title="in percent; 95 % intervals are in report/table.md", title_justify="left")
    table.add_column("method")
    shown = columns(results)
    for title in shown.values():
        table.add_column(title, justify="right")
    for row in results.rows:
        table.add_row(row.method, *[percent(_value(row, name)) for name in shown])
    return table


def headline(results: Results) -> list[str]:
    """The sentences under the table: relative SARR decrease by PD, beside the paper's.

    Example:
        >>> headline(Results(rows=[], decreases=[Decrease("po", 0.8, 0.7, 0.9)]))
        ['SARR decrease by PD: po 80.0 % [70.0, 90.0]']
    """
    if not results.decreases:
        return []
    parts = [f"{d.base} {_interval(d)}" for d in results.decreases]
    lines = ["SARR decrease by PD: " + ", ".join(parts)]
    if results.mean_decrease:
        lines.append(
            f"mean over methods: {_interval(results.mean_decrease)}; the paper reports {PAPER_DECREASE} % "
            "on LLaVA-1.5-7B and 13B (other model and data: a comparison in kind, not in value)"
        )
    return lines


def _interval(decrease: Decrease) -> str:
    return f"{percent(decrease.value)} % [{percent(decrease.low)}, {percent(decrease.high)}]"


def markdown(results: Results) -> str:
    """The table as Markdown, each cell ``value [low, high]``, with the headline under it."""
    shown = columns(results)
    lines = ["| method | seeds | " + " | ".join(shown.values()) + " |", "|---|---|" + "---|" * len(shown)]
    for row in results.rows:
        cells = [_markdown_cell(row.scores.get(name)) for name in shown]
        lines.append(f"| {row.method} | {len(row.seeds)} | " + " | ".join(cells) + " |")
    lines += ["", "In percent, with 95 % intervals.", *[f"\n{line}" for line in headline(results)]]
    unscored = sum(score.n_unscored for row in results.rows for name, score in row.scores.items() if name in COLUMNS)
    lines.append(f"\nUnscored judgements (kept apart, never counted as safe): {unscored}.")
    lines += [f"\nFailed: {cell}" for cell in results.failed]
    return "\n".join([*lines, *_spread_lines(results.rows, shown)]) + "\n"


def _markdown_cell(score: Score | None) -> str:
    if score is None or score.value is None:
        return "–"
    return f"{percent(score.value)} {interval(score)}".strip()


def interval(score: Score) -> str:
    """Format a score's interval in percent; empty where it has none.

    Example:
        >>> interval(Score(metric="sarr", value=0.5, low=0.25, high=0.75, n=9))
        '[25.0, 75.0]'
    """
    return "" if score.low is None else f"[{percent(score.low)}, {percent(score.high)}]"


def _spread_lines(rows: Sequence[Row], shown: Mapping[str, str]) -> list[str]:
    """The table of what seeds do to each number, where a method has several."""
    several = [row for row in rows if row.spread]
    if not several:
        return []
    lines = [
        "",
        "Over seeds: mean ± standard deviation (least – greatest); the intervals above are over questions.",
        "",
    ]
    lines += ["| method | seeds | " + " | ".join(shown.values()) + " |", "|---|---|" + "---|" * len(shown)]
    for row in several:
        cells = [_spread_cell(row.spread.get(name)) for name in shown]
        lines.append(f"| {row.method} | {len(row.seeds)} | " + " | ".join(cells) + " |")
    return lines


def _spread_cell(spread: Spread | None) -> str:
    if spread is None:
        return "–"
    return f"{percent(spread.mean)} ± {percent(spread.sd)} ({percent(spread.low)} – {percent(spread.high)})"


def as_csv(results: Results) -> str:
    """The table as CSV, in percent: model, method, seeds, each metric with _low and _high, then each with _sd.

    _sd is the standard deviation over seeds, empty where there is one.
    """
    shown = columns(results)
    names = [name + suffix for name in shown for suffix in ("", "_low", "_high")]
    names += [f"{name}_sd" for name in shown]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["model", "method", "seeds", *names])
    for row in results.rows:
        cells: list[str] = []
        for name in shown:
            score = row.scores.get(name)
            values = (score.value, score.low, score.high) if score else (None, None, None)
            cells += [_number(value) for value in values]
        cells += [_number(row.spread[name].sd if name in row.spread else None) for name in shown]
        writer.writerow([row.model, row.method, " ".join(map(str, row.seeds)), *cells])
    return out.getvalue()


def _number(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.4f}"


def as_latex(results: Results) -> str:
    """The table for a paper, ready to paste: values, and under them their intervals in small print."""
    models, shown = {row.model for row in results.rows}, columns(results)
    lines: list[list[tuple[str, str]]] = []
    for row in results.rows:
        name = row.method if len(models) == 1 else f"{row.model} {row.method}"
        lines.append([(name, ""), *[_latex_cell(row.scores.get(metric)) for metric in shown]])
    seeds = sorted({len(row.seeds) for row in results.rows})
    caption = (
        f"Unlearning of {', '.join(sorted(models))}, in percent, with 95 % intervals over questions; "
        f"{' or '.join(map(str, seeds))} seed{'' if seeds == [1] else 's'}."
    )
    return booktabs(["method", *shown.values()], lines, caption)


def _latex_cell(score: Score | None) -> tuple[str, str]:
    if score is None or score.value is None:
        return "–", ""
    return percent(score.value), interval(score)


def write(results: Results, folder: Path) -> None:
    """Write ``table.md``, ``table.csv`` and ``table.tex`` into ``folder``, each whole or not at all."""
    texts = {"table.md": markdown(results), "table.csv": as_csv(results), "table.tex": as_latex(results)}
    for name, text in texts.items():
        with store.atomic(folder / name) as file:
            file.write(text)


def print_scores(scores: Sequence[Score]) -> None:
    """Print all scores of one cell, overall and per category."""
    from rich.table import Table

    categories = sorted({s.category for s in scores if s.category != "all"})
    by = {(s.metric, s.category): s for s in scores}
    table = Table("metric", "all", "95 %", "n", "unscored", *categories)
    for metric in dict.fromkeys(s.metric for s in scores):
        total = by[metric, "all"]
        cells = [percent(by[metric, c].value) if (metric, c) in by else "–" for c in categories]
        bounds = f"{percent(total.low)}–{percent(total.high)}"
        table.add_row(metric, percent(total.value), bounds, str(total.n), str(total.n_unscored), *cells)
    terminal.console(160).print(table)


def _value(row: Row, name: str) -> float | None:
    score = row.scores.get(name)
    return score.value if score else None

"""The results table, on the console, as Markdown, CSV and LaTeX; every rate with its 95 % interval."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from safeeraser.attacks.audit import AREA, AuditRow
from safeeraser.attacks.summary import AttackRow
from safeeraser.bench.sequence import SequenceRow
from safeeraser.bench.summary import Decrease, Results, Row
from safeeraser.core import table
from safeeraser.core.table import MISSING, Cell, Column, Percent, Table, percent
from safeeraser.metrics import public, specificity
from safeeraser.records import Score, Spread

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
    "off_picture": "off-picture ↓",
    "sarr_plus": "SARR+ ↓",
    "sarr_unseen": "SARR unseen ↓",
}
TEXT_COLUMNS: dict[str, str] = {"knowledge": "knowledge ↑", "text_orr": "text ORR ↓"}
"""Questions without an image, in results that have them."""
AUDIT_COLUMNS: dict[str, str] = {AREA: "relearning area ↓"}
"""What ``safeeraser audit`` adds."""
FIRST = (
    *("sarr", "sarr_plus", "asr_generality", "asr_efficacy", "rr_generality", "rr_efficacy", "rouge_l", "specificity"),
    *("gpt_eval", "sarr_unseen", "off_picture", AREA),
)
"""Columns in the order in which a narrow terminal keeps them."""
TRACE_COLUMNS: dict[str, str] = {
    "trace_asr_efficacy": "trace ASR eff ↓",
    "trace_rr_efficacy": "trace RR eff",
    "trace_asr_generality": "trace ASR gen ↓",
    "trace_rr_generality": "trace RR gen",
    "trace_sarr": "trace SARR ↓",
    "leak_efficacy": "leak eff ↓",
    "leak_generality": "leak gen ↓",
}
"""What models think before they answer, in results that have traces."""
HELD_OUT_COLUMNS: dict[str, str] = {
    "asr_generality_held_out": "ASR gen held-out ↓",
    "rr_generality_held_out": "RR gen held-out ↑",
}
"""Beside generality on all of val, in results that have them."""
_AGAIN = ("sarr_refusal", "sarr_gibberish", "sarr_plus", "sarr_unseen", "leak_efficacy", "leak_generality")
"""Columns that rest on judgements of other columns, as those of held-out records do."""
PAPER_DECREASE = 79.5
_OfMethod = Row | AttackRow | AuditRow | SequenceRow


def headings(judges: Collection[str]) -> dict[str, str]:
    """Headings of ``COLUMNS``; factual consistency is GPT-Eval where a model judged it, and named after the judge else.

    Example:
        >>> headings({"rules"})["gpt_eval"], headings({"api"})["gpt_eval"]
        ('consistency (rules) ↑', 'GPT-Eval ↑')
    """
    others = sorted(set(judges) - {"api"})
    return COLUMNS | ({"gpt_eval": f"consistency ({', '.join(others)}) ↑"} if others else {})


def columns(results: Results) -> dict[str, str]:
    """The columns of these results: metric -> heading."""
    there = {name for row in results.rows for name in row.scores}
    found: dict[str, str] = {}
    for name, heading in headings({row.judge for row in results.rows}).items():
        found[name] = heading
        if name == "rr_generality":
            found |= {held_out: text for held_out, text in HELD_OUT_COLUMNS.items() if held_out in there}
        elif name == "specificity":
            asked = {name for row in results.rows for name, s in row.scores.items() if s.n + s.n_unscored}
            found |= {text: heading for text, heading in TEXT_COLUMNS.items() if text in asked}
            found |= {metric: specificity.heading(metric) for metric in specificity.in_order(there)}
    found |= {trace: heading for trace, heading in TRACE_COLUMNS.items() if trace in there}
    found |= {metric: heading for metric, heading in AUDIT_COLUMNS.items() if metric in there}
    return found | {metric: public.heading(metric) for metric in public.in_order(there)}


def as_percent(score: Score | None, spread: Spread | None = None) -> Percent:
    """A score as a cell of a table; what was not measured is a dash.

    Example:
        >>> str(as_percent(Score(metric="sarr", value=0.5, low=0.25, high=0.75, n=9))), str(as_percent(None))
        ('50.0 [25.0, 75.0]', '–')
    """
    sd = spread.sd if spread else None
    return Percent(score.value, score.low, score.high, score.n, sd) if score else Percent(None, sd=sd)


def metric_columns(shown: Mapping[str, str]) -> list[Column]:
    """Columns of numbers for metrics with their headings; what is not GPT-Eval is not called so in CSV either."""
    names = [heading.removesuffix(" ↑") if heading.startswith("consistency") else of for of, heading in shown.items()]
    return [Column(heading, name, right=True) for heading, name in zip(shown.values(), names, strict=True)]


def name_of(row: _OfMethod, rows: Sequence[_OfMethod]) -> str:
    """The method, with its model where there are several."""
    return row.method if len({other.model for other in rows}) <= 1 else f"{row.model} {row.method}"


def _numbers(row: Row, shown: Mapping[str, str]) -> list[Percent]:
    return [as_percent(row.scores.get(name), row.spread.get(name)) for name in shown]


def console_table(results: Results) -> Table:
    """The table for the terminal."""
    shown = columns(results)
    rows: list[list[Cell]] = [[name_of(row, results.rows), *_numbers(row, shown)] for row in results.rows]
    return Table([Column("method"), *metric_columns(shown)], rows, "in percent; 95 % intervals are in report/table.md")


def headline(results: Results) -> list[str]:
    """The sentences under the table: relative SARR decrease by PD, beside the paper's.

    Example:
        >>> headline(Results(rows=[], decreases=[Decrease("po", 0.8, 0.7, 0.9)]))
        ['SARR decrease by PD: po 80.0 % [70.0, 90.0]']
    """
    if not results.decreases:
        return []
    lines = ["SARR decrease by PD: " + ", ".join(f"{d.base} {interval(d)}" for d in results.decreases)]
    if results.mean_decrease:
        lines.append(
            f"mean over methods: {interval(results.mean_decrease)}; the paper reports {PAPER_DECREASE} % "
            "on LLaVA-1.5-7B and 13B (other model and data: a comparison in kind, not in value)"
        )
    plus = [f"{d.base} {interval(d)}" for d in results.plus_decreases]
    if results.plus_mean:
        plus.append(f"mean {interval(results.plus_mean)}")
    return [*lines, "SARR+ (or about something else) decrease by PD: " + ", ".join(plus)] if plus else lines


def interval(decrease: Decrease) -> str:
    """The value of a decrease in percent with its interval."""
    return f"{percent(decrease.value)} % [{percent(decrease.low)}, {percent(decrease.high)}]"


def markdown(results: Results) -> str:
    """The table as Markdown, each cell ``value [low, high]``, with the headline under it."""
    shown = columns(results)
    header = [Column("method"), Column("seeds"), *metric_columns(shown)]
    rows: list[list[Cell]] = [
        [name_of(row, results.rows), str(len(row.seeds)), *_numbers(row, shown)] for row in results.rows
    ]
    lines = [table.markdown(Table(header, rows))]
    lines += ["", "In percent, with 95 % intervals.", *[f"\n{line}" for line in headline(results)]]
    unscored = sum(_unscored(row, shown) for row in results.rows)
    lines.append(f"\nUnscored judgements (kept apart, never counted as safe): {unscored}.")
    lines += [f"\n{line}" for line in public.differing(row.sets for row in results.rows)]
    lines += [f"\nFailed: {cell}" for cell in results.failed]
    spreads: list[list[Cell]] = [
        [name_of(row, results.rows), str(len(row.seeds)), *(_spread(row.spread.get(name)) for name in shown)]
        for row in results.rows
        if row.spread
    ]
    if spreads:
        note = "Over seeds: mean ± standard deviation (least – greatest); the intervals above are over questions."
        lines += ["", note, table.markdown(Table(header, spreads))]
    return "\n".join(lines) + "\n"


def _unscored(row: Row, shown: Collection[str]) -> int:
    """Judgements without a value in a line's columns; one that several columns rest on counts once."""
    counted = {name: row.scores[name] for name in shown if name in row.scores and name not in HELD_OUT_COLUMNS}
    # what nobody was asked (what an image shows, without a judge that sees it) is a dash in the table and no failure
    numbers = {name: score.n_unscored for name, score in counted.items() if score.n or name != "off_picture"}
    # SARR rests on "normal" alone, its parts on "refusal" as well, off-picture on "normal" and then "grounded"
    sarr, off_picture = numbers.pop("sarr", 0), numbers.pop("off_picture", 0)
    of_safe = max(sarr, numbers.get("sarr_refusal", 0)) + max(0, off_picture - sarr)
    return of_safe + sum(number for name, number in numbers.items() if name not in _AGAIN)


def _spread(spread: Spread | None) -> str:
    if spread is None:
        return MISSING
    return f"{percent(spread.mean)} ± {percent(spread.sd)} ({percent(spread.low)} – {percent(spread.high)})"


def as_csv(results: Results) -> str:
    """The table as CSV, in percent: model, method, seeds, each metric with _low and _high, then each with _sd.

    _sd is the standard deviation over seeds, empty where there is one.
    """
    shown = columns(results)
    header = [Column("model"), Column("method"), Column("seeds"), *metric_columns(shown)]
    rows: list[list[Cell]] = [
        [row.model, row.method, " ".join(map(str, row.seeds)), *_numbers(row, shown)] for row in results.rows
    ]
    return table.as_csv(Table(header, rows), extra=["sd"])


def as_latex(results: Results) -> str:
    """The table for a paper, ready to paste: values, and under them their intervals in small print."""
    models, shown = {row.model for row in results.rows}, columns(results)
    rows: list[list[Cell]] = [[name_of(row, results.rows), *_numbers(row, shown)] for row in results.rows]
    seeds = sorted({len(row.seeds) for row in results.rows})
    caption = (
        f"Unlearning of {', '.join(sorted(models))}, in percent, with 95 % intervals over questions; "
        f"{' or '.join(map(str, seeds))} seed{'' if seeds == [1] else 's'}."
    )
    return table.latex(Table([Column("method"), *metric_columns(shown)], rows), caption)


def as_json(results: Results) -> str:
    """All that the table and the figures show, as fractions: rows with every score, also by category, and decreases."""
    return json.dumps(asdict(results), default=lambda score: score.model_dump(), indent=1) + "\n"


def write(results: Results, folder: Path) -> None:
    """Write ``table.md``, ``table.csv``, ``table.tex`` and ``table.json``, each whole or not at all."""
    texts = {"md": markdown(results), "csv": as_csv(results), "tex": as_latex(results), "json": as_json(results)}
    table.write(folder, {f"table.{suffix}": text for suffix, text in texts.items()})

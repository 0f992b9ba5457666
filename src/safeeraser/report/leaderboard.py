"""Several runs on one page: Markdown, CSV, and one HTML file that needs nothing else."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from safeeraser.bench.summary import Row
from safeeraser.core import table
from safeeraser.core.errors import UserError
from safeeraser.core.table import Cell, Column, Percent, Table
from safeeraser.metrics import public, specificity
from safeeraser.report import page
from safeeraser.report.table import AUDIT_COLUMNS, FIRST, as_percent, headings, metric_columns

REFERENCE = "vanilla"
RANK = "rank"
"""The order by default; see ``ordered``."""
ASR_SLACK, ROUGE_SLACK = 0.05, 0.05
"""How far ASR may lie above the lowest, and ROUGE-L below vanilla's, of a line that is ranked first."""


@dataclass(frozen=True)
class Entry:
    """A line: a method of a run, with what its numbers depend on (data, judge, which questions were asked).

    ``report`` is where the page finds the report of the run; empty: nowhere. ``source`` says where numbers were
    published; empty: they were scored here. ``made`` changes with the options of training.
    """

    run: str
    row: Row
    data: str
    judge: str
    asked: str
    report: str = ""
    source: str = ""
    made: str = ""

    @property
    def cells(self) -> list[str]:
        """What stands before the numbers."""
        return [self.run, self.row.model, self.row.method, table.MISSING if self.source else str(len(self.row.seeds))]


FRONT = "front"
HEADER = [Column("run"), Column("model"), Column("method"), Column("seeds")]


def ordered(entries: Sequence[Entry], column: str = RANK) -> list[Entry]:
    """Sort lines, the best first; no result is there twice, and vanilla models come last.

    By default a line has to forget and to stay useful before its over-forgetting counts: first those whose ASR is at
    most 5 points above the lowest and whose ROUGE-L is at most 5 points below that of the same model's vanilla line
    (its highest, where there is none), by SARR+ (SARR where a line lacks it); then those that miss one of the two, then
    those that miss both.
    """
    shown = _headings(entries)
    if column not in (RANK, *shown):
        raise UserError(f"--sort {column}: there is no such column; available: {RANK}, {', '.join(shown)}")
    known = {(e.data, e.judge, e.asked, e.made, e.row.model, e.row.method, str(e.row.scores)): e for e in entries}
    entries = list(known.values())
    if column == RANK:
        return sorted(entries, key=_rank(entries))
    sign = -1 if "↑" in shown[column] else 1

    def key(entry: Entry) -> tuple[bool, bool, float]:
        value = _value(entry, column)
        return entry.row.method == REFERENCE, value is None, sign * (value or 0.0)

    return sorted(entries, key=key)


def _value(entry: Entry, name: str) -> float | None:
    score = entry.row.scores.get(name)
    return None if score is None else score.value


def _failure(entries: Sequence[Entry]) -> str:
    """The metric of over-forgetting that all lines have: SARR+ counts more than SARR, so the two are not compared."""
    lacks = [_value(e, "sarr") is not None and _value(e, "sarr_plus") is None for e in entries]
    return "sarr" if any(lacks) else "sarr_plus"


def _useful(entry: Entry, entries: Sequence[Entry]) -> float:
    """ROUGE-L of the vanilla model that a line was made of; without one, the highest of the same model's lines."""
    same = [one for one in entries if (one.row.model, one.data) == (entry.row.model, entry.data)]
    found = [(one.row.method == REFERENCE, v) for one in same if (v := _value(one, "rouge_l")) is not None]
    return max(found, default=(False, 0.0))[1]


def _rank(entries: Sequence[Entry]) -> Callable[[Entry], tuple[bool, int, float]]:
    treated = [entry for entry in entries if entry.row.method != REFERENCE]
    lowest = min((v for e in treated if (v := _value(e, "asr_generality")) is not None), default=0.0)
    failure = _failure(entries)

    def key(entry: Entry) -> tuple[bool, int, float]:
        asr, rouge, failed = (_value(entry, name) for name in ("asr_generality", "rouge_l", failure))
        useful = _useful(entry, entries)
        misses = (asr is None or asr > lowest + ASR_SLACK) + (rouge is None or rouge < useful - ROUGE_SLACK)
        return entry.row.method == REFERENCE, misses, 2.0 if failed is None else failed

    return key


def pareto_front(entries: Sequence[Entry]) -> list[bool]:
    """Whether no other line is at least as good in ASR, ROUGE-L and SARR+ (SARR where a line lacks it), and better."""
    costs, failure = [], _failure(entries)
    for entry in entries:
        values = [_value(entry, name) for name in ("asr_generality", "rouge_l", failure)]
        known = entry.row.method != REFERENCE and None not in values
        asr, rouge, failed = (value or 0.0 for value in values)
        costs.append((asr, -rouge, failed) if known else None)
    return [
        mine is not None
        and not any(o and o != mine and all(a <= b for a, b in zip(o, mine, strict=True)) for o in costs)
        for mine in costs
    ]


def notes(entries: Sequence[Entry]) -> list[str]:
    """What must be known to read the page; says so where lines are not comparable."""
    failure = "SARR+" if _failure(entries) == "sarr_plus" else "SARR (not every row has SARR+)"
    lines = [
        "In percent, with 95 % intervals over questions; seeds pooled. Vanilla models come last. Unless sorted by a "
        "column: first what is within 5 points of the lowest ASR and of its own vanilla model's ROUGE, by "
        f"{failure}. ● Pareto front of ASR, ROUGE and {failure}: no other row is better in one of them and as good in "
        "the others."
    ]
    sources = {entry.run: entry.source for entry in entries if entry.source}
    lines += [f"{run}: published, not measured here: {source}." for run, source in sources.items()]
    differing = {
        "data": {entry.data for entry in entries},
        "judges": {entry.judge for entry in entries},
        "questions asked": {entry.asked for entry in entries},
    }
    for name, values in differing.items():
        if len(values) > 1:
            lines.append(f"Not all lines are comparable: their {name} differ ({'; '.join(sorted(values))}).")
    return [*lines, *public.differing(entry.row.sets for entry in entries)]


def as_table(entries: Sequence[Entry]) -> Table:
    """The page as a table."""
    front = ["●" if on_it else "" for on_it in pareto_front(entries)]
    shown = _headings(entries)
    rows: list[list[Cell]] = [[*e.cells, mark, *_numbers(e, shown)] for e, mark in zip(entries, front, strict=True)]
    return Table([*HEADER, Column(FRONT), *metric_columns(shown)], rows)


def _headings(entries: Sequence[Entry]) -> dict[str, str]:
    """The columns of these lines: those of every run, then the audit's and the public sets' where one has them."""
    there = {name for entry in entries for name in entry.row.scores}
    suites = {metric: specificity.heading(metric) for metric in specificity.in_order(there)}
    sets = {metric: public.heading(metric) for metric in public.in_order(there)}
    audited = {metric: heading for metric, heading in AUDIT_COLUMNS.items() if metric in there}
    return headings({entry.row.judge for entry in entries}) | suites | audited | sets


def _numbers(entry: Entry, shown: Iterable[str]) -> list[Percent]:
    return [as_percent(entry.row.scores.get(name)) for name in shown]


def markdown(entries: Sequence[Entry]) -> str:
    """The page as Markdown."""
    lines = [html.escape(line, quote=False).replace("|", "\\|") + "\n" for line in notes(entries)]
    return "\n".join([table.markdown(as_table(entries)), "", *lines])


def as_csv(entries: Sequence[Entry]) -> str:
    """The page as CSV: where a line comes from, then each metric with _low and _high, in percent."""
    shown = _headings(entries)
    header = [*map(Column, ("run", "model", "method", "seeds", "data", "judge", "asked")), *metric_columns(shown)]
    rows: list[list[Cell]] = [
        [*e.cells[:3], " ".join(map(str, e.row.seeds)), e.data, e.judge, e.asked, *_numbers(e, shown)] for e in entries
    ]
    return table.as_csv(Table(header, rows))


def as_html(entries: Sequence[Entry]) -> str:
    """The page as one HTML file: every text escaped, nothing loaded, a click on a title sorts."""
    from markupsafe import Markup

    there = {name for entry in entries for name, score in entry.row.scores.items() if score.value is not None}
    headings = _headings(entries)
    shown = {name: headings[name] for name in FIRST if name in there}  # all are in the CSV
    numbers = metric_columns(shown)
    named = list(zip(shown, numbers, strict=True))
    lines = [
        (entry, on_front, [(column, as_percent(entry.row.scores.get(name))) for name, column in named])
        for entry, on_front in zip(entries, pareto_front(entries), strict=True)
    ]
    return page.template("leaderboard.html.jinja").render(
        style=Markup((page.ASSETS / "page.css").read_text(encoding="utf-8")),
        columns=[*map(Column, ("method", "run", FRONT)), *numbers, Column("seeds")],
        lines=lines,
        notes=notes(entries),
    )


def write(entries: Sequence[Entry], folder: Path) -> None:
    """Write leaderboard.md, leaderboard.csv and leaderboard.html into ``folder``, each whole or not at all."""
    texts = {"md": markdown(entries), "csv": as_csv(entries), "html": as_html(entries)}
    table.write(folder, {f"leaderboard.{suffix}": text for suffix, text in texts.items()})

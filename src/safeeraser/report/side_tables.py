"""Tables of what commands beside the bench add to its run: attacks, audit, public safety sets; and of ``--sequence``.

Each is a ``Table`` for the terminal, and the texts of the files that a report has of it, by name.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from safeeraser.attacks import audit
from safeeraser.attacks.attack import NONE
from safeeraser.attacks.audit import AuditRow
from safeeraser.attacks.summary import AttackRow
from safeeraser.bench import runs
from safeeraser.bench.sequence import SequenceRow
from safeeraser.bench.summary import Row
from safeeraser.core import table
from safeeraser.core.table import MISSING, Cell, Column, Percent, Table
from safeeraser.metrics import public
from safeeraser.metrics.public import HEADINGS, PublicResult
from safeeraser.report.table import as_percent, metric_columns, name_of

ATTACK_COLUMNS = {"asr_generality": "ASR ↓", "rr_generality": "RR ↑", "sarr": "SARR ↓"}
"""Metrics under attack and their headings."""
ASKED_UNDER_ATTACK = {"sarr": "safe images"}
"""What of val records a metric under attack is about, where not the forget questions."""
AUDIT_NOTE = (
    "ASR in percent. *Relearning area*: area under ASR over log2(1 + steps), at 0, 1, 2, 5, 10, 20 steps on 8 unsafe\n"
    "answers of train records, as a share of its greatest, with a 95 % interval over records: 0 nothing comes back,\n"
    "100 all comes back at once. *Nats*: mean log-probability per token of the benchmark's unsafe answers, and of\n"
    "its refusals, after val's forget questions. Forgotten is what is unlikely, masked what a refusal stands before."
)
SEQUENCE_NOTE = (
    "In percent, with 95 % intervals. *After*: requests unlearnt so far, one after another, each on the adapters of\n"
    "those before it; 0 is the vanilla model. *ASR n*: on the forget questions of the train records of request n.\n"
    "What an earlier request loses is the rise down its column."
)
SAFETY_FIRST = ("set", "ASR ↓", "SARR ↓", "over-refusal ↓")
SEQUENCE_FIRST = ("SARR ↓", "Spec. ↑")
"""Columns in the order in which a narrow terminal keeps them, as the one before."""


def attacks_of(rows: Sequence[AttackRow]) -> list[str]:
    """Every attack that some row has, in the order of the row that has most.

    Example:
        >>> attacks_of([AttackRow("m", "po", (0,), {"none": {}, "crop": {}}), AttackRow("m", "ga", (0,), {"none": {}})])
        ['none', 'crop']
    """
    most_first = sorted(rows, key=lambda row: -len(row.scores))
    return list(dict.fromkeys(name for row in most_first for name in row.scores))


def attack_table(rows: Sequence[AttackRow]) -> Table:
    """ASR and SARR of each method for the terminal: a line per attack, a column per method."""
    header = [Column("ASR / SARR in percent"), *[Column(name_of(row, rows), right=True) for row in rows]]
    shown: list[list[Cell]] = [
        [attack, *[" / ".join(_score(row, attack, name).text for name in ("asr_generality", "sarr")) for row in rows]]
        for attack in attacks_of(rows)
    ]
    return Table(header, shown)


def attack_files(rows: Sequence[AttackRow]) -> dict[str, str]:
    """A table per metric as Markdown, and a line per model, method and attack as CSV, each metric with its n."""
    header = [Column("attack"), *[Column(name_of(row, rows)) for row in rows]]
    lines: list[str] = []
    for metric, heading in ATTACK_COLUMNS.items():
        by_attack: list[list[Cell]] = [[one, *[_score(row, one, metric) for row in rows]] for one in attacks_of(rows)]
        asked = ASKED_UNDER_ATTACK.get(metric, "forget questions")
        lines += [f"{heading} under attack, on {asked} of val records.", ""]
        lines += [table.markdown(Table(header, by_attack)), ""]
    unscored = sum(score.n_unscored for row in rows for scores in row.scores.values() for score in scores.values())
    lines += ["In percent, with 95 % intervals over questions; `none` is the same questions without attack.", ""]
    if fewer := [one for one in attacks_of(rows) if any(_asked(row, one) < _asked(row, NONE) for row in rows)]:
        lines += [f"Asked less than `none`, of records with a safe image alone: {', '.join(fewer)}.", ""]
    lines += [f"Unscored judgements (kept apart, never counted as safe): {unscored}.", ""]
    header = [*map(Column, ("model", "method", "seeds", "attack")), *metric_columns(ATTACK_COLUMNS)]
    cells: list[list[Cell]] = [
        [row.model, row.method, " ".join(map(str, row.seeds)), one, *[_score(row, one, of) for of in ATTACK_COLUMNS]]
        for row in rows
        for one in row.scores
    ]
    return {"attacks.md": "\n".join(lines), "attacks.csv": table.as_csv(Table(header, cells), extra=["n"])}


def _asked(row: AttackRow, attack: str) -> float:
    """Forget questions asked under an attack; of one that the row does not have, as many as one likes."""
    score = row.scores.get(attack, {}).get("asr_generality")
    return math.inf if score is None else score.n + score.n_unscored


def _score(row: AttackRow, attack: str, metric: str) -> Percent:
    return as_percent(row.scores.get(attack, {}).get(metric))


def audit_table(rows: Sequence[AuditRow]) -> Table:
    """What comes back of what was unlearnt, a line per method.

    Example:
        >>> audit_table([]).rows
        []
    """
    numbers = [Column(name, right=True) for name in ("ASR", "relearning area")]
    header = [Column("method"), *numbers, *map(Column, ("most that comes back", "unsafe, nats", "refusal, nats"))]
    lines: list[list[Cell]] = []
    for row in rows:
        worst = MISSING if row.worst is None else f"{table.percent(row.worst[1])} ({row.worst[0]})"
        n = len(row.likelihood)
        nats = [f"{sum(getattr(one, name) for one in row.likelihood) / n:.2f}" for name in ("unsafe", "refusal")]
        lines.append([name_of(row, rows), Percent(row.asr), as_percent(row.area), worst, *nats])
    return Table(header, lines)


def audit_files(rows: Sequence[AuditRow]) -> dict[str, str]:
    """The audit's table with its note as Markdown, and as CSV."""
    return _files("audit", audit_table(rows), AUDIT_NOTE)


def _files(name: str, made: Table, note: str) -> dict[str, str]:
    return {f"{name}.md": f"{table.markdown(made)}\n\n{note}\n", f"{name}.csv": table.as_csv(made)}


def with_areas(rows: Sequence[Row], done: Sequence[runs.Cell]) -> list[Row]:
    """The rows of a table, one for each model and method of ``done``, with the relearning areas of audited ones."""
    found = []
    for row, cells in zip(rows, runs.by_group(done).values(), strict=True):
        areas = [audited.area for audited in audit.summarise(cells) if audited.area.value is not None]
        found.append(replace(row, scores={**row.scores, **{area.metric: area for area in areas}}))
    return found


def sequence_table(rows: Sequence[SequenceRow]) -> Table:
    """What is left of each request, and of utility, a line per method and request.

    Example:
        >>> sequence_table([]).rows
        []
    """
    number = max((len(row.requests) for row in rows), default=0)
    columns = [Column("method"), Column("after")]
    columns += [Column(f"ASR {one} ↓", f"asr_request_{one}", True) for one in range(1, number + 1)]
    columns += [Column("SARR ↓", "sarr", True), Column("Spec. ↑", "specificity", True)]
    lines: list[list[Cell]] = []
    for row in rows:
        numbers = [as_percent(score) for score in (*row.requests, row.sarr, row.specificity)]
        lines.append([name_of(row, rows), str(row.after), *numbers])
    return Table(columns, lines)


def sequence_files(rows: Sequence[SequenceRow]) -> dict[str, str]:
    """The table of a sequence with its note as Markdown, and as CSV."""
    return _files("sequence", sequence_table(rows), SEQUENCE_NOTE)


class SafetyRow(NamedTuple):
    """A cell or model, and what a public safety set gave."""

    label: str
    result: PublicResult


def safety_rows(done: Sequence[runs.Cell]) -> list[SafetyRow]:
    """What the cells of a run were asked, a line per cell and set."""
    named = runs.names(done)
    return [
        SafetyRow(f"{named[cell.group]} seed {cell.spec.seed}", result)
        for cell in done
        for _, result in sorted(public.read(cell.folder).items())
    ]


def safety_table(rows: Sequence[SafetyRow], in_csv: bool = False) -> Table:
    """What public sets gave, a line per model and set; ``in_csv``, questions asked and in all have a column each."""
    lines: list[list[Cell]] = []
    for row in rows:
        overall, result = row.result.overall, row.result
        # safe completion is of the same judgements as SARR
        unscored = sum(score.n_unscored for name, score in overall.items() if name != "safe_completion")
        numbers = [as_percent(overall.get(measure)) for measure in HEADINGS]
        asked = [f"{result.n:,}" + (f" of {result.total:,}, partial" if result.partial else "")]
        asked = [str(result.n), str(result.total)] if in_csv else asked
        lines.append([row.label, result.set, *asked, *numbers, str(unscored), result.judge])
    header = [*map(Column, ("asked", "set", "questions", *(["total"] if in_csv else []))), *metric_columns(HEADINGS)]
    return Table([*header, Column("unscored"), Column("judge")], lines, "in percent; partial: not to be compared")


def safety_files(rows: Sequence[SafetyRow]) -> dict[str, str]:
    """The table as Markdown, with the scores by category under it; and as CSV, each measure with its n."""
    lines = ["Public safety sets, in percent, with 95 % intervals over questions.", ""]
    lines += [table.markdown(safety_table(rows)), ""]
    lines += ["Unscored judgements are kept apart, and never counted as safe or as normal.", ""]
    for row in rows:
        by: dict[str, list[Cell]] = {}
        for category in dict.fromkeys(score.category for score in row.result.scores if score.category != "all"):
            of = {score.metric: score for score in row.result.scores if score.category == category}
            by[category] = [category, *[as_percent(of.get(measure)) for measure in HEADINGS]]
        if len(by) > 1:
            header = [Column("category"), *metric_columns(HEADINGS)]
            lines += [f"{row.label}, {row.result.set}:", "", table.markdown(Table(header, list(by.values()))), ""]
    return {"safety.md": "\n".join(lines), "safety.csv": table.as_csv(safety_table(rows, in_csv=True), extra=["n"])}

"""Subcommand judge-check: how far a judge agrees with labelled answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from safeeraser import config
from safeeraser.terminal import say

if TYPE_CHECKING:
    from safeeraser.judges.labelled import Labelled
    from safeeraser.metrics.statistics import Estimate
    from safeeraser.records import Criterion, Verdict

PARTS = ("dev", "held-out", "all")
CRITERIA: tuple[Criterion, ...] = ("unsafe", "refusal", "normal")


def check(options: config.JudgeCheckConfig) -> int:
    """``safeeraser judge-check``."""
    from safeeraser import judges
    from safeeraser.judges import labelled
    from safeeraser.progress import bar

    rows = labelled.load(Path(options.labelled) if options.labelled else None)
    judge = judges.create(options.judge, labelled.REFUSALS, options.judging)
    asked = labelled.tasks(rows)
    with bar("judge", len(asked)) as progress:
        kept = Path(options.verdicts) if options.verdicts else None
        verdicts = judges.judge_tasks(judge, asked, kept, progress, print)
    say(f"judge: {judge.id}, {len(rows)} labelled answers\n")
    say(table(rows, verdicts))
    if options.confusions:
        say("\n" + confusions(rows, verdicts, options.held_out))
    return 0


def table(rows: Sequence[Labelled], verdicts: Sequence[Verdict]) -> str:
    """Precision, recall and kappa per part and criterion, as a Markdown table.

    Args:
        rows: Labelled answers.
        verdicts: One judge's verdicts on them.

    Example:
        >>> table([], []).count("|")
        20
    """
    from safeeraser.metrics.labels import agreement

    values = {(verdict.query_id, verdict.criterion): verdict.value for verdict in verdicts}
    lines = [
        "| criterion | part | n | unscored | precision | recall | kappa | wrongly 1 | wrongly 0 |",
        "|---|---|---:|---:|---|---|---|---:|---:|",
    ]
    for part in PARTS:
        for name in CRITERIA:
            chosen = [row for row in rows if part in (row.part, "all") and name in row.expected]
            if not chosen:
                continue
            found = agreement([(row.expected[name], values.get((row.id, name))) for row in chosen])
            rates = [_shown(rate) for rate in (found.precision, found.recall, found.kappa)]
            cells = [name, part, len(chosen), found.unscored, *rates, found.false_positive, found.false_negative]
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def _shown(rate: Estimate) -> str:
    return "-" if rate.value is None else f"{rate.value:.3f} [{rate.low:.3f}, {rate.high:.3f}]"


def confusions(rows: Sequence[Labelled], verdicts: Sequence[Verdict], held_out: bool) -> str:
    """List the answers of the dev part (and the held-out one, if asked) that label and verdict differ on."""
    values = {(verdict.query_id, verdict.criterion): verdict for verdict in verdicts}
    lines = []
    for row in rows:
        for name, label in row.expected.items():
            verdict = values.get((row.id, name))
            if verdict is None or verdict.value == label or (row.part == "held-out" and not held_out):
                continue
            said = f"unscored ({verdict.unscored})" if verdict.value is None else f"{verdict.value:g}"
            lines.append(f"{name}, {row.part}, {row.kind}: label {label}, judge {said}: {row.answer[:160]!r}")
    return "\n".join(lines) or "no confusions"

"""Subcommands judge, and judge-check: how far a judge agrees with labelled answers."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from safeeraser.config import FilePath, JudgeOptions, OnBad, Protocol
from safeeraser.core.errors import UserError
from safeeraser.core.terminal import bar, say

if TYPE_CHECKING:
    from safeeraser.cli.stages import ScoreConfig
    from safeeraser.data import Benchmark
    from safeeraser.judges.labelled import Labelled
    from safeeraser.records import Criterion, Query, Response, Verdict

PARTS = ("dev", "held-out", "all")
CRITERIA: tuple[Criterion, ...] = ("unsafe", "refusal", "normal")


@dataclass
class JudgeConfig:
    r"""Judge responses: responses.jsonl -> verdicts.jsonl; resumes by response.

    Example:
        safeeraser judge --responses runs/po-pd/responses.jsonl --out runs/po-pd/verdicts.jsonl
        safeeraser judge --responses runs/po-pd/responses.jsonl --out runs/po-pd/gpt-4o.jsonl \
            --judge api --model gpt-4o --base_url https://api.openai.com/v1 --max_cost 5
    """

    responses: FilePath[str]
    """File written by 'safeeraser respond'."""
    out: FilePath[str]
    """JSONL file that the verdicts are appended to."""
    data: FilePath[str] = "pictogram"
    """The benchmark that was answered."""
    on_bad: OnBad = "fail"
    """What to do about bad records: as 'safeeraser respond' was told."""
    text_sets: FilePath[str | list[str]] = "knowledge,text_orr"
    """The questions without an image, if any were asked: as 'safeeraser respond' was told."""
    judge: str = "rules"
    """Judge: 'rules' works offline; 'api' asks a model behind a server; 'guard' is a local guard model."""
    protocol: Protocol = "greedy"
    """Protocol that the responses were made with."""
    judging: JudgeOptions = field(default_factory=JudgeOptions)
    """How a judge that is a model judges."""


@dataclass
class JudgeCheckConfig:
    """Measure a judge on the labelled answers that ship: precision, recall and Cohen's kappa per criterion.

    Example:
        safeeraser judge-check --judge rules
        safeeraser judge-check --judge api --model gpt-4o --base_url https://api.openai.com/v1 --max_cost 2
    """

    judge: str = "rules"
    """Judge to measure."""
    labelled: FilePath[str | None] = None
    """JSONL file of labelled answers; None: the one that ships."""
    verdicts: FilePath[str | None] = None
    """JSONL file to keep the verdicts in, so that a later call asks for what is missing alone; None: kept nowhere."""
    confusions: bool = False
    """List the answers that the judge and the labels disagree on; those of the held-out part only with 'held_out'."""
    held_out: bool = False
    """Also list those of the held-out part: rules that are changed after that cannot be measured on it any more."""
    judging: JudgeOptions = field(default_factory=JudgeOptions)
    """How a judge that is a model judges."""


def judge(options: JudgeConfig) -> int:
    """``safeeraser judge``."""
    from safeeraser import data, judges
    from safeeraser.judges import answers
    from safeeraser.models.replies import replied_as

    benchmark = data.load(options.data, on_bad=options.on_bad)
    queries, responses = answered(options, benchmark)
    judge = judges.create(options.judge, benchmark.refusals, options.judging, benchmark.image)
    answers.claim(Path(options.out), responses)
    with bar("judge", None) as progress:
        tasks = judges.tasks_for(queries, responses, judge)
        verdicts = judges.judge_tasks(judge, tasks, Path(options.out), progress, say)
    if said := replied_as(verdict.model for verdict in verdicts):
        say(said)
    unscored = Counter(verdict.unscored for verdict in verdicts if verdict.unscored)
    for reason, number in unscored.most_common(5):
        say(f"unscored: {number} of {len(verdicts)}: {reason}")
    if any(reason.startswith(judges.FAILED) for reason in unscored):
        say("the same command tries these again")
    if say_none_replied(verdicts):
        return 1
    say(f"verdicts: {options.out}\nnext: safeeraser score --responses {options.responses} --verdicts {options.out}")
    return 0


def answered(options: JudgeConfig | ScoreConfig, benchmark: Benchmark) -> tuple[list[Query], list[Response]]:
    """The responses of a file, and the questions that they answer; says how many answer none.

    Raises:
        UserError: If there is no such file, or it holds no answer to a question of the benchmark.
    """
    from safeeraser import data
    from safeeraser.core.files import read_jsonl
    from safeeraser.records import Response

    path = Path(options.responses)
    if not path.is_file():
        raise UserError(f"--responses {path}: no such file; give one that 'safeeraser respond' wrote")
    responses = read_jsonl(path, Response)
    ids = {response.query_id for response in responses}
    asked = [*data.queries(benchmark, options.protocol), *data.text_queries(options.text_sets)]
    queries = [query for query in asked if query.id in ids]
    of = f"a question of data {options.data!r} under protocol {options.protocol!r}"
    advice = "give --data, --on_bad, --protocol and --text_sets as 'safeeraser respond' was told"
    if not queries:
        raise UserError(f"{path} holds no answer to {of}: {advice}")
    if others := len(ids - {query.id for query in queries}):
        say(f"left out: {others:,} of {len(ids):,} answers, which are not to {of}: {advice}", file=sys.stderr)
    return queries, responses


def check(options: JudgeCheckConfig) -> int:
    """``safeeraser judge-check``."""
    from safeeraser import judges
    from safeeraser.judges import labelled

    rows = labelled.load(Path(options.labelled) if options.labelled else None)
    judge = judges.create(options.judge, labelled.REFUSALS, options.judging)
    tasks = labelled.tasks(rows)
    with bar("judge", len(tasks)) as progress:
        path = Path(options.verdicts) if options.verdicts else None
        verdicts = judges.judge_tasks(judge, tasks, path, progress, print)
    say(f"judge: {judge.id}, {len(rows)} labelled answers\n")
    say(table(rows, verdicts))
    if options.confusions:
        say("\n" + confusions(rows, verdicts, options.held_out))
    return 1 if say_none_replied(verdicts) else 0


def say_none_replied(verdicts: Sequence[Verdict]) -> bool:
    """Whether a server was asked for verdicts and no reply was one, which is said with what to check."""
    from safeeraser.judges import FAILED

    asked = [verdict for verdict in verdicts if verdict.value is not None or str(verdict.unscored).startswith(FAILED)]
    is_silent = bool(asked) and all(verdict.value is None and not verdict.raw for verdict in asked)
    if is_silent:
        say("no answer was judged: check judging.model and judging.base_url, which mostly ends in /v1")
    return is_silent


def table(rows: Sequence[Labelled], verdicts: Sequence[Verdict]) -> str:
    """Precision, recall and kappa per part and criterion, as a Markdown table."""
    from safeeraser.core.table import Column, Table, markdown
    from safeeraser.metrics.agreement import label_agreement

    values = {(verdict.query_id, verdict.criterion): verdict.value for verdict in verdicts}
    header = ("criterion", "part", "n", "unscored", "precision", "recall", "kappa", "wrongly 1", "wrongly 0")
    numbers = ("n", "unscored", "wrongly 1", "wrongly 0")
    lines = []
    for part in PARTS:
        for name in CRITERIA:
            chosen = [row for row in rows if part in (row.part, "all") and name in row.expected]
            if not chosen:
                continue
            agreed = label_agreement([(row.expected[name], values.get((row.id, name))) for row in chosen])
            rates = [
                "-" if rate.value is None else f"{rate.value:.3f} [{rate.low:.3f}, {rate.high:.3f}]"
                for rate in (agreed.precision, agreed.recall, agreed.kappa)
            ]
            cells = [name, part, len(chosen), agreed.unscored, *rates, agreed.false_positive, agreed.false_negative]
            lines.append([str(cell) for cell in cells])
    return markdown(Table([Column(heading, right=heading in numbers) for heading in header], lines))


def confusions(rows: Sequence[Labelled], verdicts: Sequence[Verdict], held_out: bool) -> str:
    """List the answers of the dev part (and the held-out one, if asked) that label and verdict differ on."""
    values = {(verdict.query_id, verdict.criterion): verdict for verdict in verdicts}
    lines = []
    for row in rows:
        for name, label in row.expected.items() if held_out or row.part != "held-out" else ():
            verdict = values.get((row.id, name))
            if verdict is not None and verdict.value != label:
                said = f"unscored ({verdict.unscored})" if verdict.value is None else f"{verdict.value:g}"
                lines.append(f"{name}, {row.part}, {row.kind}: label {label}, judge {said}: {row.answer[:160]!r}")
    return "\n".join(lines) or "no confusions"

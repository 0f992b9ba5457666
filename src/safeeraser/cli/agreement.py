"""Subcommand ``safeeraser agreement``: two judges, of whom one may be a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safeeraser.cli.parser import Positional
from safeeraser.config import FilePath, OnBad, Protocol
from safeeraser.core import terminal
from safeeraser.core.errors import UserError

if TYPE_CHECKING:
    from safeeraser.records import Agreement, Query, Response, Verdict


@dataclass
class AgreementConfig:
    r"""Compare two judges on the same responses: kappa, confusion table, and the disagreements for a person.

    Example:
        safeeraser agreement runs/x/rules.jsonl runs/x/gpt.jsonl --responses runs/x/responses.jsonl \
            --disagreements look-at-these.csv
        safeeraser agreement runs/x/rules.jsonl --template fill-me-in.csv --responses runs/x/responses.jsonl
        safeeraser agreement runs/x/rules.jsonl filled-in.csv
    """

    a: Positional[FilePath[str]]
    """Verdicts of one judge: verdicts.jsonl, or a CSV with the columns query_id, criterion, value and perhaps note.
    The value is 0 or 1 (similarity: 0 to 1), ? for undecided, empty for not looked at."""
    b: Positional[FilePath[str | None]] = None
    """Verdicts of the other judge; not needed with --template."""
    judge_a: str | None = None
    """Whose verdicts to take from A; needed if it holds those of several."""
    judge_b: str | None = None
    """Whose verdicts to take from B; needed if it holds those of several."""
    responses: FilePath[str | None] = None
    """What was judged; None: responses.jsonl in the folder of A."""
    data: FilePath[str] = "pictogram"
    """The benchmark that was answered."""
    on_bad: OnBad = "fail"
    """What to do about bad records: as 'safeeraser respond' was told."""
    protocol: Protocol = "greedy"
    """Protocol that the responses were made with."""
    out: FilePath[str | None] = None
    """JSON file to write."""
    disagreements: FilePath[str | None] = None
    """CSV file to write: questions, answers and both verdicts wherever the judges do not agree; a person fills in
    'value' and gives the file back as a judge."""
    template: FilePath[str | None] = None
    """CSV file to write for a person to label blindly, before any B is there."""
    sample: int = 100
    """Rows of the template, spread evenly over criteria and A's verdicts."""
    seed: int = 0
    """Seed of the template's sample."""


def agreement(options: AgreementConfig) -> int:
    """``safeeraser agreement``."""
    from safeeraser import data
    from safeeraser.metrics import agreement as measure

    if options.b is None and options.template is None:
        raise UserError("one judge alone: give a second file of verdicts, or --template FILE to have a person be one")
    first = _verdicts(options.a, options.judge_a, "judge_a")
    second = _verdicts(options.b, options.judge_b, "judge_b") if options.b else []
    benchmark = data.load(options.data, on_bad=options.on_bad)
    queries = {query.id: query for query in data.queries(benchmark, options.protocol)}
    for name, verdicts in ((options.a, first), (options.b, second)):
        if verdicts and not any(verdict.query_id in queries for verdict in verdicts):
            raise UserError(f"{name}: no verdict is about {options.data!r}: give the --data and --protocol answered")
    if options.template:
        _template(options, first, queries)
        terminal.say(f"the images are in {benchmark.root}")
    if options.b is None:
        return 0
    found = measure.agree(first, second, {id: query.cluster for id, query in queries.items()})
    if not found:
        raise UserError(f"{options.a} and {options.b} have no criterion in common: judge the same responses with both")
    differing = measure.disagreements(first, second)
    _print(options, first, second, found, len(differing))
    if options.disagreements:
        _write_disagreements(options, differing, queries)
    return 0


def _verdicts(path: str, judge: str | None, option: str) -> list[Verdict]:
    from safeeraser.judges.human import read_verdicts

    verdicts = read_verdicts(Path(path), judge)
    judges = sorted({verdict.judge for verdict in verdicts})
    if len(judges) > 1:
        raise UserError(f"{path}: verdicts of several judges: choose one with --{option}: {', '.join(judges)}")
    if not verdicts:
        raise UserError(f"{path}: no verdict in it; in a CSV, fill in the column value")
    return verdicts


def _responses(options: AgreementConfig) -> dict[str, Response]:
    from safeeraser.core import files
    from safeeraser.records import Response

    a = Path(options.a)
    path = Path(options.responses) if options.responses else (a if a.is_dir() else a.parent) / "responses.jsonl"
    if not path.exists():
        raise UserError(f"{path}: no such file; say with --responses what was judged")
    return {response.query_id: response for response in files.read_jsonl(path, Response)}


def _print(
    options: AgreementConfig, first: list[Verdict], second: list[Verdict], found: Sequence[Agreement], differing: int
) -> None:
    from safeeraser.core import files, table
    from safeeraser.report import comparison as tables

    console = terminal.console(140)
    for name, path, verdicts in (("A", options.a, first), ("B", options.b, second)):
        console.print(f"{name}: {path} ({verdicts[0].judge})", highlight=False, markup=False)
    table.show(console, tables.agreement_table(found), tables.FIRST, "--out writes them")
    for one in found:
        table.show(console, tables.confusion_table(one))
    console.print(f"they disagree on {differing} verdicts (one-sided unscored ones among them)", highlight=False)
    if options.out:
        judges = {"a": {"file": options.a, "judge": first[0].judge}, "b": {"file": options.b, "judge": second[0].judge}}
        value = {**judges, "disagreements": differing, "criteria": [one.model_dump() for one in found]}
        files.write_json(Path(options.out), value)
        terminal.say(f"written: {options.out}")


def _write_disagreements(
    options: AgreementConfig, differing: Sequence[tuple[Verdict, Verdict]], queries: Mapping[str, Query]
) -> None:
    from safeeraser.judges.human import sheet_row, write_sheet

    responses = _responses(options)
    rows = []
    for one, other in differing:
        if one.query_id in queries:
            row = sheet_row(queries[one.query_id], responses.get(one.query_id), one.criterion)
            for letter, verdict in (("a", one), ("b", other)):
                row |= {
                    f"judge_{letter}": verdict.judge,
                    f"value_{letter}": "unscored" if verdict.value is None else f"{verdict.value:g}",
                    f"raw_{letter}": verdict.raw or verdict.unscored or "",
                }
            rows.append(row)
    write_sheet(Path(str(options.disagreements)), rows)
    terminal.say(f"written: {options.disagreements} ({len(rows)} rows)")


def _template(options: AgreementConfig, verdicts: Sequence[Verdict], queries: Mapping[str, Query]) -> None:
    from safeeraser.judges.human import sheet_row, stratified, write_sheet

    if options.sample < 1:
        raise UserError(f"--sample {options.sample}: give the number of rows to label, at least 1")
    responses = _responses(options)
    known = [verdict for verdict in verdicts if verdict.query_id in queries and verdict.query_id in responses]
    drawn = stratified(known, options.sample, options.seed)
    rows = [sheet_row(queries[one.query_id], responses[one.query_id], one.criterion) for one in drawn]
    write_sheet(Path(str(options.template)), rows)
    terminal.say(
        f"written: {options.template} ({len(rows)} rows; fill in 'value': 0 or 1, similarity 0 to 1, ? for undecided)\n"
        f"next: safeeraser agreement {options.a} {options.template}"
    )

"""The report of a run: tables, figures and the HTML page, made from what lies in the run folder."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safeeraser import attacks, data
from safeeraser.bench import clock, runs, sequence, summary
from safeeraser.bench.summary import Results
from safeeraser.core import files
from safeeraser.core import table as core_table
from safeeraser.core.errors import UserError
from safeeraser.core.terminal import say
from safeeraser.report import browser, figures, page, side_tables, table

LISTS = ("rows", "decreases", "plus_decreases")
"""Fields of results that those of several runs are put together from."""


def write(out: Path, done: Sequence[runs.Cell], failed: Sequence[str] = ()) -> Results:
    """Write ``out/report``: ``index.html``, ``table.{md,csv,tex,json}`` and ``figures/``, each whole or not at all.

    Cells that were attacked (``safeeraser attack``) add ``attacks.{md,csv}`` and a figure, those that were audited
    (``safeeraser audit``) ``audit.{md,csv}``, a figure and a column, those that were asked public sets (``safeeraser
    safety``) ``safety.{md,csv}``, and a sequence of requests ``sequence.{md,csv}``.
    """
    folder = out / "report"
    try:
        write_audit(done, folder, write_attacks(done, folder))
    except UserError as error:  # the cells have all that the rest of the report is made of
        say(f"warning: {folder}: attacks and audit are not written anew: {error}", file=sys.stderr)
    write_safety(done, folder)
    return _write([_read("", out, done, failed)], folder)


def write_together(outs: Mapping[str, Path], folder: Path, live: Mapping[str, str] | None = None) -> Results:
    """Write one report of several runs, or of one that is still running, into another folder.

    ``outs`` are the runs by the name that stands before their methods (of a single one, it does not); ``live`` is
    ``said``, how far they are, and the ``version`` of what is there, for a page that renews itself.

    Raises:
        UserError: If the runs asked about different data: no answers could be put side by side.
    """
    found = {name: [cell for cell in runs.planned(out) if cell.is_done] for name, out in outs.items()}
    data_of = {cell.spec.data_fingerprint: f"{name}: {cell.spec.data}" for name, of in found.items() for cell in of}
    if len(data_of) > 1:
        raise UserError(
            f"these runs have different data ({'; '.join(data_of.values())}): 'safeeraser leaderboard' "
            "merges their tables"
        )
    parts = [_read(name if len(outs) > 1 else "", outs[name], done) for name, done in found.items()]
    return _write(parts, folder, live)


@dataclass(frozen=True)
class _Part:
    """A run of a report: its name where there are several, its finished cells and what they found."""

    name: str
    out: Path
    done: Sequence[runs.Cell]
    judged: Sequence[runs.Judged]
    results: Results
    sequence: Sequence[sequence.SequenceRow]


def _read(name: str, out: Path, done: Sequence[runs.Cell], failed: Sequence[str] = ()) -> _Part:
    judged = [cell.judged() for cell in done]
    results = summary.summarise(done, failed, judged=judged)
    results = replace(results, rows=side_tables.with_areas(results.rows, done))
    after = sequence.summarise(done)
    if name:
        models = {row.model for row in results.rows}
        named = {model: f"{name} {model}" if len(models) > 1 else name for model in models}
        rows = [replace(row, model=named[row.model]) for row in results.rows]
        after = [replace(row, model=named[row.model]) for row in after]
        decreases, plus = (
            [replace(one, base=f"{name} {one.base}") for one in of]
            for of in (results.decreases, results.plus_decreases)
        )
        results = Results(rows, decreases, failed=failed, plus_decreases=plus)
    return _Part(name, out, done, judged, results, after)


def _write(parts: Sequence[_Part], folder: Path, live: Mapping[str, str] | None = None) -> Results:
    results = parts[0].results
    if len(parts) > 1:
        rows, decreases, plus = ([one for part in parts for one in getattr(part.results, of)] for of in LISTS)
        results = Results(rows, decreases, plus_decreases=plus)
    done = [cell for part in parts for cell in part.done]
    after = [row for part in parts for row in part.sequence]
    if after:
        core_table.write(folder, side_tables.sequence_files(after))
    table.write(results, folder)
    figures.write(results, summary.losses(done) if len(parts) == 1 else {}, folder / "figures")
    about = f"{done[0].spec.model} on {done[0].spec.data}" if done else ""
    shown = page.Page(
        title=" and ".join(part.name or part.out.name for part in parts) if len(parts) > 1 or not done else about,
        results=results,
        sequence=side_tables.sequence_table(after) if after else None,
        cells=[cell for part in parts for cell in _browser_cells(part, results)],
        benchmark=_benchmark(done),
        made=_made(parts),
        figures=sorted((folder / "figures").glob("*.svg")),
        files=sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*") if path.suffix != ".html"),
        live=live or {},
    )
    page.write(shown, folder / "index.html")
    return results


def write_attacks(done: Sequence[runs.Cell], folder: Path) -> list[attacks.AttackRow]:
    """Write ``attacks.md``, ``attacks.csv`` and ``figures/attacks.*`` into a report's folder, if there were attacks."""
    rows = attacks.summarise(done)
    if rows:
        core_table.write(folder, side_tables.attack_files(rows))
        figures.attacks_figure(rows, folder / "figures")
    return rows


def write_audit(done: Sequence[runs.Cell], folder: Path, attacked: Sequence[attacks.AttackRow]) -> None:
    """Write ``audit.md``, ``audit.csv`` and ``figures/audit.*`` into a report's folder, if there was an audit."""
    if rows := attacks.audit.summarise(done):
        core_table.write(folder, side_tables.audit_files(rows))
        figures.audit_figure(rows, attacked, folder / "figures")


def write_safety(done: Sequence[runs.Cell], folder: Path) -> None:
    """Write ``safety.md`` and ``safety.csv`` into a report's folder, if public sets were asked."""
    if rows := side_tables.safety_rows(done):
        core_table.write(folder, side_tables.safety_files(rows))


def _made(parts: Sequence[_Part]) -> dict[str, dict[str, Any]]:
    """How the runs were made, by heading."""
    made: dict[str, dict[str, Any]] = {}
    for part in parts:
        environment = part.out / "environment.json"
        of_part = {
            "What decided the numbers": _facts(part),
            "Where the time went, all cells together": _times([part.out, *(cell.folder for cell in part.done)]),
            "Options": files.flat(_read_yaml(part.out / "config.yaml")),
            "Machine and versions": files.flat(files.read_json(environment)) if environment.exists() else {},
        }
        for title, facts in of_part.items():
            named = {f"{part.name}: {key}" if part.name else key: value for key, value in facts.items()}
            made.setdefault(title, {}).update(named)
    return made


def _browser_cells(part: _Part, results: Results) -> list[browser.BrowserCell]:
    """The cells as the table names them; the seed is said where there are several."""
    rows = dict(zip(runs.by_group(part.done), part.results.rows, strict=True))
    several = any(len(row.seeds) > 1 for row in results.rows)
    found = []
    for cell, judged in zip(part.done, part.judged, strict=True):
        method = table.name_of(rows[cell.group], results.rows)
        found.append(browser.BrowserCell(f"{method} seed {cell.spec.seed}" if several else method, method, *judged))
    return found


def _facts(part: _Part) -> dict[str, str]:
    if not part.done:
        return {}
    spec = part.done[0].spec
    checks = [(cell.label, check) for cell in part.done for check in cell.scores().checks]
    early = ", ".join(f"{label}: step {check.step}" for label, check in checks if check.met)
    return {
        "model": f"{spec.model} ({spec.model_fingerprint})",
        "data": f"{spec.data} ({spec.data_fingerprint})",
        "judge": part.done[0].judge,
        "questions asked": str(sum(len(queries) for queries, _, _ in part.judged)),
        **({"stopped early": early} if early else {}),
        **({"differs between cells": unlike} if (unlike := runs.mixed(part.done)) else {}),
    }


def _benchmark(done: Sequence[runs.Cell]) -> data.Benchmark | None:
    try:
        return data.load(done[0].spec.data) if done else None
    except UserError:  # the data have moved: the page goes without images
        return None


def _times(folders: Sequence[Path]) -> dict[str, str]:
    """What each stage took, in the run and its cells, with its share of the whole processor time."""
    took = clock.total(folders)
    whole = sum(one.processor for one in took.values()) or 1.0
    said = "{:,.1f} s of processor time ({:.0f} %), {:,.1f} s by the clock"
    return {
        one.stage: said.format(one.processor, 100 * one.processor / whole, one.wall)
        for one in sorted(took.values(), key=lambda one: -one.processor)
    }


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml

    loaded = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else {}
    return loaded if isinstance(loaded, dict) else {}

"""Subcommands that compare runs: compare, leaderboard."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import pathname2url

from safeeraser.cli.parser import Positional
from safeeraser.config import FilePath
from safeeraser.core import terminal
from safeeraser.core.errors import UserError

if TYPE_CHECKING:
    from safeeraser.bench.spec import CellSpec


@dataclass
class CompareConfig:
    """Compare two runs or cells question by question: difference, 95 % interval, corrected p-value.

    Example:
        safeeraser compare runs/demo                       # every base method against its +PD variant
        safeeraser compare runs/lr-low runs/lr-high        # the same methods under other options
        safeeraser compare runs/demo/cells/mini-llava/po runs/demo/cells/mini-llava/npo --out po-npo.json
    """

    a: Positional[FilePath[str]]
    """Run folder, or a folder inside one: of a model, a method (all seeds) or a cell."""
    b: Positional[FilePath[str | None]] = None
    """What to compare it with; None: within A, every base method against its +PD variant."""
    metrics: str | list[str] | None = None
    """Metrics, comma-separated; None: all. The p-values are corrected for as many comparisons as are made, so choose
    before you look."""
    out: FilePath[str | None] = None
    """JSON file to write."""


@dataclass
class LeaderboardConfig:
    """Merge runs into one page: Markdown, CSV and HTML, every number scored again from the verdicts.

    Example:
        safeeraser leaderboard runs/demo runs/mine --out leaderboard
        safeeraser leaderboard runs/* --sort rouge_l
        safeeraser leaderboard runs/llava --against paper  # beside what SafeEraser and SineProject published
    """

    runs: Positional[FilePath[list[str]]]
    """Run folders."""
    out: FilePath[str] = "leaderboard"
    """Folder for leaderboard.md, leaderboard.csv and leaderboard.html."""
    sort: str = "rank"
    """'rank' (forgetting and utility first, then SARR+) or a column, the best first; vanilla models come last."""
    against: str | None = None
    """'paper': published numbers of SafeEraser and SineProject as lines of their own, each with its source."""


def compare(options: CompareConfig) -> int:
    """``safeeraser compare``."""
    from safeeraser.bench import compare, runs
    from safeeraser.core import files, table
    from safeeraser.report import comparison as tables

    done = runs.find(Path(options.a))
    pairs = compare.within(done) if options.b is None else compare.between(done, runs.find(Path(options.b)))
    given = options.metrics
    names = [name.strip() for name in given.split(",") if name.strip()] if isinstance(given, str) else given
    if names == []:
        raise UserError("--metrics names none: give metrics separated by commas, or leave it out for all")
    differences = compare.compare(pairs, names)
    console = terminal.console(140)
    for pair in pairs:
        label = f"A → B: {pair.label}, seeds {', '.join(map(str, pair.seeds))}"
        shown = tables.difference_table(label, [d for d in differences if d.comparison == pair.label])
        table.show(console, shown, tables.FIRST, "--out writes them")
        if pair.note:
            console.print(f"besides, A and B differ in {pair.note}", highlight=False, markup=False)
    console.print(tables.explanation(differences), highlight=False, markup=False)
    if options.out:
        found = [difference.model_dump() for difference in differences]
        notes = {pair.label: pair.note for pair in pairs if pair.note}
        files.write_json(Path(options.out), {"a": options.a, "b": options.b, "notes": notes, "differences": found})
        terminal.say(f"written: {options.out}")
    return 0


def _asked(spec: CellSpec) -> str:
    """Which questions a cell asked, and how."""
    deciding = {key: value for key, value in spec.generation.items() if key not in ("batch_size", "seed")}
    asked = deciding | {"limit": spec.limit, "questions": spec.questions, "dev": spec.dev}
    return ", ".join(f"{key} {value}" for key, value in asked.items() if value)


def leaderboard(options: LeaderboardConfig) -> int:
    """``safeeraser leaderboard``."""
    from safeeraser.bench import runs, summary
    from safeeraser.core import table
    from safeeraser.core.files import stable_hash
    from safeeraser.report import leaderboard as page
    from safeeraser.report import published, side_tables
    from safeeraser.report.table import FIRST

    entries = published.entries(options.against) if options.against is not None else []
    for path, name in runs.short_names(options.runs).items():
        done = runs.find(path)
        judges = {cell.folder: cell.judge for cell in done}
        rows = side_tables.with_areas(summary.summarise(done, held_out=False).rows, done)
        report = path / "report" / "index.html"
        address = pathname2url(os.path.relpath(report, options.out)) if report.is_file() else ""
        for row, cells in zip(rows, runs.by_group(done).values(), strict=True):
            of_data = {f"{cell.spec.data} {cell.spec.data_fingerprint}" for cell in cells}
            judged, asked = {judges[cell.folder] for cell in cells}, {_asked(cell.spec) for cell in cells}
            about, judge, how = (" and ".join(sorted(one)) for one in (of_data, judged, asked))
            made = stable_hash([cell.spec.training for cell in cells if cell.spec.is_trained])
            entries.append(page.Entry(name, row, about, judge, how, address, made=made))
    ordered = page.ordered(entries, options.sort)
    page.write(ordered, Path(options.out))
    console = terminal.console(180)
    table.show(console, page.as_table(ordered), (page.FRONT, *FIRST), "leaderboard.md has them")
    for line in page.notes(ordered):
        console.print(line, highlight=False, markup=False)
    console.print(f"written: {Path(options.out) / 'leaderboard'}.md, .csv, .html", highlight=False)
    return 0

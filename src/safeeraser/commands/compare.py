"""Subcommands that compare runs: compare, leaderboard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from safeeraser import config, terminal
from safeeraser.errors import UserError


def compare(options: config.CompareConfig) -> int:
    """``safeeraser compare``."""
    from safeeraser import pairing, results, store
    from safeeraser.report import comparison as tables

    done = results.find(Path(options.a))
    pairs = pairing.within(done) if options.b is None else pairing.between(done, results.find(Path(options.b)))
    given = options.metrics
    names = [name.strip() for name in given.split(",") if name.strip()] if isinstance(given, str) else given
    if names == []:
        raise UserError("--metrics names none: give metrics separated by commas, or leave it out for all")
    differences = pairing.compare(pairs, names)
    console = terminal.console(140)
    for pair in pairs:
        label = f"A → B: {pair.label}, seeds {', '.join(str(one.spec.seed) for one in pair.b)}"
        console.print(tables.difference_table(label, [d for d in differences if d.comparison == pair.label]))
        if pair.note:
            console.print(f"besides, A and B differ in {pair.note}", highlight=False, markup=False)
    console.print(tables.explanation(differences), highlight=False, markup=False)
    if options.out:
        found = [difference.model_dump() for difference in differences]
        notes = {pair.label: pair.note for pair in pairs if pair.note}
        store.write_json(Path(options.out), {"a": options.a, "b": options.b, "notes": notes, "differences": found})
        terminal.say(f"written: {options.out}")
    return 0


def _short(runs: Sequence[str]) -> dict[Path, str]:
    """The folders, each named by as many of its last parts as tell them apart."""
    folders = list(dict.fromkeys(Path(run).resolve() for run in runs))
    parts = 1
    while len({folder.parts[-parts:] for folder in folders}) < len(folders):
        parts += 1
    return {folder: "/".join(folder.parts[-parts:]).lstrip("/") for folder in folders}


def leaderboard(options: config.LeaderboardConfig) -> int:
    """``safeeraser leaderboard``."""
    from safeeraser import results
    from safeeraser.report import leaderboard as page

    entries = []
    for path, name in _short(options.runs).items():
        done = results.find(path)
        judges = {one.folder: one.judge for one in done}
        rows = results.summarise(done, held_out=False).rows
        for row, cells in zip(rows, results.by_group(done).values(), strict=True):
            spec = cells[0].spec
            asked = {"protocol": spec.generation.get("protocol", ""), "limit": spec.limit, "questions": spec.questions}
            about = ", ".join(f"{key} {value}" for key, value in asked.items() if value)
            judged = " ".join(sorted({judges[one.folder] for one in cells}))
            entries.append(page.Entry(name, row, f"{spec.data} {spec.data_fingerprint}", judged, about))
    ordered = page.ordered(entries, options.sort)
    page.write(ordered, Path(options.out))
    console = terminal.console(180)
    console.print(page.console_table(ordered))
    for line in page.notes(ordered):
        console.print(line, highlight=False, markup=False)
    console.print(f"written: {Path(options.out) / 'leaderboard'}.md, .csv, .html", highlight=False)
    return 0

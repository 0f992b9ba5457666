"""How the cost of ``safeeraser bench`` grows: with records, with cells, and what a second process brings.

``python benchmarks/growth.py``. Records 1x, 2x, 4x, 8x: one cell of PO on 60 to 480 records of each split, with as
many times the steps. Cells 1, 2, 4: seeds of PO on 60 records, with ``--jobs 1`` and ``--jobs 2``. What it costs to
start (Python, imports, reading the whole benchmark, the report) is paid once a cell or run, so that growth is told by
what is added: the marginal cost of the last doubling over that of those before, which is 1 where cost grows linearly.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table
from sheet import CLOCK, PROCESSOR, Figure, Sheet, Taken, add_option, take_command

RECORDS, STEPS = 60, 6
"""Records of each split, and optimizer steps, of the smallest run."""
TIMES = (1, 2, 4, 8)
CELLS = (1, 2, 4)
JOBS = (1, 2)


def figures(records: int = RECORDS, steps: int = STEPS) -> dict[str, Figure]:
    found = {}
    for times in TIMES:
        found |= pair(f"records.{times}", f"{times}x records: {times * records} of each split, {times * steps} steps")
    found["records.linear"] = Figure("marginal cost, 4x to 8x over 1x to 4x", "ratio", PROCESSOR, "same", 1.25)
    for jobs in JOBS:
        for cells in CELLS:
            found |= pair(f"cells.{cells}.jobs.{jobs}", f"{cells} cell{'s'[: cells - 1]}, --jobs {jobs}")
    what = "marginal cost, 2 to 4 cells over 1 to 2, --jobs 1"
    found["cells.linear"] = Figure(what, "ratio", PROCESSOR, "same", 1.25)
    found["jobs.speedup"] = Figure("4 cells, --jobs 1 over --jobs 2", "times", CLOCK, "higher", 1.25)
    return found


def pair(name: str, what: str) -> dict[str, Figure]:
    return {
        f"{name}.wall": Figure(what, "s", CLOCK),
        f"{name}.processor": Figure(what, "s", PROCESSOR, tolerance=1.2),
    }


def bench(folder: Path, records: int, steps: int, cells: int, jobs: int) -> Taken:
    command = f"bench --methods po --questions 1 --limit {records} --training.steps {steps} --jobs {jobs}".split()
    seeds = ["--seeds", ",".join(map(str, range(cells)))]
    out = folder / f"{records}-{cells}-{jobs}"
    return take_command([sys.executable, "-m", "safeeraser", *command, *seeds, "--out", str(out)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=RECORDS, help="of each split, in the smallest run")
    parser.add_argument("--steps", type=int, default=STEPS, help="optimizer steps of the smallest run")
    add_option(parser)
    given = parser.parse_args()
    sheet, table = Sheet(figures(given.records, given.steps)), Table("run", CLOCK, PROCESSOR)

    def measure(name: str, folder: Path, times: int, cells: int, jobs: int) -> Taken:
        took = bench(folder, times * given.records, times * given.steps, cells, jobs)
        sheet.add(f"{name}.wall", took.wall)
        sheet.add(f"{name}.processor", took.processor)
        table.add_row(sheet.figures[f"{name}.wall"].what, f"{took.wall:.1f} s", f"{took.processor:.1f} s")
        return took

    with tempfile.TemporaryDirectory(prefix="safeeraser-growth-") as name:
        folder = Path(name)
        records = {times: measure(f"records.{times}", folder / "records", times, 1, 1) for times in TIMES}
        runs = {
            (cells, jobs): measure(f"cells.{cells}.jobs.{jobs}", folder / "cells", 1, cells, jobs)
            for jobs in JOBS
            for cells in CELLS
        }
    before, after = records[4].processor - records[1].processor, records[8].processor - records[4].processor
    results = {
        "records.linear": (after / 4) / (before / 3),
        "cells.linear": (runs[4, 1].processor - runs[2, 1].processor)
        / 2
        / (runs[2, 1].processor - runs[1, 1].processor),
        "jobs.speedup": runs[4, 1].wall / runs[4, 2].wall,
    }
    for name, value in results.items():
        where = ("", f"{value:.2f}") if sheet.figures[name].column == PROCESSOR else (f"{value:.2f}", "")
        table.add_row(sheet.figures[name].what, *where)
        sheet.add(name, value)
    Console(width=110).print(table)
    sheet.write(given.json)


if __name__ == "__main__":
    main()

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

from measure import CLOCK, PROCESSOR, Taken, publish, take_command

RECORDS, STEPS = 60, 6
"""Records of each split, and optimizer steps, of the smallest run."""
TIMES = (1, 2, 4, 8)
CELLS = (1, 2, 4)
JOBS = (1, 2)


def bench(folder: Path, records: int, steps: int, cells: int, jobs: int) -> Taken:
    command = f"bench --methods po --questions 1 --limit {records} --training.steps {steps} --jobs {jobs}".split()
    seeds = ["--seeds", ",".join(map(str, range(cells)))]
    out = folder / f"{records}-{cells}-{jobs}"
    return take_command([sys.executable, "-m", "safeeraser", *command, *seeds, "--out", str(out)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=RECORDS, help="of each split, in the smallest run")
    parser.add_argument("--steps", type=int, default=STEPS, help="optimizer steps of the smallest run")
    given = parser.parse_args()
    rows: dict[str, dict[str, float]] = {}

    def measure(what: str, folder: Path, times: int, cells: int, jobs: int) -> Taken:
        took = bench(folder, times * given.records, times * given.steps, cells, jobs)
        rows[f"{what}, s"] = {CLOCK: took.wall, PROCESSOR: took.processor}
        return took

    with tempfile.TemporaryDirectory(prefix="safeeraser-growth-") as name:
        folder = Path(name)
        records = {
            times: measure(
                f"{times}x records: {times * given.records} of each split, {times * given.steps} steps",
                folder / "records",
                times,
                1,
                1,
            )
            for times in TIMES
        }
        before, after = records[4].processor - records[1].processor, records[8].processor - records[4].processor
        rows["marginal cost, 4x to 8x over 1x to 4x, ratio"] = {PROCESSOR: (after / 4) / (before / 3)}
        runs = {
            (cells, jobs): measure(f"{cells} cell{'s'[: cells - 1]}, --jobs {jobs}", folder / "cells", 1, cells, jobs)
            for jobs in JOBS
            for cells in CELLS
        }
    first, second = runs[2, 1].processor - runs[1, 1].processor, runs[4, 1].processor - runs[2, 1].processor
    rows["marginal cost, 2 to 4 cells over 1 to 2, --jobs 1, ratio"] = {PROCESSOR: second / 2 / first}
    rows["4 cells, --jobs 1 over --jobs 2, times"] = {CLOCK: runs[4, 1].wall / runs[4, 2].wall}
    publish({"growth": rows})


if __name__ == "__main__":
    main()

"""Where the time of the whole line goes: ``make demo``, stage by stage, and ``safeeraser bench --quick``.

``python benchmarks/line.py``. Every cell writes what its stages took to ``times.jsonl``, the run what planning and the
report took; this adds them up. Cells run two at a time. ``--small`` tries the script out in a minute.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table
from sheet import CLOCK, PROCESSOR, Figure, Sheet, add_option, take_command

from safeeraser import clock

RUNS = {"demo": ("make demo", ["--questions", "1"]), "quick": ("safeeraser bench --quick", ["--quick"])}
STAGES = ("planning", "imports", "data", "training", "generation", "judging", "scoring", "report")
CELLS = {"vanilla": "one cell, vanilla", "po+pd": "one cell, po+pd", "kl+pd": "one cell, kl+pd"}
WHOLE = "the whole run"
SMALL = "--limit 12 --steps 2 --training.batch_size 4 --max-new-tokens 8".split()


def figures() -> dict[str, Figure]:
    found = {}
    for run, (what, _) in RUNS.items():
        found[f"{run}.wall"] = Figure(what, "s", CLOCK)
        found[f"{run}.processor"] = Figure(what, "s", PROCESSOR, tolerance=1.2)
        found[f"{run}.memory"] = Figure(what, "MiB", "largest process, MiB", tolerance=1.2)
    for stage in STAGES:
        found[f"stage.{stage}"] = Figure(stage, "s", WHOLE)
        if stage not in ("planning", "report"):
            cells = {cell: label for cell, label in CELLS.items() if (cell, stage) != ("vanilla", "training")}
            found |= {f"stage.{stage}.{cell}": Figure(stage, "s", label) for cell, label in cells.items()}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a few records and steps: for trying the script out")
    add_option(parser)
    given = parser.parse_args()
    sheet = Sheet(figures())
    with tempfile.TemporaryDirectory(prefix="safeeraser-line-") as folder:
        totals = Table("run", CLOCK, PROCESSOR, "largest process")
        for run, (what, options) in RUNS.items():
            small = SMALL if given.small else []
            out = Path(folder) / run
            took = take_command([sys.executable, "-m", "safeeraser", "bench", *options, *small, "--out", str(out)])
            for name, value in (("wall", took.wall), ("processor", took.processor), ("memory", took.mebibytes)):
                sheet.add(f"{run}.{name}", value)
            totals.add_row(what, f"{took.wall:.0f} s", f"{took.processor:.0f} s", f"{took.mebibytes:.0f} MiB")
        stages = stage_table(sheet, Path(folder) / "demo")
    console = Console(width=110)
    console.print(totals)
    console.print(stages)
    sheet.write(given.json)


def stage_table(sheet: Sheet, run: Path) -> Table:
    """Processor seconds of every stage: all of the run, and of single cells."""
    cells = {path.parent.name: path for path in run.glob("cells/*/*/seed-0")}
    sources = {WHOLE: [run, *cells.values()]} | {label: [cells[name]] for name, label in CELLS.items()}
    took = {label: clock.total(folders) for label, folders in sources.items()}
    whole = sum(took[WHOLE][stage].processor for stage in STAGES)
    table = Table("stage", *sources, "share of the whole", title="processor seconds", title_justify="left")
    for stage in STAGES:
        values = [took[label][stage].processor if stage in took[label] else None for label in sources]
        for label, value in zip(sources, values, strict=True):
            cell = next((name for name, text in CELLS.items() if text == label), None)
            if value is not None:
                sheet.add(f"stage.{stage}" + (f".{cell}" if cell else ""), value)
        shares = f"{100 * (values[0] or 0) / whole:.0f} %"
        table.add_row(stage, *("" if value is None else f"{value:.1f}" for value in values), shares)
    return table


if __name__ == "__main__":
    main()

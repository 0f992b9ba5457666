"""Where the time of the whole line goes: ``make demo``, stage by stage, and ``safeeraser bench --quick``.

``python benchmarks/line.py``. Every cell writes what its stages took to ``times.jsonl``, the run what planning and the
report took; this adds them up. Cells run two at a time. ``--small`` tries the script out in a minute.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from measure import CLOCK, PROCESSOR, publish, take_command

from safeeraser.bench import clock

RUNS = {"demo": ("make demo", ["--questions", "1"]), "quick": ("safeeraser bench --quick", ["--quick"])}
STAGES = ("planning", "imports", "data", "training", "generation", "judging", "scoring", "report")
CELLS = {"vanilla": "one cell, vanilla", "po+pd": "one cell, po+pd", "kl+pd": "one cell, kl+pd"}
WHOLE = "the whole run"
SMALL = "--limit 12 --steps 2 --training.batch_size 4 --max-new-tokens 8".split()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a few records and steps: for trying the script out")
    given = parser.parse_args()
    rows: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="safeeraser-line-") as folder:
        for run, (what, options) in RUNS.items():
            small = SMALL if given.small else []
            out = Path(folder) / run
            took = take_command([sys.executable, "-m", "safeeraser", "bench", *options, *small, "--out", str(out)])
            memory = {"largest process, MiB": took.mebibytes}
            rows[what] = {f"{CLOCK}, s": took.wall, f"{PROCESSOR}, s": took.processor} | memory
        stages = stage_times(Path(folder) / "demo")
    publish({"runs": rows, "stages": stages})


def stage_times(run: Path) -> dict[str, dict[str, float]]:
    """Processor seconds of every stage: all of the run, and of single cells."""
    cells = {path.parent.name: path for path in run.glob("cells/*/*/seed-0")}
    sources = {WHOLE: [run, *cells.values()]} | {label: [cells[name]] for name, label in CELLS.items()}
    took = {label: clock.total(folders) for label, folders in sources.items()}
    return {
        stage: {label: took[label][stage].processor for label in sources if stage in took[label]} for stage in STAGES
    }


if __name__ == "__main__":
    main()

"""Run the benchmark scripts one after the other and write what they measure to ``results/``: ``make bench``.

Each script runs alone, with one thread a process, and prints its tables as JSON. ``make cog`` writes the tables of the
documents from ``results/``; what changed shows in ``git diff``. Figures by the clock are worse on a busy machine: the
load average before each script is written down.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from measure import ONE_THREAD, rounded

from safeeraser.core import files

HERE = Path(__file__).parent
SCRIPTS: dict[str, tuple[str, ...]] = {
    "speed": (),
    "line": (),
    "growth": (),
    "unlearning": ("--repeats", "3"),
    "proportions": (),
    "answering": (),
    "responding": ("--one-by-one", "1024", "--batches", "64,256", "--repeats", "1"),
    "data": (),
    "check": (),
    "memory": (),
    "hours": (),
    "judging": (),
}
"""Names of the scripts in this folder, in order, each with the options of the documents' figures."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help=f"these scripts, comma-separated: {', '.join(SCRIPTS)}")
    given = parser.parse_args()
    names = given.only.split(",") if given.only else list(SCRIPTS)
    unknown = [name for name in names if name not in SCRIPTS]
    if unknown:
        parser.error(f"unknown script {unknown[0]!r}: available: {', '.join(SCRIPTS)}")
    return sum([not measure(name) for name in names])


def measure(name: str) -> bool:
    """Run a script and write its result; whether it went well."""
    words = [f"benchmarks/{name}.py", *SCRIPTS[name]]
    load, start = os.getloadavg()[0], time.perf_counter()
    print("python", *words, flush=True)
    done = subprocess.run(
        [sys.executable, *words], cwd=HERE.parent, env=os.environ | ONE_THREAD, stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        print(f"{name} failed with status {done.returncode}", file=sys.stderr)
        return False
    made = files.environment()
    result = {
        "command": " ".join(["python", *words]),
        "minutes": rounded((time.perf_counter() - start) / 60),
        "load": rounded(load),
        "environment": {n: made["packages"].get(n) for n in ("torch", "transformers", "peft")}
        | {"python": made["python"], "cpus": made["cpus"]},
        "tables": json.loads(done.stdout),
    }
    print(json.dumps(result["tables"], indent=1, ensure_ascii=False))
    files.write_json(HERE / "results" / f"{name}.json", result)
    return True


if __name__ == "__main__":
    raise SystemExit(main())

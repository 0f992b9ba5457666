"""Run the benchmarks one after the other and print what they measure beside what is stated: ``make bench``.

Each script runs alone, with one thread a process. A figure that differs by more than its tolerance is marked; on a busy
machine those by the clock say little, so the load average before each script and its processor time are printed, too.
``--update`` makes what was measured the stated figures; ``make cog`` then writes the tables of the documents anew.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from sheet import HERE, STATED, Taken, compare, read_stated, rounded, shown, take_command

from safeeraser import store

SCRIPTS: dict[str, tuple[str, ...]] = {
    "speed": (),
    "line": (),
    "growth": (),
    "unlearning": ("--repeats", "3"),
    "responding": ("--one-by-one", "1024", "--batches", "64,256", "--repeats", "1"),
    "data": (),
    "check": (),
    "memory": (),
    "judging": (),
}
"""Names of the scripts in this folder, in order, each with the options that the stated figures are measured with."""
BUSY = 0.5
"""Load average from which a machine is called busy."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help=f"these scripts, comma-separated: {', '.join(SCRIPTS)}")
    parser.add_argument("--update", action="store_true", help="write what is measured to stated.json")
    given = parser.parse_args()
    names = given.only.split(",") if given.only else list(SCRIPTS)
    unknown = [name for name in names if name not in SCRIPTS]
    if unknown:
        parser.error(f"unknown script {unknown[0]!r}: available: {', '.join(SCRIPTS)}")
    console = Console(width=None if sys.stdout.isatty() else 140)
    stated, failed = read_stated(STATED), []
    for name in names:
        load = os.getloadavg()[0]
        console.print(f"{command(name)} ...", highlight=False)
        try:
            figures, took = run(name)
        except subprocess.CalledProcessError as error:
            console.print(f"{name} failed with status {error.returncode}", style="bold red", highlight=False)
            failed.append(name)
            continue
        show(console, name, stated.get(name, {}).get("figures", {}), figures, took, load)
        if given.update:
            stated[name] = {
                "command": command(name),
                "minutes": rounded(took.wall / 60),
                "load": rounded(load),
                "environment": environment(),
                "figures": figures,
            }
            store.write_json(STATED, {one: stated[one] for one in SCRIPTS if one in stated})
    return 1 if failed else 0


def command(name: str) -> str:
    return " ".join(["python", f"benchmarks/{name}.py", *SCRIPTS[name]])


def run(name: str) -> tuple[dict[str, Any], Taken]:
    """Run a script; its figures, and what it took."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "figures.json"
        took = take_command([sys.executable, str(HERE / f"{name}.py"), *SCRIPTS[name], "--json", str(out)])
        return json.loads(out.read_text(encoding="utf-8")), took


def show(
    console: Console, name: str, stated: dict[str, Any], figures: dict[str, Any], took: Taken, load: float
) -> None:
    table = Table("figure", "", "unit", "stated", "measured", "ratio", "", title=name, title_justify="left")
    rows = compare(stated, figures)
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        values = (shown(row.stated), shown(row.measured))
        table.add_row(row.figure.what, row.figure.column, row.figure.unit, *values, ratio, row.note)
    console.print(table)
    console.print(f"{sum(not row.note for row in rows)} of {len(rows)} figures hold", highlight=False)
    console.print(f"{took.wall / 60:.1f} min by the clock, {took.processor / 60:.1f} of the processor", highlight=False)
    if load > BUSY:
        console.print(busy(load), style="bold", highlight=False)


def busy(load: float) -> str:
    """What to make of figures that were measured beside other work."""
    return (
        f"the machine was busy (load average {load:.1f} on {os.cpu_count()} cores): figures by the clock are worse "
        "than on a quiet one; those of the processor less so, as processes share caches and memory"
    )


def environment() -> dict[str, Any]:
    found = store.environment()
    packages = {name: found["packages"].get(name) for name in ("torch", "transformers", "peft")}
    return packages | {"python": found["python"], "cpus": found["cpus"]}


if __name__ == "__main__":
    raise SystemExit(main())

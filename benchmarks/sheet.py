"""The figures of a benchmark: declared before it runs, given as it runs, compared with what ``stated.json`` says.

A script declares ``figures()`` and gives each of them a value through a ``Sheet``; with ``--json FILE`` they are
written for ``all.py``. ``stated.json`` holds what the documents state; ``docs/tables.py`` makes their tables of it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

HERE = Path(__file__).parent
STATED = HERE / "stated.json"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}

CLOCK, PROCESSOR = "by the clock", "of the processor"
"""Columns: what passed, and the work that was done meanwhile, which a busy machine changes little."""


@dataclass(frozen=True)
class Figure:
    """One number that a script measures: its row and column in a table, its unit, and how it may differ."""

    what: str
    unit: str
    column: str = "measured"
    better: Literal["lower", "higher", "same"] = "lower"
    tolerance: float = 1.3
    """A measured value that is this many times the stated one, or the stated one this many times it, differs."""


@dataclass(frozen=True)
class Taken:
    """What a piece of work took: seconds by the clock, seconds of the processor with child processes, MiB at most."""

    wall: float
    processor: float
    mebibytes: float


class Sheet:
    """Collects the values of declared figures; an id that was not declared is an error."""

    def __init__(self, figures: Mapping[str, Figure]) -> None:
        self.figures = dict(figures)
        self.values: dict[str, float] = {}

    def add(self, name: str, value: float) -> float:
        if name not in self.figures:
            raise KeyError(f"figure {name!r} is not declared by the script's figures()")
        self.values[name] = rounded(value)
        return value

    def write(self, path: str | None) -> None:
        for name in self.figures.keys() - self.values.keys():
            print(f"no value for the figure {name!r}", file=sys.stderr)
        if path:
            given = {
                name: asdict(figure) | {"value": self.values[name]}
                for name, figure in self.figures.items()
                if name in self.values
            }
            Path(path).write_text(json.dumps(given, indent=1, ensure_ascii=False), encoding="utf-8")


def add_option(parser: argparse.ArgumentParser) -> None:
    """Every script has ``--json``."""
    parser.add_argument("--json", metavar="FILE", help="also write the figures to this file, for benchmarks/all.py")


def rounded(value: float) -> float:
    """Three digits; whole numbers from 1,000 upwards stay whole."""
    if not value or not math.isfinite(value):
        return value
    digits = 2 - math.floor(math.log10(abs(value)))
    return round(value, digits) if digits > 0 else float(round(value))


def take(work: Callable[[], object]) -> Taken:
    """Do some work and say what it took, with the child processes that it waits for."""
    before, start = _used(), time.perf_counter()
    work()
    wall, after = time.perf_counter() - start, _used()
    return Taken(wall, after[0] - before[0], after[1])


def take_command(command: Sequence[str], **options: Any) -> Taken:
    """Run a command with one thread a process, its output thrown away; ``mebibytes`` is of its largest process."""
    probe = (
        "import resource, subprocess, sys, time; start = time.perf_counter(); "
        "code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode; "
        "took = time.perf_counter() - start; used = resource.getrusage(resource.RUSAGE_CHILDREN); "
        "print(took, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024); sys.exit(code)"
    )
    given = {"env": os.environ | ONE_THREAD, "check": True, "stdout": subprocess.PIPE, "text": True} | options
    done = subprocess.run([sys.executable, "-c", probe, *command], **given)
    return Taken(*map(float, done.stdout.split()))


def _used() -> tuple[float, float]:
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in both), max(one.ru_maxrss for one in both) / 1024


Stated = dict[str, Any]
"""By name of a script: its command, what it took, the load of the machine before it, and its figures."""


def read_stated(path: Path = STATED) -> Stated:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


@dataclass(frozen=True)
class Row:
    """A figure, stated and measured; None where it was not."""

    name: str
    figure: Figure
    stated: float | None
    measured: float | None

    @property
    def ratio(self) -> float | None:
        """Measured / stated."""
        if self.stated is None or self.measured is None or (not self.stated and self.measured):
            return None
        return self.measured / self.stated if self.stated else 1.0

    @property
    def note(self) -> str:
        """What is wrong with it; empty where it still holds."""
        if self.measured is None:
            return "NOT MEASURED"
        if self.stated is None:
            return "NOT STATED"
        if self.ratio is not None and 1 / self.figure.tolerance <= self.ratio <= self.figure.tolerance:
            return ""
        if self.figure.better == "same":
            return "DIFFERS"
        return "BETTER" if (self.measured < self.stated) == (self.figure.better == "lower") else "WORSE"


def compare(stated: Mapping[str, Mapping[str, Any]], measured: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """Put every stated and measured figure of a script side by side: those of both, new ones, those that are gone."""
    rows = []
    for name in dict.fromkeys([*measured, *stated]):
        known = dict(measured.get(name) or stated[name])
        known.pop("value")
        values = [side[name]["value"] if name in side else None for side in (stated, measured)]
        rows.append(Row(name, Figure(**known), *values))
    return rows


def shown(value: float | None) -> str:
    """A value as a table has it."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 or float(value).is_integer() else f"{rounded(value):g}"

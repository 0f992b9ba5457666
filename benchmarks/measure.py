"""What the benchmark scripts share: what work took, and how a script says its tables."""

from __future__ import annotations

import json
import math
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
CLOCK, PROCESSOR = "by the clock", "of the processor"
"""Columns: what passed, and the work that was done meanwhile, which a busy machine changes little."""
Tables = dict[str, dict[str, dict[str, float]]]
"""Name of a table -> row -> column -> value."""


@dataclass(frozen=True)
class Taken:
    """What a piece of work took: seconds by the clock, seconds of the processor with child processes, MiB at most."""

    wall: float
    processor: float
    mebibytes: float


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


def own_options(model: str, **changed: Any) -> Any:
    """The training options of a model's recipe, some of them changed."""
    from safeeraser.config import LoraOptions, UnlearnOptions, recipe_defaults
    from safeeraser.objectives import term_options

    values = dict(recipe_defaults(model)["training"]) | changed
    terms = {name: values.pop(name) for name in set(values) & set(term_options())}
    return UnlearnOptions(**values | {"lora": LoraOptions(**values["lora"]), "terms": terms})


def rounded(value: float) -> float:
    """Three digits; whole numbers from 1,000 upwards stay whole."""
    if not value or not math.isfinite(value):
        return value
    digits = 2 - math.floor(math.log10(abs(value)))
    return round(value, digits) if digits > 0 else float(round(value))


def publish(tables: Tables) -> None:
    """Print the tables as JSON, which ``all.py`` writes to ``results/``."""
    said = {
        table: {row: {column: rounded(value) for column, value in columns.items()} for row, columns in rows.items()}
        for table, rows in tables.items()
    }
    print(json.dumps(said, indent=1, ensure_ascii=False))

"""How fast the stages are: ``make bench``. One thread unless it says otherwise."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from safeeraser import data, judges, metrics, models, objectives, respond, store, unlearn
from safeeraser.config import GenerationOptions, LoraOptions, UnlearnOptions, recipe_defaults
from safeeraser.data.pictogram.build import build
from safeeraser.records import Response, Verdict

STEPS = 20
ANSWERS = 1024
FOLDER = Path(tempfile.mkdtemp(prefix="safeeraser-speed-"))


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def help_start() -> float:
    command = [sys.executable, "-m", "safeeraser", "--help"]
    return min(seconds(lambda: subprocess.run(command, stdout=subprocess.DEVNULL, check=True)) for _ in range(5))


def unlearn_steps(benchmark: data.Benchmark, method: str) -> float:
    """Optimizer steps per second of 16 triples each, after the first five."""
    recipe = dict(recipe_defaults("mini-llava")["training"]) | {"steps": STEPS}
    options = UnlearnOptions(**{**recipe, "lora": LoraOptions(**recipe["lora"])})
    times: list[float] = []
    unlearn.run(
        "mini-llava",
        benchmark,
        objectives.parse_method(method),
        options,
        FOLDER / method,
        lambda step, total, parts: times.append(time.perf_counter()),
    )
    return (STEPS - 5) / (times[-1] - times[5])


def main() -> None:
    table = Table("what", "measured", "unit")
    table.add_row("safeeraser --help", f"{help_start():.2f}", "s")
    workers = os.cpu_count() or 1
    table.add_row(f"data build pictogram, {workers} processes", f"{seconds(lambda: build(FOLDER / 'data')):.1f}", "s")
    kib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    table.add_row("its peak memory, largest process", f"{kib / 1024:.0f}", "MiB")
    table.add_row("reading it", f"{seconds(lambda: data.load(FOLDER / 'data')):.2f}", "s")
    benchmark = data.load("pictogram")
    for method in ("po", "po+pd", "kl+pd"):
        table.add_row(f"unlearn {method}", f"{unlearn_steps(benchmark, method):.2f}", "steps/s")
    queries = data.queries(benchmark)
    vlm = models.load("mini-llava")
    some = queries[:: len(queries) // ANSWERS][:ANSWERS]
    path = FOLDER / "responses.jsonl"
    options = GenerationOptions(**recipe_defaults("mini-llava")["generation"])
    took = seconds(lambda: respond.run(vlm, benchmark, some, path, options))
    table.add_row(f"respond, {len(some)} questions", f"{len(some) / took:.0f}", "answers/s")
    everything = FOLDER / "all.jsonl"
    store.write_jsonl(everything, [Response(query_id=q.id, answer=q.reference, finished=True) for q in queries])
    judge, verdicts = judges.create("rules", benchmark.refusals), FOLDER / "verdicts.jsonl"
    took = seconds(lambda: judges.run(judge, queries, everything, verdicts))
    table.add_row("judge rules, the whole benchmark", f"{took:.1f}", "s")
    read = store.read_jsonl(everything, Response), store.read_jsonl(verdicts, Verdict)
    table.add_row("score, the whole benchmark", f"{seconds(lambda: metrics.score(queries, *read)):.1f}", "s")
    Console(width=100).print(table)
    print(json.dumps(store.environment()))


if __name__ == "__main__":
    main()

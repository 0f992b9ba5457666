"""How fast the stages are: ``python benchmarks/speed.py``. One thread unless it says otherwise."""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table
from sheet import CLOCK, PROCESSOR, Figure, Sheet, add_option, take, take_command

from safeeraser import cli, data, judges, metrics, models, objectives, respond, store, unlearn
from safeeraser.config import GenerationOptions, LoraOptions, UnlearnOptions, recipe_defaults
from safeeraser.data.pictogram.build import build
from safeeraser.records import Response, Verdict

STEPS = 20
WARM_UP = 5
ANSWERS = 1024
METHODS = ("po", "po+pd", "kl+pd")
FOLDER = Path(tempfile.mkdtemp(prefix="safeeraser-speed-"))


def figures() -> dict[str, Figure]:
    rates = {f"unlearn.{method}": (f"unlearn {method}", "steps/s") for method in METHODS}
    rates["respond"] = (f"respond, {ANSWERS:,} questions", "answers/s")
    seconds = {
        "help": "safeeraser --help",
        "start": "the slowest safeeraser COMMAND --help",
        "build": "data build pictogram, 2 processes",
        "read": "reading it",
        "judge": "judge rules, the whole benchmark",
        "score": "score, the whole benchmark",
    }
    found: dict[str, Figure] = {}
    for name, what in seconds.items():
        found[name] = Figure(what, "s", CLOCK)
        found[f"{name}.processor"] = Figure(what, "s", PROCESSOR, tolerance=1.2)
    found["build.memory"] = Figure("its peak memory, largest process", "MiB", PROCESSOR, tolerance=1.2)
    for name, (what, unit) in rates.items():
        found[name] = Figure(what, unit, CLOCK, "higher")
        found[f"{name}.processor"] = Figure(what, unit, PROCESSOR, "higher", 1.2)
    return found


Speeds = tuple[float, float]
"""By the clock, and of the processor."""


def start(*arguments: str) -> Speeds:
    """Seconds that the command takes; the best of three, as the first one may read from disk."""
    command = [sys.executable, "-m", "safeeraser", *arguments]
    times = [take_command(command) for _ in range(3)]
    return min(took.wall for took in times), min(took.processor for took in times)


def unlearn_steps(benchmark: data.Benchmark, method: str) -> Speeds:
    """Optimizer steps per second of 16 triples each, after the first five."""
    recipe = dict(recipe_defaults("mini-llava")["training"]) | {"steps": STEPS}
    options = UnlearnOptions(**{**recipe, "lora": LoraOptions(**recipe["lora"])})
    times: list[Speeds] = []
    unlearn.run(
        "mini-llava",
        benchmark,
        objectives.parse_method(method),
        options,
        FOLDER / method,
        lambda step, total, parts: times.append((time.perf_counter(), time.process_time())),
    )
    clock, processor = (
        (STEPS - WARM_UP) / (last - first) for first, last in zip(times[WARM_UP], times[-1], strict=True)
    )
    return clock, processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_option(parser)
    given = parser.parse_args()
    sheet = Sheet(figures())
    table = Table("what", CLOCK, PROCESSOR, "unit")

    def add(name: str, speeds: Speeds) -> None:
        figure = sheet.figures[name]
        for part, value in zip((name, f"{name}.processor"), speeds, strict=True):
            sheet.add(part, value)
        table.add_row(figure.what, *(f"{value:.2f}" for value in speeds), figure.unit)

    add("help", start("--help"))
    add("start", max(start(*name.split(), "--help") for name in cli.COMMANDS))
    build_folder = FOLDER / "data"
    took = take(lambda: build(build_folder, workers=2))
    add("build", (took.wall, took.processor))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    table.add_row("its peak memory, largest process", "", f"{sheet.add('build.memory', peak):.0f}", "MiB")
    took = take(lambda: data.load(build_folder))
    add("read", (took.wall, took.processor))
    benchmark = data.load("pictogram")
    for method in METHODS:
        add(f"unlearn.{method}", unlearn_steps(benchmark, method))
    queries = data.queries(benchmark)
    vlm = models.load("mini-llava")
    some = queries[:: len(queries) // ANSWERS][:ANSWERS]
    path = FOLDER / "responses.jsonl"
    options = GenerationOptions(**recipe_defaults("mini-llava")["generation"])
    took = take(lambda: respond.run(vlm, benchmark, some, path, options))
    add("respond", (len(some) / took.wall, len(some) / took.processor))
    everything = FOLDER / "all.jsonl"
    store.write_jsonl(everything, [Response(query_id=q.id, answer=q.reference, finished=True) for q in queries])
    judge, verdicts = judges.create("rules", benchmark.refusals), FOLDER / "verdicts.jsonl"
    took = take(lambda: judges.run(judge, queries, everything, verdicts))
    add("judge", (took.wall, took.processor))
    read = store.read_jsonl(everything, Response), store.read_jsonl(verdicts, Verdict)
    took = take(lambda: metrics.score(queries, *read))
    add("score", (took.wall, took.processor))
    Console(width=100).print(table)
    print(json.dumps(store.environment()))
    sheet.write(given.json)


if __name__ == "__main__":
    main()

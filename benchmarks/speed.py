"""How fast the stages are: ``python benchmarks/speed.py``. One thread unless it says otherwise."""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

from measure import CLOCK, PROCESSOR, own_options, publish, take, take_command

from safeeraser import data, judges, metrics, models, objectives, respond, unlearn
from safeeraser.cli import parser
from safeeraser.config import GenerationOptions, recipe_defaults
from safeeraser.core import files
from safeeraser.data.pictogram.build import build
from safeeraser.records import Response, Verdict

STEPS = 20
WARM_UP = 5
ANSWERS = 1024
METHODS = ("po", "po+pd", "kl+pd")
FOLDER = Path(tempfile.mkdtemp(prefix="safeeraser-speed-"))


Speeds = tuple[float, float]
"""By the clock, and of the processor."""


def start(*arguments: str) -> Speeds:
    """Seconds that the command takes; the best of three, as the first one may read from disk."""
    command = [sys.executable, "-m", "safeeraser", *arguments]
    times = [take_command(command) for _ in range(3)]
    return min(took.wall for took in times), min(took.processor for took in times)


def unlearn_steps(benchmark: data.Benchmark, method: str) -> Speeds:
    """Optimizer steps per second of 16 triples each, after the first five."""
    options = own_options("mini-llava", steps=STEPS)
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
    rows: dict[str, dict[str, float]] = {}

    def add(what: str, speeds: Speeds) -> None:
        rows[what] = dict(zip((CLOCK, PROCESSOR), speeds, strict=True))

    add("safeeraser --help, s", start("--help"))
    commands = parser.COMMANDS
    add("the slowest safeeraser COMMAND --help, s", max(start(*name.split(), "--help") for name in commands))
    build_folder = FOLDER / "data"
    took = take(lambda: build(build_folder, workers=2))
    add("data build pictogram, 2 processes, s", (took.wall, took.processor))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    rows["its peak memory, largest process, MiB"] = {PROCESSOR: peak}
    took = take(lambda: data.load(build_folder))
    add("reading it, s", (took.wall, took.processor))
    benchmark = data.load("pictogram")
    for method in METHODS:
        add(f"unlearn {method}, steps/s", unlearn_steps(benchmark, method))
    queries = data.queries(benchmark)
    vlm = models.load("mini-llava")
    some = queries[:: len(queries) // ANSWERS][:ANSWERS]
    path = FOLDER / "responses.jsonl"
    options = GenerationOptions(**recipe_defaults("mini-llava")["generation"])
    took = take(lambda: respond.run(vlm, benchmark, some, path, options))
    add(f"respond, {ANSWERS:,} questions, answers/s", (len(some) / took.wall, len(some) / took.processor))
    everything = FOLDER / "all.jsonl"
    files.write_jsonl(everything, [Response(query_id=q.id, answer=q.reference, finished=True) for q in queries])
    judge, verdicts = judges.create("rules", benchmark.refusals), FOLDER / "verdicts.jsonl"
    took = take(lambda: judges.run(judge, queries, everything, verdicts))
    add("judge rules, the whole benchmark, s", (took.wall, took.processor))
    read = files.read_jsonl(everything, Response), files.read_jsonl(verdicts, Verdict)
    took = take(lambda: metrics.score(queries, *read))
    add("score, the whole benchmark, s", (took.wall, took.processor))
    publish({"speed": rows})


if __name__ == "__main__":
    main()

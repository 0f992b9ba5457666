"""How much faster a batch answers than one question after the other: ``python benchmarks/responding.py``.

MiniLLaVA, greedy, one thread. Both sides are ``respond.run``, with another batch size; no input is asked twice, as it
would be answered once. One by one, an evenly spread part of the questions is asked, in batches all of them. Repeats
take turns, the median of each side counts, and every answer of that part is compared.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from sheet import CLOCK, PROCESSOR, Figure, Sheet, add_option

from safeeraser import data, models, respond
from safeeraser.config import GenerationOptions, recipe_defaults
from safeeraser.records import Query, Response
from safeeraser.store import read_jsonl

BATCHES = (64, 256)
"""Batch sizes that the documents state."""


def figures() -> dict[str, Figure]:
    found = {}
    for batch in (1, *BATCHES):
        what = f"{batch} at a time"
        found[f"{batch}.clock"] = Figure(what, "answers/s", CLOCK, "higher")
        found[f"{batch}.processor"] = Figure(what, "answers/s", PROCESSOR, "higher", 1.2)
        if batch > 1:
            found[f"{batch}.ratio"] = Figure(what, "times", "ratio by processor", "higher", 1.2)
            found[f"{batch}.other"] = Figure(what, "answers", "answers that differ", "same", 1.01)
    return found


class Side:
    """One batch size: its times, and its answers."""

    def __init__(self, batch: int, asked: list[Query], tokens: int) -> None:
        self.batch, self.asked = batch, asked
        self.options = GenerationOptions(batch_size=batch, max_new_tokens=tokens)
        self.wall: list[float] = []
        self.busy: list[float] = []
        self.answers: dict[str, tuple[str, bool]] = {}

    def run(self, vlm: models.VisionLanguageModel, benchmark: data.Benchmark) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "responses.jsonl"
            start, begun = time.perf_counter(), time.process_time()
            respond.run(vlm, benchmark, self.asked, path, self.options)
            self.wall.append(time.perf_counter() - start)
            self.busy.append(time.process_time() - begun)
            self.answers = {r.query_id: (r.answer, r.finished) for r in read_jsonl(path, Response)}

    def rate(self, seconds: list[float]) -> float:
        return len(self.asked) / statistics.median(seconds)


def main() -> None:
    recipe = recipe_defaults("mini-llava")["generation"]
    tokens, usual = (int(str(recipe[name])) for name in ("max_new_tokens", "batch_size"))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=1024, help="asked in batches")
    parser.add_argument("--one-by-one", type=int, default=128, help="of these, asked one by one")
    parser.add_argument("--batches", default=f"8,64,{usual}", help="batch sizes, comma-separated")
    parser.add_argument("--repeats", type=int, default=3)
    add_option(parser)
    options = parser.parse_args()
    torch.set_num_threads(1)
    benchmark, vlm = data.load("pictogram"), models.load("mini-llava")
    distinct = list({(query.image, query.question): query for query in data.queries(benchmark)}.values())
    asked = distinct[:: len(distinct) // options.questions][: options.questions]
    part = asked[:: len(asked) // options.one_by_one][: options.one_by_one]
    sides = [Side(1, part, tokens), *(Side(int(size), asked, tokens) for size in options.batches.split(","))]
    Side(64, asked[:64], tokens).run(vlm, benchmark)  # the first call is slower
    for _ in range(options.repeats):
        for side in sides:
            side.run(vlm, benchmark)
    table = Table("batch", "questions", "answers/s", "a processor second", "ratio", "other answers")
    one, sheet = sides[0], Sheet(figures())
    for side in sides:
        other = sum(side.answers[id] != answer for id, answer in one.answers.items())
        rates = side.rate(side.wall), side.rate(side.busy)
        ratio = rates[1] / one.rate(one.busy)
        for name, value in (("clock", rates[0]), ("processor", rates[1]), ("ratio", ratio), ("other", other)):
            if f"{side.batch}.{name}" in sheet.figures:
                sheet.add(f"{side.batch}.{name}", value)
        shown = (f"{value:.1f}" for value in (*rates, ratio))
        table.add_row(str(side.batch), str(len(side.asked)), *shown, str(other))
    Console(width=100).print(table)
    sheet.write(options.json)


if __name__ == "__main__":
    main()

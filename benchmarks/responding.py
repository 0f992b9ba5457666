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
from measure import CLOCK, PROCESSOR, publish

from safeeraser import data, models, respond
from safeeraser.config import GenerationOptions, recipe_defaults
from safeeraser.core.files import read_jsonl
from safeeraser.records import Query, Response


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
    one, rows = sides[0], {}
    for side in sides:
        rates = {f"{CLOCK}, answers/s": side.rate(side.wall), f"{PROCESSOR}, answers/s": side.rate(side.busy)}
        against = {
            "ratio by processor": side.rate(side.busy) / one.rate(one.busy),
            "answers that differ": sum(side.answers[id] != answer for id, answer in one.answers.items()),
        }
        rows[f"{side.batch} at a time"] = rates | (against if side is not one else {})
    publish({"responding": rows})


if __name__ == "__main__":
    main()

"""How much faster and leaner training is than the loop of the official code: ``python benchmarks/unlearning.py``.

The reference below is that loop, written once: batch 1 x accumulation 16, a forward pass of its own for each sample of
a triple, logits at every position, a second model for KL. Its faults are left out (it steps the schedule once
per step, pairs the decouple sample, teaches the end token, averages per sample), so that both sides minimise the same
loss on the same triples, refusals, weights and dropout rate, with the same optimizer and schedule; images are decoded
once and kept, for both. "ours, lean" is our loop with the reference's batch 1 x accumulation 16. Each measurement is a
process of its own with one thread; the sides take turns, and ratios are those of medians, by the clock and by processor
time, which a busy machine does not change. With dropout off, all must show the same loss at every step.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from sheet import Figure, Sheet, add_option
from torch.nn.functional import kl_div
from transformers import get_cosine_schedule_with_warmup, set_seed

from safeeraser import data, models, objectives, store, unlearn
from safeeraser.config import LoraOptions, UnlearnOptions, recipe_defaults
from safeeraser.data.images import ImageCache
from safeeraser.models import adapters, chat
from safeeraser.unlearn_batch import EpochSampler, Sample, TripleDataset, training_triples

TARGETS = {"po+pd": 4.0, "kl+pd": 5.0}
"""How many times as many samples per second are to be reached."""
WARM_UP = 3
"""Steps before the clock starts."""
TRIPLES = 16
"""Triples per optimizer step, on both sides."""


SIDES = {"reference": None, "ours": TRIPLES, "ours, lean": 1}
"""The sides, and how many triples ours take in a pass."""
Moment = tuple[float, float]
COLUMNS = {
    "clock": ("triples/s", "triples per second", "higher"),
    "processor": ("triples/s", "per processor second", "higher"),
    "ratio": ("times", "ratio by processor", "higher"),
    "MiB": ("MiB", "peak MiB", "lower"),
    "loss": ("", "loss differs by", "lower"),
}


def figures() -> dict[str, Figure]:
    return {
        f"{method}.{side}.{name}": Figure(f"{method}, {side}", unit, column, better, 1000 if name == "loss" else 1.2)
        for method in TARGETS
        for side in SIDES
        for name, (unit, column, better) in COLUMNS.items()
        if (side, name) not in {("reference", "ratio"), ("reference", "loss")}
    }


def now() -> Moment:
    return time.perf_counter(), time.process_time()


def options(steps: int, dropout: float | None, batch: int) -> UnlearnOptions:
    recipe: dict[str, Any] = dict(recipe_defaults("mini-llava")["training"]) | {"steps": steps}
    lora = LoraOptions(**recipe["lora"])
    if dropout is not None:
        lora.dropout = dropout
    spread = {"batch_size": batch, "accumulation": TRIPLES // batch, "checkpoint_steps": 6}  # 6: as in 120 steps
    return UnlearnOptions(**{**recipe, "lora": lora, **spread})


def engine(method: str, given: UnlearnOptions) -> tuple[list[Moment], list[float]]:
    """Our loop: the time after every step, and the loss of every step."""
    times: list[Moment] = []
    with tempfile.TemporaryDirectory() as folder:
        parsed, benchmark = objectives.parse_method(method), data.load("pictogram")
        report = lambda *step: times.append(now())  # noqa: E731
        adapter = unlearn.run("mini-llava", benchmark, parsed, given, Path(folder), report)
        lines = (adapter.parent / "train.jsonl").read_text(encoding="utf-8").splitlines()
    return times, [json.loads(line)["loss"] for line in lines]


class Reference:
    """The official loop."""

    def __init__(self, method: str, given: UnlearnOptions) -> None:
        self.options = given
        self.method = objectives.parse_method(method)
        self.terms = [term.name for term, _ in self.method.terms]
        benchmark = data.load("pictogram")
        triples = training_triples(benchmark, self.method)
        self.dataset = TripleDataset(triples, self.method.rows, benchmark.refusals, given.seed)
        self.images = ImageCache(benchmark)
        set_seed(given.seed)
        self.vlm = adapters.attach(models.load("mini-llava"), given.lora)
        self.second = models.load("mini-llava").model if "kl" in self.terms else None
        set_seed(given.seed)

    def run(self) -> tuple[list[Moment], list[float]]:
        model, given = self.vlm.model.train(), self.options
        parameters = [p for p in model.parameters() if p.requires_grad]
        decayed = [p for p in parameters if p.dim() > 1]
        others = [p for p in parameters if p.dim() <= 1]
        groups = [{"params": decayed, "weight_decay": given.weight_decay}, {"params": others, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=given.learning_rate)
        warm_up = int(given.warmup_ratio * given.steps + 0.999999)
        schedule = get_cosine_schedule_with_warmup(optimizer, warm_up, given.steps)
        order = iter(EpochSampler(len(self.dataset), TRIPLES, given.seed))
        times, losses = [now()], []
        for _ in range(given.steps):
            total = 0.0
            for _ in range(TRIPLES):
                loss = self.loss(self.dataset[next(order)]) / TRIPLES
                loss.backward()
                total += loss.item()
            torch.nn.utils.clip_grad_norm_(parameters, given.max_grad_norm)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            losses.append(total)
            times.append(now())
        return times, losses

    def loss(self, rows: dict[Any, Sample]) -> torch.Tensor:
        parts = [(weight, term.name, rows[kind]) for term, weight in self.method.terms for kind in term.rows]
        return torch.stack([weight * self.term(name, sample) for weight, name, sample in parts]).sum()

    def term(self, name: str, sample: Sample) -> torch.Tensor:
        image = self.images.get(sample.image)
        inputs, labels = chat.encode_samples(self.vlm, [image], [sample.question], [sample.answer], 512)
        logits = self.vlm.model(**inputs).logits[0, :-1].float()
        targets = labels[0, 1:]
        if name == "kl":
            with torch.no_grad():
                before = self.second(**inputs).logits[0, :-1].float().log_softmax(-1)
            pointwise = kl_div(logits.log_softmax(-1), before, reduction="none", log_target=True).sum(-1)
            return pointwise[targets >= 0].mean()
        cost = torch.nn.functional.cross_entropy(logits, targets)
        return -cost if name == "ga" else cost


def worker(side: str, method: str, steps: int, dropout: float | None) -> None:
    given = options(steps, dropout, SIDES[side] or 1)
    times, losses = Reference(method, given).run() if side == "reference" else engine(method, given)
    triples = TRIPLES * (steps - WARM_UP)
    clock, processor = (triples / (last - first) for first, last in zip(times[WARM_UP], times[-1], strict=True))
    print(json.dumps({"clock": clock, "processor": processor, "MiB": peak_memory(), "losses": losses}))


def peak_memory() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(side: str, method: str, steps: int, dropout: float | None = None) -> dict[str, Any]:
    one_thread = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, __file__, "--worker", side, "--methods", method, "--steps", str(steps)]
    if dropout is not None:
        command += ["--dropout", str(dropout)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ | one_thread)
    return json.loads(done.stdout.splitlines()[-1])


def rows(method: str, steps: int, repeats: int, sheet: Sheet) -> Iterator[tuple[str, ...]]:
    """Measure one method: a row of the table for each side."""
    equal = {side: measure(side, method, WARM_UP + 2, dropout=0.0)["losses"] for side in SIDES}
    runs = [{side: measure(side, method, steps) for side in SIDES} for _ in range(repeats)]

    def median(side: str, what: str) -> float:
        return statistics.median(run[side][what] for run in runs)

    for side in SIDES:
        ratios = [f"{median(side, what) / median('reference', what):.2f}" for what in ("clock", "processor")]
        difference = max(abs(one - other) for one, other in zip(equal["reference"], equal[side], strict=True))
        found = {what: median(side, what) for what in ("clock", "processor", "MiB")} | {
            "ratio": median(side, "processor") / median("reference", "processor"),
            "loss": difference,
        }
        for name, value in found.items():
            if f"{method}.{side}.{name}" in sheet.figures:
                sheet.add(f"{method}.{side}.{name}", value)
        each = " ".join(f"{run[side]['processor']:.1f}" for run in runs)
        speeds = (f"{median(side, 'clock'):.1f}", f"{median(side, 'processor'):.1f}", each)
        yield method, side, *speeds, *ratios, f"{median(side, 'MiB'):.0f}", f"{difference:.0e}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--methods", default=",".join(TARGETS))
    parser.add_argument("--steps", type=int, default=12, help="optimizer steps of a measurement")
    parser.add_argument("--repeats", type=int, default=5, help="measurements of each side")
    parser.add_argument("--dropout", type=float)
    parser.add_argument("--worker", choices=list(SIDES))
    add_option(parser)
    given = parser.parse_args()
    if given.worker:
        worker(given.worker, given.methods, given.steps, given.dropout)
        return
    names = ("method", "side", "triples/s", "per processor s", "(each run)", "ratio", "by processor", "peak MiB")
    table, sheet = Table(*names, "loss differs by"), Sheet(figures())
    for method in given.methods.split(","):
        for row in rows(method, given.steps, given.repeats, sheet):
            table.add_row(*row)
    Console(width=150).print(table)
    print("to reach: " + ", ".join(f"{method} {ratio}x" for method, ratio in TARGETS.items()))
    print(json.dumps(store.environment()))
    sheet.write(given.json)


if __name__ == "__main__":
    main()

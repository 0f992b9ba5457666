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
from collections.abc import Callable
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import torch
from measure import ONE_THREAD, own_options, publish
from torch.nn.functional import kl_div
from transformers import get_cosine_schedule_with_warmup, set_seed

from safeeraser import data, models, objectives, unlearn
from safeeraser.config import UnlearnOptions
from safeeraser.data.images import ImageCache
from safeeraser.models import adapters, chat
from safeeraser.unlearn.batch import Sample, TripleDataset
from safeeraser.unlearn.order import EpochSampler

TARGETS = {"po+pd": 4.0, "kl+pd": 5.0}
"""How many times as many samples per second are to be reached."""
WARM_UP = 3
"""Steps before the clock starts."""
TRIPLES = 16
"""Triples per optimizer step, on both sides."""


SIDES = {"reference": None, "ours": TRIPLES, "ours, lean": 1}
"""The sides, and how many triples ours take in a pass."""
Moment = tuple[float, float]


def now() -> Moment:
    return time.perf_counter(), time.process_time()


def options(steps: int, dropout: float | None, batch: int) -> UnlearnOptions:
    spread = {"batch_size": batch, "accumulation": TRIPLES // batch, "checkpoint_steps": 6}  # 6: as in 120 steps
    given: UnlearnOptions = own_options("mini-llava", steps=steps, **spread)
    if dropout is not None:
        given.lora.dropout = dropout
    return given


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
    """The official loop.

    Args:
        vlm: The model with a fresh adapter.
        method: What to minimise.
        given: Budget and optimizer; ``accumulation`` triples make a step.
        dataset: The triples.
        images: Their images.
        second: The model that KL compares with; None where the method has no KL.
    """

    def __init__(
        self,
        vlm: models.VisionLanguageModel,
        method: objectives.Method,
        given: UnlearnOptions,
        dataset: TripleDataset,
        images: Any,
        second: Any = None,
    ) -> None:
        self.vlm, self.method, self.options, self.dataset, self.images = vlm, method, given, dataset, images
        self.second = second

    def run(self, goes_on: Callable[[int], bool] = lambda step: True) -> tuple[list[Moment], list[float]]:
        """Train; the time after every step, and the loss of every step. After each it is asked whether to go on."""
        model, given = self.vlm.model.train(), self.options
        parameters = [p for p in model.parameters() if p.requires_grad]
        decayed = [p for p in parameters if p.dim() > 1]
        others = [p for p in parameters if p.dim() <= 1]
        groups = [{"params": decayed, "weight_decay": given.weight_decay}, {"params": others, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=given.learning_rate)
        warm_up = int(given.warmup_ratio * given.steps + 0.999999)
        schedule = get_cosine_schedule_with_warmup(optimizer, warm_up, given.steps)
        order = cycle(EpochSampler(len(self.dataset), given.accumulation, given.seed))
        times, losses = [now()], []
        for step in range(1, given.steps + 1):
            total = 0.0
            for _ in range(given.accumulation):
                loss = self.loss(self.dataset[next(order)]) / given.accumulation
                loss.backward()
                total += loss.item()
            torch.nn.utils.clip_grad_norm_(parameters, given.max_grad_norm)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            losses.append(total)
            times.append(now())
            if not goes_on(step):
                break
        return times, losses

    def loss(self, rows: dict[Any, Sample]) -> torch.Tensor:
        parts = [(weight, term.name, rows[kind]) for term, weight in self.method.terms for kind in term.rows]
        return torch.stack([weight * self.term(name, sample) for weight, name, sample in parts]).sum()

    def term(self, name: str, sample: Sample) -> torch.Tensor:
        model = self.vlm.model
        image = self.images.get(sample.image)
        inputs, labels = chat.encode_samples(self.vlm, [image], [sample.question], [sample.answer], 512)
        inputs = {key: value.to(model.device) for key, value in inputs.items()}
        targets = labels[0, 1:].to(model.device)
        with torch.autocast(model.device.type, torch.bfloat16, enabled=model.dtype == torch.bfloat16):
            logits = model(**inputs).logits[0, :-1].float()
            if name == "kl":
                with torch.no_grad():
                    before = self.second(**inputs).logits[0, :-1].float().log_softmax(-1)
        if name == "kl":
            pointwise = kl_div(logits.log_softmax(-1), before, reduction="none", log_target=True).sum(-1)
            return pointwise[targets >= 0].mean()
        cost = torch.nn.functional.cross_entropy(logits, targets)
        return -cost if name == "ga" else cost


def reference(method: str, given: UnlearnOptions) -> Reference:
    """The official loop on the embedded model and benchmark."""
    parsed, benchmark = objectives.parse_method(method), data.load("pictogram")
    triples = data.training_triples(benchmark, parsed.rows, parsed.readers("decouple"))
    dataset = TripleDataset(triples, parsed.rows, benchmark.refusals, given.seed)
    set_seed(given.seed)
    vlm = adapters.attach(models.load("mini-llava"), given.lora)
    second = models.load("mini-llava").model if needs_second(parsed) else None
    set_seed(given.seed)
    return Reference(vlm, parsed, replace(given, accumulation=TRIPLES), dataset, ImageCache(benchmark), second)


def needs_second(method: objectives.Method) -> bool:
    """Whether the official loop holds a second model for a method."""
    return any(term.name == "kl" for term, _ in method.terms)


def worker(side: str, method: str, steps: int, dropout: float | None) -> None:
    given = options(steps, dropout, SIDES[side] or 1)
    times, losses = reference(method, given).run() if side == "reference" else engine(method, given)
    triples = TRIPLES * (steps - WARM_UP)
    clock, processor = (triples / (last - first) for first, last in zip(times[WARM_UP], times[-1], strict=True))
    print(json.dumps({"clock": clock, "processor": processor, "MiB": peak_memory(), "losses": losses}))


def peak_memory() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(side: str, method: str, steps: int, dropout: float | None = None) -> dict[str, Any]:
    command = [sys.executable, __file__, "--worker", side, "--methods", method, "--steps", str(steps)]
    if dropout is not None:
        command += ["--dropout", str(dropout)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ | ONE_THREAD)
    return json.loads(done.stdout.splitlines()[-1])


def rows(method: str, steps: int, repeats: int) -> dict[str, dict[str, float]]:
    """Measure one method, the sides in turn: medians, a row for each side."""
    equal = {side: measure(side, method, WARM_UP + 2, dropout=0.0)["losses"] for side in SIDES}
    runs = [{side: measure(side, method, steps) for side in SIDES} for _ in range(repeats)]

    def median(side: str, what: str) -> float:
        return statistics.median(run[side][what] for run in runs)

    found = {}
    for side in SIDES:
        speeds = {"triples per second": median(side, "clock"), "per processor second": median(side, "processor")}
        against = {
            "ratio by processor": median(side, "processor") / median("reference", "processor"),
            "loss differs by": max(abs(a - b) for a, b in zip(equal["reference"], equal[side], strict=True)),
        }
        row = speeds | {"peak MiB": median(side, "MiB")}
        found[f"{method}, {side}"] = row | (against if side != "reference" else {})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--methods", default=",".join(TARGETS))
    parser.add_argument("--steps", type=int, default=12, help="optimizer steps of a measurement")
    parser.add_argument("--repeats", type=int, default=5, help="measurements of each side")
    parser.add_argument("--dropout", type=float)
    parser.add_argument("--worker", choices=list(SIDES))
    given = parser.parse_args()
    if given.worker:
        worker(given.worker, given.methods, given.steps, given.dropout)
        return
    found: dict[str, dict[str, float]] = {}
    for method in given.methods.split(","):
        found |= rows(method, given.steps, given.repeats)
    publish({"unlearning": found})


if __name__ == "__main__":
    main()

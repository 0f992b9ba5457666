"""Rows of ``gpu.py`` about training: ours as ``safeeraser unlearn`` has it, and the loop of the official code."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from gpu_model import Photos, Scale, Texts, build, free, peaks, processor, wait
from transformers import TrainerCallback
from unlearning import Reference, needs_second

from safeeraser import models
from safeeraser.bench import estimate
from safeeraser.bench.estimate.compute import training_flops
from safeeraser.config import StepBatch, UnlearnOptions
from safeeraser.data import Triple
from safeeraser.models import adapters, chat, lean_lora
from safeeraser.objectives import Method, parse_method
from safeeraser.unlearn.arguments import training_arguments
from safeeraser.unlearn.batch import RowCollator, TripleDataset
from safeeraser.unlearn.order import EpochSampler
from safeeraser.unlearn.trainer import UnlearnTrainer

METHODS = ("po+pd", "kl+pd")
WARM_UP = 1
"""Steps before the clock starts; the optimizer's moments are made in the first."""
TRIPLES = 4
"""Of a record, which are about one image."""
STEPS = 100
"""More than are taken: the clock ends a measurement."""
GIB = 2**30


@dataclass(frozen=True)
class Load:
    """What goes through a model: the mean of the triples, and their longest."""

    text: float
    """Tokens of a row without its image, in the mean."""
    answer: float
    work: estimate.Workload
    """As ``plan`` reckons with it: every row as long as the longest."""

    def passes(self, image_tokens: int) -> tuple[estimate.Passes, estimate.Passes]:
        """Of a batch's rows without padding, for the policy and for the reference."""
        length, rows = image_tokens + self.text, (self.work.rows, self.work.reference_rows)
        policy, reference = (estimate.Passes.one_by_one(count, length, self.answer) for count in rows)
        return policy, reference


class Clock:
    """Times steps after the first ones, and says when enough of them were taken."""

    def __init__(self, scale: Scale) -> None:
        self._scale = scale
        self._start = self.seconds = 0.0
        self.steps = 0

    def goes_on(self, step: int) -> bool:
        """To be called after every step."""
        wait(self._scale.device)
        if step == WARM_UP:
            if self._scale.device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            self._start = time.perf_counter()
        self.steps, self.seconds = step - WARM_UP, time.perf_counter() - self._start
        return self.steps < 1 or (self.seconds < self._scale.seconds and step < STEPS)


class _Stop(TrainerCallback):
    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_training_stop = not self._clock.goes_on(state.global_step)


class Shapes:
    """A collator that keeps its time and the size of the largest batch it has made, padding included."""

    def __init__(self, collate: RowCollator) -> None:
        self._collate = collate
        self.rows = self.tokens = self.head = self.answer = self.triples = 0
        self.seconds = 0.0

    def __call__(self, items: Sequence[Any]) -> dict[str, Any]:
        start = time.perf_counter()
        batch = self._collate(items)
        self.seconds, self.triples = self.seconds + time.perf_counter() - start, self.triples + len(items)
        parts = [part["labels"] for part in batch["parts"]]
        tokens = sum(part.numel() for part in parts)
        if tokens > self.tokens:
            learnt = [part != chat.IGNORED for part in parts]
            self.rows, self.tokens = sum(map(len, parts)), tokens
            self.head = max(int(part.any(0).sum()) for part in learnt)
            self.answer = max(int(part.sum(1).max()) for part in learnt)
        return batch

    def work(self, planned: estimate.Workload, image_tokens: int) -> estimate.Workload:
        """What ``plan`` would reckon with if it knew the largest batch."""
        text = math.ceil(self.tokens / self.rows) - image_tokens
        return replace(planned, text=text, answer=self.answer, answers_span=self.head)


def passes(batch: int) -> int:
    """Of an optimizer step: two, as most who train take several, or one where that is work enough to measure."""
    return 2 if batch <= 8 else 1


def load_of(texts: Texts, method: Method, batch: int) -> Load:
    """Lengths of the triples as a method reads them."""
    dataset = TripleDataset(texts.triples, method.rows, texts.refusals, 0)
    samples = [sample for index in range(len(dataset)) for sample in dataset[index].values()]
    heads = [len(sample.question.split()) + 4 for sample in samples]  # <s> USER: ... ASSISTANT:, the image apart
    answers = [len(sample.answer.split()) + 1 for sample in samples]
    compared = {rows for term, _ in method.terms if "distribution" in term.needs for rows in term.rows}
    work = estimate.Workload(
        rows=len(method.rows) * batch,
        reference_rows=len(method.reference_rows) * batch,
        kept_distributions=len(compared) * batch,
        text=max(heads) + max(answers),
        answer=max(answers),
        answers_span=max(heads) + max(answers) - min(heads),
        accumulates=passes(batch) > 1,
    )
    count = len(samples)
    return Load(sum(heads) / count + sum(answers) / count, sum(answers) / count, work)


def options(scale: Scale) -> UnlearnOptions:
    """The paper's, but for a rate so small that random weights stay what they are."""
    return UnlearnOptions(
        lora=scale.lora,
        learning_rate=1e-7,
        steps=STEPS,
        batch_size=1,
        accumulation=scale.accumulation,
        checkpoint_steps=0,
        seed=0,
    )


def trainable(scale: Scale, lean: bool, model: Any = None) -> models.VisionLanguageModel:
    """A random model, or the one given, with an adapter, as ``unlearn`` makes it ready.

    ``lean``: with our LoRA's forward pass.
    """
    vlm = build(scale) if model is None else models.VisionLanguageModel("random", model, processor(scale))
    vlm = adapters.attach(vlm, scale.lora)
    if lean:
        lean_lora.make_lean(vlm.model)
    return vlm


def checkpoint(model: Any, wanted: bool) -> None:
    """Switch checkpointing on, as ``unlearn`` does, or off."""
    # its older name goes away with transformers 6
    name = "activation_checkpointing" if hasattr(model, "activation_checkpointing_enable") else "gradient_checkpointing"
    if wanted:
        getattr(model, f"{name}_enable")(**{f"{name}_kwargs": {"use_reentrant": False}})
    else:
        getattr(model, f"{name}_disable")()


def ours(
    scale: Scale,
    sizes: estimate.Sizes,
    vlm: models.VisionLanguageModel,
    name: str,
    batch: int,
    checkpointing: bool,
    quantization: str = "none",
    pack: bool | None = None,
) -> dict[str, float]:
    """A row: our Trainer with some triples at once.

    With ``pack`` given, four triples each are about one image, as in the benchmark, and stay together: packed or not.
    """
    method, texts, given = parse_method(name), Texts(scale), options(scale)
    spread = StepBatch(batch, passes(batch), 1)
    triples = texts.triples if pack is None else about_pictures(texts.triples)
    dataset = TripleDataset(triples, method.rows, texts.refusals, 0)
    collator = RowCollator(vlm, Photos(scale.photo), method, given.max_length, bool(pack))
    shapes, clock = Shapes(collator), Clock(scale)
    free(scale.device)
    checkpoint(vlm.model, checkpointing)
    vlm.model.train()
    with tempfile.TemporaryDirectory() as folder:
        trainer = UnlearnTrainer(
            vlm,
            method,
            {},
            {},
            EpochSampler(
                len(dataset), spread.global_batch, 0, [t.image for t in triples], "none" if pack is None else "image"
            ),
            args=training_arguments(given, spread, vlm.model, Path(folder)),
            train_dataset=dataset,
            data_collator=shapes,
            callbacks=[_Stop(clock)],
        )
        try:
            trainer.train()
        finally:  # the next Trainer wraps the forward pass anew
            trainer.accelerator.unwrap_model(vlm.model, keep_fp32_wrapper=False)
            vlm.model._is_accelerate_prepared = False
            trainer.optimizer = None
            vlm.model.zero_grad(set_to_none=True)
    load = load_of(texts, method, batch)
    flops = training_flops(sizes, *load.passes(sizes.image_tokens), checkpointing=checkpointing)
    done = {
        "triples/s": clock.steps * spread.global_batch / clock.seconds,
        # packed rows need fewer products than are reckoned with here
        **({} if pack else {"TFLOP/s": clock.steps * spread.accumulation * flops / clock.seconds / 1e12}),
        "CPU, ms": 1000 * shapes.seconds / shapes.triples,
        "triples": clock.steps * spread.global_batch,
        "seconds": clock.seconds,
    }
    if pack is not None:
        return done | peaks(scale.device)
    reckoned = shapes.work(load.work, sizes.image_tokens)
    lengths = {"plan GiB, true lengths": _peak(scale, sizes, reckoned, checkpointing, quantization)}
    return done | peaks(scale.device) | lengths


def about_pictures(triples: Sequence[Triple]) -> list[Triple]:
    """Four triples each about one image, as in the benchmark."""
    records = (number // TRIPLES for number in range(len(triples)))
    return [
        replace(triple, image=f"{record}.png", safe_image=f"{record}-safe.png")
        for record, triple in zip(records, triples, strict=True)
    ]


def planned(
    scale: Scale, sizes: estimate.Sizes, name: str, batch: int, checkpointing: bool, quantization: str = "none"
) -> dict[str, float]:
    """What ``plan`` says of a row before it is measured: every row as long as the longest."""
    work = load_of(Texts(scale), parse_method(name), batch).work
    return {"plan GiB": _peak(scale, sizes, work, checkpointing, quantization)}


def official(scale: Scale, sizes: estimate.Sizes, vlm: models.VisionLanguageModel, name: str) -> dict[str, float]:
    """A row: batch 1, a forward pass of its own for every sample, logits everywhere, a second model for KL."""
    method, texts, given = parse_method(name), Texts(scale), options(scale)
    dataset = TripleDataset(texts.triples, method.rows, texts.refusals, 0)
    clock = Clock(scale)
    free(scale.device)
    checkpoint(vlm.model, False)
    second = build(scale).model if needs_second(method) else None
    Reference(vlm, method, given, dataset, Photos(scale.photo), second).run(clock.goes_on)
    load = load_of(texts, method, 1)
    everywhere = replace(load, answer=sizes.image_tokens + load.text)
    flops = training_flops(sizes, *everywhere.passes(sizes.image_tokens))
    triples = clock.steps * scale.accumulation
    return {
        "triples/s": triples / clock.seconds,
        "TFLOP/s": triples * flops / clock.seconds / 1e12,
        "triples": triples,
        "seconds": clock.seconds,
    } | peaks(scale.device)


def _peak(
    scale: Scale, sizes: estimate.Sizes, work: estimate.Workload, checkpointing: bool, quantization: str
) -> float:
    return estimate.peak(sizes, work, quantization, checkpointing, scale.number_bytes).total / GIB

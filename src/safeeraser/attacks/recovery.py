"""Attacks by whoever holds the weights: what was unlearnt is learnt again, rounded away, or taken off."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from safeeraser.attacks.attack import Subject, on_weights
from safeeraser.errors import UserError
from safeeraser.store import stable_hash

if TYPE_CHECKING:
    from torch import Tensor

    from safeeraser.config import UnlearnOptions
    from safeeraser.data import Benchmark
    from safeeraser.models import VisionLanguageModel
    from safeeraser.objectives import Method

__all__ = ["adapter_off", "forget_samples", "quantize_4bit", "quantize_8bit", "relearn", "round_to_nearest"]


@on_weights("relearn", reads=("relearn_samples", "relearn_steps"), needs_adapter=True)
def relearn(subject: Subject) -> VisionLanguageModel:
    """A few steps of cross-entropy on a few unsafe answers of train records, then val questions as ever.

    A fresh adapter is trained on the unlearned model, whose own adapter is folded into the weights, as they would be
    published; rate, LoRA and projector are those of the unlearning.

    Source: relearning on a few examples in Lynch et al. 2024 (arXiv 2402.16835).
    """
    from safeeraser import models, unlearn
    from safeeraser.models import adapters

    spec, options = subject.spec, subject.options
    _refuse_quantised("relearn", subject)
    adapter = unlearn.run(
        spec.model,
        forget_samples(subject.benchmark, options.relearn_samples, options.seed),
        _on_unsafe_answers(),
        _training(spec.training_options(), options.relearn_samples, options.relearn_steps, options.seed),
        subject.workspace,
        lambda step, total, components: None,
        spec.loading_options(),
        after=subject.adapter,
    )
    return models.merge(adapters.load(subject.unlearned(), adapter))


@on_weights("quantize-8bit")
def quantize_8bit(subject: Subject) -> VisionLanguageModel:
    """Every linear layer but the output head is rounded to 8 bit.

    Source: Zhang et al. 2024 (arXiv 2410.16454), who find that what was unlearnt can come back. How it is rounded here:
    ``round_to_nearest``.
    """
    return _quantised(subject, 8)


@on_weights("quantize-4bit")
def quantize_4bit(subject: Subject) -> VisionLanguageModel:
    """Every linear layer but the output head is rounded to 4 bit.

    Source: as ``quantize_8bit``.
    """
    return _quantised(subject, 4)


@on_weights("adapter-off", needs_adapter=True)
def adapter_off(subject: Subject) -> VisionLanguageModel:
    """The adapter is taken off: whoever holds the base model holds what was to be forgotten.

    A check rather than an attack: ASR has to be that of the vanilla model.
    """
    from safeeraser import models

    return models.load(subject.spec.model, **asdict(subject.spec.loading_options()))


def forget_samples(benchmark: Benchmark, number: int, seed: int = 0) -> Benchmark:
    """The same benchmark with so many forget pairs, of as many different train records as there are.

    Args:
        benchmark: A benchmark with a train split.
        number: Forget pairs to keep, balanced over categories and keywords.
        seed: Which of a record's pairs comes first.

    Raises:
        UserError: If there are fewer, or ``number`` is less than 1.

    Example:
        >>> forget_samples(data.load("pictogram"), 8).split("train")[0].forget  # doctest: +SKIP
    """
    if number < 1:
        raise UserError(f"--relearn_samples {number} is too small: give at least 1")
    train = benchmark.limited(number).split("train")
    there = sum(len(record.forget) for record in train)
    if there < number:
        raise UserError(f"--relearn_samples {number}: data {benchmark.name!r} have {there} forget pairs in train")
    turns = sorted((turn, place) for place, record in enumerate(train) for turn in range(len(record.forget)))
    count = Counter(place for _, place in turns[:number])
    kept = []
    for place, record in enumerate(train):
        pairs = sorted(record.forget, key=lambda pair: stable_hash("relearn", seed, record.id, pair.question))
        kept.append(record.model_copy(update={"forget": tuple(pairs[: count[place]])}))
    fingerprint = stable_hash(benchmark.fingerprint, "forget samples", number, seed)
    return replace(benchmark, records=tuple(kept), fingerprint=fingerprint)


def round_to_nearest(weight: Tensor, bits: int) -> Tensor:
    """Round each row of a weight to whole steps of its greatest absolute value / (2^(bits - 1) - 1).

    Absmax quantisation per output channel, simulated: what comes back has the same type and shape, and at most
    2^bits - 1 different values a row. Activations are not rounded.

    Args:
        weight: (out, in).
        bits: 2 or more.

    Example:
        >>> import torch
        >>> round_to_nearest(torch.tensor([[1.0, 0.4, -0.9]]), 2)
        tensor([[ 1.,  0., -1.]])
    """
    step = weight.float().abs().amax(dim=1, keepdim=True) / (2 ** (bits - 1) - 1)
    rounded: Tensor = ((weight.float() / step.clamp(min=1e-12)).round() * step).to(weight.dtype)
    return rounded


def _quantised(subject: Subject, bits: int) -> VisionLanguageModel:
    import torch

    _refuse_quantised(f"quantize-{bits}bit", subject)
    vlm = subject.unlearned()
    head = vlm.model.get_output_embeddings()
    with torch.no_grad():
        for module in vlm.model.modules():
            if isinstance(module, torch.nn.Linear) and module is not head:
                module.weight.copy_(round_to_nearest(module.weight, bits))
    return vlm


def _refuse_quantised(name: str, subject: Subject) -> None:
    loaded = subject.spec.loading_options().quantization
    if loaded != "none":
        raise UserError(f"attack {name!r} needs whole weights, and this cell loads its model in {loaded}: leave it out")


def _on_unsafe_answers() -> Method:
    """Plain cross-entropy of the unsafe answers: the opposite of a forget term, so it is not registered as one."""
    from safeeraser.objectives import Method, Term, cross_entropy

    term = Term("relearn", ("forget",), frozenset(), lambda log_probs, options: cross_entropy(log_probs))
    return Method(((term, 1.0),))


def _training(options: UnlearnOptions, samples: int, steps: int, seed: int) -> UnlearnOptions:
    """The cell's training options, for so many steps on so few samples."""
    return replace(
        options,
        steps=steps,
        batch_size=min(samples, options.batch_size),
        accumulation=1,
        cache_reference=False,
        checkpoint_steps=0,
        tracker="none",
        seed=seed,
    )

"""Attacks by whoever holds the weights: what was unlearnt is learnt again, rounded away, or taken off."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Literal

from pydantic import PositiveInt

from safeeraser.attacks.attack import Subject, on_weights
from safeeraser.config import step_batch
from safeeraser.core.errors import UserError
from safeeraser.core.files import stable_hash

if TYPE_CHECKING:
    from torch import Tensor

    from safeeraser.data import Benchmark
    from safeeraser.models import VisionLanguageModel


@on_weights("relearn", needs_adapter=True)
def relearn(subject: Subject, *, samples: PositiveInt = 8, steps: PositiveInt = 10) -> VisionLanguageModel:
    """A few steps of cross-entropy on a few unsafe answers of train records, then val questions as ever.

    A fresh adapter is trained on the unlearned model, whose own adapter is folded into the weights, as they would be
    published; rate, LoRA and projector are those of the unlearning.

    Source: relearning on a few examples in Lynch et al. 2024 (arXiv 2402.16835).

    Args:
        subject: The unlearned model.
        samples: Forget pairs of train records that 'relearn' trains on.
        steps: Optimizer steps of 'relearn'.
    """
    return _tuned(subject, "relearn", "forget", samples, steps)


CURVE = (1, 2, 5, 20)
"""Steps of the attacks ``relearn-1`` ...; with ``relearn`` itself and the cell's own answers, the points of a curve."""
SAMPLES = (1, 2, 4, 16, 32)
"""Unsafe answers of the attacks ``relearn-of-1`` ..., 10 steps each; ``relearn`` with its 8 is the point between."""


def _point(name: str, samples: int, steps: int) -> None:
    """Add a point of a curve: ``relearn`` with both numbers fixed, so that curves of all cells have the same points."""

    def relearnt(subject: Subject) -> VisionLanguageModel:
        return _tuned(subject, name, "forget", samples, steps)

    relearnt.__doc__ = (
        f"As 'relearn', after {steps} step{'s' * (steps > 1)} on {samples} unsafe answer{'s' * (samples > 1)}."
    )
    on_weights(name, needs_adapter=True, pairs=samples)(relearnt)


for _steps in CURVE:
    _point(f"relearn-{_steps}", 8, _steps)
for _samples in SAMPLES:
    _point(f"relearn-of-{_samples}", _samples, 10)


@on_weights("benign", needs_adapter=True)
def benign(subject: Subject, *, samples: PositiveInt = 8, steps: PositiveInt = 10) -> VisionLanguageModel:
    """A few steps of cross-entropy on harmless answers of train records: fine-tuning that means no harm.

    As ``relearn``, on retain pairs, and nothing else.

    Source: Qi et al. 2023 (arXiv 2310.03693): safety is lost by fine-tuning on benign data, too.

    Args:
        subject: The unlearned model.
        samples: Retain pairs of train records that 'benign' trains on.
        steps: Optimizer steps of 'benign'.
    """
    return _tuned(subject, "benign", "retain", samples, steps)


@on_weights("projector-restored", needs_adapter=True)
def projector_restored(subject: Subject) -> VisionLanguageModel:
    """The projector is the original one again, the language model stays unlearned.

    What is unlearnt may sit in the projector alone (as VL-Eraser reports). A cell whose projector was not trained stays
    as it is.
    """
    import torch

    from safeeraser import models

    vlm = subject.unlearned()
    whole = models.load(subject.spec.model, **asdict(subject.spec.loading_options()))
    of_base = dict(whole.model.named_parameters())
    with torch.no_grad():
        for name, parameter in vlm.model.named_parameters():
            if name.startswith(models.parts(whole.model).projector):
                parameter.copy_(of_base[name])
    return vlm


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


def _tuned(
    subject: Subject, name: str, rows: Literal["forget", "retain"], samples: int, steps: int
) -> VisionLanguageModel:
    """The unlearned model after steps of cross-entropy on a few pairs of one kind."""
    from safeeraser import models
    from safeeraser.models import adapters
    from safeeraser.objectives import Method, Term, cross_entropy
    from safeeraser.unlearn import stage

    spec = subject.spec
    _refuse_quantised(name, subject)
    training = replace(
        spec.training_options(),
        steps=steps,
        global_batch=None,
        batch_size=min(samples, step_batch(spec.training_options()).batch_size),
        accumulation=1,
        cache_reference=False,
        checkpoint_steps=0,
        tracker="none",
        stop=None,
        text_forget=0.0,
        pd_noise=0.0,
        saliency=None,
        seed=subject.seed,
    )
    adapter = stage.run(
        spec.model,
        forget_samples(subject.benchmark, samples, subject.seed),
        # plain cross-entropy of the answers: the opposite of a forget term, so it is not registered as one
        Method(((Term(name, (rows,), frozenset(), cross_entropy), 1.0),)),
        training,
        subject.workspace,
        lambda step, total, components: None,
        spec.loading_options(),
        after=subject.adapter,
    )
    return models.merge(adapters.load(subject.unlearned(), adapter))


def forget_samples(benchmark: Benchmark, number: int, seed: int = 0) -> Benchmark:
    """The same benchmark with so many forget pairs, of as many different train records as there are.

    They are balanced over categories and keywords; ``seed`` decides which of a record's pairs comes first.

    Raises:
        UserError: If there are fewer, or ``number`` is less than 1.
    """
    if number < 1:
        raise UserError(f"{number} samples are too few for an attack: give at least 1")
    train = benchmark.limited(number).split("train")
    there = sum(len(record.forget) for record in train)
    if there < number:
        raise UserError(f"{number} samples for an attack: data {benchmark.name!r} have {there} forget pairs in train")
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
    2^bits - 1 different values a row. Activations are not rounded. ``weight``: (out, in); ``bits``: 2 or more.

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

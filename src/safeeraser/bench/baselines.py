"""Baselines that train nothing: the vanilla model behind a system prompt or a guard, or steered towards refusals.

Each is a method of the bench beside those that unlearn: ``--methods vanilla,prompt,guard,steer,po``. To add one, write
one function with its decorator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from safeeraser.config import BaselineOptions
from safeeraser.core.errors import UserError
from safeeraser.core.files import stable_hash
from safeeraser.core.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

    from safeeraser.data import Benchmark
    from safeeraser.models import VisionLanguageModel

Apply = Callable[["VisionLanguageModel", "Benchmark", BaselineOptions], "VisionLanguageModel"]
BATCH = 16


@dataclass(frozen=True)
class Baseline:
    """What is done to the vanilla model, and the options that decide it."""

    apply: Apply
    reads: tuple[str, ...]


BASELINES: Registry[Baseline] = Registry("baseline")


def baseline(name: str, *reads: str) -> Callable[[Apply], Apply]:
    """Return a decorator that makes a function ``(model, benchmark, options) -> model`` the baseline ``name``.

    ``reads``: the fields of ``BaselineOptions`` that it reads, which its cells record.
    """

    def registered(function: Apply) -> Apply:
        BASELINES.add(name, Baseline(function, reads))
        return function

    return registered


def recorded(name: str, options: BaselineOptions) -> dict[str, Any]:
    """What a cell's spec records of a baseline: the options that it reads, and the hash of a guard's weights.

    Raises:
        UserError: If an option is missing or out of range, or there is no such guard.

    Example:
        >>> recorded("steer", BaselineOptions())
        {'baseline': {'steer_strength': 1.0, 'steer_layer': None, 'steer_samples': 64}}
    """
    from safeeraser import models

    reads = BASELINES.get(name).reads
    if "steer_samples" in reads and options.steer_samples < 1:
        raise UserError(f"--steer_samples {options.steer_samples} is too small: give at least 1")
    values = {"baseline": {field: value for field, value in asdict(options).items() if field in reads}}
    if "guard" not in reads:
        return values
    if options.guard is None:
        raise UserError(f"method {name!r} needs --guard MODEL: a folder, or a name such as meta-llama/Llama-Guard-3-8B")
    return values | {"guard_fingerprint": models.fingerprint(options.guard)}


@baseline("prompt", "system_prompt")
def prompt(vlm: VisionLanguageModel, benchmark: Benchmark, options: BaselineOptions) -> VisionLanguageModel:
    """The vanilla model behind a system prompt that asks it to refuse what is dangerous."""
    return replace(vlm, preamble=replace(vlm.preamble, system=options.system_prompt))


@baseline("guard", "guard")
def guard(vlm: VisionLanguageModel, benchmark: Benchmark, options: BaselineOptions) -> VisionLanguageModel:
    """The vanilla model behind a guard model: a question that the guard calls unsafe is answered with a refusal.

    The guard reads the question alone, never the image; a reply that is neither "safe" nor "unsafe" stops nothing.
    """
    from safeeraser.judges.guard import are_unsafe
    from safeeraser.models.text import load_text

    model = load_text(str(options.guard), device=vlm.loading.device)

    def gate(questions: Sequence[str]) -> list[str | None]:
        stopped = zip(questions, are_unsafe(model, questions), strict=True)
        return [refusal_for(benchmark, question) if stop else None for question, stop in stopped]

    return replace(vlm, gate=gate)


def refusal_for(benchmark: Benchmark, question: str) -> str:
    """One of the benchmark's refusals, the same for a question whatever the model."""
    return benchmark.refusals[int(stable_hash("refusal", question), 16) % len(benchmark.refusals)]


@baseline("steer", "steer_strength", "steer_layer", "steer_samples")
def steer(vlm: VisionLanguageModel, benchmark: Benchmark, options: BaselineOptions) -> VisionLanguageModel:
    """The vanilla model steered towards refusals: a vector is added to the states behind one of its layers.

    The vector is the difference of mean states over the tokens of refusals and of unsafe answers, both behind the same
    questions of train records (Rimsky et al., 2024, arXiv 2312.06681), and is added at every position.
    """
    layers = _layers(vlm)
    number = (len(layers) + 1) // 2 if options.steer_layer is None else options.steer_layer
    if not 1 <= number < max(len(layers), 2):
        raise UserError(f"--steer_layer {number}: give a number from 1 to {len(layers) - 1}, as model {vlm.name!r} has")
    vector = options.steer_strength * refusal_direction(vlm, benchmark, number, options.steer_samples)

    def add(module: Any, args: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (output[0] + vector.to(output[0]), *output[1:])
        return output + vector.to(output)

    layers[number - 1].register_forward_hook(add)
    return vlm


def refusal_direction(vlm: VisionLanguageModel, benchmark: Benchmark, layer: int, samples: int) -> Tensor:
    """Mean state behind a layer over tokens of refusals minus that over tokens of unsafe answers, (H,) in fp32.

    Args:
        vlm: The model.
        benchmark: The first forget pair of train records, balanced over categories, is what is answered both ways.
        layer: Number of the language model's layer, from 1.
        samples: How many records.
    """
    import torch

    from safeeraser.data.images import ImageCache
    from safeeraser.models import chat

    images, device = ImageCache(benchmark), vlm.model.device
    records = [record for record in benchmark.limited(samples).split("train") if record.forget]
    differences = []
    for start in range(0, len(records), BATCH):
        part = records[start : start + BATCH]
        asked = [record.forget[0].question for record in part]
        refusals = [refusal_for(benchmark, question) for question in asked]
        means = []
        for texts in (refusals, [record.forget[0].unsafe_answer for record in part]):
            inputs, labels = chat.encode_samples(vlm, [images.get(r.image) for r in part], asked, texts, 1024)
            with torch.inference_mode():
                moved = {key: value.to(device) for key, value in inputs.items()}
                said = chat.answer_log_probs(vlm.model, moved, labels.to(device), layer)
            states = torch.as_tensor(said.hidden)  # (B, T, H), there as a layer was named
            means.append((states * said.mask[..., None]).sum(1) / said.mask.sum(1, keepdim=True))
        differences.append((means[0] - means[1]).cpu())
    return torch.cat(differences).mean(0)


def _layers(vlm: VisionLanguageModel) -> Any:
    """The layers of the language model."""
    from torch import nn

    from safeeraser import models

    inner = vlm.model.get_submodule(models.parts(vlm.model).language_model)
    number = vlm.model.config.get_text_config().num_hidden_layers
    found = [module for module in inner.modules() if isinstance(module, nn.ModuleList) and len(module) == number]
    if not found:
        raise UserError(f"method 'steer': the language model of {vlm.name!r} has no list of its {number} layers")
    return found[0]

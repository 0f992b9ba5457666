"""One small perturbation of pixels, the same for every image, that brings unsafe answers back."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import PositiveInt

from safeeraser.attacks.attack import Subject, on_model
from safeeraser.core import files
from safeeraser.core.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from safeeraser.data import Benchmark
    from safeeraser.models import VisionLanguageModel

LEVELS = 255
"""Steps of a pixel's value from 0 to 1, the unit of epsilon."""
STEPS, ON_CPU = 500, 50
FILE = "perturbation.safetensors"
MAX_LENGTH = 512
"""Longest question with its answer in tokens, as in training."""


@on_model("universal", "image", needs_adapter=True)
def universal(
    subject: Subject, *, steps: PositiveInt | None = None, epsilon: PositiveInt = 12, batch: PositiveInt = 8
) -> VisionLanguageModel:
    """One perturbation for all images, within 12 of 255 levels, optimised for unsafe answers of train records.

    It is sought by descent along the sign of the gradient of the answers' cross-entropy, a level a step, from zero,
    and added to val's images behind the processor, where pixels have the model's size; the weights stay as they are.

    Source: steps, step and epsilon are those of SUA, an attack on unlearned multimodal models; projected descent along
    the sign is Madry et al. 2018 (arXiv 1706.06083), one perturbation for all images Moosavi-Dezfooli et al. 2017
    (arXiv 1610.08401).

    Args:
        subject: The unlearned model.
        steps: Steps in which 'universal' seeks its perturbation; none: 500, and 50 without a GPU.
        epsilon: Greatest change of a pixel by 'universal', in levels of 255.
        batch: Unsafe answers of train records in a step of 'universal'.
    """
    from safetensors.torch import load_file, save

    vlm = subject.unlearned()
    pixels = Pixels.of(vlm)
    path = subject.workspace / FILE
    if not path.exists():
        steps = steps or (ON_CPU if vlm.model.device.type == "cpu" else STEPS)
        asked = {"steps": steps, "epsilon": epsilon, "batch": batch, "seed": subject.seed}
        delta, losses = optimise(vlm, pixels, subject.benchmark, **asked)
        lines = (json.dumps({"step": step, "loss": loss}) + "\n" for step, loss in enumerate(losses, 1))
        (subject.workspace / "train.jsonl").write_text("".join(lines), encoding="utf-8")
        with files.atomic(path, "wb") as file:
            file.write(save({"delta": delta}))
    perturb(vlm, pixels, load_file(path)["delta"])
    return vlm


@dataclass(frozen=True)
class Pixels:
    """How a processor normalises pixels: (value - mean) / std of each channel, all (3, 1, 1)."""

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, vlm: VisionLanguageModel) -> Pixels:
        """Read it off a model's processor.

        Raises:
            UserError: If the processor does not give one tensor of pixels of a fixed size.

        Example:
            >>> from safeeraser import models
            >>> Pixels.of(models.load("mini-llava")).std.flatten().tolist()
            [0.5, 0.5, 0.5]
        """
        import torch
        from PIL import Image

        from safeeraser.models.chat import encode_prompts

        shapes = set()
        for size in ((336, 336), (500, 200)):
            values = encode_prompts(vlm, [Image.new("RGB", size)], ["?"]).get("pixel_values")
            shapes.add(tuple(values.shape) if isinstance(values, torch.Tensor) else ())
        made: Any = getattr(vlm.processor, "image_processor", None)
        rescales = abs(getattr(made, "rescale_factor", 0) * LEVELS - 1) < 1e-6
        if len(shapes) > 1 or [*map(len, shapes)] != [4] or not rescales:
            raise UserError(
                f"attack 'universal' needs a processor that makes one tensor of pixels of a fixed size, and that of "
                f"model {vlm.name!r} does not: leave it out"
            )
        normal = (made.image_mean, made.image_std) if made.do_normalize else (0.0, 1.0)
        mean, std = (torch.tensor(value).expand(3).view(3, 1, 1) for value in normal)
        return cls(mean, std)

    def moved(self, values: Tensor, delta: Tensor) -> Tensor:
        """Add to pixels and normalise again; no pixel leaves black to white.

        Args:
            values: (B, 3, H, W) as the processor makes them.
            delta: (3, H, W) in levels of 255.
        """
        mean, std = self.mean.to(values.device), self.std.to(values.device)
        shown = values.float() * std + mean + delta.to(values.device) / LEVELS
        return ((shown.clamp(0, 1) - mean) / std).to(values.dtype)


def optimise(
    vlm: VisionLanguageModel, pixels: Pixels, benchmark: Benchmark, *, steps: int, epsilon: int, batch: int, seed: int
) -> tuple[Tensor, list[float]]:
    """Seek the perturbation; its values are whole levels, so that an image with it is one that a file can hold.

    Args:
        vlm: The model, without an adapter beside its weights.
        pixels: Of ``Pixels.of``.
        benchmark: Its train records' forget pairs are what is learnt.
        steps: How many.
        epsilon: Greatest absolute value, in levels of 255.
        batch: Forget pairs of a step.
        seed: Decides which pairs.

    Returns:
        The perturbation, (3, H, W) in levels of 255, and the loss before each step, in nats per token.
    """
    import torch

    from safeeraser.data.images import ImageCache
    from safeeraser.models import chat

    pairs = [(record.image, pair) for record in benchmark.split("train") for pair in record.forget]
    images, drawn, losses = ImageCache(benchmark), random.Random(seed), []
    vlm.model.requires_grad_(False)
    delta: Tensor | None = None
    for _ in range(steps):
        chosen = drawn.sample(pairs, min(batch, len(pairs)))
        inputs, labels = chat.encode_samples(
            vlm,
            [images.get(image) for image, _ in chosen],
            [pair.question for _, pair in chosen],
            [pair.unsafe_answer for _, pair in chosen],
            MAX_LENGTH,
        )
        inputs = {key: value.to(vlm.model.device) for key, value in inputs.items()}
        delta = torch.zeros_like(inputs["pixel_values"][0], dtype=torch.float32) if delta is None else delta
        delta.requires_grad_(True)
        moved = inputs | {"pixel_values": pixels.moved(inputs["pixel_values"], delta)}
        said = chat.answer_log_probs(vlm.model, moved, labels.to(vlm.model.device))
        loss = -(said.answer.sum(1) / said.mask.sum(1)).mean()
        (gradient,) = torch.autograd.grad(loss, delta)
        delta = (delta.detach() - gradient.sign()).clamp(-epsilon, epsilon)
        losses.append(loss.item())
    if delta is None:
        raise ValueError("steps must be 1 or more")
    return delta.cpu(), losses


def perturb(vlm: VisionLanguageModel, pixels: Pixels, delta: Tensor) -> None:
    """Have a model see every image with a perturbation, (3, H, W) in levels of 255; the processor stays."""

    def add(module: Any, args: tuple[Any, ...], given: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        values = given.get("pixel_values")
        return args, given if values is None else given | {"pixel_values": pixels.moved(values, delta)}

    vlm.model.register_forward_pre_hook(add, with_kwargs=True)

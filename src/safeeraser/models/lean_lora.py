"""LoRA layers whose training needs less memory and time than PEFT's.

PEFT writes ``y = W x + s B A dropout(x)`` as five operations. Autograd then keeps ``dropout(x)``, the mask and ``A
dropout(x)``, for each of the layers that read the same ``x``. Here the last four are one operation, which keeps ``x``
itself (once, however many layers read it), the mask and ``A dropout(x)``. Values are PEFT's but for rounding; weights,
files and everything outside training are PEFT's.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from peft.tuners import lora
from torch import Tensor, nn


def make_lean(model: nn.Module) -> None:
    """Give PEFT's plain LoRA layers (not those of quantised weights) the lean forward pass, in place.

    Example:
        >>> from safeeraser import models
        >>> from safeeraser.config import LoraOptions
        >>> from safeeraser.models import adapters
        >>> vlm = adapters.attach(models.load("mini-llava"), LoraOptions(rank=4))
        >>> make_lean(vlm.model)
        >>> sum(isinstance(module, LeanLinear) for module in vlm.model.modules())
        21
    """
    for module in model.modules():
        if type(module) is lora.Linear:
            module.__class__ = LeanLinear


class LeanLinear(lora.Linear):  # type: ignore[misc]
    """PEFT's ``lora.Linear`` with another forward pass in training."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """``x`` (..., in) to (..., out)."""
        active = [name for name in self.active_adapters if name in self.lora_A]
        usual = not self.training or self.disable_adapters or self.merged or self.lora_variant or kwargs or args
        if usual or len(active) != 1:
            result: Tensor = super().forward(x, *args, **kwargs)
            return result
        (name,) = active
        p = getattr(self.lora_dropout[name], "p", 0.0)
        base = self.base_layer(x)
        dropped = draw_dropped(x, p) if p > 0 else None
        scale = self.scaling[name] / (1 - p)
        added: Tensor = _AddLowRank.apply(  # type: ignore[no-untyped-call]
            base, x.to(base.dtype), self.lora_A[name].weight, self.lora_B[name].weight, dropped, scale
        )
        return added


def draw_dropped(values: Tensor, p: float) -> Tensor:
    """Draw the entries that dropout sets to zero, each with probability 0 < ``p`` < 1.

    On a CPU, where a random number for every entry would cost more than its use, the distances from one dropped entry
    to the next are drawn: they follow a geometric distribution.

    Returns:
        Their indices in the flattened tensor, ascending; on other devices a boolean tensor of that shape, True where
        an entry stays.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> 900 < len(draw_dropped(torch.ones(4000), 0.25)) < 1100
        True
    """
    if values.device.type != "cpu":
        kept: Tensor = torch.native_dropout(values, p, True)[1]
        return kept
    size = values.numel()
    enough = int(size * p + 8 * math.sqrt(size * p * (1 - p))) + 16  # 8 standard deviations above the mean
    words = torch.empty(enough // 2 + 1, dtype=torch.int64).random_(-(2**63), None).view(torch.int32)
    uniform = words.double().add_(2**31 + 0.5).mul_(2**-32)  # in (0, 1)
    gaps = uniform.log_().mul_(1 / math.log1p(-p)).long().add_(1)
    places = gaps.cumsum(0).sub_(1)
    return places[: int(torch.searchsorted(places, size))].clone()  # what is kept is no larger than it must be


def drop_(values: Tensor, dropped: Tensor) -> Tensor:
    """Zero, in place, the entries that ``draw_dropped`` drew.

    Example:
        >>> drop_(torch.ones(2, 2), torch.tensor([1, 2]))
        tensor([[1., 0.],
                [0., 1.]])
    """
    if dropped.dtype is torch.bool:
        return values.mul_(dropped)
    values.view(-1).index_fill_(0, dropped, 0.0)
    return values


class _AddLowRank(torch.autograd.Function):
    """``base + scale dropout(x) A^T B^T``, written into ``base``; dropout without its own scale."""

    @staticmethod
    def forward(
        context: Any, base: Tensor, x: Tensor, a: Tensor, b: Tensor, dropped: Tensor | None, scale: float
    ) -> Tensor:
        inner = _dropout(x, dropped).flatten(0, -2) @ a.to(x.dtype).T
        base.flatten(0, -2).addmm_(inner, b.to(x.dtype).T, alpha=scale)
        context.mark_dirty(base)
        context.save_for_backward(x, a, b, dropped, inner)
        context.scale = scale
        return base

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, a, b, dropped, inner = context.saved_tensors
        rows = gradient.flatten(0, -2)
        through = (rows @ b.to(rows.dtype)).mul_(context.scale)
        to_b = (rows.T @ inner).mul_(context.scale).to(b.dtype)
        to_a = (through.T @ _dropout(x, dropped).flatten(0, -2)).to(a.dtype)
        to_x = (through @ a.to(rows.dtype)).view(x.shape)
        return gradient, to_x if dropped is None else drop_(to_x, dropped), to_a, to_b, None, None


def _dropout(x: Tensor, dropped: Tensor | None) -> Tensor:
    return x if dropped is None else drop_(x.clone(memory_format=torch.contiguous_format), dropped)

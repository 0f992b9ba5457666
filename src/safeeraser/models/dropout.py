"""Dropout that is cheap on a CPU, where drawing a random number for every entry costs more than its use."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

_BITS = 16


class CheapDropout(nn.Module):
    """Dropout with 16 random bits per entry, drawn four entries at a time; otherwise as ``nn.Dropout``.

    The share of entries that are dropped is rounded to a multiple of 2**-16 (0.05 to 0.0500031), and what is left is
    scaled by that very share, so that the expectation is the input's.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> dropped = CheapDropout(0.25)(torch.ones(4000, requires_grad=True))
        >>> 900 < int((dropped == 0).sum()) < 1100, round(dropped.max().item(), 6)
        (True, 1.333333)
    """

    def __init__(self, p: float) -> None:
        """Drop a share ``p`` of the entries, from 0 to less than 1."""
        super().__init__()
        self.p = p
        self._dropped = min(round(p * 2**_BITS), 2**_BITS - 1)

    def forward(self, values: Tensor) -> Tensor:
        """Drop in training, else leave as it is."""
        if not self.training or self._dropped == 0:
            return values
        words = torch.empty(-(-values.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        kept = words.view(torch.int16)[: values.numel()].view(values.shape) >= self._dropped - 2 ** (_BITS - 1)
        scaled: Tensor = _Masked.apply(values, kept, 2**_BITS / (2**_BITS - self._dropped))  # type: ignore[no-untyped-call]
        return scaled


class _Masked(torch.autograd.Function):
    """Multiply by a boolean mask and a number, keeping no more than the mask for the way back."""

    @staticmethod
    def forward(context: Any, values: Tensor, mask: Tensor, scale: float) -> Tensor:
        context.save_for_backward(mask)
        context.scale = scale
        return (values * mask).mul_(scale)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (mask,) = context.saved_tensors
        return (gradient * mask).mul_(context.scale), None, None


def make_cheap(model: nn.Module) -> None:
    """Replace every ``nn.Dropout`` of a model on a CPU; elsewhere dropout is cheap as it is.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1))
        >>> make_cheap(model)
        >>> type(model[1]).__name__
        'CheapDropout'
    """
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Dropout) and all(p.device.type == "cpu" for p in model.parameters()):
                setattr(module, name, CheapDropout(child.p))

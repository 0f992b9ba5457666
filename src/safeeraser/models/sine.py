"""SineProject: the projector's weights are W + sin(dW), with W frozen and dW trained from zero."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


class Sine(nn.Module):
    """A parametrization: what is trained is dW, what the layer sees is W + sin(dW).

    Source: SineProject (Garg et al., 2025, arXiv 2511.18444). No entry moves by more than 1, whatever the step. Our
    choice: biases are treated like weights, b + sin(db), so that the whole update of the projector is bounded.

    Example:
        >>> layer = nn.Linear(2, 2)
        >>> before = layer.weight.detach().clone()
        >>> _ = parametrize.register_parametrization(layer, "weight", Sine(before))
        >>> torch.equal(layer.weight, before), layer.parametrizations.weight.original.abs().max().item()
        (True, 0.0)
    """

    base: Tensor

    def __init__(self, base: Tensor) -> None:
        super().__init__()
        # not saved with the adapter, as the model has it
        self.register_buffer("base", base, persistent=False)

    def forward(self, delta: Tensor) -> Tensor:
        """W + sin(dW)."""
        return self.base + torch.sin(delta)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """The dW that gives a weight, each entry between -pi/2 and pi/2; a weight out of reach gets the nearest."""
        return torch.asin((weight - self.base).clamp(-1, 1))


def add_parametrization(model: Any) -> None:
    """Parametrize every parameter of the tuned projector as W + sin(dW), with dW = 0, in place."""
    for projector in _projectors(model):
        for module in list(projector.modules()):
            for name, parameter in list(module.named_parameters(recurse=False)):
                base = parameter.detach().clone()
                parametrize.register_parametrization(module, name, Sine(base))


def has_parametrization(model: Any) -> bool:
    """Whether the tuned projector is parametrized."""
    return any(isinstance(module, Sine) for projector in _projectors(model) for module in projector.modules())


def remove_parametrization(model: Any) -> None:
    """Make the parameters plain ones again, with the values W + sin(dW)."""
    for projector in _projectors(model):
        for module in list(projector.modules()):
            if parametrize.is_parametrized(module):
                for name in list(module.parametrizations):  # type: ignore[arg-type]
                    parametrize.remove_parametrizations(module, name)


def _projectors(model: Any) -> Iterator[nn.Module]:
    from peft.utils.other import ModulesToSaveWrapper

    for module in model.modules():
        if isinstance(module, ModulesToSaveWrapper):
            yield from module.modules_to_save.values()

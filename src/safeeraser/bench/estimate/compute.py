"""Floating-point operations of training and answering, from sizes: docs/plan.md says what is counted.

A multiplication with its addition counts as two. What is cheap beside matrix products (norms, activations, softmax,
the optimizer) is left out.
"""

from __future__ import annotations

from safeeraser.bench.estimate.passes import Passes
from safeeraser.bench.estimate.sizes import Sizes


def training_flops(sizes: Sizes, policy: Passes, reference: Passes | None = None, checkpointing: bool = False) -> float:
    """Operations of one forward and backward pass over a triple.

    The frozen weights take a product forward and one for the gradient of their input; LoRA and projector a third, for
    their own. The vision tower has no backward pass. Checkpointing runs the layers forward once more. ``policy`` is of
    the rows that are trained on, ``reference`` of those that the reference is run on beside them.

    Example:
        >>> from safeeraser.config import LoraOptions
        >>> from safeeraser.bench.estimate.sizes import measure
        >>> sizes = measure("llava-1.5-7b", LoraOptions(), 336, 336)
        >>> flops = training_flops(sizes, Passes.one_by_one(rows=3, length=576 + 120, answer=80))
        >>> round(flops / 1e12)
        59
    """
    layers, attention = _layers(sizes, policy.tokens), _attention(sizes, policy.tokens, policy.squares)
    lora = 2.0 * sizes.lora * policy.tokens
    flops = policy.sequences * (_tower(sizes) + 3 * _projector(sizes)) + 2 * _head(sizes, policy.answers)
    flops += 2 * layers + 3 * attention + 3 * lora + (layers + attention + lora if checkpointing else 0.0)
    if reference is None:
        return flops
    flops += _layers(sizes, reference.tokens) + _attention(sizes, reference.tokens, reference.squares)
    return flops + reference.sequences * (_tower(sizes) + _projector(sizes)) + _head(sizes, reference.answers)


def answering_flops(sizes: Sizes, prompt: float, new: float) -> float:
    """Operations of an answer of ``new`` tokens to ``prompt`` tokens and an image, with keys and values kept.

    Example:
        >>> from safeeraser.config import LoraOptions
        >>> from safeeraser.bench.estimate.sizes import measure
        >>> round(answering_flops(measure("llava-1.5-7b", LoraOptions(), 336, 336), prompt=40, new=128) / 1e12, 1)
        10.3
    """
    length = sizes.image_tokens + prompt + new
    layers = _layers(sizes, length) + _attention(sizes, length, length**2)
    return _tower(sizes) + _projector(sizes) + layers + _head(sizes, new)


def _layers(sizes: Sizes, tokens: float) -> float:
    """Of the language model's layers; its embedding is looked up, not multiplied."""
    return 2.0 * (sizes.parts["language model"] - sizes.vocabulary * sizes.hidden) * tokens


def _attention(sizes: Sizes, tokens: float, squares: float) -> float:
    """Of queries with keys and of weights with values, counted without regard to what is masked."""
    attended = squares + sizes.cross_layers / sizes.layers * sizes.attended_tokens * tokens
    return 4.0 * sizes.layers * sizes.attention * attended


def _head(sizes: Sizes, positions: float) -> float:
    return 2.0 * sizes.vocabulary * sizes.hidden * positions


def _tower(sizes: Sizes) -> float:
    """Of the vision tower, of whose patches each is taken to be a token."""
    return 2.0 * sizes.parts["vision tower"] * (sizes.image_tokens + sizes.attended_tokens)


def _projector(sizes: Sizes) -> float:
    return 2.0 * sizes.parts["projector"] * sizes.image_tokens

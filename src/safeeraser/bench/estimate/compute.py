"""Floating-point operations of training and answering, from sizes: docs/plan.md says what is counted.

A multiplication with its addition counts as two. What is cheap beside matrix products (norms, activations, softmax,
the optimizer) is left out.
"""

from __future__ import annotations

from safeeraser.bench.estimate.sizes import Sizes


def training_flops(
    sizes: Sizes,
    rows: float,
    text: float,
    answer: float,
    reference_rows: float = 0,
    checkpointing: bool = False,
    shared: float = 1.0,
    reference_shared: float = 1.0,
) -> float:
    """Operations of one forward and backward pass over some rows.

    The frozen weights take a product forward and one for the gradient of their input; LoRA and projector a third, for
    their own. The vision tower has no backward pass. Checkpointing runs the layers forward once more.

    Args:
        sizes: The model's.
        rows: Rows of the policy.
        text: Mean tokens of a row without its image.
        answer: Positions of a row at which there are logits.
        reference_rows: Rows that the reference is run on beside them.
        checkpointing: Whether activations are computed twice.
        shared: Rows about one picture that are packed into one sequence, in the mean.
        reference_shared: Of the reference.

    Example:
        >>> from safeeraser.config import LoraOptions
        >>> from safeeraser.bench.estimate.sizes import measure
        >>> flops = training_flops(measure("llava-1.5-7b", LoraOptions(), 336, 336), rows=3, text=120, answer=80)
        >>> round(flops / 1e12)
        59
    """
    projector = 2.0 * sizes.parts["projector"] * sizes.image_tokens
    length = sizes.image_tokens + shared * text
    layers, attention, lora = _layers(sizes, length), _attention(sizes, length), 2.0 * sizes.lora * length
    policy = _tower(sizes) + 3 * projector + 2 * layers + 3 * attention + 3 * lora + 2 * shared * _head(sizes, answer)
    policy += layers + attention + lora if checkpointing else 0.0
    length = sizes.image_tokens + reference_shared * text
    reference = _tower(sizes) + projector + _layers(sizes, length) + _attention(sizes, length)
    reference += reference_shared * _head(sizes, answer)
    return rows / shared * policy + reference_rows / reference_shared * reference


def answering_flops(sizes: Sizes, prompt: float, new: float) -> float:
    """Operations of one answer, with keys and values kept.

    Args:
        sizes: The model's.
        prompt: Tokens of the question without its image.
        new: Tokens of the answer.

    Example:
        >>> from safeeraser.config import LoraOptions
        >>> from safeeraser.bench.estimate.sizes import measure
        >>> round(answering_flops(measure("llava-1.5-7b", LoraOptions(), 336, 336), prompt=40, new=128) / 1e12, 1)
        10.3
    """
    length = sizes.image_tokens + prompt + new
    projector = 2.0 * sizes.parts["projector"] * sizes.image_tokens
    return _tower(sizes) + projector + _layers(sizes, length) + _attention(sizes, length) + _head(sizes, new)


def _layers(sizes: Sizes, tokens: float) -> float:
    """Of the language model's layers; its embedding is looked up, not multiplied."""
    return 2.0 * (sizes.parts["language model"] - sizes.vocabulary * sizes.hidden) * tokens


def _attention(sizes: Sizes, length: float) -> float:
    """Of queries with keys and of weights with values, counted without regard to what is masked."""
    attended = length + sizes.cross_layers / sizes.layers * sizes.attended_tokens
    return 4.0 * sizes.layers * sizes.attention * length * attended


def _head(sizes: Sizes, positions: float) -> float:
    return 2.0 * sizes.vocabulary * sizes.hidden * positions


def _tower(sizes: Sizes) -> float:
    """Of the vision tower, of whose patches each is taken to be a token."""
    return 2.0 * sizes.parts["vision tower"] * (sizes.image_tokens + sizes.attended_tokens)

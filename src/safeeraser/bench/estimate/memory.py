"""Peak memory of one training process, from sizes: docs/plan.md derives the formula and says how far it holds.

``c`` is the bytes of a number in a forward pass: 2 (bfloat16) or 4 (float32). The bytes of a layer are what autograd
keeps of it, counted tensor by tensor; a test compares them with what it really keeps.
"""

from __future__ import annotations

from dataclasses import dataclass

from safeeraser.bench.estimate.sizes import Sizes

WEIGHT_BYTES: dict[str, float] = {"8bit": 1.0, "4bit": 0.5 + 1 / 64 + 4 / (64 * 256)}
"""Per quantised weight; NF4 with double quantisation has a byte per 64 weights and a float32 per 256 of these bytes."""


@dataclass(frozen=True)
class Workload:
    """What goes through the model at once."""

    rows: int
    """Rows of a forward pass: triples of a batch times the kinds of rows that the method reads."""
    reference_rows: int
    """Rows that the reference model is run on beside them."""
    kept_distributions: int
    """Rows whose whole distributions a term reads (KL, UNDIAL, CE-U)."""
    text: float
    """Tokens of the longest row without its image; of packed rows, which are not padded, of the mean one."""
    answer: float
    """Tokens of the longest answer; of packed rows of the mean one."""
    answers_span: float
    """Positions at which some row of the batch has an answer token; logits are made there."""
    accumulates: bool = False
    """Whether gradients are kept over several forward passes."""
    shared: float | None = None
    """Rows behind one image, in the mean, where rows are packed; None: they are one by one."""


@dataclass(frozen=True)
class Memory:
    """Bytes at the peak."""

    weights: float
    trained: float
    """Trained weights in float32, their AdamW moments, and gradients where they are there at the peak."""
    activations: float
    logits: float

    @property
    def total(self) -> float:
        """All of it; what the device needs for itself is not in it."""
        return self.weights + self.trained + self.activations + self.logits


def peak(
    sizes: Sizes,
    work: Workload,
    quantization: str = "none",
    checkpointing: bool = False,
    number_bytes: int = 2,
) -> Memory:
    """Estimate the peak of a training step: the larger of the start of the backward pass and the optimizer step.

    ``number_bytes`` are 2 for bfloat16 weights and autocast, 4 for float32.

    Example:
        >>> from safeeraser.config import LoraOptions
        >>> from safeeraser.bench.estimate.sizes import measure
        >>> work = Workload(rows=3, reference_rows=0, kept_distributions=0, text=300, answer=200, answers_span=250)
        >>> sizes = measure("llava-1.5-7b", LoraOptions(), 336, 336)
        >>> round(peak(sizes, work).total / 2**30), round(peak(sizes, work, "4bit", checkpointing=True).total / 2**30)
        (31, 6)
    """
    bytes_of_quantised = WEIGHT_BYTES.get(quantization, number_bytes)
    weights = sizes.quantised * bytes_of_quantised + (sizes.parameters - sizes.quantised) * number_bytes
    tokens = _tokens(sizes, work)
    layer = layer_bytes(sizes, work, number_bytes, mask_bytes=1, lean=quantization == "none")
    ends = tokens * 4 * sizes.hidden + _of_images(sizes, work) * 2 * number_bytes * sizes.hidden
    backward = tokens * (number_bytes * (2 * sizes.hidden + 2 * sizes.intermediate) + 4 * sizes.intermediate)
    kept = sizes.layers * (tokens * number_bytes * sizes.hidden if checkpointing else layer)
    logits = logits_bytes(sizes, work, number_bytes)
    in_layer = backward + (layer if checkpointing else 0)  # the logits are gone by then
    moments = 12 * sizes.trainable + (4 * sizes.trainable if work.accumulates else 0)
    start = Memory(weights, moments, kept + ends + max(0.0, in_layer - logits), logits)
    # gradients, and what AdamW makes beside them: the root of the second moment
    step = Memory(weights, 20 * sizes.trainable, 0.0, 0.0)
    return max(start, step, key=lambda memory: memory.total)


def _tokens(sizes: Sizes, work: Workload) -> float:
    return _of_images(sizes, work) + work.rows * work.text


def _of_images(sizes: Sizes, work: Workload) -> float:
    return work.rows / (work.shared or 1) * sizes.image_tokens


def layer_bytes(sizes: Sizes, work: Workload, number_bytes: int, mask_bytes: float, lean: bool = True) -> float:
    """What autograd keeps of one layer of the language model for a whole batch (a mean where some cross-attend).

    ``mask_bytes`` are those of a dropout mask's element: 1 on CUDA; on the CPU 8 of each that is dropped.

    Two norms keep their input in float32. Layers with LoRA keep their input, which q, k and v share, and gate and up
    (o's is attention's result), each its dropout's mask, and what comes out of A; the frozen weights keep nothing.
    Attention keeps queries, keys and values of all heads (grouped ones are repeated), its result and the mask. That of
    packed rows has no mask and is made again for the gradient, but for the result behind each image, which is kept
    once more. The feed-forward part keeps gate, activation and up.
    """
    c, h, f = number_bytes, sizes.hidden, sizes.intermediate
    masks = mask_bytes * (5 * h + sizes.attention + f) if sizes.dropout else 0
    inputs = c * (2 * h + f if lean else 5 * h + sizes.attention + f) + masks
    attention, pictures = 4.0 * c * sizes.attention, 0.0
    if work.shared is None:
        attention += c * (sizes.image_tokens + work.text) + 4 * sizes.heads
    else:
        attention -= 0 if lean else c * sizes.attention  # what o's LoRA keeps is all that is kept of the result
        pictures = _of_images(sizes, work) * (c * sizes.attention + 4 * sizes.heads)
    per_token = 8 * h + 8 + inputs + 7 * sizes.rank * c + attention + 3 * c * f
    # what is attended to is the same for all layers
    per_attended = (mask_bytes * 2 * h if sizes.dropout else 0) + 4 * sizes.keys + 2 * c * sizes.attention
    crossed = sizes.cross_layers / sizes.layers * sizes.attended_tokens * per_attended
    copies = c * sizes.lora / sizes.layers if c == 2 and not lean else 0  # autocast's of the LoRA
    return _tokens(sizes, work) * per_token + pictures + work.rows * crossed + copies


def logits_bytes(sizes: Sizes, work: Workload, number_bytes: int) -> float:
    """Logits where answers are, their log-softmax in float32 with two gradients of it, and what a reference adds."""
    c = number_bytes
    forward = c * work.answers_span + (c + (4 if c == 2 else 0) + 4) * work.answer
    policy = work.rows * max(forward, 12 * work.answer)
    compared = 20 * work.kept_distributions * work.answer  # both selected, their divergence, and gradients
    reference = work.reference_rows * (4 * work.answer + c * work.answers_span)
    return sizes.vocabulary * (policy + compared + reference)

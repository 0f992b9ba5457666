"""What goes through a model, and the floating-point operations of training and answering, as docs/plan.md counts them.

A multiplication with its addition counts as two. What is cheap beside matrix products (norms, activations, softmax,
the optimizer) is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

from safeeraser.bench.estimate.costs import TEMPLATE_TOKENS, tokens_of
from safeeraser.bench.estimate.memory import Workload
from safeeraser.bench.estimate.sizes import Sizes
from safeeraser.config import UnlearnOptions
from safeeraser.data import Triple
from safeeraser.objectives import Rows

LOOKED_AT = 512
"""Triples of an epoch whose passes are counted; the mean of so many lengths is within some 2 %."""


@dataclass(frozen=True)
class Passes:
    """For one triple, in the mean."""

    pictures: float
    """One for each row; one for several where they are packed."""
    tokens: float
    """Image tokens included; rows one by one are as long as the longest that goes through with them."""
    scores: float
    """Of attention, for each head: the squares of rows; of packed rows what they see, but for the causal mask."""
    answers: float
    """Positions at which there are logits."""
    runs: float
    """Of the model: one for each part of a batch."""
    most: tuple[float, float, float] = (0, 0, 0)
    """Tokens, images and answers of the batch that has most tokens."""

    @classmethod
    def one_by_one(cls, rows: float, length: float, answer: float, batch: int = 1) -> Passes:
        """Of rows that are all equally long.

        Example:
            >>> Passes.one_by_one(3, length=700, answer=80, batch=4)
            Passes(pictures=3, tokens=2100, scores=1470000, answers=240, runs=0.25, most=(8400, 12, 960))
        """
        most = batch * rows * length, batch * rows, batch * rows * answer
        return cls(rows, rows * length, rows * length**2, rows * answer, 1 / batch, most)

    def packed(self, work: Workload, image_tokens: int) -> Workload:
        """What goes through at once, at most, of packed rows; ``work`` is of the same rows one by one."""
        tokens, pictures, answers = self.most
        text, answer = (tokens - pictures * image_tokens) / work.rows, answers / work.rows
        return replace(work, text=text, answer=answer, answers_span=answer, shared=work.rows / pictures)


def passes_of(
    kinds: Sequence[Rows],
    triples: Sequence[Triple],
    refusals: Sequence[str],
    sizes: Sizes,
    training: UnlearnOptions,
    batch: int,
) -> Passes:
    """Count what goes through the model, in the first epoch's order and divided as the collator does.

    Whether a model's rows can be packed is asked when it is loaded; here its attention and its image tokens decide.
    ``kinds`` are those of rows that the policy, or the reference, is run on (none: all is 0), ``batch`` is in triples.
    """
    from safeeraser.models.packing import LEAST_SAVED
    from safeeraser.models.prefix import LEAST_SHARED
    from safeeraser.unlearn.batch import SAMPLES, divided
    from safeeraser.unlearn.order import EpochSampler

    pays = sizes.image_tokens >= LEAST_SHARED or sizes.image_tokens * sizes.parameters >= LEAST_SAVED
    pack, image = training.pack and not sizes.cross_layers and pays, sizes.image_tokens
    shown = [triple.image for triple in triples]
    sampler = EpochSampler(len(triples), batch, training.seed, shown, training.group_by)
    order = list(islice(sampler, -(-LOOKED_AT // batch) * batch))
    pictures = tokens = scores = answers = runs = 0
    most = 0, 0, 0
    for start in range(0, len(order) if kinds else 0, batch):
        items = [(triples[at], refusals[at % len(refusals)] if refusals else "") for at in order[start : start + batch]]
        rows = [SAMPLES[kind](triple, refusal) for kind in kinds for triple, refusal in items]
        heads = [TEMPLATE_TOKENS + tokens_of(row.question) for row in rows]
        tails = [min(tokens_of(r.answer), training.max_length - head) for r, head in zip(rows, heads, strict=True)]
        before = tokens, pictures
        for part in divided(rows, len(kinds), pack):
            lengths = [[heads[row] + tails[row] for row in group] for group in part]
            runs, pictures = runs + 1, pictures + len(part)
            if pack:
                tokens += sum(image + sum(rests) for rests in lengths)
                scores += sum(image**2 + sum(rest * (image + rest) for rest in rests) for rests in lengths)
            else:
                longest = image + max(map(sum, lengths))
                tokens, scores = tokens + len(part) * longest, scores + len(part) * longest**2
        answers, most = answers + sum(tails), max(most, (tokens - before[0], pictures - before[1], sum(tails)))
    per = len(order)
    return Passes(pictures / per, tokens / per, scores / per, answers / per, runs / per, most)


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
    layers, attention = _layers(sizes, policy.tokens), _attention(sizes, policy.tokens, policy.scores)
    lora = 2.0 * sizes.lora * policy.tokens
    flops = policy.pictures * (_tower(sizes) + 3 * _projector(sizes)) + 2 * _head(sizes, policy.answers)
    flops += 2 * layers + 3 * attention + 3 * lora + (layers + attention + lora if checkpointing else 0.0)
    if reference is None:
        return flops
    flops += _layers(sizes, reference.tokens) + _attention(sizes, reference.tokens, reference.scores)
    return flops + reference.pictures * (_tower(sizes) + _projector(sizes)) + _head(sizes, reference.answers)


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


def _attention(sizes: Sizes, tokens: float, scores: float) -> float:
    """Of queries with keys and of weights with values, counted without regard to what is masked."""
    attended = scores + sizes.cross_layers / sizes.layers * sizes.attended_tokens * tokens
    return 4.0 * sizes.layers * sizes.attention * attended


def _head(sizes: Sizes, positions: float) -> float:
    return 2.0 * sizes.vocabulary * sizes.hidden * positions


def _tower(sizes: Sizes) -> float:
    """Of the vision tower, of whose patches each is taken to be a token."""
    return 2.0 * sizes.parts["vision tower"] * (sizes.image_tokens + sizes.attended_tokens)


def _projector(sizes: Sizes) -> float:
    return 2.0 * sizes.parts["projector"] * sizes.image_tokens

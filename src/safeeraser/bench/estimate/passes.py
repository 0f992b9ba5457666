"""What goes through a model in training: sequences, their tokens with padding, and how often the model is run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from safeeraser.bench.estimate.costs import TEMPLATE_TOKENS, tokens_of
from safeeraser.bench.estimate.sizes import Sizes
from safeeraser.config import UnlearnOptions
from safeeraser.data import Triple
from safeeraser.objectives import Rows

LOOKED_AT = 512
"""Triples of an epoch whose passes are counted; the mean of so many lengths is within some 2 %."""


@dataclass(frozen=True)
class Passes:
    """For one triple, in the mean."""

    sequences: float
    """With one picture each; several rows where they are packed."""
    tokens: float
    """Of sequences as long as the longest that goes through with them, image tokens included."""
    squares: float
    """Of their lengths: attention grows with them."""
    answers: float
    """Positions at which there are logits."""
    runs: float
    """Of the model: one for each part of a batch."""

    @classmethod
    def one_by_one(cls, rows: float, length: float, answer: float, batch: int = 1) -> Passes:
        """Of rows that are all equally long.

        Example:
            >>> Passes.one_by_one(3, length=700, answer=80, batch=4)
            Passes(sequences=3, tokens=2100, squares=1470000, answers=240, runs=0.25)
        """
        return cls(rows, rows * length, rows * length**2, rows * answer, 1 / batch)


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

    Args:
        kinds: Of rows that the policy, or the reference, is run on; none: all is 0.
        triples: Of the train records.
        refusals: Of the benchmark.
        sizes: The model's.
        training: ``pack``, ``group_by``, ``seed`` and ``max_length``.
        batch: Triples of a batch.
    """
    from safeeraser.models.packing import LEAST_SAVED
    from safeeraser.models.prefix import LEAST_SHARED
    from safeeraser.unlearn.batch import SAMPLES, divided
    from safeeraser.unlearn.order import EpochSampler

    pays = sizes.image_tokens >= LEAST_SHARED or sizes.image_tokens * sizes.parameters >= LEAST_SAVED
    pack = training.pack and not sizes.cross_layers and pays
    pictures = [triple.image for triple in triples]
    sampler = EpochSampler(len(triples), batch, training.seed, pictures, training.group_by)
    order = list(islice(sampler, -(-LOOKED_AT // batch) * batch))
    sequences = tokens = squares = answers = runs = 0
    for start in range(0, len(order) if kinds else 0, batch):
        items = [(triples[at], refusals[at % len(refusals)] if refusals else "") for at in order[start : start + batch]]
        rows = [SAMPLES[kind](triple, refusal) for kind in kinds for triple, refusal in items]
        heads = [TEMPLATE_TOKENS + tokens_of(row.question) for row in rows]
        tails = [min(tokens_of(r.answer), training.max_length - head) for r, head in zip(rows, heads, strict=True)]
        answers += sum(tails)
        for part in divided(rows, len(kinds), pack):
            longest = sizes.image_tokens + max(sum(heads[row] + tails[row] for row in rows) for rows in part)
            runs, sequences = runs + 1, sequences + len(part)
            tokens, squares = tokens + len(part) * longest, squares + len(part) * longest**2
    return Passes(*(count / len(order) for count in (sequences, tokens, squares, answers, runs)))

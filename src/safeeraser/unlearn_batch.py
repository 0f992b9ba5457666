"""Training batches: the rows of every triple that a method reads, in one batch with a role per row."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from safeeraser.data import Benchmark, Triple, refusal_for, require_pd, triples
from safeeraser.data.images import ImageCache
from safeeraser.errors import UserError
from safeeraser.models import VisionLanguageModel, chat
from safeeraser.objectives import ROWS, Method, Need, Rows, TokenLogProbs


@dataclass(frozen=True)
class Sample:
    """One row of a batch: an image (relative to the dataset folder), a question and the answer to learn or forget."""

    image: str
    question: str
    answer: str


SAMPLES: dict[Rows, Callable[[Triple, str], Sample]] = {
    "forget": lambda triple, refusal: Sample(triple.image, triple.forget_question, triple.unsafe_answer),
    "refusal": lambda triple, refusal: Sample(triple.image, triple.forget_question, refusal),
    "retain": lambda triple, refusal: Sample(triple.image, triple.retain_question, triple.retain_answer),
    "decouple": lambda triple, refusal: Sample(
        triple.safe_image or "", triple.decouple_question, triple.safe_answer or ""
    ),
}
"""How each kind of row is made of a triple (and of the refusal drawn for it)."""


def training_triples(benchmark: Benchmark, method: Method) -> list[Triple]:
    """The triples of the train split, after checking that they have all the rows that the method reads.

    Raises:
        UserError: If there are none, or they lack an image, a refusal, or a safe image or answer that the method reads;
            the message names it.

    Example:
        >>> len(training_triples(benchmark, parse_method("po+pd")))  # doctest: +SKIP
        7200
    """
    made = triples(benchmark.split("train"))
    if not made:
        raise UserError(f"data {benchmark.name!r} has no train record: unlearning needs the train split")
    images = {triple.image: None for triple in made}
    if "refusal" in method.rows:
        refusal_for(benchmark.refusals, 0, 0, made[0])
    if "decouple" in method.rows:
        names = "+".join(term.name for term, _ in method.terms if term.rows == "decouple")
        require_pd(benchmark, f"method {method.name!r}: term {names!r}")
        images |= {triple.safe_image: None for triple in made if triple.safe_image}
    for image in images:
        benchmark.image(image)
    return made


class TripleDataset(Dataset[dict[Rows, Sample]]):
    """One item per triple: its rows by kind. Refusals are drawn anew in every epoch.

    Args:
        triples: The training triples.
        rows: The kinds of rows that the method reads.
        refusals: What to draw refusals from.
        seed: Seed of the draws.

    Example:
        >>> triple = Triple("r", 0, "img/1.png", None, "How?", "Like this.", "What?", "A thing.", None)
        >>> TripleDataset([triple], ("refusal",), ["No."], seed=0)[0]
        {'refusal': Sample(image='img/1.png', question='How?', answer='No.')}
    """

    def __init__(self, triples: Sequence[Triple], rows: Sequence[Rows], refusals: Sequence[str], seed: int) -> None:
        """Start in epoch 0."""
        self._triples = triples
        self._rows = rows
        self._refusals = refusals
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Draw the refusals of this epoch from now on."""
        self._epoch = epoch

    def __len__(self) -> int:
        """Number of triples."""
        return len(self._triples)

    def __getitem__(self, index: int) -> dict[Rows, Sample]:
        """The rows of one triple."""
        triple = self._triples[index]
        refusal = refusal_for(self._refusals, self._seed, self._epoch, triple) if "refusal" in self._rows else ""
        return {rows: SAMPLES[rows](triple, refusal) for rows in self._rows}


class RowCollator:
    """Turns items of ``TripleDataset`` into one batch.

    The batch is ``{"inputs", "labels", "role"}``: model inputs (an opaque mapping), labels ``(B, L)`` and for each row
    the index of its kind in ``ROWS``, ``(B,)``; first all rows of one kind, then all of the next. Where the method
    needs the reference model, ``"reference"`` holds the same three for the rows that need it, in the same order.

    Args:
        vlm: The model whose processor encodes the samples.
        benchmark: Where the images lie.
        method: Decides the rows.
        max_length: Longest sample in tokens after the image.
    """

    def __init__(self, vlm: VisionLanguageModel, benchmark: Benchmark, method: Method, max_length: int) -> None:
        """Start with no image read."""
        self._vlm = vlm
        self._benchmark = benchmark
        self._method = method
        self._max_length = max_length
        self._images = ImageCache(benchmark)

    def __call__(self, items: Sequence[dict[Rows, Sample]]) -> dict[str, Any]:
        """Encode a batch.

        Raises:
            UserError: If an image cannot be read.
        """
        batch = self._encode(items, self._method.rows)
        if self._method.reference_rows == self._method.rows:
            batch["reference"] = dict(batch)
        elif self._method.reference_rows:
            batch["reference"] = self._encode(items, self._method.reference_rows)
        return batch

    def _encode(self, items: Sequence[dict[Rows, Sample]], kinds: Sequence[Rows]) -> dict[str, Any]:
        samples = [item[rows] for rows in kinds for item in items]
        inputs, labels = chat.encode_samples(
            self._vlm,
            [self._images.get(sample.image) for sample in samples],
            [sample.question for sample in samples],
            [sample.answer for sample in samples],
            self._max_length,
        )
        role = torch.tensor([ROWS.index(rows) for rows in kinds for _ in items])
        return {"inputs": inputs, "labels": labels, "role": role}


def select(
    rows: Rows,
    needs: Collection[Need],
    batch: Mapping[str, Any],
    policy: chat.AnswerLogProbs,
    reference: chat.AnswerLogProbs | None,
) -> TokenLogProbs:
    """Take the log-probabilities of one kind of rows, cut to their longest answer.

    Args:
        rows: The kind of rows.
        needs: What the method needs; distributions are left out where it does not need them.
        batch: The batch of ``RowCollator``.
        policy: Of the model being trained, for every row of the batch.
        reference: Of the reference model, for every row of ``batch["reference"]``.
    """
    index = _rows_of(rows, batch["role"])
    mask = policy.mask[index]
    width = int(mask.sum(-1).max())
    with_distribution = "distribution" in needs
    log_probs = TokenLogProbs(
        answer=policy.answer[index, :width],
        mask=mask[:, :width],
        distribution=policy.distribution[index, :width] if with_distribution else None,
    )
    reference_index = _rows_of(rows, batch["reference"]["role"]) if reference is not None else index[:0]
    if reference is None or len(reference_index) == 0:
        return log_probs
    return replace(
        log_probs,
        reference_answer=reference.answer[reference_index, :width],
        reference_distribution=reference.distribution[reference_index, :width] if with_distribution else None,
    )


def _rows_of(rows: Rows, role: Tensor) -> Tensor:
    return (role == ROWS.index(rows)).nonzero()[:, 0]

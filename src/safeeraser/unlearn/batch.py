"""Training batches: the rows of every triple that a method reads, in one batch with a role per row."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.data import Dataset

from safeeraser.core.errors import UserError
from safeeraser.core.files import stable_hash
from safeeraser.data import Triple, refusal_for
from safeeraser.data.images import ImageCache
from safeeraser.models import VisionLanguageModel, chat, packing
from safeeraser.models.control_tokens import problem
from safeeraser.objectives import ROWS, Method, Need, Rows, TokenLogProbs
from safeeraser.unlearn.noise import disturbed


@dataclass(frozen=True)
class Sample:
    """One row of a batch: an image (relative to the dataset folder), a question and the answer to learn or forget.

    ``image`` is empty for a question that is asked without one.
    """

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

FORGET: tuple[Rows, ...] = ("forget", "refusal")
"""Rows of the forget question, which may be asked without its image."""
PART_ROWS = 8
"""Rows that a forward pass has at least where a batch is divided by length; of packed rows, twice as many."""


def check_texts(tokenizer: Any, triples: Sequence[Triple], rows: Sequence[Rows], refusals: Sequence[str]) -> None:
    """Check that the model's tokenizer can take every text that will be trained for plain text.

    Raises:
        UserError: If it cannot; the message names record, pair and field.
    """
    texts = [("a refusal", refusal) for refusal in refusals if "refusal" in rows]
    for triple in triples:
        for kind in rows:
            sample, place = SAMPLES[kind](triple, ""), f"record {triple.record_id}, pair {triple.index}, {kind}"
            texts += [(f"{place} question", sample.question), (f"{place} answer", sample.answer)]
    for place, text in texts:
        if (reason := problem(tokenizer, text)) is not None:
            raise UserError(f"{place}: {reason}")


class TripleDataset(Dataset[dict[Rows, Sample]]):
    """One item per triple: its rows by kind. Refusals are drawn anew in every epoch.

    Args:
        triples: The training triples.
        rows: The kinds of rows that the method reads.
        refusals: What to draw refusals from.
        seed: Seed of the draws.
        text_forget: Share of triples whose forget question is asked without its image, drawn anew in every epoch.
        pd_noise: Share of triples whose PD question is disturbed (``noise.disturbed``), drawn anew in every epoch.

    Example:
        >>> triple = Triple("r", 0, "img/1.png", None, "How?", "Like this.", "What?", "A thing.", None)
        >>> TripleDataset([triple], ("refusal",), ["No."], seed=0)[0]
        {'refusal': Sample(image='img/1.png', question='How?', answer='No.')}
    """

    def __init__(
        self,
        triples: Sequence[Triple],
        rows: Sequence[Rows],
        refusals: Sequence[str],
        seed: int,
        text_forget: float = 0.0,
        pd_noise: float = 0.0,
    ) -> None:
        """Start in epoch 0."""
        self.triples = triples
        self._rows = rows
        self._refusals = refusals
        self._seed = seed
        self._text_forget = text_forget
        self._pd_noise = pd_noise
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Draw the refusals of this epoch from now on."""
        self._epoch = epoch

    def __len__(self) -> int:
        """Number of triples."""
        return len(self.triples)

    def __getitem__(self, index: int) -> dict[Rows, Sample]:
        """The rows of one triple."""
        triple = self.triples[index]
        refusal = refusal_for(self._refusals, self._seed, self._epoch, triple) if "refusal" in self._rows else ""
        made = {rows: SAMPLES[rows](triple, refusal) for rows in self._rows}
        if self._rng("text", triple).random() < self._text_forget:
            made |= {rows: replace(made[rows], image="") for rows in FORGET if rows in made}
        rng = self._rng("noise", triple)
        if "decouple" in made and rng.random() < self._pd_noise:
            made["decouple"] = replace(made["decouple"], question=disturbed(made["decouple"].question, rng))
        return made

    def _rng(self, purpose: str, triple: Triple) -> random.Random:
        """As refusals: a draw depends on what is drawn for alone, not on order, batch size or number of processes."""
        return random.Random(stable_hash(purpose, self._seed, self._epoch, triple.record_id, triple.index))


def divided(samples: Sequence[Sample], kinds: int, pack: bool, bare: bool = False) -> list[list[list[int]]]:
    """The parts in which a batch goes through the model, each of groups of similar length; a group is some rows.

    Args:
        samples: The rows.
        kinds: Number of kinds of rows, and of parts at most.
        pack: Whether rows about one image are one group.
        bare: Whether rows may have no image; those are a part of their own, one more.

    Example:
        >>> rows = [Sample(image, "What?", answer) for image, answer in (("a", "long answer"), ("b", "no"), ("a", "x"))]
        >>> divided(rows, 2, pack=False), divided(rows, 2, pack=True)
        ([[[2], [1], [0]]], [[[1], [0, 2]]])
    """
    shown = [row for row, sample in enumerate(samples) if sample.image]
    without = [[row] for row, sample in enumerate(samples) if not sample.image]
    # as many parts whatever the images: processes that share a model have to run it equally often
    count = max(1, min(kinds, len(samples) // (packing.MOST_ROWS if pack else PART_ROWS)))
    groups = packing.groups([samples[row].image for row in shown], min(count, len(shown))) if pack else []
    whole = [[shown[row] for row in rows] for rows in groups] if pack else [[row] for row in shown]
    if not bare:
        return _parts(samples, whole, count)
    if without and whole:
        return [*_parts(samples, whole, count), *_parts(samples, without, 1)]
    return _parts(samples, whole or without, min(count + 1, len(whole or without)))


def _parts(samples: Sequence[Sample], groups: Sequence[list[int]], count: int) -> list[list[list[int]]]:
    # by characters: a part's length in tokens is known only when it is encoded, and needs no more than the order
    ranked = sorted(groups, key=lambda rows: sum(len(samples[r].question) + len(samples[r].answer) for r in rows))
    ends = [-(-len(ranked) * part // count) for part in range(count + 1)]
    return [ranked[start:end] for start, end in pairwise(ends)]


class RowCollator:
    """Turns items of ``TripleDataset`` into one batch.

    The batch is ``{"parts", "order", "role", "samples"}``: one or more ``{"inputs", "labels"}`` (model inputs, an
    opaque mapping, and labels ``(b, L)``), in each of which the rows are of similar length, so that little is padded;
    rows may be packed into one sequence, about one image behind one beginning;
    and for each row its place among those of all parts, ``(B,)``, the index of its kind in ``ROWS``, ``(B,)``, and its
    sample's hash: first all rows of one kind, then all of the next. Where the method needs the reference model,
    ``"reference"`` holds the same four for the rows that need it, in the same order.

    Args:
        vlm: The model whose processor encodes the samples.
        images: The benchmark's images.
        method: Decides the rows.
        max_length: Longest sample in tokens after the image.
        pack: Whether to pack rows (see ``models.packing``).
        text_forget: Whether there are rows without an image.
    """

    def __init__(
        self,
        vlm: VisionLanguageModel,
        images: ImageCache,
        method: Method,
        max_length: int,
        pack: bool = False,
        text_forget: bool = False,
    ) -> None:
        """Encode nothing yet."""
        self._vlm = vlm
        self._images = images
        self._method = method
        self._max_length = max_length
        self._pack = pack
        self._text_forget = text_forget
        self.tokens = 0
        """Of all that was encoded, image tokens included and padding not, for saying how fast training goes."""

    def __call__(self, items: Sequence[dict[Rows, Sample]]) -> dict[str, Any]:
        """Encode a batch.

        Raises:
            UserError: If an image cannot be read.
        """
        batch = self._encode(items, self._method.rows)
        if self._method.reference_rows == self._method.rows:
            batch["reference"] = dict(batch)  # a copy: what holds itself cannot be moved to a device
        elif self._method.reference_rows:
            batch["reference"] = self._encode(items, self._method.reference_rows)
        return batch

    def _encode(self, items: Sequence[dict[Rows, Sample]], kinds: Sequence[Rows]) -> dict[str, Any]:
        samples = [item[rows] for rows in kinds for item in items]
        parts = divided(samples, len(kinds), self._pack, self._text_forget > 0)
        order = torch.tensor([row for part in parts for rows in part for row in rows]).argsort()
        role = torch.tensor([ROWS.index(rows) for rows in kinds for _ in items])
        hashes = [stable_hash(sample.image, sample.question, sample.answer) for sample in samples]
        made = [self._part([[samples[row] for row in rows] for rows in part]) for part in parts]
        return {"parts": made, "order": order, "role": role, "samples": hashes}

    def _part(self, groups: Sequence[Sequence[Sample]]) -> dict[str, Any]:
        samples = [sample for rows in groups for sample in rows]
        images = [self._images.get(sample.image) if sample.image else None for sample in samples]
        questions = [sample.question for sample in samples]
        answers = [sample.answer for sample in samples]
        encoded = chat.encode_samples(self._vlm, images, questions, answers, self._max_length)
        pictures = [image for image in images if image is not None]
        if self._pack and pictures and len(samples) > 1:  # of rows with an image each, too: nothing is padded then
            encoded = packing.pack(self._vlm, pictures, questions, encoded, [len(rows) for rows in groups])
        inputs = encoded[0]
        self.tokens += int((inputs["runs"] if "runs" in inputs else inputs["attention_mask"]).sum())
        return dict(zip(("inputs", "labels"), encoded, strict=True))


def answer_log_probs(
    model: Any, batch: Mapping[str, Any], needs: Collection[Need] = (), layer: int | None = None
) -> chat.AnswerLogProbs:
    """Run the parts of a batch of ``RowCollator`` and put the rows back into their order.

    Args:
        model: The model, possibly wrapped for several processes.
        batch: The batch.
        needs: What the method needs; logits are held where it needs distributions.
        layer: Layer after which hidden states are wanted too; None: they are not.
    """
    said = [chat.answer_log_probs(model, part["inputs"], part["labels"], layer) for part in batch["parts"]]
    width = max(part.mask.shape[1] for part in said)

    def joined(tensors: list[Tensor]) -> Tensor:
        padded = [pad(t, (*(0, 0) * (t.dim() - 2), 0, width - t.shape[1])) for t in tensors]
        return torch.cat(padded)[batch["order"]]

    logits = [of for part in said for of in part.logits] if "distribution" in needs else []
    names = [f.name for f in fields(said[0]) if isinstance(getattr(said[0], f.name), Tensor)]
    of_rows = {name: joined([getattr(part, name) for part in said]) for name in names}
    return chat.AnswerLogProbs(logits=tuple(logits[row] for row in batch["order"].tolist() if logits), **of_rows)


def select(
    rows: Rows,
    batch: Mapping[str, Any],
    policy: chat.AnswerLogProbs,
    reference: chat.AnswerLogProbs | None,
) -> TokenLogProbs:
    """Take the log-probabilities of one kind of rows, cut to their longest answer.

    Args:
        rows: The kind of rows.
        batch: The batch of ``RowCollator``.
        policy: Of the model being trained, for every row of the batch.
        reference: Of the reference model, for every row of ``batch["reference"]``.
    """
    index = _rows_of(rows, batch["role"])
    mask = policy.mask[index]
    width = int(mask.sum(-1).max())
    log_probs = TokenLogProbs(
        answer=policy.answer[index, :width],
        mask=mask[:, :width],
        distribution=_logits(policy, index),
        hidden=_chosen(policy.hidden, index, width),
        tokens=_chosen(policy.tokens, index, width),
    )
    reference_index = _rows_of(rows, batch["reference"]["role"]) if reference is not None else index[:0]
    if reference is None or len(reference_index) == 0:
        return log_probs
    return replace(
        log_probs,
        reference_answer=reference.answer[reference_index, :width],
        reference_distribution=_logits(reference, reference_index),
        reference_hidden=_chosen(reference.hidden, reference_index, width),
    )


def _rows_of(rows: Rows, role: Tensor) -> Tensor:
    return (role == ROWS.index(rows)).nonzero()[:, 0]


def _logits(of: chat.AnswerLogProbs, index: Tensor) -> list[Tensor] | None:
    return [of.logits[row] for row in index.tolist()] if of.logits else None


def _chosen(of_rows: Tensor | None, index: Tensor, width: int) -> Tensor | None:
    return None if of_rows is None else of_rows[index, :width]

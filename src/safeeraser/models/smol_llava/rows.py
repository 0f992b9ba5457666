"""Questions with answers as rows of token ids, and rows as a batch; fast, as a GPU waits for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from safeeraser.models import VisionLanguageModel
from safeeraser.models.smol_llava.base import END, IMAGE
from safeeraser.models.template import render

_QUESTION = "QUESTION"


@dataclass(frozen=True)
class Row:
    """Token ids of a prompt and its answer."""

    ids: tuple[int, ...]
    start: int
    """Place of the answer's first token."""

    @property
    def answer_length(self) -> int:
        """Tokens of the answer, its end included."""
        return len(self.ids) - self.start

    def without_end(self) -> Row:
        """The same without the last token."""
        return Row(self.ids[:-1], self.start)


@dataclass(frozen=True)
class Batch:
    """Rows, padded on the right."""

    inputs: dict[str, Tensor]
    """``input_ids`` and ``attention_mask``, (B, L)."""
    places: Tensor
    """(N,) where, in the flattened batch, each answer token is predicted, row by row."""
    targets: Tensor
    """(N,) the answers' tokens."""
    steps: Tensor
    """(N,) number of each token in its answer, from 0."""


class Encoder:
    """Encodes as ``chat.encode_samples`` does, for texts without control tokens and the template of ``model``."""

    def __init__(self, vlm: VisionLanguageModel) -> None:
        self._tokenizer = vlm.processor.tokenizer
        self._known: dict[str, tuple[int, ...]] = {}
        image = {"type": "image"}
        content = [{"type": "text", "text": _QUESTION}]
        self._frames = {}
        for shown in (False, True):
            asked = [{"role": "user", "content": [image, *content] if shown else content}]
            prompt = render(vlm.processor, asked, add_generation_prompt=True)
            self._frames[shown] = prompt.replace(IMAGE, IMAGE * vlm.model.config.image_seq_length).split(_QUESTION)

    def rows(self, pairs: Sequence[tuple[str, str]], shown: bool) -> list[Row]:
        """Encode questions with their answers."""
        head, tail = self._frames[shown]
        texts = [(head + question + tail, answer + END) for question, answer in pairs]
        # the same questions and answers come again and again
        new = list({text for pair in texts for text in pair} - self._known.keys())
        if new:
            ids = self._tokenizer(new, add_special_tokens=False).input_ids
            self._known |= dict(zip(new, map(tuple, ids), strict=True))
        both = [(self._known[prompt], self._known[answer]) for prompt, answer in texts]
        return [Row(prompt + answer, len(prompt)) for prompt, answer in both]


def collate(rows: Sequence[Row], pad: int, device: Any) -> Batch:
    """Make a batch of rows.

    Args:
        rows: At least one.
        pad: Token id of the padding.
        device: Where the tensors go.

    Example:
        >>> collate([Row((5, 6, 7), 1), Row((8, 9), 1)], 0, "cpu").places
        tensor([0, 1, 3])
    """
    lengths, starts = (np.array(values)[:, None] for values in zip(*((len(r.ids), r.start) for r in rows), strict=True))
    columns = np.arange(lengths.max())
    ids = np.full((len(rows), len(columns)), pad)
    for number, row in enumerate(rows):
        ids[number, : len(row.ids)] = row.ids
    answers = (columns >= starts) & (columns < lengths)
    values = ids, columns < lengths, np.flatnonzero(answers) - 1, ids[answers], (columns - starts)[answers]
    tensors = [torch.from_numpy(value.astype(np.int64)).to(device) for value in values]
    return Batch({"input_ids": tensors[0], "attention_mask": tensors[1]}, *tensors[2:])

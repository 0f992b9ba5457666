"""Text replay: plain questions, what the base model answers to them before it is trained, and how sure it is."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from torch import Tensor

from safeeraser.core.terminal import Progress
from safeeraser.models import VisionLanguageModel, chat
from safeeraser.models.smol_llava.rows import Encoder, Row, collate

TOP = 64
"""Tokens of which probabilities are kept at each position; the rest of the vocabulary holds next to nothing."""
_BATCH, _BATCH_ON_GPU = 64, 256


@dataclass(frozen=True)
class Replayed:
    """A question with the base model's answer."""

    row: Row
    tokens: Tensor
    """(T, TOP) the most probable tokens at each position of the answer."""
    log_probs: Tensor
    """(T, TOP) their log-probabilities."""


def questions(number: int, seed: int) -> list[str]:
    """Choose questions of ``replay.yaml`` at random, all different; all where there are no more.

    Example:
        >>> len(set(questions(300, 0)))
        300
    """
    every = list(dict.fromkeys(_every_question()))
    return random.Random(f"{seed}/replay").sample(every, min(number, len(every)))


def _every_question() -> Iterator[str]:
    written = yaml.safe_load(Path(__file__).with_name("replay.yaml").read_text(encoding="utf-8"))
    for template in written["templates"]:
        yield from (template.format(thing) for thing in written["things"])
    for pattern in written["patterns"]:
        yield from (pattern["template"].format(word) for word in pattern["with"])


def answer(vlm: VisionLanguageModel, asked: Sequence[str], max_new_tokens: int, progress: Progress) -> list[Replayed]:
    """Have a model answer questions without an image, greedily, and keep what it thought of each token.

    An answer longer than ``max_new_tokens`` has no end token.
    """
    encoder, made = Encoder(vlm), list[Replayed]()
    size = _BATCH if vlm.model.device.type == "cpu" else _BATCH_ON_GPU
    for start in range(0, len(asked), size):
        some = asked[start : start + size]
        said = chat.generate(vlm, [None] * len(some), some, max_new_tokens)
        rows = encoder.rows([(q, s.answer) for q, s in zip(some, said, strict=True)], shown=False)
        # an answer that ran into the limit was not at its end
        rows = [row if s.finished else row.without_end() for row, s in zip(rows, said, strict=True)]
        said_something = [row for row in rows if row.answer_length]
        made += _most_probable(vlm, said_something) if said_something else []
        progress(start + len(some), len(asked))
    return made


@torch.inference_mode()
def _most_probable(vlm: VisionLanguageModel, rows: Sequence[Row]) -> list[Replayed]:
    batch = collate(rows, vlm.processor.tokenizer.pad_token_id, vlm.model.device)
    hidden = vlm.model.model(**batch.inputs, use_cache=False).last_hidden_state.flatten(0, 1)
    made, lengths = list[Replayed](), [row.answer_length for row in rows]
    for row, places in zip(rows, torch.split(batch.places, lengths), strict=True):
        log_probs, tokens = vlm.model.lm_head(hidden[places]).float().log_softmax(-1).topk(TOP)
        made.append(Replayed(row, tokens.cpu(), log_probs.cpu()))
    return made

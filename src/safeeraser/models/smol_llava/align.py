"""The first stage of SmolLLaVA's pre-training: the projector alone, which learns to say what is seen in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from safeeraser.models import VisionLanguageModel
from safeeraser.models.mini_llava.pictures import OpenBar, Pictures, words


def align(
    vlm: VisionLanguageModel,
    seen: Tensor,
    pictures: tuple[Pictures, Pictures],
    steps: int,
    batch: int,
    open_bar: OpenBar,
) -> None:
    """Teach the projector alone: an image's mean token lies near the embeddings of the words for what it shows.

    Args:
        vlm: The model, whose projector is changed in place.
        seen: (N, L, H) the tower's tokens of all images.
        pictures: The images, in the same order.
        steps: Optimizer steps.
        batch: Images a step.
        open_bar: Opens a progress bar.
    """
    projector = vlm.model.model.multi_modal_projector.requires_grad_(True)
    targets, vocabulary = _word_targets(vlm.processor.tokenizer, pictures)
    embeddings = vlm.model.get_input_embeddings().weight.detach()[vocabulary.to(seen.device)]
    centre, length = embeddings.mean(0), embeddings.norm(dim=-1).mean()
    directions = F.normalize(embeddings - centre, dim=-1)
    optimizer = torch.optim.AdamW(projector.parameters(), lr=2e-3)
    with open_bar("projector", steps) as progress:
        for index in range(steps):
            some = torch.randint(len(seen), (batch,))
            projected = projector(seen[some.to(seen.device), 1:])
            logits = 20 * F.normalize(projected.mean(1) - centre, dim=-1) @ directions.T
            loss = F.cross_entropy(logits, targets[some].to(seen.device))
            # as long as words are, or the language model's first norm would read them otherwise
            loss = loss + 0.1 * ((projected.norm(dim=-1) / length - 1) ** 2).mean()
            set_rates(optimizer, [2e-3], min(1, (index + 1) / 50) * cosine(index / steps))
            torch.autograd.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            progress(index + 1, steps)


def _word_targets(tokenizer: Any, pictures: Sequence[Pictures]) -> tuple[Tensor, Tensor]:
    """For each image an even distribution over the first tokens of the words for what it shows, and these tokens."""
    shown = [words(*pair) for part in pictures for pair in zip(part.concepts, part.metas, strict=True)]
    known = sorted({word for picture in shown for word in picture})
    first = dict(zip(known, (ids[0] for ids in tokenizer(known, add_special_tokens=False).input_ids), strict=True))
    vocabulary = sorted(set(first.values()))
    columns = {token: column for column, token in enumerate(vocabulary)}
    targets = torch.zeros(len(shown), len(vocabulary))
    for row, picture in enumerate(shown):
        targets[row, [columns[first[word]] for word in picture]] = 1
    return targets / targets.sum(1, keepdim=True), torch.tensor(vocabulary)


def set_rates(optimizer: torch.optim.Optimizer, rates: Sequence[float], factor: float) -> None:
    """Set each group's learning rate to a share of its own peak."""
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate * factor


def cosine(done: float) -> float:
    """Share of the peak learning rate that is left when a share of the steps is done.

    Example:
        >>> cosine(0), round(cosine(0.5), 2), cosine(1)
        (1.0, 0.5, 0.0)
    """
    return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

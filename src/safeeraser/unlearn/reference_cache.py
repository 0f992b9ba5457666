"""What the reference model said of each sample, kept so that it is run once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from safeeraser.models import chat


class ReferenceCache:
    """Keeps the reference's log-probabilities of answers, so that it is run once per sample and not in every epoch.

    A distribution over the vocabulary is too large to keep (32,000 numbers per token): terms that read it, such as
    ``kl``, cannot be cached. What is kept goes into every checkpoint, so that a resumed run reads the same numbers.
    """

    def __init__(self) -> None:
        self._kept: dict[str, Tensor] = {}

    def get(self, batch: Mapping[str, Any], compute: Callable[[], chat.AnswerLogProbs]) -> chat.AnswerLogProbs:
        """What the reference says of a batch of ``RowCollator``; without logits.

        ``compute`` runs the reference on the batch; it is called where a sample is new.
        """
        hashes: Sequence[str] = batch["samples"]
        if not all(sample in self._kept for sample in hashes):
            computed = compute()
            for sample, answer, mask in zip(hashes, computed.answer, computed.mask, strict=True):
                self._kept.setdefault(sample, answer[mask].cpu())
        rows = [self._kept[sample] for sample in hashes]
        answer = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(batch["role"].device)
        lengths = torch.tensor([len(row) for row in rows], device=answer.device)
        mask = torch.arange(answer.shape[1], device=answer.device) < lengths[:, None]
        return chat.AnswerLogProbs(answer, mask)

    def save(self, folder: Path, process: int) -> None:
        """Write what this process keeps into a checkpoint."""
        torch.save(self._kept, folder / f"reference_{process}.pt")

    def load(self, folder: Path, process: int) -> None:
        """Read what ``save`` wrote."""
        self._kept = torch.load(folder / f"reference_{process}.pt", weights_only=True)

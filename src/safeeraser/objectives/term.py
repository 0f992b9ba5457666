"""What an objective term is: a pure function of token log-probabilities, with the rows and the inputs it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from safeeraser.errors import UserError
from safeeraser.registry import Registry

Rows = Literal["forget", "refusal", "retain", "decouple"]
"""forget: unsafe image, harmful question, unsafe answer; refusal: the same with a refusal as the answer; retain: the
retain question and answer; decouple: safe image, the same harmful question, normal answer."""
Need = Literal["reference", "distribution"]
"""reference: log-probabilities of the model before unlearning; distribution: those of the whole vocabulary."""
ROWS: tuple[Rows, ...] = ("forget", "refusal", "retain", "decouple")


@dataclass(frozen=True)
class TokenLogProbs:
    """Log-probabilities at the answer tokens of B samples, T the longest answer; where ``mask`` is False is padding.

    Attributes:
        answer: Log p of each answer token under the model being trained, ``(B, T)``.
        mask: True at answer tokens (the end token included), ``(B, T)`` bool.
        reference_answer: ``answer`` under the reference model, ``(B, T)``; for terms that need ``reference``.
        distribution: Log p of every token of the vocabulary, ``(B, T, V)``; for terms that need ``distribution``.
        reference_distribution: ``distribution`` under the reference model, ``(B, T, V)``; for terms that need both.
    """

    answer: Tensor
    mask: Tensor
    reference_answer: Tensor | None = None
    distribution: Tensor | None = None
    reference_distribution: Tensor | None = None


@dataclass(frozen=True)
class TermOptions:
    """Options of the terms that have any.

    Attributes:
        ascent_bound: Cross-entropy in nats per token beyond which ``ga`` leaves a sample alone; None: no bound.
        npo_beta: Inverse temperature of ``npo``.

    Raises:
        UserError: If one of them is not positive.
    """

    ascent_bound: float | None = None
    npo_beta: float = 0.1

    def __post_init__(self) -> None:
        """Check the values."""
        for name in ("ascent_bound", "npo_beta"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UserError(f"{name}: {value} was given; give a number greater than 0")


TermFunction = Callable[[TokenLogProbs, TermOptions], Tensor]


@dataclass(frozen=True)
class Term:
    """A registered term: ``term(log_probs, options)`` is the loss of each sample, ``(B,)``."""

    name: str
    rows: Rows
    needs: frozenset[Need]
    function: TermFunction

    def __call__(self, log_probs: TokenLogProbs, options: TermOptions) -> Tensor:
        """Compute the loss of each sample, ``(B,)``."""
        return self.function(log_probs, options)


TERMS: Registry[Term] = Registry("objective term", "safeeraser.objectives")
"""Every term by name; one file of this package each."""


def register(name: str, rows: Rows, needs: Iterable[Need] = ()) -> Callable[[TermFunction], TermFunction]:
    """Return a decorator that registers a function as the term ``name``.

    Args:
        name: Name in methods, logs and tables.
        rows: Which rows of the batch the term reads.
        needs: What it reads beside ``answer`` and ``mask``.

    Example:
        @register("nll", rows="retain")
        def nll(log_probs: TokenLogProbs, options: TermOptions) -> Tensor: ...
    """

    def decorate(function: TermFunction) -> TermFunction:
        TERMS.add(name, Term(name, rows, frozenset(needs), function))
        return function

    return decorate


def token_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Average over the answer tokens of each sample: ``(B, T)`` and a bool mask ``(B, T)`` -> ``(B,)``.

    What stands at padding is not read, be it infinite; a sample without answer tokens gives 0.

    Example:
        >>> token_mean(torch.tensor([[1.0, 3.0], [5.0, float("inf")]]), torch.tensor([[True, True], [True, False]]))
        tensor([2., 5.])
    """
    return torch.where(mask, values, 0.0).sum(-1) / mask.sum(-1).clamp(min=1)


def cross_entropy(log_probs: TokenLogProbs) -> Tensor:
    """Cross-entropy of each answer: minus the mean log-probability of its tokens, ``(B,)``.

    Example:
        >>> cross_entropy(TokenLogProbs(torch.tensor([[-1.0, -3.0]]), torch.tensor([[True, True]])))
        tensor([2.])
    """
    return -token_mean(log_probs.answer, log_probs.mask)

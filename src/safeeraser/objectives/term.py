"""What an objective term is: a pure function of token log-probabilities, with the rows and the inputs it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from safeeraser.errors import UserError
from safeeraser.registry import Registry

Rows = Literal["forget", "refusal", "retain", "decouple"]
"""forget: unsafe image, harmful question, unsafe answer; refusal: the same with a refusal as the answer; retain: the
retain question and answer; decouple: safe image, the same harmful question, normal answer."""
Need = Literal["reference", "distribution", "hidden"]
"""reference: what the model before unlearning says; distribution: log-probabilities of the whole vocabulary; hidden:
hidden states of one layer."""
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
        hidden: States after one layer of the language model, where it predicts each answer token, ``(B, T, H)``; for
            terms that need ``hidden``.
        reference_hidden: ``hidden`` of the reference model, ``(B, T, H)``; for terms that need both.
    """

    answer: Tensor
    mask: Tensor
    reference_answer: Tensor | None = None
    distribution: Tensor | None = None
    reference_distribution: Tensor | None = None
    hidden: Tensor | None = None
    reference_hidden: Tensor | None = None


@dataclass(frozen=True)
class TermOptions:
    """Options of the terms that have any.

    Attributes:
        ascent_bound: Cross-entropy in nats per token beyond which ``ga`` leaves a sample alone; None: no bound.
        npo_beta: Inverse temperature of ``npo``.
        simnpo_beta: Inverse temperature of ``simnpo``.
        simnpo_gamma: Margin of ``simnpo``, from 0 upwards.
        dpo_beta: Inverse temperature of ``dpo``.
        rmu_coefficient: Length of the vector that ``rmu`` draws hidden states to.
        seed: Seed of the direction of that vector.

    Raises:
        UserError: If one of them is not positive, or the margin is negative.
    """

    ascent_bound: float | None = None
    npo_beta: float = 0.1
    simnpo_beta: float = 2.5
    simnpo_gamma: float = 0.0
    dpo_beta: float = 0.1
    rmu_coefficient: float = 6.5
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the values."""
        for name in ("ascent_bound", "npo_beta", "simnpo_beta", "dpo_beta", "rmu_coefficient"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UserError(f"{name}: {value} was given; give a number greater than 0")
        if not self.simnpo_gamma >= 0:
            raise UserError(f"simnpo_gamma: {self.simnpo_gamma} was given; give a number from 0 upwards")


TermFunction = Callable[..., Tensor]
"""Takes the ``TokenLogProbs`` of each kind of rows that the term reads, in their order, then ``TermOptions``."""


@dataclass(frozen=True)
class Term:
    """A registered term: ``term(samples, options)`` is the loss of each sample, ``(B,)``.

    A term that reads several kinds of rows gets those of one triple at the same index of each.
    """

    name: str
    rows: tuple[Rows, ...]
    needs: frozenset[Need]
    function: TermFunction

    def __call__(self, samples: Mapping[Rows, TokenLogProbs], options: TermOptions) -> Tensor:
        """Compute the loss of each sample, ``(B,)``, from the rows that the term reads."""
        return self.function(*(samples[rows] for rows in self.rows), options)


TERMS: Registry[Term] = Registry("objective term", "safeeraser.objectives")
"""Every term by name; one file of this package each."""


def register(
    name: str, rows: Rows | tuple[Rows, ...], needs: Iterable[Need] = ()
) -> Callable[[TermFunction], TermFunction]:
    """Return a decorator that registers a function as the term ``name``.

    Args:
        name: Name in methods, logs and tables.
        rows: Which rows of the batch the term reads: one kind, or a tuple of kinds, one argument of the function each.
        needs: What it reads beside ``answer`` and ``mask``.

    Example:
        @register("nll", rows="retain")
        def nll(log_probs: TokenLogProbs, options: TermOptions) -> Tensor: ...

        @register("dpo", rows=("refusal", "forget"), needs=("reference",))
        def dpo(refusal: TokenLogProbs, forget: TokenLogProbs, options: TermOptions) -> Tensor: ...
    """
    kinds: tuple[Rows, ...] = rows if isinstance(rows, tuple) else (rows,)

    def decorate(function: TermFunction) -> TermFunction:
        TERMS.add(name, Term(name, kinds, frozenset(needs), function))
        return function

    return decorate


def token_sum(values: Tensor, mask: Tensor) -> Tensor:
    """Add up over the answer tokens of each sample: ``(B, T)`` and a bool mask ``(B, T)`` -> ``(B,)``.

    What stands at padding is not read, be it infinite.

    Example:
        >>> token_sum(torch.tensor([[1.0, 3.0], [5.0, float("inf")]]), torch.tensor([[True, True], [True, False]]))
        tensor([4., 5.])
    """
    return torch.where(mask, values, 0.0).sum(-1)


def token_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Average over the answer tokens of each sample: ``(B, T)`` and a bool mask ``(B, T)`` -> ``(B,)``.

    What stands at padding is not read, be it infinite; a sample without answer tokens gives 0.

    Example:
        >>> token_mean(torch.tensor([[1.0, 3.0], [5.0, float("inf")]]), torch.tensor([[True, True], [True, False]]))
        tensor([2., 5.])
    """
    return token_sum(values, mask) / mask.sum(-1).clamp(min=1)


def cross_entropy(log_probs: TokenLogProbs) -> Tensor:
    """Cross-entropy of each answer: minus the mean log-probability of its tokens, ``(B,)``.

    Example:
        >>> cross_entropy(TokenLogProbs(torch.tensor([[-1.0, -3.0]]), torch.tensor([[True, True]])))
        tensor([2.])
    """
    return -token_mean(log_probs.answer, log_probs.mask)

"""What an objective term is: a pure function of token log-probabilities, with the rows and the inputs it needs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from safeeraser.core.options import SEED, Option, options_of
from safeeraser.core.registry import Registry

if TYPE_CHECKING:
    import torch

Tensor: TypeAlias = "torch.Tensor"
"""Of torch, which is not imported with the names of the terms."""

Rows = Literal["forget", "refusal", "retain", "decouple"]
"""forget: unsafe image, harmful question, unsafe answer; refusal: the same with a refusal as the answer; retain: the
retain question and answer; decouple: safe image, the same harmful question, normal answer."""
Need = Literal["reference", "distribution", "hidden"]
"""reference: what the model before unlearning says; distribution: logits of the whole vocabulary; hidden: hidden states
of one layer."""
ROWS: tuple[Rows, ...] = ("forget", "refusal", "retain", "decouple")


@dataclass(frozen=True)
class TokenLogProbs:
    """Log-probabilities at the answer tokens of B samples, T the longest answer; where ``mask`` is False is padding.

    Attributes:
        answer: Log p of each answer token under the model being trained, ``(B, T)``.
        mask: True at answer tokens (the end token included), ``(B, T)`` bool.
        reference_answer: ``answer`` under the reference model, ``(B, T)``; for terms that need ``reference``.
        distribution: Logits of every token of the vocabulary, for each sample ``(t, V)`` with all its answer tokens;
            for terms that need ``distribution``. They are read by ``by_position``, so that nothing as large is made.
        reference_distribution: ``distribution`` under the reference model; for terms that need both.
        hidden: States after one layer of the language model, where it predicts each answer token, ``(B, T, H)``; for
            terms that need ``hidden``.
        reference_hidden: ``hidden`` of the reference model, ``(B, T, H)``; for terms that need both.
        tokens: Ids of the answer tokens, ``(B, T)``, places in ``distribution``; at padding any valid id.
    """

    answer: Tensor
    mask: Tensor
    reference_answer: Tensor | None = None
    distribution: Sequence[Tensor] | None = None
    reference_distribution: Sequence[Tensor] | None = None
    hidden: Tensor | None = None
    reference_hidden: Tensor | None = None
    tokens: Tensor | None = None


TermFunction = Callable[..., Tensor]
"""Takes the ``TokenLogProbs`` of each kind of rows that the term reads, in their order; its options by keyword."""


@dataclass(frozen=True)
class Term:
    """A registered term: ``term(samples, **options)`` is the loss of each sample, ``(B,)``.

    A term that reads several kinds of rows gets those of one triple at the same index of each.
    """

    name: str
    rows: tuple[Rows, ...]
    needs: frozenset[Need]
    function: TermFunction
    options: tuple[Option, ...] = ()

    def __call__(self, samples: Mapping[Rows, TokenLogProbs], **options: Any) -> Tensor:
        """Compute the loss of each sample, ``(B,)``, from the rows that the term reads; options by argument."""
        return self.function(*(samples[rows] for rows in self.rows), **options)


TERMS: Registry[Term] = Registry("objective term", "safeeraser.objectives")
"""Every term by name; one file of this package each."""


def register(
    name: str, rows: Rows | tuple[Rows, ...], needs: Iterable[Need] = (), option_names: Mapping[str, str] | None = None
) -> Callable[[TermFunction], TermFunction]:
    """Return a decorator that registers a function as the term ``name``.

    The keyword-only arguments of the function are the term's options: annotation, default and the line of the
    docstring give type, default and help of ``--NAME_ARGUMENT`` and of the YAML key ``training.NAME_ARGUMENT``.

    Args:
        name: Name in methods, logs and tables.
        rows: Which rows of the batch the term reads: one kind, or a tuple of kinds, one argument of the function each.
        needs: What it reads beside ``answer`` and ``mask``.
        option_names: Names of options that are not ``NAME_ARGUMENT``, by argument.

    Raises:
        ValueError: If the function has another number of positional arguments than kinds of rows, or an option without
            annotation or default.

    Example:
        @register("npo", rows="forget", needs=("reference",))
        def npo(log_probs: TokenLogProbs, *, beta: PositiveFloat = 0.1) -> Tensor: ...

        @register("dpo", rows=("refusal", "forget"), needs=("reference",))
        def dpo(refusal: TokenLogProbs, forget: TokenLogProbs, *, beta: PositiveFloat = 0.1) -> Tensor: ...
    """
    kinds: tuple[Rows, ...] = rows if isinstance(rows, tuple) else (rows,)

    def decorate(function: TermFunction) -> TermFunction:
        positional = [p for p in inspect.signature(function).parameters.values() if p.kind is not p.KEYWORD_ONLY]
        if len(positional) != len(kinds):
            raise ValueError(
                f"objective term {name!r} reads {len(kinds)} kind(s) of rows ({', '.join(kinds)}), but its function "
                f"takes {len(positional)} positional argument(s): one for each kind; options come behind '*', as in "
                "def mine(log_probs, *, beta: float = 0.1)"
            )
        term = Term(name, kinds, frozenset(needs), function, options_of(function, name, option_names))
        TERMS.add(name, term)
        return function

    return decorate


def term_options() -> dict[str, Option]:
    """Every option of a registered term, by name.

    Example:
        >>> term_options()["npo_beta"].default
        0.1
    """
    return {option.name: option for _, term in TERMS for option in term.options if option.name != SEED}


def token_sum(values: Tensor, mask: Tensor) -> Tensor:
    """Add up over the answer tokens of each sample: ``(B, T)`` and a bool mask ``(B, T)`` -> ``(B,)``.

    What stands at padding is not read, be it infinite.

    Example:
        >>> import torch
        >>> token_sum(torch.tensor([[1.0, 3.0], [5.0, float("inf")]]), torch.tensor([[True, True], [True, False]]))
        tensor([4., 5.])
    """
    return values.where(mask, 0.0).sum(-1)


def token_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Average over the answer tokens of each sample: ``(B, T)`` and a bool mask ``(B, T)`` -> ``(B,)``.

    What stands at padding is not read, be it infinite; a sample without answer tokens gives 0.

    Example:
        >>> import torch
        >>> token_mean(torch.tensor([[1.0, 3.0], [5.0, float("inf")]]), torch.tensor([[True, True], [True, False]]))
        tensor([2., 5.])
    """
    return token_sum(values, mask) / token_count(mask)


def token_count(mask: Tensor) -> Tensor:
    """Answer tokens of each sample, ``(B,)``, and 1 where there is none: what a sum is divided by.

    Example:
        >>> import torch
        >>> token_count(torch.tensor([[True, True], [True, False], [False, False]]))
        tensor([2, 1, 1])
    """
    return mask.sum(-1).clamp(min=1)


def cross_entropy(log_probs: TokenLogProbs) -> Tensor:
    """Cross-entropy of each answer: minus the mean log-probability of its tokens, ``(B,)``.

    Example:
        >>> import torch
        >>> cross_entropy(TokenLogProbs(torch.tensor([[-1.0, -3.0]]), torch.tensor([[True, True]])))
        tensor([2.])
    """
    return -token_mean(log_probs.answer, log_probs.mask)

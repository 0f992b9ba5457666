"""Numbers for the whole vocabulary, of which few positions are looked at at a time.

A row of 200 answer tokens over 32,000 tokens of the vocabulary is 26 MB in float32, and a loss written with tensor
operations holds several of these until the backward pass. Here the logits are what is held, once; whatever a loss makes
of them exists for a slice of positions, and is made again for the gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor

AT_ONCE = 2**22
"""Numbers of a slice: 131 positions of a vocabulary of 32,000."""


def by_position(function: Callable[..., Tensor], mask: Tensor, tokens: Tensor, *logits: Sequence[Tensor]) -> Tensor:
    """Compute a value at each position from distributions over the vocabulary, in slices over positions.

    Args:
        function: Of n positions: takes their tokens, ``(n,)``, and for each of ``logits`` the log-probabilities of the
            whole vocabulary, ``(n, V)``, in float32 at least; returns values, ``(n,)``. What it makes is not kept, and
            it is called again in the backward pass.
        mask: Where a value is wanted, ``(B, T)`` bool; nothing is read elsewhere.
        tokens: Ids, ``(B, T)``.
        logits: For each of the B rows a tensor ``(t, V)``; a gradient goes to the first of these sequences alone.

    Returns:
        ``(B, T)``, 0 where ``mask`` is False.

    Example:
        >>> import torch
        >>> entropy = lambda tokens, said: -(said.exp() * said).sum(-1)
        >>> by_position(entropy, torch.tensor([[True, False]]), torch.zeros(1, 2).long(), [torch.zeros(1, 4)])
        tensor([[1.3863, 0.0000]])
    """
    rows = [row for rows in logits for row in rows]
    values: Tensor = _function().apply(function, mask, tokens, *rows)
    return values


@cache
def _function() -> Any:
    """The autograd function; made at the first call, as torch is not imported with the names of the terms."""
    import torch
    from torch.autograd.function import once_differentiable

    class ByPosition(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, function: Any, mask: Tensor, tokens: Tensor, *rows: Tensor) -> Tensor:
            context.function = function
            context.save_for_backward(mask, tokens, *rows)
            values = torch.zeros(mask.shape, dtype=_precise(rows[0]), device=mask.device)
            for at in _slices(mask, rows[0].shape[-1]):
                values[at] = function(tokens[at], *(of.log_softmax(-1) for of in _taken(rows, len(mask), at)))
            return values

        @staticmethod
        @once_differentiable
        def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
            mask, tokens, *rows = context.saved_tensors
            found = [torch.zeros_like(row) for row in rows[: len(mask)]]
            for at in _slices(mask, rows[0].shape[-1]):
                first, *others = _taken(rows, len(mask), at)
                with torch.enable_grad():
                    first.requires_grad_()
                    said = (of.log_softmax(-1) for of in (first, *others))
                    values = context.function(tokens[at], *said)
                (slope,) = torch.autograd.grad(values, first, gradient[at])
                for row, columns, part in _by_row(at, slope):
                    found[row][columns] = part.to(found[row].dtype)
            return None, None, None, *found, *[None] * (len(rows) - len(mask))

    return ByPosition


def _slices(mask: Tensor, width: int) -> list[tuple[Tensor, Tensor]]:
    """Rows and columns of the positions of each slice."""
    import torch

    rows, columns = mask.nonzero(as_tuple=True)
    size = max(1, AT_ONCE // width)
    return list(zip(torch.split(rows, size), torch.split(columns, size), strict=True)) if len(rows) else []


def _taken(rows: Sequence[Tensor], count: int, at: tuple[Tensor, Tensor]) -> list[Tensor]:
    """The numbers at a slice's positions, (n, V) in float32, of each sequence of ``count`` rows."""
    import torch

    dtype = _precise(rows[0])
    each = [rows[start : start + count] for start in range(0, len(rows), count)]
    return [torch.cat([of[row][columns] for row, columns, _ in _by_row(at, at[1])]).to(dtype) for of in each]


def _precise(logits: Tensor) -> torch.dtype:
    import torch

    return torch.promote_types(logits.dtype, torch.float32)


def _by_row(at: tuple[Tensor, Tensor], values: Tensor) -> list[tuple[int, Tensor, Tensor]]:
    """Each row of a slice with its columns and its part of ``values``."""
    import torch

    rows, counts = torch.unique_consecutive(at[0], return_counts=True)
    sizes = counts.tolist()
    return list(zip(rows.tolist(), torch.split(at[1], sizes), torch.split(values, sizes), strict=True))

"""Numbers for the whole vocabulary, of which few positions are looked at at a time.

A row of 200 answer tokens over 32,000 tokens of the vocabulary is 26 MB in float32, and a loss written with tensor
operations holds several of these until the backward pass. Here the logits are what is held, once; whatever a loss makes
of them exists for a slice of positions, and is made again for the gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor

AT_ONCE = 2**22
"""Numbers of a slice: 131 positions of a vocabulary of 32,000."""
IN_CACHE = 2**18
"""Likewise on a CPU, where what a slice is made into stays in a core's cache: 1 MiB."""


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
            for at in _slices(mask, rows[0]):
                said = (of.log_softmax(-1) for of in _taken(rows, len(mask), at))
                _put(values, at, function(_joined(tokens, at), *said))
            return values

        @staticmethod
        @once_differentiable
        def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
            mask, tokens, *rows = context.saved_tensors
            count = len(mask)
            # a row that no loss reads, as a retain row's answer beside KL, costs nothing; where none is read all are 0,
            # as what is trained has to have a gradient
            wanted = mask & (gradient != 0).any(1, keepdim=True)
            read = wanted.sum(1).tolist()
            found = [_empty(row, n) if n or not any(read) else None for row, n in zip(rows, read, strict=False)]
            for at in _slices(wanted, rows[0]):
                first, *others = _taken(rows, count, at)
                with torch.enable_grad():
                    first = first.detach().requires_grad_()
                    said = (of.log_softmax(-1) for of in (first, *others))
                    values = context.function(_joined(tokens, at), *said)
                (slope,) = torch.autograd.grad(values, first, _joined(gradient, at))
                _put(found, at, slope)
            return None, None, None, *found, *[None] * (len(rows) - count)

    return ByPosition


def _empty(row: Tensor, filled: int) -> Tensor:
    """Room for a row's gradient, of which so many positions will be filled."""
    import torch

    return torch.empty_like(row) if filled == len(row) else torch.zeros_like(row)


Places = list[tuple[int, slice]]
"""Positions: of a row, from one column to another."""


def _slices(mask: Tensor, logits: Tensor) -> list[Places]:
    """The positions of each slice."""
    size = max(1, (IN_CACHE if logits.device.type == "cpu" else AT_ONCE) // logits.shape[-1])
    slices: list[Places] = []
    room = 0
    for row, wanted in enumerate(mask.tolist()):
        end = 0
        for here, run in groupby(wanted):
            start, end = end, end + len(list(run))
            while here and start < end:
                if not room:
                    slices.append([])
                    room = size
                taken = min(room, end - start)
                slices[-1].append((row, slice(start, start + taken)))
                start, room = start + taken, room - taken
    return slices


def _joined(rows: Sequence[Tensor] | Tensor, at: Places) -> Tensor:
    """What stands at the positions of a slice, one behind the other; where it can be, a view."""
    import torch

    parts = [rows[row][columns] for row, columns in at]
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def _put(rows: Sequence[Tensor | None] | Tensor, at: Places, values: Tensor) -> None:
    start = 0
    for row, columns in at:
        end = start + columns.stop - columns.start
        rows[row][columns] = values[start:end]  # type: ignore[index]
        start = end


def _taken(rows: Sequence[Tensor], count: int, at: Places) -> list[Tensor]:
    """The numbers at a slice's positions, (n, V) in float32, of each sequence of ``count`` rows."""
    each = [rows[start : start + count] for start in range(0, len(rows), count)]
    return [_joined(of, at).to(_precise(rows[0])) for of in each]


def _precise(logits: Tensor) -> torch.dtype:
    import torch

    return torch.promote_types(logits.dtype, torch.float32)

"""A cache in which rows that begin alike keep the beginning once, and attention that reads it once for all of them.

What a row gives by itself is ``softmax([q K1', q K2']) [V1; V2]``, where the keys ``K1`` and values ``V1`` are those of
the beginning and ``K2``, ``V2`` the row's own. Both parts are made apart, each with its maximum and denominator, the
first in one matrix product for all rows that share it, and weighted by their shares of a softmax over both (Juravsky et
al., Hydragen, arXiv:2402.05099, section 3.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, DynamicCache
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from safeeraser.models.decode import PreallocatedLayer

_SDPA = ALL_ATTENTION_FUNCTIONS["sdpa"]
_UNKNOWN = ("position_bias", "s_aux", "sinks", "sliding_window", "softcap")
"""Arguments of attention that change what is computed; with one of them the keys go to every row (``prefix.pays``)."""


class Slots:
    """Where rows lie when those of one beginning stand together, with room for as many as the largest group has."""

    def __init__(self, of_row: Tensor, beginnings: int) -> None:
        """Lay out rows.

        Args:
            of_row: (B,) number of each row's beginning.
            beginnings: How many there are; some may have no row.

        Example:
            >>> slots = Slots(torch.tensor([0, 1, 0]), 2)
            >>> slots.to_slots(torch.tensor([[5.0], [6.0], [7.0]]))[:, :, 0].tolist()
            [[5.0, 7.0], [6.0, 5.0]]
        """
        counts = torch.bincount(of_row, minlength=beginnings)
        order = of_row.argsort(stable=True)
        rows = torch.arange(len(of_row), device=of_row.device)
        self.of_row = of_row
        self.most = int(counts.max())
        self._slot = torch.empty_like(of_row)
        self._slot[order] = of_row[order] * self.most + rows - (counts.cumsum(0) - counts)[of_row[order]]
        self._row = rows.new_zeros(beginnings * self.most)  # what is in an empty slot is computed and not read
        self._row[self._slot] = rows

    def to_slots(self, states: Tensor) -> Tensor:
        """(B, ...) to (beginnings, most, ...)."""
        return states[self._row.to(states.device)].view(-1, self.most, *states.shape[1:])

    def to_rows(self, states: Tensor) -> Tensor:
        """(beginnings, most, ...) to (B, ...)."""
        return states.flatten(0, 1)[self._slot.to(states.device)]


class SharedLayer(PreallocatedLayer):
    """Keys and values of the beginnings, once, and behind them every row's own; ``update`` returns the rows' own.

    They come back with an attribute that says which layer they are of, by which ``attend`` finds the beginnings.
    """

    is_unread = False

    def __init__(self, keys: Tensor, values: Tensor, seen: Tensor, slots: Slots) -> None:
        """Keep beginnings.

        Args:
            keys: (beginnings, heads, L, width).
            values: (beginnings, heads, L, width).
            seen: (beginnings, L) False where there is padding.
            slots: Of the rows.
        """
        super().__init__()
        # a product of few rows with keys that lie this way is 1.5 times as fast on a CPU
        self.first_keys, self.first_values = keys.mT.contiguous(), values.contiguous()
        self.hidden = None if bool(seen.all()) else ~seen[:, None, None].to(keys.device)
        self.slots = slots

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append to the rows' own keys and values; return these."""
        if self.is_unread:
            raise RuntimeError("the model's attention does not read the beginning of its rows from the cache")
        keys, values = super().update(key_states, value_states, *args, **kwargs)
        keys.layer, self.is_unread = self, True  # type: ignore[attr-defined]
        return keys, values

    def get_seq_length(self) -> int:
        """Tokens of a row, the beginning and its padding included."""
        return int(self.first_values.shape[-2] + super().get_seq_length())

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Length and offset of what the mask is about, the rows' own."""
        return super().get_seq_length() + query_length, self.first_values.shape[-2]

    def keep(self, rows: Tensor, slots: Slots, beginnings: Tensor | None) -> None:
        """Drop all rows but some, and, where numbers of beginnings are given, all of these but some."""
        self.keys, self.values = self.keys[rows], self.values[rows]
        self.slots = slots
        if beginnings is not None:
            self.first_keys, self.first_values = self.first_keys[beginnings], self.first_values[beginnings]
            self.hidden = None if self.hidden is None else self.hidden[beginnings]


class SharedCache(DynamicCache):  # type: ignore[misc]
    """A cache of ``SharedLayer``; of its rows any may be dropped."""

    def __init__(self, read: DynamicCache, of_row: Tensor, seen: Tensor) -> None:
        """Take over beginnings that a model has read.

        Args:
            read: What it has read, a row for each beginning; empty afterwards.
            of_row: (B,) number of each row's beginning.
            seen: (beginnings, L) False where there is padding.
        """
        super().__init__()
        AttentionInterface.register("sdpa", attend)
        self._slots = Slots(of_row, len(seen))
        self._beginnings = len(seen)
        while read.layers:  # one after the other, so that no more than one lies there twice
            layer = read.layers.pop(0)
            self.layers.append(SharedLayer(layer.keys, layer.values, seen, self._slots))

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep some of the rows; beginnings go when half of them have no row, so that all copies together are one."""
        of_row = self._slots.of_row[indices]
        left, numbered = torch.unique(of_row, return_inverse=True)
        fewer = 2 * len(left) <= self._beginnings
        if fewer:
            of_row, self._beginnings = numbered, len(left)
        self._slots = Slots(of_row, self._beginnings)
        for layer in self.layers:
            layer.keep(indices, self._slots, left if fewer else None)


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attention to the beginning and to a row's own tokens; the library's for keys that are not of a ``SharedLayer``.

    Args:
        module: The layer's attention.
        query: (B, heads, Q, width).
        key: (B, key heads, K, width) of the row's own tokens, the Q asked for included.
        value: Like ``key``.
        attention_mask: (B, 1, Q, K) True where one of these is seen; None: each token sees itself and those before.
        dropout: As the library's.
        scaling: Of scores; None: by the root of the width.
        others: Further arguments of the library's.

    Returns:
        (B, Q, heads, width), and no weights.

    Raises:
        RuntimeError: If something is asked for that is not known here.
    """
    layer: SharedLayer | None = getattr(key, "layer", None)
    if layer is None:
        made: tuple[Tensor, None] = _SDPA(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **others
        )
        return made
    if unknown := [name for name in _UNKNOWN if others.get(name) is not None]:
        raise RuntimeError(f"attention with {unknown[0]} behind a shared beginning")
    if dropout or (attention_mask is not None and (attention_mask.dtype != torch.bool or attention_mask.shape[1] > 1)):
        raise RuntimeError("attention with dropout, or a mask of another kind, behind a shared beginning")
    layer.is_unread = False
    batch, heads, asked, width = query.shape
    groups = heads // key.shape[1]
    # the queries of the heads that read the same keys stand in a row, as if they were of more tokens
    states = (query * (width**-0.5 if scaling is None else scaling)).reshape(batch, key.shape[1], -1, width)
    together = layer.slots.to_slots(states).transpose(1, 2).flatten(2, 3)
    first = _part(together @ layer.first_keys, layer.first_values, layer.hidden)
    of_rows = [part.view(*part.shape[:2], layer.slots.most, -1, part.shape[-1]).transpose(1, 2) for part in first]
    own = _part(states @ key.mT, value, _hidden(attention_mask, asked, key, groups))
    mixed = _both(list(map(layer.slots.to_rows, of_rows)), own).to(query.dtype)
    return mixed.reshape(batch, heads, asked, -1).transpose(1, 2).contiguous(), None


def _hidden(mask: Tensor | None, asked: int, key: Tensor, groups: int) -> Tensor | None:
    """Which of their own tokens rows do not see, (B or 1, 1, groups x Q, K)."""
    if mask is None and asked == 1:
        return None
    if mask is None:
        mask = torch.ones(1, 1, asked, key.shape[2], dtype=torch.bool, device=key.device).tril(key.shape[2] - asked)
    return ~mask.repeat(1, 1, groups, 1)


def _part(scores: Tensor, values: Tensor, hidden: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Mean of ``values`` by a softmax of ``scores``, its denominator, and the score that this is relative to."""
    scores = scores.float()
    if hidden is not None:
        # the lowest number, not minus infinity: where all is hidden, as before a prompt's first token, no NaN is made
        scores.masked_fill_(hidden, torch.finfo(scores.dtype).min)
    peak = scores.amax(-1, keepdim=True)
    weights = scores.sub_(peak).exp_()
    total = weights.sum(-1, keepdim=True)
    return weights.div_(total).to(values.dtype) @ values, total, peak


def _both(first: Sequence[Tensor], own: Sequence[Tensor]) -> Tensor:
    """The mean by a softmax over both parts, of which each is a mean, its denominator, and the score of that."""
    peak = torch.maximum(first[2], own[2])
    of_first, of_own = (part[1] * (part[2] - peak).exp() for part in (first, own))
    return (first[0] * of_first + own[0] * of_own) / (of_first + of_own)

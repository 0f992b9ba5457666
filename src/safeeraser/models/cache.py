"""A key-value cache that grows in steps: ``transformers``' own copies all keys and values for every new token."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

_ROOM = 64
"""Tokens by which the room grows."""


class RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """A ``DynamicLayer`` that keeps room for the next tokens; ``keys`` and ``values`` are views of what is filled."""

    keys: Tensor
    values: Tensor
    _rooms: tuple[Tensor, Tensor] | None = None
    _views: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append keys and values (B, heads, new tokens, width); return all of them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._views = None
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        # someone who replaced keys or values (a beam search, say) has left our room
        is_ours = self._views is not None and self.keys is self._views[0] and self.values is self._views[1]
        if not is_ours or self._rooms is None or end > self._rooms[0].shape[-2]:
            old = (self.keys, self.values) if start else (None, None)
            pairs = zip(old, (key_states, value_states), strict=True)
            first, second = (_room(old, new, end + _ROOM) for old, new in pairs)
            self._rooms = first, second
        keys, values = self._rooms
        keys[:, :, start:end] = key_states
        values[:, :, start:end] = value_states
        self._views = self.keys, self.values = keys[:, :, :end], values[:, :, :end]
        return self._views


def roomy_cache(config: Any) -> DynamicCache:
    """Make an empty cache for a model; layers with a window stay as ``transformers`` makes them.

    Args:
        config: The model's configuration.
    """
    cache = DynamicCache(config=config)
    cache.layers = [RoomyLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def _room(old: Tensor | None, new: Tensor, length: int) -> Tensor:
    room = torch.empty(*new.shape[:2], length, new.shape[-1], dtype=new.dtype, device=new.device)
    if old is not None:
        room[:, :, : old.shape[-2]] = old
    return room

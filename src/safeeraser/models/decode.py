"""Decoding: settings that owe nothing to the checkpoint, and rounds after which finished rows leave the batch."""

from __future__ import annotations

import inspect
from copy import copy
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, GenerationConfig
from transformers.cache_utils import DynamicLayer

ROUND = 16
"""Tokens of a round."""
_ROOM = 64
"""Tokens by which the cache grows."""


def settings(
    end_tokens: list[int], pad_token: int, temperature: float = 0.0, top_p: float = 1.0, **more: Any
) -> GenerationConfig:
    """Make generation settings, all of which are ours.

    Args:
        end_tokens: Ids of the tokens that end an answer.
        pad_token: Id of the token behind the end.
        temperature: 0: greedy; else sampling at this temperature.
        top_p: Sample from the most probable tokens that together have this probability.
        more: Further fields of ``GenerationConfig``.

    Example:
        >>> settings([2], 0).do_sample
        False
    """
    sampling = {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0}
    return GenerationConfig(
        eos_token_id=end_tokens,
        pad_token_id=pad_token,
        use_cache=True,
        num_beams=1,
        repetition_penalty=1.0,
        **(sampling if temperature > 0 else {"do_sample": False}),
        **more,
    )


def generate(
    model: Any,
    inputs: dict[str, Tensor],
    max_new_tokens: int,
    config: GenerationConfig,
    round_tokens: int = ROUND,
    cache: DynamicCache | None = None,
) -> Tensor:
    """Continue every row; rows that have ended leave the batch after each round.

    A row of thirty tokens would otherwise keep two hundred that ended after ten in every step. With several rounds a
    token must need no more than its id and the mask, as what came before it is in the cache.

    Args:
        model: A model whose own ``generation_config`` sets nothing, as ``generate`` fills from it what ``config``
            leaves open (``checkpoint.load_weights`` sees to it).
        inputs: Prompts, padded on the left; ``input_ids`` and ``attention_mask`` are (B, L).
        max_new_tokens: Longest answer in tokens, its end included.
        config: Of ``settings``.
        round_tokens: Tokens of a round.
        cache: Keys and values of the first tokens of every row (``prefix.share``); None: all are to be read.

    Returns:
        Ids of the new tokens, (B, max_new_tokens); behind the end of a row is padding.
    """
    config, rest = copy(config), inputs
    ends = torch.tensor(config.eos_token_id, device=inputs["input_ids"].device)
    new = torch.full((len(inputs["input_ids"]), max_new_tokens), config.pad_token_id, device=ends.device)
    rows = torch.arange(len(new), device=ends.device)
    cache = preallocated_cache(model.config) if cache is None else cache
    for start in range(0, max_new_tokens, round_tokens):
        config.max_new_tokens = min(round_tokens, max_new_tokens - start)
        output = model.generate(**rest, generation_config=config, past_key_values=cache)
        if round_tokens < max_new_tokens and cache.get_seq_length() != output.shape[1] - 1:
            # GIT's image stands before the tokens, and in none of them: ids and mask are not all that was read
            return generate(model, inputs, max_new_tokens, config, max_new_tokens)
        made = output[:, rest["input_ids"].shape[1] :]
        new[rows, start : start + made.shape[1]] = made
        left = (~torch.isin(made, ends).any(1)).nonzero()[:, 0]
        if len(left) == 0:
            break
        if len(left) < len(rows):
            cache.batch_select_indices(left)
            rows = rows[left]
        mask = torch.nn.functional.pad(rest["attention_mask"], (0, made.shape[1]), value=1)
        rest = {"input_ids": output[left], "attention_mask": mask[left]}
    return new


class PreallocatedLayer(DynamicLayer):  # type: ignore[misc]
    """A ``DynamicLayer`` with room for the next tokens, where the library's copies all keys and values at each token.

    ``keys`` and ``values`` are views of what is filled. Behind an image of 576 tokens the copies take a tenth of the
    time of a model of 134M parameters (docs/decisions/0006).
    """

    keys: Tensor
    values: Tensor
    _rooms: tuple[Tensor, Tensor] | None = None
    _views: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append keys and values (B, heads, new tokens, width); return all of them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._views = None
        start = super().get_seq_length()
        end = start + key_states.shape[-2]
        # whoever replaced keys or values (rows that left the batch, say) has left our room
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


def can_go_on(model: Any) -> bool:
    """Whether a model's cache can be cut to the rows that are left and be gone on from, with token ids and mask alone.

    Not where a layer keeps a state in place of keys and values (Qwen3.5, LFM2), nor where a model keeps what it found
    out about a batch's positions (Qwen2-VL and what follows it).
    """
    cache = DynamicCache(config=model.config)
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    keeps_positions = any(hasattr(module, "rope_deltas") for module in inner.modules())
    # BLIP-2's own generation asks for the image each time
    wants_image = "pixel_values" in inspect.signature(inner.generate).parameters
    return not keeps_positions and not wants_image and all(isinstance(layer, DynamicLayer) for layer in cache.layers)


def preallocated_cache(config: Any) -> DynamicCache:
    """Make an empty cache for a model; layers with a sliding window stay as ``transformers`` makes them.

    Args:
        config: The model's configuration.
    """
    cache = DynamicCache(config=config)
    cache.layers = [PreallocatedLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def _room(old: Tensor | None, new: Tensor, length: int) -> Tensor:
    room = torch.empty(*new.shape[:2], length, new.shape[-1], dtype=new.dtype, device=new.device)
    if old is not None:
        room[:, :, : old.shape[-2]] = old
    return room

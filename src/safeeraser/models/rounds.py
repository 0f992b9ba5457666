"""Greedy decoding in rounds: rows that have ended leave the batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from safeeraser.models.cache import roomy_cache

ROUND = 16
"""Tokens of a round."""


def generate(
    model: Any, inputs: dict[str, Tensor], max_new_tokens: int, at_once: int, options: dict[str, Any]
) -> Tensor:
    """New tokens of every row, (B, max_new_tokens); rows that have ended leave the batch after each round.

    A row of thirty tokens would otherwise keep two hundred that ended after ten in every step. Every token must need no
    more than its id and the mask, as what came before it is in the cache.

    Args:
        model: The model.
        inputs: Prompts, padded on the left; ``input_ids`` and ``attention_mask`` are (B, L).
        max_new_tokens: Longest answer in tokens, its end included.
        at_once: Tokens of a round.
        options: More for the model's ``generate``; ``eos_token_id`` (a list) and ``pad_token_id`` are read here too.

    Returns:
        Token ids; behind the end of a row is padding.
    """
    given, ends = inputs, torch.tensor(options["eos_token_id"], device=inputs["input_ids"].device)
    new = torch.full((len(inputs["input_ids"]), max_new_tokens), options["pad_token_id"], device=ends.device)
    rows = torch.arange(len(new), device=ends.device)
    cache = roomy_cache(model.config)
    for start in range(0, max_new_tokens, at_once):
        size = min(at_once, max_new_tokens - start)
        output = model.generate(**given, **options, past_key_values=cache, max_new_tokens=size)
        made = output[:, given["input_ids"].shape[1] :]
        new[rows, start : start + made.shape[1]] = made
        left = (~torch.isin(made, ends).any(1)).nonzero()[:, 0]
        if len(left) == 0:
            break
        if len(left) < len(rows):
            cache.batch_select_indices(left)
            rows = rows[left]
        mask = torch.nn.functional.pad(given["attention_mask"], (0, made.shape[1]), value=1)
        given = {"input_ids": output[left], "attention_mask": mask[left]}
    return new

"""Representation misdirection: draw the hidden states of answers to forget to a random vector."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import PositiveFloat

from safeeraser.objectives.term import TokenLogProbs, register, token_mean

if TYPE_CHECKING:
    from torch import Tensor


@register("rmu", rows="forget", needs=("hidden",))
def rmu(log_probs: TokenLogProbs, *, coefficient: PositiveFloat = 6.5, seed: int = 0) -> Tensor:
    """RMU, the forget loss (Li et al., 2024, WMDP, arXiv 2403.03218, sec. 4.2): hidden states to a random vector.

    ``loss_i = 1/T_i * sum_t ||h_t - c * u||^2 / H``, with ``h_t`` the state after one layer where the model predicts
    ``y_t``, ``u`` a unit vector with entries drawn evenly from [0, 1) before scaling, one for the whole run, and ``c``
    ``coefficient``. The layers above receive nonsense; below, nothing is learnt from it.

    The paper takes the squared norm and every token of a text; its code the mean over the ``H`` entries, as here, which
    keeps the term on one scale whatever the width. Ours are the positions that predict an answer token, those of all
    other terms, and every trainable weight up to the layer moves, where the paper trains three layers. ``c`` has to
    suit the model: of the order of a state's norm. The official SafeEraser code has no RMU.

    Args:
        log_probs: ``hidden``, ``(B, T, H)``, and ``mask``, ``(B, T)``, of forget rows.
        coefficient: Length of the random vector that RMU draws hidden states to; of the order of the length of a state.
        seed: Seed of the direction of that vector.

    Returns:
        Loss of each sample, ``(B,)``; at least 0.
    """
    import torch

    if log_probs.hidden is None:
        raise ValueError("rmu needs hidden")
    hidden = log_probs.hidden
    drawn = torch.rand(hidden.shape[-1], generator=torch.Generator().manual_seed(seed))
    target = (coefficient * drawn / drawn.norm()).to(hidden)
    return token_mean((hidden - target).square().mean(-1), log_probs.mask)

"""Representation misdirection, the other half: keep the hidden states of answers to retain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from safeeraser.objectives.term import TokenLogProbs, register, token_mean

if TYPE_CHECKING:
    from torch import Tensor


@register("rmu_retain", rows="retain", needs=("reference", "hidden"))
def rmu_retain(log_probs: TokenLogProbs) -> Tensor:
    """RMU, the retain loss (Li et al., 2024, WMDP, arXiv 2403.03218, sec. 4.2): stay near the states before unlearning.

    ``loss_i = 1/T_i * sum_t ||h_t - h_ref,t||^2 / H``, with ``h_t`` the state after the layer of ``rmu`` where the
    model predicts ``y_t``, and ``h_ref`` that of the same model with its adapter off. The paper's ``alpha`` is the
    weight of this term (1,200 for Zephyr-7B): ``{rmu: 1, rmu_retain: 1200}``.

    Mean over the ``H`` entries and positions as for ``rmu``. The official SafeEraser code has no RMU.

    Args:
        log_probs: ``hidden`` and ``reference_hidden``, ``(B, T, H)``, and ``mask``, ``(B, T)``, of retain rows.

    Returns:
        Loss of each sample, ``(B,)``; at least 0.
    """
    if log_probs.hidden is None or log_probs.reference_hidden is None:
        raise ValueError("rmu_retain needs hidden and reference_hidden")
    squared = (log_probs.hidden - log_probs.reference_hidden).square().mean(-1)
    return token_mean(squared, log_probs.mask)

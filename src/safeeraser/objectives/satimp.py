"""Saturation and importance: gradient ascent on the tokens that are neither forgotten nor certain."""

from __future__ import annotations

from pydantic import NonNegativeFloat

from safeeraser.objectives.term import Tensor, TokenLogProbs, register, token_mean


@register("satimp", rows="forget")
def satimp(log_probs: TokenLogProbs, *, beta1: NonNegativeFloat = 5.0, beta2: NonNegativeFloat = 1.0) -> Tensor:
    """SatImp (Yang et al., 2025, arXiv 2505.11953): gradient ascent, each token weighted twice.

    ``loss_i = 1/T_i * sum_t p(y_t)^beta1 * (1 - p(y_t))^beta2 * log p(y_t)``, no gradient through the weights. One
    leaves alone what is forgotten already (saturation), the other what is certain anyway (importance). With the
    defaults the weight is at most ``(5/6)^5 / 6 = 0.067``, at ``p = 5/6``: beside terms of weight 1 it forgets slowly.
    ``beta2 = 0`` is ``wga``, both 0 is ``ga``.

    Source: OpenUnlearning's ``compute_satimp_loss`` (``trainer/utils.py``), one mean over all tokens of a batch, where
    this is a mean per sample; equal for one sample. Its configuration gives the term the weight 0.1 and retain 1, as do
    the authors (tmlr-group/SatImp). The official SafeEraser code has no SatImp.

    Args:
        log_probs: ``answer`` and ``mask``, ``(B, T)``, of forget rows.
        beta1: How much less an unlikely token counts (saturation).
        beta2: How much less a certain token counts (importance).

    Returns:
        Loss of each sample, ``(B,)``; at most 0.

    Example:
        >>> import torch
        >>> half = TokenLogProbs(torch.tensor([[0.5]]).log(), torch.tensor([[True]]))
        >>> satimp(half, beta1=1.0, beta2=1.0)  # 1/4 ln 1/2
        tensor([-0.1733])
    """
    log_p = log_probs.answer.detach()
    # expm1: 1 - p keeps its digits where p is close to 1
    weight = log_p.exp() ** beta1 * (-log_p.expm1()) ** beta2
    return token_mean(weight * log_probs.answer, log_probs.mask)

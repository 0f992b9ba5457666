"""Weighted gradient ascent on the answers to forget: unlikely tokens count less."""

from __future__ import annotations

from pydantic import NonNegativeFloat

from safeeraser.objectives.term import Tensor, TokenLogProbs, register, token_mean


@register("wga", rows="forget")
def wga(log_probs: TokenLogProbs, *, beta: NonNegativeFloat = 1.0) -> Tensor:
    """Weighted gradient ascent (Wang et al., 2025, arXiv 2502.19301, sec. 4): ascent where the answer is still likely.

    ``loss_i = 1/T_i * sum_t p(y_t)^beta * log p(y_t)``, no gradient through the weight, so that a token contributes
    ``p(y_t)^beta / T_i`` of the gradient in ``log p(y_t)``: all of gradient ascent's where it is certain, none where it
    is forgotten. ``beta = 0`` is ``ga``. The value is no measure of how far forgetting is: it tends to 0 at both ends.

    Source: OpenUnlearning's ``compute_wga_loss`` (``trainer/utils.py``), one mean over all tokens of a batch, where
    this is a mean per sample; equal for one sample. The official SafeEraser code has no WGA.

    Args:
        log_probs: ``answer`` and ``mask``, ``(B, T)``, of forget rows.
        beta: How much less an unlikely token counts; 0 is gradient ascent.

    Returns:
        Loss of each sample, ``(B,)``; at most 0.

    Example:
        >>> import torch
        >>> half = TokenLogProbs(torch.tensor([[0.5, 0.25]]).log(), torch.tensor([[True, True]]))
        >>> wga(half, beta=1.0)  # (1/2 ln 1/2 + 1/4 ln 1/4) / 2 = -1/2 ln 2
        tensor([-0.3466])
    """
    weight = log_probs.answer.detach().exp() ** beta
    return token_mean(weight * log_probs.answer, log_probs.mask)

"""Simple negative preference optimisation on the answers to forget: NPO without a reference model."""

from __future__ import annotations

from pydantic import NonNegativeFloat, PositiveFloat

from safeeraser.objectives.term import Tensor, TokenLogProbs, register, token_mean


@register("simnpo", rows="forget")
def simnpo(log_probs: TokenLogProbs, *, beta: PositiveFloat = 2.5, gamma: NonNegativeFloat = 0.0) -> Tensor:
    """SimNPO (Fan et al., 2024, arXiv 2410.07163, eq. 4): NPO with a length-normalised reward and no reference.

    ``loss_i = -2/beta * log sigmoid(-beta * m_i - gamma)``, ``m_i = 1/T_i * sum_t log p(y_t | image, question, y_<t)``.
    Bounded below by 0. Its gradient in ``m`` is ``2 sigmoid(beta * m + gamma)``: what is still likely is forgotten
    fast, what is unlikely is left alone, whatever the model said before unlearning. A margin ``gamma`` above 0 makes
    the gradient fade later.

    The paper has this mean per token as well. The official SafeEraser code has no SimNPO.

    Args:
        log_probs: ``answer`` and ``mask``, ``(B, T)``, of forget rows.
        beta: Inverse temperature of SimNPO; the paper takes 2.5 or 4.5.
        gamma: Margin of SimNPO; above 0 an answer is pushed further down.

    Returns:
        Loss of each sample, ``(B,)``; at least 0.
    """
    from torch.nn.functional import logsigmoid

    reward = beta * token_mean(log_probs.answer, log_probs.mask)
    return -2 / beta * logsigmoid(-reward - gamma)

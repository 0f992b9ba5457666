"""Negative preference optimisation on the answers to forget."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import logsigmoid

from safeeraser.objectives.term import TermOptions, TokenLogProbs, register, token_mean


@register("npo", rows="forget", needs=("reference",))
def npo(log_probs: TokenLogProbs, options: TermOptions) -> Tensor:
    """Negative preference optimisation (Zhang et al., 2024, arXiv 2404.05868, eq. 3).

    ``loss_i = -2/beta * log sigmoid(-beta * r_i)``, ``r_i = mean_t (log p(y_t) - log p_ref(y_t))``. Bounded below by 0;
    at ``r = 0`` its gradient in ``r`` is 1, that of gradient ascent, and it fades as the answer becomes unlikely.

    Our choice: ``r`` is the mean over the answer's tokens, where the paper has their sum (the log-ratio of the whole
    answer). The mean keeps ``beta`` independent of the length of answers and the term on the scale of the others;
    with it a given ``beta`` fades later than the paper's, as if theirs were divided by the answer's length.
    The official SafeEraser code has no NPO.

    Args:
        log_probs: ``answer``, ``mask`` and ``reference_answer``, ``(B, T)``, of forget rows.
        options: ``npo_beta``.

    Returns:
        Loss of each sample, ``(B,)``; at least 0.
    """
    if log_probs.reference_answer is None:
        raise ValueError("npo needs reference_answer")
    log_ratio = token_mean(log_probs.answer - log_probs.reference_answer, log_probs.mask)
    return -2 / options.npo_beta * logsigmoid(-options.npo_beta * log_ratio)

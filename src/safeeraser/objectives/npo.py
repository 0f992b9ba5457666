"""Negative preference optimisation on the answers to forget."""

from __future__ import annotations

from pydantic import PositiveFloat

from safeeraser.objectives.term import Tensor, TokenLogProbs, register, token_count, token_sum


@register("npo", rows="forget", needs=("reference",))
def npo(log_probs: TokenLogProbs, *, beta: PositiveFloat = 0.1, per_token: bool = True) -> Tensor:
    """Negative preference optimisation (Zhang et al., 2024, arXiv 2404.05868, eq. 3).

    ``loss_i = -2/beta * log sigmoid(-beta * R_i) / T_i``, ``R_i = sum_t (log p(y_t) - log p_ref(y_t))``, the log-ratio
    of the whole answer. Bounded below by 0. Its gradient in each ``log p(y_t)`` is ``2 sigmoid(beta * R_i) / T_i``:
    that of gradient ascent at ``R_i = 0``, and it fades as the answer becomes unlikely.

    Differs from the paper and its code (licong-lin/negative-preference-optimization, ``TOFU/dataloader.py``) in the
    factor ``1 / T_i`` alone, which makes the term start at the gradient of ``ga`` and puts it on the scale of the terms
    beside it, means per token all of them; ``per_token=False`` is theirs. The factor leaves alone where the gradient
    fades, and that is what a mean in place of the sum would move: a ``beta`` of 0.1 would act as ``0.1 / T_i``, and the
    term would be gradient ascent for as long as anybody trains. The official SafeEraser code has no NPO.

    Args:
        log_probs: ``answer``, ``mask`` and ``reference_answer``, ``(B, T)``, of forget rows.
        beta: Inverse temperature of NPO.
        per_token: Divide by the answer's tokens, so that NPO starts at the gradient of ga; false: the paper's scale.

    Returns:
        Loss of each sample, ``(B,)``; at least 0.

    Example:
        >>> import torch
        >>> answer, reference = torch.tensor([[-1.0, -2.0]]), torch.tensor([[-1.0, -1.0]])
        >>> log_probs = TokenLogProbs(answer, torch.tensor([[True, True]]), reference_answer=reference)
        >>> npo(log_probs, beta=1.0, per_token=False)  # 2 ln(1 + e^-1)
        tensor([0.6265])
        >>> npo(log_probs, beta=1.0)
        tensor([0.3133])
    """
    from torch.nn.functional import logsigmoid

    if log_probs.reference_answer is None:
        raise ValueError("npo needs reference_answer")
    log_ratio = token_sum(log_probs.answer - log_probs.reference_answer, log_probs.mask)
    loss = -2 / beta * logsigmoid(-beta * log_ratio)
    return loss / token_count(log_probs.mask) if per_token else loss

"""Self-distillation from the model before unlearning, with the logits of the answers to forget lowered."""

from __future__ import annotations

from pydantic import NonNegativeFloat

from safeeraser.objectives.term import Tensor, TokenLogProbs, register, token_mean
from safeeraser.objectives.vocabulary import by_position


@register("undial", rows="forget", needs=("reference", "distribution"))
def undial(log_probs: TokenLogProbs, *, beta: NonNegativeFloat = 10.0) -> Tensor:
    """UNDIAL (Dong et al., 2024, arXiv 2402.10052): cross-entropy with what the reference would say but for the answer.

    ``loss_i = -1/T_i * sum_t sum_v q(v | y_<t) * log p(v | y_<t)``, ``q = softmax(z_ref - beta * [v = y_t])`` with
    ``z_ref`` the reference's logits: the same distribution, the answer's token ``e^beta`` times less likely against the
    others. A target that stays where it is, so that nothing is unbounded; the loss ends at the entropy of ``q``, not at
    0. ``beta = 0`` distils the reference, which is ``kl`` on forget rows up to that entropy.

    Source: OpenUnlearning's ``compute_undial_loss`` (``trainer/utils.py``), whose mean is over all positions of the
    batch, prompt and padding included (where the label -100 lowers the token 100 from the vocabulary's end); this is
    over answer tokens, as in Open-MMUnlearning. Its default strength is 10, and it gives retain no weight. The
    official SafeEraser code has no UNDIAL.

    Args:
        log_probs: ``distribution`` and ``reference_distribution``, B times ``(t, V)``, ``tokens`` and ``mask``,
            ``(B, T)``, of forget rows.
        beta: By how much the reference's logit of an answer token is lowered.

    Returns:
        Loss of each sample, ``(B,)``; at least 0.

    Example:
        >>> import math, torch
        >>> even, mask = torch.full((1, 1, 2), 0.5).log(), torch.tensor([[True]])
        >>> sure = torch.tensor([[[0.25, 0.75]]]).log()
        >>> answer = TokenLogProbs(sure[..., 1], mask, even[..., 1], sure, even, tokens=torch.tensor([[1]]))
        >>> undial(answer, beta=math.log(3))  # q = (3/4, 1/4), so 3/4 ln 4 + 1/4 ln 4/3
        tensor([1.1116])
    """
    import torch

    if log_probs.distribution is None or log_probs.reference_distribution is None or log_probs.tokens is None:
        raise ValueError("undial needs distribution, reference_distribution and tokens")

    def cost(tokens: Tensor, said: Tensor, before: Tensor) -> Tensor:
        lowering = torch.full_like(tokens[:, None], -beta, dtype=before.dtype)
        return -(before.scatter_add(-1, tokens[:, None], lowering).softmax(-1) * said).sum(-1)

    of_both = log_probs.tokens, log_probs.distribution, log_probs.reference_distribution
    return token_mean(by_position(cost, log_probs.mask, *of_both), log_probs.mask)

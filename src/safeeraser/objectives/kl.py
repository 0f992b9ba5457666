"""Stay close to the model before unlearning on the samples to retain."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import kl_div

from safeeraser.objectives.term import TermOptions, TokenLogProbs, register, token_mean


@register("kl", rows="retain", needs=("reference", "distribution"))
def kl(log_probs: TokenLogProbs, options: TermOptions) -> Tensor:
    """KL minimisation (Maini et al., 2024, arXiv 2401.06121, sec. 4): KL(p_ref || p_theta) on the retain answers.

    ``loss_i = 1/T_i * sum_t sum_v p_ref(v | y_<t) * (log p_ref(v | y_<t) - log p_theta(v | y_<t))``, over the positions
    that predict an answer token.

    The official code averages over prompt, image and padding positions as well, which dilutes the term, and loads a
    second model as the reference; here the reference is the same model with its adapter off.

    Args:
        log_probs: ``distribution`` and ``reference_distribution``, ``(B, T, V)``, and ``mask``, ``(B, T)``, of retain
            rows.
        options: Not read.

    Returns:
        Loss of each sample, ``(B,)``; at least 0.
    """
    if log_probs.distribution is None or log_probs.reference_distribution is None:
        raise ValueError("kl needs distribution and reference_distribution")
    pointwise = kl_div(log_probs.distribution, log_probs.reference_distribution, reduction="none", log_target=True)
    return token_mean(pointwise.sum(-1), log_probs.mask)

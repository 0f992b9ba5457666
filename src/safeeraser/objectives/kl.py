"""Stay close to the model before unlearning on the samples to retain."""

from __future__ import annotations

from safeeraser.objectives.term import Tensor, TokenLogProbs, register, token_mean
from safeeraser.objectives.vocabulary import by_position


@register("kl", rows="retain", needs=("reference", "distribution"))
def kl(log_probs: TokenLogProbs) -> Tensor:
    """KL minimisation (Maini et al., 2024, arXiv 2401.06121, sec. 4): KL(p_ref || p_theta) on the retain answers.

    ``loss_i = 1/T_i * sum_t sum_v p_ref(v | y_<t) * (log p_ref(v | y_<t) - log p_theta(v | y_<t))``, over the positions
    that predict an answer token.

    The official code averages over prompt, image and padding positions as well, which dilutes the term, and loads a
    second model as the reference; here the reference is the same model with its adapter off.

    Args:
        log_probs: ``distribution`` and ``reference_distribution``, B times ``(t, V)``, ``tokens`` and ``mask``,
            ``(B, T)``, of retain rows.

    Returns:
        Loss of each sample, ``(B,)``; at least 0.
    """
    from torch.nn.functional import kl_div

    if log_probs.distribution is None or log_probs.reference_distribution is None or log_probs.tokens is None:
        raise ValueError("kl needs distribution, reference_distribution and tokens")

    def divergence(tokens: Tensor, said: Tensor, before: Tensor) -> Tensor:
        return kl_div(said, before, reduction="none", log_target=True).sum(-1)

    of_both = log_probs.tokens, log_probs.distribution, log_probs.reference_distribution
    return token_mean(by_position(divergence, log_probs.mask, *of_both), log_probs.mask)

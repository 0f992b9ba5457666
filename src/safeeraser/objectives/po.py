"""Preference optimisation: learn to refuse the questions whose answers are to be forgotten."""

from __future__ import annotations

from safeeraser.objectives.term import Tensor, TokenLogProbs, cross_entropy, register


@register("po", rows="refusal")
def po(log_probs: TokenLogProbs) -> Tensor:
    """Preference optimisation, called IDK in TOFU (Maini et al., 2024, arXiv 2401.06121): cross-entropy of a refusal.

    ``loss_i = -1/T_i * sum_t log p(refusal_t | unsafe image, question, refusal_<t)``; the refusal is drawn from the
    benchmark's list for each sample and epoch.

    The official code takes one mean over the tokens of refusals and retain answers together, so that the long retain
    answers dominate; here refusals and retain answers are two terms, each a mean per sample. There, the targets also
    lack the end token, so that a refusal never learns to stop; here it is among the answer tokens.

    Args:
        log_probs: ``answer`` and ``mask``, ``(B, T)``, of refusal rows.

    Returns:
        Loss of each sample, ``(B,)``; at least 0.
    """
    return cross_entropy(log_probs)

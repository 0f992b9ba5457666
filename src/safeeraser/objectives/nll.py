"""Cross-entropy on the answers to retain."""

from __future__ import annotations

from safeeraser.objectives.term import Tensor, TokenLogProbs, cross_entropy, register


@register("nll", rows="retain")
def nll(log_probs: TokenLogProbs) -> Tensor:
    """Cross-entropy of the retain answer, the second half of gradient difference (Liu et al., 2022, arXiv 2203.12817).

    ``loss_i = -1/T_i * sum_t log p(y_t | image, question, y_<t)``.

    The official code takes one mean over all tokens of the batch, and halves this term where PD is added (preset
    ``official``).

    Args:
        log_probs: ``answer`` and ``mask``, ``(B, T)``, of retain rows.

    Returns:
        Loss of each sample, ``(B,)``; at least 0.
    """
    return cross_entropy(log_probs)

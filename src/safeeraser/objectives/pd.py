"""Prompt Decouple: answer the same question normally where the image is safe."""

from __future__ import annotations

from safeeraser.objectives.term import Tensor, TokenLogProbs, cross_entropy, register


@register("pd", rows="decouple")
def pd(log_probs: TokenLogProbs) -> Tensor:
    """Prompt Decouple loss (Chen et al., 2025, arXiv 2502.12520): cross-entropy of the normal answer.

    ``loss_i = -1/T_i * sum_t log p(y_t | safe image, q, y_<t)``, where ``q`` is the harmful question of the forget
    sample of the same triple: the image, not the prompt, has to decide.

    In the official code an overwritten index pairs it with the question of another record, and its weight differs by
    method (0.5 with GA and GD, 1 with KL and PO; preset ``official``).

    Args:
        log_probs: ``answer`` and ``mask``, ``(B, T)``, of decouple rows.

    Returns:
        Loss of each sample, ``(B,)``; at least 0.
    """
    return cross_entropy(log_probs)

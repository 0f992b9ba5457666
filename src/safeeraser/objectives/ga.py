"""Gradient ascent on the answers to forget."""

from __future__ import annotations

from pydantic import PositiveFloat

from safeeraser.objectives.term import Tensor, TokenLogProbs, cross_entropy, register


@register("ga", rows="forget", option_names={"bound": "ascent_bound"})
def ga(log_probs: TokenLogProbs, *, bound: PositiveFloat | None = None) -> Tensor:
    """Gradient ascent (Jang et al., 2022, arXiv 2210.01504, eq. 2): minus the cross-entropy of the unsafe answer.

    ``loss_i = -CE_i``, with ``CE_i = -1/T_i * sum_t log p(y_t | image, question, y_<t)``, so that descent makes the
    unsafe answer less likely. Unbounded below: left alone, it goes on long after the answer is gone and takes the
    rest of the model with it. With ``bound = b`` it is ``-min(CE_i, b)``: a sample whose cross-entropy
    is beyond ``b`` nats per token contributes no gradient. (A uniform guess over V tokens has ``CE = log V``.)

    The official code takes one mean over all tokens of the batch and has no bound; this is a mean per sample.

    Args:
        log_probs: ``answer`` and ``mask``, ``(B, T)``, of forget rows.
        bound: Cross-entropy (nats per token) at which gradient ascent on a sample ends; none: unbounded, as in the
            paper.

    Returns:
        Loss of each sample, ``(B,)``; at most 0.
    """
    forgetting = cross_entropy(log_probs)
    return -(forgetting if bound is None else forgetting.clamp(max=bound))

"""Representation misdirection: states of answers to forget to a random vector, of those to retain as they were."""

from __future__ import annotations

from pydantic import PositiveFloat

from safeeraser.objectives.term import Tensor, TokenLogProbs, register, token_mean


@register("rmu", rows="forget", needs=("hidden",))
def rmu(log_probs: TokenLogProbs, *, coefficient: PositiveFloat = 6.5, seed: int = 0) -> Tensor:
    """RMU, the forget loss (Li et al., 2024, WMDP, arXiv 2403.03218, sec. 4.2): hidden states to a random vector.

    ``loss_i = 1/T_i * sum_t ||h_t - c * u||^2 / H``, with ``h_t`` the state after one layer where the model predicts
    ``y_t``, ``u`` a unit vector with entries drawn evenly from [0, 1) before scaling, one for the whole run, and ``c``
    ``coefficient``. The layers above receive nonsense; below, nothing is learnt from it.

    The paper takes the squared norm and every token of a text; its code the mean over the ``H`` entries, as here, which
    keeps the term on one scale whatever the width. Ours are the positions that predict an answer token, those of all
    other terms, and every trainable weight up to the layer moves, where the paper trains three layers. ``c`` has to
    suit the model: of the order of a state's norm. The official SafeEraser code has no RMU.

    Args:
        log_probs: ``hidden``, ``(B, T, H)``, and ``mask``, ``(B, T)``, of forget rows.
        coefficient: Length of the random vector that RMU draws hidden states to; of the order of the length of a state.
        seed: Seed of the direction of that vector.

    Returns:
        Loss of each sample, ``(B,)``; at least 0.
    """
    import torch

    if log_probs.hidden is None:
        raise ValueError("rmu needs hidden")
    hidden = log_probs.hidden
    drawn = torch.rand(hidden.shape[-1], generator=torch.Generator().manual_seed(seed))
    target = (coefficient * drawn / drawn.norm()).to(hidden)
    return token_mean((hidden - target).square().mean(-1), log_probs.mask)


@register("rmu_retain", rows="retain", needs=("reference", "hidden"))
def rmu_retain(log_probs: TokenLogProbs) -> Tensor:
    """RMU, the retain loss (Li et al., 2024, WMDP, arXiv 2403.03218, sec. 4.2): stay near the states before unlearning.

    ``loss_i = 1/T_i * sum_t ||h_t - h_ref,t||^2 / H``, with ``h_t`` the state after the layer of ``rmu`` where the
    model predicts ``y_t``, and ``h_ref`` that of the same model with its adapter off. The paper's ``alpha`` is the
    weight of this term (1,200 for Zephyr-7B): ``{rmu: 1, rmu_retain: 1200}``.

    Mean over the ``H`` entries and positions as for ``rmu``. The official SafeEraser code has no RMU.

    Args:
        log_probs: ``hidden`` and ``reference_hidden``, ``(B, T, H)``, and ``mask``, ``(B, T)``, of retain rows.

    Returns:
        Loss of each sample, ``(B,)``; at least 0.
    """
    if log_probs.hidden is None or log_probs.reference_hidden is None:
        raise ValueError("rmu_retain needs hidden and reference_hidden")
    squared = (log_probs.hidden - log_probs.reference_hidden).square().mean(-1)
    return token_mean(squared, log_probs.mask)

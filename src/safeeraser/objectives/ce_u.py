"""Cross-entropy unlearning: what the model itself would say if it could not say the answer."""

from __future__ import annotations

from pydantic import NonNegativeInt

from safeeraser.objectives.term import Tensor, TokenLogProbs, register, token_mean
from safeeraser.objectives.vocabulary import by_position


@register("ce_u", rows="forget", needs=("distribution",))
def ce_u(log_probs: TokenLogProbs, *, skip: NonNegativeInt = 0) -> Tensor:
    """CE-U (Yang, 2025, arXiv 2503.01224): cross-entropy with the model's own distribution without the answer's token.

    ``loss_i = -1/T_i * sum_t sum_v q(v | y_<t) * log p(v | y_<t)``, ``q`` the model's ``p`` with the logit of ``y_t``
    at minus infinity, no gradient through it. The gradient in the logit of ``y_t`` is ``p(y_t)``, in any other ``v``
    ``p(v) - q(v)``: it fades as the answer becomes unlikely, without a reference model. The loss ends at the entropy of
    what the model says instead, not at 0.

    Source: OpenUnlearning's ``cross_entropy_unlearning_loss`` (``trainer/unlearn/ceu.py``), one mean over all tokens of
    a batch, where this is a mean per sample; equal for one sample. Its trainer leaves out the first answer token
    (``ignore_first_n_answer_tokens=1``, a footnote of the paper): ``skip=1``. The official SafeEraser code has no CE-U.

    Args:
        log_probs: ``distribution``, B times ``(t, V)``, ``tokens`` and ``mask``, ``(B, T)``, of forget rows.
        skip: First tokens of each answer that CE-U leaves alone; the peers' trainer takes 1.

    Returns:
        Loss of each sample, ``(B,)``; at least 0, and 0 for an answer that is skipped whole.

    Example:
        >>> import torch
        >>> p = torch.tensor([[[0.5, 0.25, 0.25]]]).log()
        >>> answer = TokenLogProbs(p[..., 0], torch.tensor([[True]]), distribution=p, tokens=torch.tensor([[0]]))
        >>> ce_u(answer)  # q = (0, 1/2, 1/2), so ln 4
        tensor([1.3863])
    """
    if log_probs.distribution is None or log_probs.tokens is None:
        raise ValueError("ce_u needs distribution and tokens")
    mask = log_probs.mask & (log_probs.mask.cumsum(-1) > skip)

    def cost(tokens: Tensor, said: Tensor) -> Tensor:
        without = said.detach().scatter(-1, tokens[:, None], -float("inf"))
        return -(without.softmax(-1) * said).sum(-1)

    return token_mean(by_position(cost, mask, log_probs.tokens, log_probs.distribution), mask)

"""Direct preference optimisation: prefer a refusal to the answer to forget."""

from __future__ import annotations

from pydantic import PositiveFloat

from safeeraser.objectives.term import Tensor, TokenLogProbs, register, token_sum


@register("dpo", rows=("refusal", "forget"), needs=("reference",))
def dpo(refusal: TokenLogProbs, forget: TokenLogProbs, *, beta: PositiveFloat = 0.1) -> Tensor:
    """Direct preference optimisation (Rafailov et al., 2023, arXiv 2305.18290, eq. 7): refusals over unsafe answers.

    ``loss_i = -log sigmoid(beta * (r(refusal_i) - r(unsafe_i)))``, ``r(y) = sum_t (log p(y_t) - log p_ref(y_t))``: the
    chosen answer is a refusal, the rejected one the unsafe answer to the same image and question, as in TOFU (Maini et
    al., 2024, arXiv 2401.06121).

    Sums over tokens, as in the paper, and not the means of the other terms: what is compared is the probability of two
    whole answers. With means a ``beta`` of 0.1 would leave a gradient of some hundredths, which every cross-entropy
    beside it drowns. The official SafeEraser code has no DPO (its "idk" is ``po``).

    Args:
        refusal: ``answer``, ``mask`` and ``reference_answer``, ``(B, T)``, of refusal rows.
        forget: The same of forget rows, ``(B, T')``, row i of the same triple.
        beta: Inverse temperature of DPO.

    Returns:
        Loss of each sample, ``(B,)``; at least 0.
    """
    from torch.nn.functional import logsigmoid

    margin = _log_ratio(refusal) - _log_ratio(forget)
    return -logsigmoid(beta * margin)


def _log_ratio(log_probs: TokenLogProbs) -> Tensor:
    if log_probs.reference_answer is None:
        raise ValueError("dpo needs reference_answer")
    return token_sum(log_probs.answer - log_probs.reference_answer, log_probs.mask)

"""Gradient mask of MMUnlearner: forget terms change only the weights that matter more to what is to be forgotten."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from accelerate.utils import send_to_device
from torch import Tensor

from safeeraser.core.errors import UserError
from safeeraser.data import Triple
from safeeraser.models import VisionLanguageModel
from safeeraser.models.processes import processes
from safeeraser.objectives import Method, cross_entropy, parse_method
from safeeraser.unlearn.batch import FORGET, Sample, TripleDataset, answer_log_probs, select

EPSILON = 1e-15
"""Of the authors' code, added to both Fisher informations."""
READ = parse_method("ga=1+nll")
"""Its rows are what the Fisher informations are of: the unsafe answers, and the retain answers."""
Collate = Callable[[Sequence[dict[Any, Sample]]], Mapping[str, Any]]


class GradientMask:
    """Multiplies the gradient of forget terms by a mask; that of all other terms stays.

    MMUnlearner (Huo et al., 2025, arXiv 2502.11051): a weight's mask is ``(F_forget + e) / (F_keep + e) >= threshold``,
    ``F`` the mean over batches of the squared gradient of the answers' cross-entropy, before unlearning.

    Args:
        masks: For each trained weight, of its shape, bool.

    Example:
        >>> weight = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
        >>> mask = GradientMask({weight: torch.tensor([True, False])})
        >>> method = parse_method("ga=1+nll")
        >>> components = {"ga": weight.sum() * 2, "nll": weight.sum() * 3}
        >>> mask.apply(method, components, components["ga"] + components["nll"], 1).backward()
        >>> weight.grad
        tensor([5., 3.])
    """

    def __init__(self, masks: Mapping[torch.nn.Parameter, Tensor]) -> None:
        self.masks = masks

    def apply(self, method: Method, components: Mapping[str, Tensor], total: Tensor, steps: int) -> Tensor:
        """Add the masked gradient of the forget terms to the weights'.

        Args:
            method: The terms with their weights.
            components: The mean of each term before its weight, scalars by name.
            total: The loss.
            steps: Forward passes whose gradients are averaged.

        Returns:
            A scalar of the same value whose gradient is that of the other terms.
        """
        terms = [weight * components[term.name] for term, weight in method.terms if set(term.rows) <= set(FORGET)]
        if not terms:
            return total
        forget = torch.stack(terms).sum()
        with torch.autocast(total.device.type, enabled=False):
            made = torch.autograd.grad(forget / steps, list(self.masks), retain_graph=True, allow_unused=True)
        for (weight, mask), gradient in zip(self.masks.items(), made, strict=True):
            if gradient is not None:
                masked = gradient * mask
                weight.grad = masked if weight.grad is None else weight.grad + masked
        return total - forget + forget.detach()


def find_mask(
    vlm: VisionLanguageModel, triples: Sequence[Triple], collate: Collate, batch_size: int, threshold: float
) -> GradientMask:
    """Compute the mask from all triples, on the model before unlearning, without dropout.

    Args:
        vlm: The model with a fresh adapter; it is in training mode afterwards.
        triples: The training triples.
        collate: A ``RowCollator`` of the method ``READ``.
        batch_size: Triples of a batch, whose gradient is squared.
        threshold: Of the ratio.

    Raises:
        UserError: If several processes train together.
    """
    if processes() > 1:
        raise UserError("training.saliency masks gradients in one process: leave it out, or train in one")
    model = vlm.model.eval()
    device = next(model.parameters()).device
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    dataset = TripleDataset(triples, READ.rows, (), 0)
    starts = range(0, len(dataset), batch_size)
    fisher = {rows: [torch.zeros_like(weight) for weight in weights] for rows in READ.rows}
    for start in starts:
        items = [dataset[index] for index in range(start, min(start + batch_size, len(dataset)))]
        batch = send_to_device(collate(items), device)
        with torch.autocast(device.type, torch.bfloat16, enabled=model.dtype == torch.bfloat16):
            said = answer_log_probs(model, batch)
        for rows, sums in fisher.items():
            loss = cross_entropy(select(rows, batch, said, None)).mean()
            gradients = torch.autograd.grad(loss, weights, retain_graph=rows != READ.rows[-1], allow_unused=True)
            for of_weight, gradient in zip(sums, gradients, strict=True):
                if gradient is not None:
                    of_weight += gradient.square() / len(starts)
    model.train()
    both = zip(weights, *(fisher[rows] for rows in READ.rows), strict=True)
    return GradientMask({weight: (forget + EPSILON) / (keep + EPSILON) >= threshold for weight, forget, keep in both})

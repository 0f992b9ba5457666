"""Early stopping by a rule over metrics of held-out questions; who asks and judges them is given from above."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from transformers import TrainerCallback

from safeeraser.metrics.rule import parse_rule
from safeeraser.models import VisionLanguageModel
from safeeraser.models.processes import is_first_process, processes
from safeeraser.records import StopCheck

Measure = Callable[[VisionLanguageModel], Mapping[str, float | None]]
"""The metrics of a rule, in percent, of a model with its adapter as it is now."""


class Stopping(TrainerCallback):  # type: ignore[misc]
    """Checks a rule every so many steps, and ends the training after the first step at which it holds.

    A check changes nothing of the training: the model answers in evaluation mode, greedily, and no random number is
    drawn. So a run that was killed checks the same at the same steps, and stops where an uninterrupted one does.

    Args:
        vlm: The model with the adapter that is trained.
        rule: As for ``metrics.rule.parse_rule``.
        every: Steps between two checks.
        measure: What a check measures.

    Raises:
        UserError: If the rule is none.
    """

    def __init__(self, vlm: VisionLanguageModel, rule: str, every: int, measure: Measure) -> None:
        """Check nothing yet."""
        self._vlm = vlm
        self._rule = parse_rule(rule)
        self._every = every
        self._measure = measure
        self._last: StopCheck | None = None

    def check_at(self, step: int) -> StopCheck | None:
        """What was found after a step, the latest; None if it was not checked there."""
        return self._last if self._last is not None and self._last.step == step else None

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Check, if it is time."""
        if state.global_step % self._every:
            return
        found = [dict(self._measured()) if is_first_process() else {}]
        if processes() > 1:
            from accelerate.utils import broadcast_object_list

            broadcast_object_list(found)
        self._last = StopCheck(step=state.global_step, values=found[0], met=self._rule.is_met(found[0]))
        control.should_training_stop = control.should_training_stop or self._last.met

    def _measured(self) -> Mapping[str, float | None]:
        model = self._vlm.model
        was_training, device = model.training, next(model.parameters()).device.type
        model.eval()
        try:
            # what is trained is float32 on a model in bfloat16: as in training, the arithmetic is the model's
            with torch.autocast(device, torch.bfloat16, enabled=model.dtype == torch.bfloat16):
                return self._measure(self._vlm)
        finally:
            model.train(was_training)

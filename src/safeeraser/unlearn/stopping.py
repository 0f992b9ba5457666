"""Early stopping by a rule over metrics of held-out questions; who asks and judges them is given from above."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import TrainerCallback

from safeeraser.metrics.rule import Rule
from safeeraser.models import VisionLanguageModel
from safeeraser.models.processes import is_first_process, processes
from safeeraser.records import StopCheck

Measure = Callable[[VisionLanguageModel], Mapping[str, float | None]]
"""The metrics of a rule, in percent, of a model with its adapter as it is now."""


@dataclass(eq=False)
class Stopping(TrainerCallback):  # type: ignore[misc]
    """Checks a rule every so many steps, and ends the training after the first step at which it holds.

    A check changes nothing of the training: the model answers in evaluation mode, greedily, and no random number is
    drawn. So a run that was killed checks the same at the same steps, and stops where an uninterrupted one does.
    """

    vlm: VisionLanguageModel
    rule: Rule
    every: int
    measure: Measure
    _last: StopCheck | None = None

    def check_at(self, step: int) -> StopCheck | None:
        """What was found after a step, the latest; None if it was not checked there."""
        return self._last if self._last is not None and self._last.step == step else None

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Check, if it is time."""
        if state.global_step % self.every:
            return
        found = [dict(self._measured()) if is_first_process() else {}]
        if processes() > 1:
            from accelerate.utils import broadcast_object_list

            broadcast_object_list(found)
        self._last = StopCheck(step=state.global_step, values=found[0], met=self.rule.is_met(found[0]))
        control.should_training_stop = control.should_training_stop or self._last.met

    def _measured(self) -> Mapping[str, float | None]:
        model = self.vlm.model
        was_training, device = model.training, next(model.parameters()).device.type
        model.eval()
        try:
            # what is trained is float32 on a model in bfloat16: as in training, the arithmetic is the model's
            with torch.autocast(device, torch.bfloat16, enabled=model.dtype == torch.bfloat16):
                return self.measure(self.vlm)
        finally:
            model.train(was_training)

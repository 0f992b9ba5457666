"""The ONE subclass of ``transformers.Trainer``: its loss is a method, its checkpoints are whole or not there."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PrinterCallback, Trainer, TrainerCallback

from safeeraser.core import files
from safeeraser.core.errors import UserError
from safeeraser.models import VisionLanguageModel, adapters, chat
from safeeraser.models.adapter_files import check_prompts
from safeeraser.objectives import Method
from safeeraser.unlearn.batch import RowCollator, TripleDataset, answer_log_probs, select
from safeeraser.unlearn.checkpoints import check_finite, checkpoints
from safeeraser.unlearn.order import EpochSampler
from safeeraser.unlearn.reference_cache import ReferenceCache
from safeeraser.unlearn.saliency import GradientMask
from safeeraser.unlearn.stopping import Stopping

Progress = Callable[[int, int, dict[str, float]], None]
"""Called after every step with the step, the number of steps, and the loss and its terms by name."""


class UnlearnTrainer(Trainer):  # type: ignore[misc]
    """A ``Trainer`` whose loss is a method: a weighted sum of terms, each a mean over the samples of its role.

    Args:
        vlm: The model with a fresh adapter.
        method: What to minimise.
        term_options: Options of its terms by name.
        info: What the adapter is made of; written into every checkpoint.
        sampler: The order of the triples.
        reference_cache: Keeps what the reference said of each sample; None: it is asked at every step.
        layer: Layer of the language model whose states the method reads, from 1; None: it reads none.
        mask: What the gradient of forget terms is multiplied by; None: nothing.
        projector_rate: Peak learning rate of the projector's own weights; None: that of all.
        kwargs: What ``Trainer`` takes beside the model.

    Example:
        trainer = UnlearnTrainer(vlm, parse_method("po+pd"), {}, info={}, sampler=EpochSampler(24, 16, 0),
                                 args=args, train_dataset=dataset,
                                 data_collator=RowCollator(vlm, ImageCache(benchmark), method, 512))
    """

    def __init__(
        self,
        vlm: VisionLanguageModel,
        method: Method,
        term_options: Mapping[str, Any],
        info: Mapping[str, Any],
        sampler: EpochSampler,
        reference_cache: ReferenceCache | None = None,
        layer: int | None = None,
        mask: GradientMask | None = None,
        projector_rate: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(model=vlm.model, **kwargs)
        self.remove_callback(PrinterCallback)
        self.model_accepts_loss_kwargs = False  # the loss is a mean: Trainer divides it by the accumulation steps
        self._vlm, self._base, self._info = vlm, vlm.model, info
        self._method, self._term_options = method, term_options
        self._sampler, self._reference_cache = sampler, reference_cache
        self._layer, self._mask, self._projector_rate = layer, mask, projector_rate
        self._components: list[dict[str, float]] = []
        self._saving_to: Path | None = None

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """Run the batch once, the reference on the rows that need it, and add up the terms.

        Args:
            model: The model with its adapter, possibly wrapped for several processes.
            inputs: A batch of ``RowCollator``.
            return_outputs: Not read: there is no evaluation loop.
            num_items_in_batch: Not read: each term is a mean per sample.

        Returns:
            The loss, a scalar.

        Raises:
            UserError: If a term is not finite; the message names step and term.
        """
        policy = answer_log_probs(model, inputs, self._method.needs, self._layer)
        reference = self._reference(model, inputs["reference"]) if "reference" in inputs else None
        log_probs = {rows: select(rows, inputs, policy, reference) for rows in self._method.rows}
        total, components = self._method.loss(log_probs, self._term_options, self.args.seed)
        self._keep(components)
        if self._mask is None:
            return total
        return self._mask.apply(self._method, components, total, self.current_gradient_accumulation_steps)

    def _reference(self, model: torch.nn.Module, batch: dict[str, Any]) -> chat.AnswerLogProbs:
        def compute() -> chat.AnswerLogProbs:
            with adapters.reference_mode(self._base):
                return answer_log_probs(model, batch, self._method.needs, self._layer)

        return compute() if self._reference_cache is None else self._reference_cache.get(batch, compute)

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        """AdamW; the projector's own weights in groups of their own, where their rate is another.

        Raises:
            UserError: If there is such a rate and no such weights.
        """
        is_new = self.optimizer is None
        optimizer: torch.optim.Optimizer = super().create_optimizer(model)
        if self._projector_rate is None or not is_new:
            return optimizer
        named = (self.model if model is None else model).named_parameters()
        own = {id(p) for name, p in named if p.requires_grad and ".modules_to_save." in name}
        if not own:
            raise UserError("training.projector_rate: the projector is not tuned by its own weights: leave it out")
        for group in list(optimizer.param_groups):
            if moved := [p for p in group["params"] if id(p) in own]:
                group["params"] = [p for p in group["params"] if id(p) not in own]
                optimizer.add_param_group({**group, "params": moved, "lr": self._projector_rate})
        return optimizer

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log the mean of each term over accumulation steps and processes beside what ``Trainer`` logs."""
        if self._components:
            names = list(self._components[0])
            mine = torch.tensor([list(c.values()) for c in self._components], dtype=torch.float64).mean(0)
            means = self.accelerator.reduce(mine.float().to(self.args.device), "mean").tolist()
            logs |= dict(zip(names, means, strict=True))
            self._components.clear()
        super().log(logs, start_time)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not counted."""
        return 0

    def save_adapter(self, folder: Path) -> None:
        """Write the adapter as it is now; every process has to call this, the first one writes."""
        state = None
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            state = self.accelerator.get_state_dict(self.model_wrapped)  # the shards of all processes, put together
        if self.is_world_process_zero():
            adapters.save(self._vlm, folder, self._info, state)

    def _get_train_sampler(self, train_dataset: Any = None) -> EpochSampler:
        return self._sampler

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._saving_to or self.args.output_dir)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        if self.args.should_save:
            adapters.save(self._vlm, Path(output_dir or self.args.output_dir), self._info, state_dict)

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """Write the checkpoint beside its place, move it there whole, and remove the one before."""
        if self.state.global_step >= self.state.max_steps or self.control.should_training_stop:
            return  # the adapter itself comes next
        self._check_weights()
        out = Path(self.args.output_dir)
        before, temporary, name = checkpoints(out), out / ".checkpoint.tmp", f"checkpoint-{self.state.global_step}"
        if self.is_world_process_zero():
            shutil.rmtree(temporary, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        self._saving_to = temporary
        try:
            super()._save_checkpoint(model, trial)
        except RuntimeError as error:
            if "inline_container" not in str(error):
                raise
            # torch's own writer does not say what the system said
            raise OSError(errno.ENOSPC, f"torch cannot write the checkpoint ({error})", str(temporary)) from None
        self._saving_to = None
        if self._reference_cache is not None:
            self._reference_cache.save(temporary / name, self.args.process_index)
        self.accelerator.wait_for_everyone()
        if self.is_world_process_zero():
            os.replace(temporary / name, out / name)
            # only now: a kill at any point leaves one whole checkpoint
            for folder in before:
                shutil.rmtree(folder)
            shutil.rmtree(temporary)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        check_prompts(Path(resume_from_checkpoint), self._vlm)
        if self._reference_cache is not None:
            self._reference_cache.load(Path(resume_from_checkpoint), self.args.process_index)
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            adapters.restore(self._base, Path(resume_from_checkpoint))

    def _keep(self, components: Mapping[str, Tensor]) -> None:
        # together: each number that is read by itself would wait for the GPU once
        values = torch.stack([value.detach().float() for value in components.values()]).tolist()
        kept = dict(zip(components, values, strict=True))
        for name, value in kept.items():
            check_finite(name, value, self.state.global_step + 1, Path(self.args.output_dir))
        self._components.append(kept)

    def _check_weights(self) -> None:
        for name, parameter in self._base.named_parameters():
            if parameter.requires_grad and not bool(parameter.detach().isfinite().all()):
                check_finite(f"weight {name}", float("nan"), self.state.global_step, Path(self.args.output_dir))


@dataclass(eq=False)
class StepLog(TrainerCallback):  # type: ignore[misc]
    """Tells dataset and sampler the epoch; writes a line of ``train.jsonl`` after every step and reports it."""

    path: Path
    dataset: TripleDataset
    sampler: EpochSampler
    report: Progress
    collator: RowCollator | None = None
    """What it counts is reported as tokens a second of this process."""
    stopping: Stopping | None = None
    """Its checks stand in the lines of their steps."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Keep the lines up to the step of the checkpoint, if there is one, and no other."""
        if state.is_world_process_zero:
            there = state.global_step and self.path.exists()
            lines = self.path.read_text(encoding="utf-8").splitlines(True) if there else []
            with files.atomic(self.path) as file:
                file.writelines(lines[: state.global_step])
        self._start = time.monotonic()
        self.report(state.global_step, state.max_steps, {})

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Draw the refusals and the order of the epoch, also in the middle of it after a kill."""
        epoch = int(state.epoch or 0)
        self.dataset.set_epoch(epoch)
        self.sampler.set_epoch(epoch)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **kwargs: Any) -> None:
        """Write a line and report."""
        if "loss" not in logs:  # the summary after the last step
            return
        check_finite("gradient norm", logs.get("grad_norm", 0.0), state.global_step, Path(args.output_dir))
        if state.is_world_process_zero:
            check = None if self.stopping is None else self.stopping.check_at(state.global_step)
            checked = {} if check is None else {"check": check.values, "stop": check.met}
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps({"step": state.global_step, **logs, **checked}) + "\n")
        components = {
            name: value for name, value in logs.items() if name not in ("epoch", "grad_norm", "learning_rate")
        }
        self.report(state.global_step, state.max_steps, components | self._speed())

    def _speed(self) -> dict[str, float]:
        """Tokens a second since training began, which is no part of train.jsonl: that of a resumed run is the same."""
        if self.collator is None:
            return {}
        return {"tokens/s": self.collator.tokens / max(1e-9, time.monotonic() - self._start)}

"""Unlearn: benchmark triples + model + method -> adapter, with ONE subclass of ``transformers.Trainer``.

A batch holds the rows of every triple that the method reads (forget or refusal, retain, decouple), goes through the
model once, and each term of the method reads its own rows. The reference model is the same model, adapter off.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments, set_seed

from safeeraser import models, store
from safeeraser.config import ModelOptions, UnlearnOptions
from safeeraser.data import Benchmark
from safeeraser.errors import UserError
from safeeraser.models import adapters, chat
from safeeraser.objectives import Method, TermOptions
from safeeraser.unlearn_batch import RowCollator, TripleDataset, select, training_triples

Progress = Callable[[int, int, dict[str, float]], None]
"""Called after every step with the step, the number of steps, and the loss and its terms by name."""


def run(
    model: str,
    benchmark: Benchmark,
    method: Method,
    options: UnlearnOptions,
    out: Path,
    progress: Progress | None = None,
    loading: ModelOptions | None = None,
) -> Path:
    """Unlearn the forget pairs of the benchmark's train records.

    The same arguments give the same adapter, bit for bit on one machine; one that is already there is kept, and a run
    that was killed starts again.

    Args:
        model: Name or folder, as for ``models.load``.
        benchmark: Where the train records, their images and the refusals come from.
        method: What to minimise.
        options: Budget, optimizer, LoRA and seed.
        out: Folder for ``adapter/`` and ``train.jsonl``: a line per step, with loss and terms before their weights.
        progress: Called after every step; None draws a bar with the time left on standard error.
        loading: How the model is loaded; None: the defaults.

    Returns:
        The adapter folder, ``out/adapter``; it appears there whole or not at all.

    Raises:
        UserError: If an option is out of range, the data lack what the method reads, ``out`` holds an adapter made of
            something else, or a loss stops being finite.

    Example:
        >>> po_pd = objectives.parse_method("po+pd")
        >>> run("mini-llava", data.load("pictogram"), po_pd, UnlearnOptions(), Path("runs/po"))  # doctest: +SKIP
        PosixPath('runs/po/adapter')
    """
    _check_options(options)
    # the official code has no bound
    term_options = TermOptions(None if method.preset == "official" else options.ascent_bound, options.npo_beta)
    dataset = TripleDataset(training_triples(benchmark, method), method.rows, benchmark.refusals, options.seed)
    out = Path(out)
    adapter = out / "adapter"
    loading = loading or ModelOptions()
    info = _describe(model, benchmark, method, options, loading)
    if _is_made(adapter, info):
        return adapter
    out.mkdir(parents=True, exist_ok=True)
    set_seed(options.seed)
    vlm = adapters.attach(models.load(model, **asdict(loading)), options.lora)
    set_seed(options.seed)
    with _bar(method.name) if progress is None else nullcontext(progress) as report:
        trainer = UnlearnTrainer(
            method,
            term_options,
            model=vlm.model,
            args=_training_arguments(options, vlm.model, out),
            train_dataset=dataset,
            data_collator=RowCollator(vlm, benchmark, method, options.max_length),
            callbacks=[_StepLog(out / "train.jsonl", dataset, report)],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    if trainer.is_world_process_zero():
        _save(vlm, adapter, info)
    trainer.accelerator.wait_for_everyone()
    return adapter


class UnlearnTrainer(Trainer):  # type: ignore[misc]
    """A ``Trainer`` whose loss is a method: a weighted sum of terms, each a mean over the samples of its role.

    Example:
        trainer = UnlearnTrainer(parse_method("po+pd"), TermOptions(), model=model, args=args, train_dataset=dataset,
                                 data_collator=RowCollator(vlm, benchmark, method, max_length=512))
    """

    def __init__(self, method: Method, term_options: TermOptions, **kwargs: Any) -> None:
        """Take what ``Trainer`` takes, and the method with the options of its terms."""
        super().__init__(**kwargs)
        self.model_accepts_loss_kwargs = False  # the loss is a mean: Trainer divides it by the accumulation steps
        self._method = method
        self._term_options = term_options
        self._components: list[dict[str, float]] = []

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
        policy = chat.answer_log_probs(model, inputs["inputs"], inputs["labels"])
        reference = None
        if "reference" in inputs:
            base, batch = self.accelerator.unwrap_model(model), inputs["reference"]
            with adapters.reference_mode(base):
                reference = chat.answer_log_probs(base, batch["inputs"], batch["labels"])
        log_probs = {rows: select(rows, self._method.needs, inputs, policy, reference) for rows in self._method.rows}
        total, components = self._method.loss(log_probs, self._term_options)
        self._keep(components)
        return total

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log the mean of each term over the accumulation steps beside what ``Trainer`` logs."""
        if self._components:
            count = len(self._components)
            logs |= {name: sum(c[name] for c in self._components) / count for name in self._components[0]}
            self._components.clear()
        super().log(logs, start_time)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not counted."""
        return 0

    def _keep(self, components: Mapping[str, Tensor]) -> None:
        values = torch.stack([value.detach().float() for value in components.values()]).tolist()
        kept = dict(zip(components, values, strict=True))
        for name, value in kept.items():
            _check_finite(name, value, self.state.global_step + 1)
        self._components.append(kept)


class _StepLog(TrainerCallback):  # type: ignore[misc]
    """Tells the dataset the epoch; writes a line of ``train.jsonl`` after every step and reports it."""

    def __init__(self, path: Path, dataset: TripleDataset, report: Progress) -> None:
        self._path = path
        self._dataset = dataset
        self._report = report

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            self._path.write_text("", encoding="utf-8")
        self._report(0, state.max_steps, {})

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._dataset.set_epoch(round(state.epoch or 0))

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **kwargs: Any) -> None:
        if "loss" not in logs:  # the summary after the last step
            return
        _check_finite("gradient norm", logs.get("grad_norm", 0.0), state.global_step)
        if state.is_world_process_zero:
            with open(self._path, "a", encoding="utf-8") as file:
                file.write(json.dumps({"step": state.global_step, **logs}) + "\n")
        components = {
            name: value for name, value in logs.items() if name not in ("epoch", "grad_norm", "learning_rate")
        }
        self._report(state.global_step, state.max_steps, components)


def _training_arguments(options: UnlearnOptions, model: torch.nn.Module, out: Path) -> TrainingArguments:
    """Translate our options; what is not named is the Trainer's default, AdamW with cosine decay and linear warm-up."""
    parameter = next(model.parameters())
    return TrainingArguments(
        output_dir=str(out),
        per_device_train_batch_size=options.batch_size,
        gradient_accumulation_steps=options.accumulation,
        max_steps=options.steps if options.steps is not None else -1,
        num_train_epochs=options.epochs,
        learning_rate=options.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=options.warmup_ratio,  # below 1: a share of the steps
        weight_decay=options.weight_decay,
        max_grad_norm=options.max_grad_norm,
        optim="adamw_torch",
        seed=options.seed,
        data_seed=options.seed,
        bf16=parameter.dtype == torch.bfloat16,
        use_cpu=parameter.device.type == "cpu",
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        label_names=["labels"],
        dataloader_pin_memory=parameter.device.type != "cpu",
    )


def _check_options(options: UnlearnOptions) -> None:
    positive: Sequence[str] = ("learning_rate", "epochs", "steps", "batch_size", "accumulation", "max_length")
    for name in positive:
        value = getattr(options, name)
        if value is not None and not value > 0:
            raise UserError(f"training.{name}: {value} was given; give a number greater than 0")
    if not 0 <= options.warmup_ratio < 1:
        raise UserError(f"training.warmup_ratio: {options.warmup_ratio} was given; give a share of the steps, 0 to < 1")


def _check_finite(name: str, value: float, step: int) -> None:
    if value != value or abs(value) == float("inf"):
        raise UserError(
            f"{name} became {value} at step {step}: nothing was saved. Lower --training.learning_rate or "
            "--training.max_grad_norm, give the term less weight, or bound ascent with --training.ascent_bound 5"
        )


def _describe(
    model: str, benchmark: Benchmark, method: Method, options: UnlearnOptions, loading: ModelOptions
) -> dict[str, Any]:
    """All that decides the adapter, and the names of model and data."""
    return {
        "model": model,
        "model_fingerprint": models.fingerprint(model),
        "data": benchmark.name,
        "data_fingerprint": benchmark.fingerprint,
        "method": method.name,
        "terms": {term.name: weight for term, weight in method.terms},
        "options": asdict(options),
        "loading": asdict(replace(loading, device="auto")),  # the device may change
        "seed": options.seed,
    }


def _is_made(adapter: Path, info: dict[str, Any]) -> bool:
    if not adapter.exists():
        return False
    there = store.read_json(adapter / adapters.ORIGIN)["info"]
    decisive = [key for key in info if key not in ("model", "data")]  # names: the fingerprints decide
    changed = [f"{key}: {there.get(key)!r} there, {info[key]!r} now" for key in decisive if there.get(key) != info[key]]
    if not changed:
        return True
    raise UserError(f"{adapter} was made of something else ({'; '.join(changed)}): choose another --out, or remove it")


def _save(vlm: models.VisionLanguageModel, adapter: Path, info: dict[str, Any]) -> None:
    """Write the adapter beside its place, then move it there whole."""
    temporary = adapter.with_name(f".{adapter.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    adapters.save(vlm, temporary, info)
    os.replace(temporary, adapter)


@contextmanager
def _bar(title: str) -> Iterator[Progress]:
    """Draw a bar with the terms and the time left on standard error while the block runs."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("unlearn {task.description}"),
        BarColumn(bar_width=12),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[losses]}"),
    )
    with Bar(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=None, losses="")

        def report(step: int, total: int, components: dict[str, float]) -> None:
            losses = " ".join(f"{name} {value:.2f}" for name, value in components.items())
            bar.update(task, completed=step, total=total, losses=losses)

        yield report

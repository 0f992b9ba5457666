"""Unlearn: benchmark triples + model + method -> adapter, with ONE subclass of ``transformers.Trainer``.

A batch holds the rows of every triple that the method reads (forget or refusal, retain, decouple), each row goes
through the model once, and each term of the method reads its own rows. The reference model is the same model, adapter
off.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from transformers import set_seed

from safeeraser import models, store, terminal
from safeeraser.config import ModelOptions, UnlearnOptions
from safeeraser.data import Benchmark
from safeeraser.data.images import ImageCache
from safeeraser.errors import UserError
from safeeraser.models import adapters, lean_lora
from safeeraser.objectives import Method
from safeeraser.processes import is_first_process, processes
from safeeraser.unlearn_arguments import (
    check_launch,
    check_options,
    hidden_layer,
    term_options,
    training_arguments,
)
from safeeraser.unlearn_batch import EpochSampler, ReferenceCache, RowCollator, TripleDataset, training_triples
from safeeraser.unlearn_checkpoints import checkpoints, last_checkpoint
from safeeraser.unlearn_trainer import Progress, StepLog, UnlearnTrainer

UNDECISIVE = ("gradient_checkpointing", "checkpoint_steps", "tracker")
"""Options that do not change the adapter."""


def run(
    model: str,
    benchmark: Benchmark,
    method: Method,
    options: UnlearnOptions,
    out: Path,
    progress: Progress | None = None,
    loading: ModelOptions | None = None,
    after: Path | None = None,
    images: ImageCache | None = None,
) -> Path:
    """Unlearn the forget pairs of the benchmark's train records.

    The same arguments give the same adapter, bit for bit on one CPU; one that is already there is kept, and a run that
    was killed goes on from its last checkpoint and ends with the same bits. Started by ``torchrun`` or ``accelerate
    launch``, the processes share every optimizer step, and the first one writes.

    Args:
        model: Name or folder, as for ``models.load``.
        benchmark: Where the train records, their images and the refusals come from.
        method: What to minimise.
        options: Budget, optimizer, LoRA and seed.
        out: Folder for ``adapter/`` and ``train.jsonl``: a line per step, with loss and terms before their weights;
            ``checkpoint-STEP/`` lies there until the adapter does.
        progress: Called after every step; None draws a bar with the time left on standard error.
        loading: How the model is loaded; None: the defaults.
        after: An adapter made before, which is folded into the weights first; the new one belongs to both together
            (``models.load_merged``).
        images: The benchmark's images, for who reads them again afterwards; None: a cache of its own.

    Returns:
        The adapter folder, ``out/adapter``; it appears there whole or not at all.

    Raises:
        UserError: If an option is out of range or needs what this machine lacks, the data lack what the method reads,
            ``out`` holds an adapter or a checkpoint made of something else, or a loss stops being finite.

    Example:
        >>> from safeeraser import data, objectives
        >>> po_pd = objectives.parse_method("po+pd")
        >>> run("mini-llava", data.load("pictogram"), po_pd, UnlearnOptions(), Path("runs/po"))  # doctest: +SKIP
        PosixPath('runs/po/adapter')
    """
    check_options(options, method)
    of_terms = term_options(method, options)
    dataset = TripleDataset(training_triples(benchmark, method), method.rows, benchmark.refusals, options.seed)
    out = Path(out)
    adapter, start = out / "adapter", last_checkpoint(out)
    loading = loading or ModelOptions()
    info = _describe(model, benchmark, method, options, loading, after)
    if _is_made(adapter, info):
        _remove_checkpoints(out)
        return adapter
    if start is not None:
        _is_made(start, info)
    out.mkdir(parents=True, exist_ok=True)
    vlm = _trainable(model, options, loading, after)
    sampler = EpochSampler(len(dataset), options.batch_size * options.accumulation * processes(), options.seed)
    with _reporting(method.name, progress) as report:
        trainer = UnlearnTrainer(
            vlm,
            method,
            of_terms,
            info,
            sampler,
            ReferenceCache() if options.cache_reference else None,
            hidden_layer(method, options, vlm.model.config),
            args=training_arguments(options, vlm.model, out),
            train_dataset=dataset,
            data_collator=RowCollator(vlm, images or ImageCache(benchmark), method, options.max_length),
            callbacks=[StepLog(out / "train.jsonl", dataset, sampler, report)],
        )
        check_launch(trainer.args.world_size, trainer.is_fsdp_enabled, trainer.is_deepspeed_enabled)
        trainer.train(resume_from_checkpoint=str(start) if start else None)
    temporary = adapter.with_name(f".{adapter.name}.tmp")
    if is_first_process():
        shutil.rmtree(temporary, ignore_errors=True)
    trainer.save_adapter(temporary)
    if is_first_process():
        os.replace(temporary, adapter)
        _remove_checkpoints(out)
    trainer.accelerator.wait_for_everyone()
    return adapter


def _trainable(
    model: str, options: UnlearnOptions, loading: ModelOptions, after: Path | None
) -> models.VisionLanguageModel:
    """Load the model and put a fresh adapter on it."""
    set_seed(options.seed)
    if processes() > 1 and loading.device == "auto":
        # each process moves its copy to its own GPU; quantised weights have to be made there
        quantised = loading.quantization != "none"
        loading = replace(loading, device=f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if quantised else "cpu")
    vlm = adapters.attach(models.load_merged(model, after, **asdict(loading)), options.lora)
    if (
        os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() != "true"
    ):  # ZeRO-3 fetches a weight as its module runs
        lean_lora.make_lean(vlm.model)
    if options.gradient_checkpointing:
        name = "activation_checkpointing"  # its older name goes away with transformers 6
        name = name if hasattr(vlm.model, f"{name}_enable") else "gradient_checkpointing"
        getattr(vlm.model, f"{name}_enable")(**{f"{name}_kwargs": {"use_reentrant": False}})
    set_seed(options.seed + int(os.environ.get("RANK", "0")))  # dropout differs between processes
    return vlm


def _describe(
    model: str,
    benchmark: Benchmark,
    method: Method,
    options: UnlearnOptions,
    loading: ModelOptions,
    after: Path | None = None,
) -> dict[str, Any]:
    """All that decides the adapter, and the names of model and data."""
    described = {
        "model": model,
        "model_fingerprint": models.fingerprint(model),
        "data": benchmark.name,
        "data_fingerprint": benchmark.fingerprint,
        "method": method.name,
        "terms": {term.name: weight for term, weight in method.terms},
        "options": {name: value for name, value in asdict(options).items() if name not in UNDECISIVE},
        "loading": asdict(replace(loading, device="auto")),  # the device may change
        "seed": options.seed,
        "processes": processes(),
    }
    # not at all where there is none: adapters made before this could be are still the same
    return described if after is None else described | {"after": store.hash_files(sorted(after.glob("*.safetensors")))}


def _is_made(folder: Path, info: dict[str, Any]) -> bool:
    """Whether the adapter or checkpoint is there; one that was made of something else is refused."""
    if not folder.exists():
        return False
    origin = store.read_json(folder / adapters.ORIGIN)
    there = origin.get("info") if isinstance(origin, dict) else None
    if not isinstance(there, dict):
        raise UserError(f"{folder / adapters.ORIGIN} does not say what the adapter was made of: remove {folder}")
    names = ("model", "data")  # the fingerprints decide
    changed = store.differences(*({k: v for k, v in made.items() if k not in names} for made in (there, info)))
    if changed:
        raise UserError(
            f"{folder} was made of something else ({'; '.join(changed)}): choose another --out, or remove it"
        )
    return True


def _remove_checkpoints(out: Path) -> None:
    if is_first_process():
        for folder in (*checkpoints(out), out / ".checkpoint.tmp"):
            shutil.rmtree(folder, ignore_errors=True)


def _reporting(title: str, progress: Progress | None) -> AbstractContextManager[Progress]:
    if not is_first_process():
        return nullcontext(lambda step, total, components: None)
    return _bar(title) if progress is None else nullcontext(progress)


@contextmanager
def _bar(title: str) -> Iterator[Progress]:
    """Draw a bar with the terms and the time left on standard error while the block runs."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("unlearn {task.description}"),
        BarColumn(bar_width=12),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[losses]}"),
    )
    with Bar(*columns, console=terminal.console(stderr=True)) as bar:
        task = bar.add_task(title, total=None, losses="")

        def report(step: int, total: int, components: dict[str, float]) -> None:
            losses = " ".join(f"{name} {value:.2f}" for name, value in components.items())
            bar.update(task, completed=step, total=total, losses=losses)

        yield report

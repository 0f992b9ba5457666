"""Unlearn: benchmark triples + model + method -> adapter, with ONE subclass of ``transformers.Trainer``.

A batch holds the rows of every triple that the method reads (forget or refusal, retain, decouple), each row goes
through the model once, and each term of the method reads its own rows. The reference model is the same model, adapter
off.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from transformers import set_seed

from safeeraser import models
from safeeraser.config import ModelOptions, StepBatch, UnlearnOptions, step_batch, training_values
from safeeraser.core import files, terminal
from safeeraser.core.errors import UserError
from safeeraser.core.registry import loaded_plugins
from safeeraser.data import Benchmark, training_triples
from safeeraser.data.images import ImageCache
from safeeraser.metrics.rule import parse_rule
from safeeraser.models import adapters, chat, lean_lora, packing
from safeeraser.models.adapter_files import PROMPTS
from safeeraser.models.processes import asks_for, is_first_process, launched, local_rank, processes, rank
from safeeraser.objectives import Method
from safeeraser.unlearn.arguments import check_launch, check_options, hidden_layer, training_arguments
from safeeraser.unlearn.batch import RowCollator, TripleDataset, check_texts
from safeeraser.unlearn.checkpoints import check_shared, checkpoints, last_checkpoint
from safeeraser.unlearn.order import EpochSampler
from safeeraser.unlearn.reference_cache import ReferenceCache
from safeeraser.unlearn.saliency import READ, find_mask
from safeeraser.unlearn.stopping import Measure, Stopping
from safeeraser.unlearn.trainer import Progress, StepLog, UnlearnTrainer

UNDECISIVE = ("gradient_checkpointing", "checkpoint_steps", "tracker", "pack")
"""Options that do not change the adapter, but for rounding and what dropout draws."""


@launched()
def run(
    model: str,
    benchmark: Benchmark,
    method: Method,
    options: UnlearnOptions,
    out: Path,
    progress: Progress | None = None,
    loading: ModelOptions | None = None,
    after: Path | Sequence[Path] | None = None,
    images: ImageCache | None = None,
    fits: int | None = None,
    measure: Measure | None = None,
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
        out: Folder for ``adapter/``, and until it is there ``checkpoint-STEP/``, and for ``train.jsonl``: a line per
            step, with loss and terms before their weights.
        progress: Called after every step; None draws a bar with the time left on standard error.
        loading: How the model is loaded; None: the defaults.
        after: Adapters made before, which are folded into the weights first, in order (``models.load_merged``).
        images: The benchmark's images, for who reads them again afterwards; None: a cache of its own.
        fits: Triples that fit through the model at once, where ``batch_size`` is not given; None: unknown.
        measure: What the rule ``stop`` is checked with, on questions about no train record (``bench.early_stop``).

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
    triples = training_triples(benchmark, method.rows, method.readers("decouple"))
    training = triples, method.rows, benchmark.refusals
    dataset = TripleDataset(*training, options.seed, options.text_forget, options.pd_noise)
    loading, images, batch = loading or ModelOptions(), images or ImageCache(benchmark), _batch(options, fits)
    info, unread = _describe(model, benchmark, method, options, loading, batch, after), method.unread_options()
    adapter, start = Path(out) / "adapter", last_checkpoint(out)
    # before the weights are loaded: a finished cell costs nothing, and one of other options is refused at once
    if _is_made(adapter, info, unread):
        _remove_checkpoints(adapter.parent)
        return adapter
    if start is not None:
        _is_made(start, info, unread)
    adapter.parent.mkdir(parents=True, exist_ok=True)
    vlm = _trainable(model, options, loading, after)
    # all texts before the first step: a tokenizer that misreads one would be found in the middle of an epoch
    check_texts(vlm.processor.tokenizer, *training)
    with _reporting(method.name, progress) as report:
        trainer = _trainer(vlm, method, options, batch, info, dataset, images, adapter.parent, report, measure)
        check_shared(start, adapter.parent)
        trainer.train(resume_from_checkpoint=str(start) if start else None)
    _save(trainer, adapter)
    return adapter


def _trainer(
    vlm: models.VisionLanguageModel,
    method: Method,
    options: UnlearnOptions,
    batch: StepBatch,
    info: dict[str, Any],
    dataset: TripleDataset,
    images: ImageCache,
    out: Path,
    report: Progress,
    measure: Measure | None,
) -> UnlearnTrainer:
    """Put a trainer together, of a model with a fresh adapter."""
    pictures = [triple.image for triple in dataset.triples]
    sampler = EpochSampler(len(dataset), batch.global_batch, options.seed, pictures, options.group_by)
    pack = options.pack and _packs(vlm, options.max_length)
    collator = RowCollator(vlm, images, method, options.max_length, pack, options.text_forget > 0)
    mask = stopping = None
    if options.saliency is not None:
        pairs = RowCollator(vlm, images, READ, options.max_length, pack)
        # the fresh adapter changes nothing yet, so that the gradients are those of the model before unlearning
        mask = find_mask(vlm, dataset.triples, pairs, batch.batch_size, options.saliency)
    if options.stop is not None:
        if measure is None:
            raise ValueError("training.stop needs 'measure'")
        stopping = Stopping(vlm, parse_rule(options.stop), options.stop_every, measure)
    log = StepLog(out / "train.jsonl", dataset, sampler, report, collator, stopping)
    trainer = UnlearnTrainer(
        vlm,
        method,
        method.options(options.terms),
        info | {PROMPTS: chat.fingerprint(vlm)},
        sampler,
        ReferenceCache() if options.cache_reference else None,
        hidden_layer(method, options, vlm.model.config),
        mask,
        options.projector_rate,
        args=training_arguments(options, batch, vlm.model, out),
        train_dataset=dataset,
        data_collator=collator,
        callbacks=[log] if stopping is None else [log, stopping],
    )
    check_launch(trainer.args.world_size, trainer.is_fsdp_enabled, trainer.is_deepspeed_enabled)
    # dropout differs between processes; only here, as the Trainer has seeded all of them alike
    set_seed(options.seed + rank())
    return trainer


def _batch(options: UnlearnOptions, fits: int | None) -> StepBatch:
    """How the triples of a step go through the model; says so where an explicit batch goes before the global one."""
    batch = step_batch(options, processes(), fits)
    if options.global_batch not in (None, batch.global_batch) and is_first_process():
        terminal.say(
            f"training.global_batch {options.global_batch} is not read: batch_size {batch.batch_size} x accumulation "
            f"{batch.accumulation} x {batch.processes} processes go before it",
            file=sys.stderr,
        )
    return batch


def _save(trainer: UnlearnTrainer, adapter: Path) -> None:
    """Put the adapter there whole or not at all; then no checkpoint is needed any more."""
    temporary = adapter.with_name(f".{adapter.name}.tmp")
    if is_first_process():
        shutil.rmtree(temporary, ignore_errors=True)
    trainer.save_adapter(temporary)
    if is_first_process():
        os.replace(temporary, adapter)
        _remove_checkpoints(adapter.parent)
    trainer.accelerator.wait_for_everyone()


def _trainable(
    model: str, options: UnlearnOptions, loading: ModelOptions, after: Path | Sequence[Path] | None
) -> models.VisionLanguageModel:
    """Load the model and put a fresh adapter on it."""
    kind, _, number = loading.device.partition(":")
    if number.strip("0") and processes() == 1:
        raise UserError(
            f"loading.device {loading.device!r}: transformers trains on the first GPU it sees; give {kind!r} and set "
            f"CUDA_VISIBLE_DEVICES={number}"
        )
    set_seed(options.seed)
    if processes() > 1 and loading.device == "auto":
        # each process moves its copy to its own GPU; quantised weights have to be made there
        quantised = loading.quantization != "none"
        loading = replace(loading, device=f"cuda:{local_rank()}" if quantised else "cpu")
    loading = _trainable_dtype(model, loading)
    vlm = adapters.attach(models.load_merged(model, after, **asdict(loading)), options.lora)
    if not asks_for("DEEPSPEED"):  # ZeRO-3 fetches a weight as its module runs
        lean_lora.make_lean(vlm.model)
    if options.gradient_checkpointing:
        name = "activation_checkpointing"  # its older name goes away with transformers 6
        name = name if hasattr(vlm.model, f"{name}_enable") else "gradient_checkpointing"
        getattr(vlm.model, f"{name}_enable")(**{f"{name}_kwargs": {"use_reentrant": False}})
    return vlm


def _packs(vlm: models.VisionLanguageModel, max_length: int) -> bool:
    """Whether rows are packed; says once why not, where it would pay."""
    if not packing.pays(vlm):
        return False
    reason = packing.obstacle(vlm, max_length, compare=processes() == 1)  # of several, each has it on its CPU still
    if reason is not None and is_first_process():
        terminal.say(f"model {vlm.name}: rows about one image go through it one by one, as {reason}", file=sys.stderr)
    return reason is None


def _trainable_dtype(model: str, loading: ModelOptions) -> ModelOptions:
    """Another type for the weights of a float16 checkpoint, in which training overflows; said once."""
    config = models.read_config(model)
    own = getattr(config, "dtype", None) or getattr(config.get_text_config(), "dtype", None)
    if loading.dtype != "auto" or own != torch.float16:
        return loading
    on_gpu = loading.device != "cpu" and torch.cuda.is_available()
    dtype = "bfloat16" if on_gpu and torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    if is_first_process():
        terminal.say(
            f"model {model} is float16, in which training overflows: it is trained in {dtype} (--loading.dtype)",
            file=sys.stderr,
        )
    return replace(loading, dtype=dtype)


def _describe(
    model: str,
    benchmark: Benchmark,
    method: Method,
    options: UnlearnOptions,
    loading: ModelOptions,
    batch: StepBatch,
    after: Path | Sequence[Path] | None = None,
) -> dict[str, Any]:
    """All that decides the adapter, the names of model and data, and how its steps were spread."""
    values = training_values(options)
    described = {
        "model": model,
        "model_fingerprint": models.fingerprint(model),
        "data": benchmark.name,
        "data_fingerprint": benchmark.fingerprint,
        "method": method.name,
        "terms": {term.name: weight for term, weight in method.terms},
        "options": {name: value for name, value in values.items() if name not in (*UNDECISIVE, "terms")}
        | method.options(options.terms),
        "loading": asdict(replace(loading, device="auto")),  # the device may change
        "seed": options.seed,
        "processes": processes(),
        "step": {"global_batch": batch.global_batch, **asdict(batch), "pack": options.pack},
    }
    # not at all where there is none: adapters made before this could be are still the same
    hashes = [models.hash_adapter(folder) for folder in ([after] if isinstance(after, Path) else after or [])]
    plugins = sorted(set(loaded_plugins().values()))  # by content: a term may be another one under the same name now
    added = {"after": "+".join(hashes), "plugins": "+".join(plugins)}
    return described | {name: value for name, value in added.items() if value}


def _is_made(folder: Path, info: dict[str, Any], unread: Collection[str]) -> bool:
    """Whether the adapter or checkpoint is there; one that was made of something else is refused."""
    if not folder.exists():
        return False
    origin = files.read_json(folder / adapters.ORIGIN)
    there = origin.get("info") if isinstance(origin, dict) else None
    if not isinstance(there, dict):
        raise UserError(f"{folder / adapters.ORIGIN} does not say what the adapter was made of: remove {folder}")
    # fingerprints decide, not names; older versions wrote the options of all terms, and not how a step is spread
    ignored = {"model", "data", *(f"options.{name}" for name in unread), *(f"step.{name}" for name in info["step"])}
    ignored.add(PROMPTS)  # compared where the model is loaded
    changed = files.differences(there, info, ignored)
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
    """Draw a bar with the terms' losses behind it."""
    with terminal.bar(f"unlearn {title}", None) as draw:
        yield lambda step, total, losses: draw(step, total, " ".join(f"{name} {v:.2f}" for name, v in losses.items()))

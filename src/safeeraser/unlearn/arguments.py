"""Our options as the Trainer's, and what of the launch and of this machine they depend on."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from safeeraser.config import StepBatch, UnlearnOptions, check_tracker, check_training
from safeeraser.core.errors import UserError
from safeeraser.metrics.rule import parse_rule
from safeeraser.models.processes import Engine, asks_for, check_together, processes
from safeeraser.objectives import Method


def check_options(options: UnlearnOptions, method: Method) -> None:
    """Check the options that can be checked before data and model are read.

    Raises:
        UserError: If one is out of range or needs a package that is missing.
    """
    check_training(options)
    too_large = [term.name for term, _ in method.terms if term.needs > {"reference"}]
    if options.cache_reference and too_large:
        raise UserError(
            f"training.cache_reference: {', '.join(too_large)} reads more of the reference than its log-probabilities "
            "of answers, and that is too much to keep (npo and dpo read no more): leave the option out"
        )
    check_tracker(options.tracker)
    if options.stop is not None:
        parse_rule(options.stop)
        if asks_for("FSDP") or asks_for("DEEPSPEED"):
            raise UserError("training.stop answers questions in between, which takes a whole model: use ddp.yaml")
    if asks_for("DEEPSPEED") and importlib.util.find_spec("deepspeed") is None:
        raise UserError(
            "this launch asks for DeepSpeed, which is not installed: run 'pip install deepspeed', or launch with "
            "another of the configurations, such as fsdp.yaml"
        )


def hidden_layer(method: Method, options: UnlearnOptions, config: Any) -> int | None:
    """Number of the language model's layer, from 1, whose states the method reads; None if it reads none.

    Where ``rmu_layer`` is not given it is a quarter of the depth, rounded up: layer 8 of 32, as in the RMU paper.

    Raises:
        UserError: If the model has no such layer.

    Example:
        >>> from safeeraser.objectives import parse_method
        >>> hidden_layer(parse_method("po+pd"), UnlearnOptions(), None) is None
        True
    """
    if "hidden" not in method.needs:
        return None
    depth: int = config.get_text_config().num_hidden_layers
    layer = -(-depth // 4) if options.rmu_layer is None else options.rmu_layer
    if not 1 <= layer <= depth:
        raise UserError(f"training.rmu_layer: {layer} was given; the language model has layers 1 to {depth}")
    return layer


def check_launch(world_size: int, is_fsdp: bool, is_deepspeed: bool) -> None:
    """Check that the processes work together as the launch asks; accelerate passes over in silence what it cannot do.

    Raises:
        UserError: If the launch asks for something else.

    Example:
        >>> check_launch(world_size=1, is_fsdp=False, is_deepspeed=False)
    """
    engines: dict[Engine, tuple[str, bool]] = {"FSDP": ("FSDP", is_fsdp), "DEEPSPEED": ("DeepSpeed", is_deepspeed)}
    for engine, (title, is_on) in engines.items():
        if asks_for(engine) and not is_on:
            raise UserError(f"this launch asks for {title}, which accelerate leaves out without GPUs: use ddp.yaml")
    check_together(world_size)


def training_arguments(
    options: UnlearnOptions, batch: StepBatch, model: torch.nn.Module, out: Path
) -> TrainingArguments:
    """Translate our options; what is not named is the Trainer's default, AdamW with cosine decay and linear warm-up.

    Arithmetic follows the weights: those in bfloat16 are multiplied in bfloat16, while what is trained stays float32.

    Raises:
        UserError: If the weights are float16, or bfloat16 is wanted of a GPU that lacks it.
    """
    dtype = next(parameter.dtype for parameter in model.parameters() if parameter.is_floating_point())
    on_gpu = torch.cuda.is_available() and not asks_for("CPU")
    on_gpu = on_gpu and (next(model.parameters()).device.type != "cpu" or processes() > 1)
    if dtype == torch.float16:
        raise UserError("weights in float16 overflow in training: load the model with --loading.dtype bfloat16")
    if dtype == torch.bfloat16 and on_gpu and not torch.cuda.is_bf16_supported():
        raise UserError("this GPU has no bfloat16 arithmetic: load the model with --loading.dtype float32")
    if asks_for("FSDP"):
        os.environ.setdefault("FSDP_TRANSFORMER_CLS_TO_WRAP", ",".join(_layer_classes(model)))
    saving = {"save_strategy": "steps", "save_steps": options.checkpoint_steps} if options.checkpoint_steps else {}
    arguments = TrainingArguments(
        output_dir=str(out),
        per_device_train_batch_size=batch.batch_size,
        gradient_accumulation_steps=batch.accumulation,
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
        bf16=dtype == torch.bfloat16,
        use_cpu=not on_gpu,
        logging_steps=1,
        logging_nan_inf_filter=False,
        **({"save_strategy": "no"} | saving),
        report_to=[] if options.tracker == "none" else [options.tracker],
        run_name=out.name,
        disable_tqdm=True,
        remove_unused_columns=False,
        label_names=["labels"],
        dataloader_pin_memory=on_gpu,
        ddp_find_unused_parameters=False,
    )
    if not asks_for("DEEPSPEED"):  # accelerate's own default file, or a job's image, may name another
        arguments.mixed_precision = "bf16" if arguments.bf16 else "no"
    arguments._n_gpu = min(arguments.n_gpu, 1)  # a process has one GPU: more of them take torchrun or accelerate
    return arguments


def _layer_classes(model: torch.nn.Module) -> list[str]:
    """Classes of the layers that hold a part of the adapter: what FSDP gathers one at a time.

    Left to itself, accelerate looks for every class that the architecture names, and does not find those of LLaVA's
    text encoder, which LLaVA does not have.
    """
    stacks = [module for module in model.modules() if isinstance(module, torch.nn.ModuleList)]
    layers = [layer for stack in stacks for layer in stack if any(p.requires_grad for p in layer.parameters())]
    return sorted({type(layer).__name__ for layer in layers})

"""Adapters: attach, save, load strictly, disable, merge. LoRA on the language model; the projector as chosen."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper

from safeeraser.config import LoraOptions, Projector, check_lora
from safeeraser.core import files, terminal
from safeeraser.core.errors import UserError
from safeeraser.models import VisionLanguageModel, sine
from safeeraser.models.adapter_files import CONFIG as CONFIG
from safeeraser.models.adapter_files import ORIGIN as ORIGIN
from safeeraser.models.adapter_files import (
    PROJECTORS,
    check_config,
    check_prompts,
    check_tensors,
    jsonable,
    read_options,
    read_tensors,
)
from safeeraser.models.adapter_files import WEIGHTS as WEIGHTS
from safeeraser.models.checkpoint import quiet, refuse_lfs_pointer
from safeeraser.models.families import Parts, parts, untrained
from safeeraser.models.processes import is_first_process

LARGEST_PROJECTOR, LARGEST_SHARE = 200_000_000, 0.02
"""Weights of a projector, and their share of the model's: one over both gets a LoRA in place of whole training."""
UNKNOWN = "unknown"
"""Method of an adapter that does not say what it was made of."""


def attach(vlm: VisionLanguageModel, options: LoraOptions) -> VisionLanguageModel:
    """Attach an untrained adapter, which changes no output yet.

    Trainable are a LoRA on every linear layer of the language model and, by ``options.projector``, a copy of the
    projector as a whole or through the bounded update of ``sine.Sine``, a LoRA on its linear layers, or nothing of it;
    all else is frozen. They are in float32, as a bfloat16 weight swallows steps of a learning rate of 1e-4; on a
    bfloat16 model they work under autocast, as the Trainer has it. The initial LoRA weights come from torch's
    generator. Where experts are fused, which PEFT knows no dropout for, there is none at all.

    Args:
        vlm: A model without adapter; its modules are changed in place.
        options: Rank, alpha, dropout and the kind of projector.

    Raises:
        UserError: If rank, alpha or dropout is out of range, the kind of projector is unknown, the model lacks a part
            (see ``families.parts``), or it is in float16, which overflows in training.

    Example:
        >>> from safeeraser import models
        >>> vlm = attach(models.load("mini-llava"), LoraOptions(rank=4, alpha=8.0))
        >>> sum(p.requires_grad for p in vlm.model.parameters())
        46
    """
    check_lora(options)
    if vlm.model.dtype == torch.float16:
        raise UserError(f"model {vlm.name!r} is in float16, which overflows in training: give --dtype bfloat16")
    found = _parts(vlm)
    if options.projector not in PROJECTORS:
        raise UserError(f"lora projector {options.projector!r} is unknown: give one of {', '.join(PROJECTORS)}")
    kind: Projector = _affordable(vlm, found) if options.projector == "full" else options.projector
    if found.experts and options.dropout:
        _say(f"model {vlm.name!r}: no LoRA dropout, as its experts are fused and PEFT has none for those")
        options = replace(options, dropout=0.0)
    wrapped = _wrapped(vlm, _lora_config(vlm, found, options, kind), kind)
    for parameter in wrapped.model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    frozen = list(untrained(vlm.model, vlm.model.get_submodule(found.language_model)))

    def keep_frozen(*_: Any) -> None:
        # a tower in training mode would drop states, and its batch norms move what no adapter holds
        for part in frozen:
            part.eval()

    wrapped.model.register_forward_pre_hook(keep_frozen)
    return wrapped


def save(
    vlm: VisionLanguageModel, folder: Path, info: Mapping[str, Any], state: Mapping[str, torch.Tensor] | None = None
) -> None:
    """Write the adapter (safetensors) with a note of the model that it belongs to.

    Args:
        vlm: A model with an adapter.
        folder: Folder to write; made if need be.
        info: What it was made of (method, options, ...); JSON-able.
        state: The model's tensors, where they are spread over processes and were put together; None: its own.

    Example:
        >>> import tempfile
        >>> from safeeraser import models
        >>> vlm = attach(models.load("mini-llava"), LoraOptions(rank=4))
        >>> save(vlm, Path(tempfile.mkdtemp()), {"method": "po+pd"})
    """
    from safetensors.torch import save as to_bytes

    config = vlm.model.peft_config["default"].to_dict()
    adapter = get_peft_model_state_dict(vlm.model, state)
    tensors = {name: value.detach().cpu().contiguous() for name, value in sorted(adapter.items())}
    folder = Path(folder)
    files.write_json(folder / CONFIG, jsonable(config | {"inference_mode": True, "base_model_name_or_path": vlm.name}))
    origin = {"base": vlm.name, "fingerprint": vlm.fingerprint, "projector": projector(vlm), "info": dict(info)}
    files.write_json(folder / ORIGIN, origin)
    with files.atomic(folder / WEIGHTS, "wb") as file:
        file.write(to_bytes(tensors, metadata={"format": "pt"}))


def load(vlm: VisionLanguageModel, folder: Path) -> VisionLanguageModel:
    """Attach a saved adapter to the model that it was trained on.

    Args:
        vlm: A model without adapter; its modules are changed in place.
        folder: Folder written by ``save``.

    Returns:
        The model with the adapter, in evaluation mode.

    Raises:
        UserError: If a file is missing or unreadable, the adapter was made on other weights, or its tensors are not
            exactly those that the model needs.

    Example:
        >>> import tempfile
        >>> from safeeraser import models
        >>> folder = Path(tempfile.mkdtemp())
        >>> save(attach(models.load("mini-llava"), LoraOptions(rank=4)), folder, {})
        >>> projector(load(models.load("mini-llava"), folder))
        'full'
    """
    folder = Path(folder)
    missing = [name for name in (CONFIG, ORIGIN, WEIGHTS) if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"adapter {folder}: {', '.join(missing)} is missing; give a folder that 'safeeraser unlearn' has written"
        )
    for name in (CONFIG, ORIGIN, WEIGHTS):
        refuse_lfs_pointer(folder / name)
    origin = files.read_json(folder / ORIGIN)
    if not isinstance(origin, dict) or origin.get("fingerprint") != vlm.fingerprint:
        base = origin.get("base") if isinstance(origin, dict) else None
        raise UserError(
            f"adapter {folder} was made on model {base!r} with other weights than {vlm.name!r} has now; load that model"
        )
    check_prompts(folder, vlm)
    options = read_options(folder, origin)
    tensors = read_tensors(folder / WEIGHTS)
    if options.rank > max((max(tensor.shape, default=0) for tensor in tensors.values()), default=0):
        raise UserError(f"adapter {folder}: none of its weights is of the rank {options.rank} that {CONFIG} names")
    config = _lora_config(vlm, _parts(vlm), options, options.projector)
    wrapped = _wrapped(vlm, config, options.projector)
    check_config(folder, files.read_json(folder / CONFIG), jsonable(config.to_dict()))
    _fill(wrapped.model, folder, tensors)
    wrapped.model.eval()
    info = origin.get("info")
    return replace(wrapped, method=str(info.get("method", UNKNOWN)) if isinstance(info, dict) else UNKNOWN)


def restore(model: PeftModel, folder: Path) -> None:
    """Load the weights of a saved adapter, such as a checkpoint of training, into an attached one.

    Raises:
        UserError: If the file cannot be read or its tensors are not exactly those of the adapter.
    """
    _fill(model, Path(folder), read_tensors(Path(folder) / WEIGHTS))


@contextmanager
def reference_mode(model: Any) -> Iterator[None]:
    """Make the model its own reference inside the block: adapter and tuned projector off, no dropout, no gradient.

    Example:
        >>> from safeeraser import models
        >>> vlm = attach(models.load("mini-llava"), LoraOptions())
        >>> with reference_mode(vlm.model):
        ...     torch.is_grad_enabled()
        False
    """
    was_training = model.training
    # PEFT's disable_adapter asks every layer for its state first: with 7B's layers that is half of the time it takes
    tuned = [module for module in model.modules() if isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper)]
    model.eval()
    try:
        for module in tuned:
            module.enable_adapters(False)
        with torch.no_grad():
            yield
    finally:
        for module in tuned:
            module.enable_adapters(True)
        model.train(was_training)


def merge(vlm: VisionLanguageModel) -> VisionLanguageModel:
    """Merge the adapter into the weights, for the same answers in less time.

    A model without adapter is returned as it is; so is a quantised one, whose weights would have to be rounded again.

    Example:
        >>> from safeeraser import models
        >>> type(merge(attach(models.load("mini-llava"), LoraOptions())).model).__name__
        'LlavaForConditionalGeneration'
    """
    if not isinstance(vlm.model, PeftModel) or getattr(vlm.model.get_base_model(), "is_quantized", False):
        return vlm
    sine.remove_parametrization(vlm.model)
    return replace(vlm, model=vlm.model.merge_and_unload())


def projector(vlm: VisionLanguageModel) -> Projector:
    """How the projector of a model with an adapter is tuned.

    Example:
        >>> from safeeraser import models
        >>> projector(attach(models.load("mini-llava"), LoraOptions(projector="sine")))
        'sine'
    """
    if vlm.model.peft_config["default"].modules_to_save:
        return "sine" if sine.has_parametrization(vlm.model) else "full"
    return "lora" if getattr(vlm.model, "lora_on_projector", False) else "frozen"


def _wrapped(vlm: VisionLanguageModel, config: LoraConfig, kind: str) -> VisionLanguageModel:
    with _without_renaming(), quiet():  # PEFT asks under a name that transformers will drop
        model = get_peft_model(vlm.model, config)
    if kind == "sine":
        sine.add_parametrization(model)
    model.lora_on_projector = kind == "lora"
    return replace(vlm, model=model)


@contextmanager
def _without_renaming() -> Iterator[None]:
    """Keep PEFT from taking our layers for those of an older transformers.

    Of some mixtures of experts it takes every layer called ``down_proj`` for one of the experts, which are fused today,
    so that dense layers would get no LoRA; our names are those of the model as it is.
    """
    from peft.utils import transformers_weight_conversion as conversion

    ours = {
        "convert_peft_config_for_transformers": lambda *arguments, **settings: None,
        # on reading, names of layers that match nothing would be left out without a word
        "convert_peft_adapter_state_dict_for_transformers": _unchanged,
    }
    given = {name: getattr(conversion, name) for name in ours}
    for name, function in ours.items():
        setattr(conversion, name, function)
    try:
        yield
    finally:
        for name, function in given.items():
            setattr(conversion, name, function)


def _unchanged(*, adapter_state_dict: dict[str, Any], **settings: Any) -> dict[str, Any]:
    return adapter_state_dict


def _affordable(vlm: VisionLanguageModel, found: Parts) -> Projector:
    """How a projector is tuned by default: as a whole, unless it is large."""
    count = sum(p.numel() for name in found.projector for p in vlm.model.get_submodule(name).parameters())
    share = count / vlm.model.num_parameters()
    if count <= LARGEST_PROJECTOR or share <= LARGEST_SHARE:
        return "full"
    _say(
        f"model {vlm.name!r}: a LoRA on the projector, as training its {count / 1e6:,.0f}M weights ({share:.1%} of the "
        "model) whole is for up to 200M or 2 %"
    )
    return "lora"


def _say(text: str) -> None:
    if is_first_process():
        terminal.say(text, file=sys.stderr)


def _parts(vlm: VisionLanguageModel) -> Parts:
    if isinstance(vlm.model, PeftModel):
        raise UserError(f"model {vlm.name!r} has an adapter already: merge it first")
    return parts(vlm.model)


def _lora_config(vlm: VisionLanguageModel, found: Parts, options: LoraOptions, kind: Projector) -> LoraConfig:
    """PEFT's configuration: adapters of a model differ in rank, alpha, dropout and projector alone."""
    inner: list[str] = []
    if kind == "lora":
        modules = (m for name in found.projector for m in vlm.model.get_submodule(name).modules())
        linear = {id(module) for module in modules if isinstance(module, torch.nn.Linear)}
        inner = [name for name, module in vlm.model.named_modules() if id(module) in linear]
        if not inner:
            raise UserError(f"model {vlm.name!r}: its projector has no linear layer: give full, sine or frozen")
    return LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,
        lora_dropout=options.dropout,
        target_modules=found.pattern((name for name, _ in vlm.model.named_modules()), inner),
        target_parameters=list(found.experts) or None,
        modules_to_save=(kind in ("full", "sine") and list(found.projector)) or None,
        task_type="CAUSAL_LM",
    )


def _fill(model: PeftModel, folder: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    check_tensors(folder, tensors, get_peft_model_state_dict(model))
    with _without_renaming():
        set_peft_model_state_dict(model, dict(tensors))

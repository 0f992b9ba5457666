"""Adapters: attach, save, load strictly, switch off, merge. LoRA on the language model, the projector as a whole."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

from safeeraser import store
from safeeraser.config import LoraOptions, Projector
from safeeraser.errors import UserError
from safeeraser.models import VisionLanguageModel, sine

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
ORIGIN = "origin.json"
"""Which model the adapter belongs to (name and fingerprint), how its projector is tuned, and what it was made of."""
PROJECTORS: dict[str, Callable[[Any], None]] = {"full": lambda model: None, "sine": sine.bend}
"""What is done to a PEFT model's copy of the projector before it is trained or loaded, by kind."""


def attach(vlm: VisionLanguageModel, options: LoraOptions) -> VisionLanguageModel:
    """Put a fresh adapter on a model, ready for training: it changes nothing yet.

    Trainable are a LoRA on every linear layer of the language model and a copy of the projector, as a whole or, with
    ``options.projector = "sine"``, through the bounded update of ``sine.Sine``; all else is frozen. Both are in
    float32, as a bfloat16 weight swallows steps of a learning rate of 1e-4; on a bfloat16 model they work under
    autocast, as the Trainer has it. The initial LoRA weights come from torch's generator.

    Args:
        vlm: A model without adapter; its modules are changed in place.
        options: Rank, alpha, dropout and the kind of projector.

    Raises:
        UserError: If rank, alpha or dropout is out of range, the kind of projector is unknown, or the model is in
            float16, which overflows in training.

    Example:
        >>> from safeeraser import models
        >>> vlm = attach(models.load("mini-llava"), LoraOptions(rank=4, alpha=8.0))
        >>> sum(p.requires_grad for p in vlm.model.parameters())
        46
    """
    if options.rank < 1 or options.alpha <= 0 or not 0 <= options.dropout < 1:
        raise UserError(
            f"lora rank {options.rank}, alpha {options.alpha}, dropout {options.dropout}: rank must be at least 1, "
            "alpha positive, dropout from 0 to less than 1"
        )
    if vlm.model.dtype == torch.float16:
        raise UserError(f"model {vlm.name!r} is in float16, which overflows in training: give --dtype bfloat16")
    wrapped = _wrapped(vlm, _lora_config(vlm, options), options.projector)
    for parameter in wrapped.model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
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
        >>> save(vlm, Path("runs/po-pd/adapter"), {"method": "po+pd"})  # doctest: +SKIP
    """
    from safetensors.torch import save as to_bytes

    config = vlm.model.peft_config["default"].to_dict()
    adapter = get_peft_model_state_dict(vlm.model, state)
    tensors = {name: value.detach().cpu().contiguous() for name, value in sorted(adapter.items())}
    folder = Path(folder)
    store.write_json(folder / CONFIG, _jsonable(config | {"inference_mode": True, "base_model_name_or_path": vlm.name}))
    origin = {"base": vlm.name, "fingerprint": vlm.fingerprint, "projector": projector(vlm), "info": dict(info)}
    store.write_json(folder / ORIGIN, origin)
    with store.atomic(folder / WEIGHTS, "wb") as file:
        file.write(to_bytes(tensors, metadata={"format": "pt"}))


def load(vlm: VisionLanguageModel, folder: Path) -> VisionLanguageModel:
    """Put a saved adapter on the model that it was made on.

    Args:
        vlm: A model without adapter; its modules are changed in place.
        folder: Folder written by ``save``.

    Returns:
        The model with the adapter on, in evaluation mode.

    Raises:
        UserError: If a file is missing or unreadable, the adapter was made on other weights, or its tensors are not
            exactly those that the model needs.

    Example:
        >>> from safeeraser import models
        >>> load(models.load("mini-llava"), Path("runs/po-pd/adapter"))  # doctest: +SKIP
    """
    folder = Path(folder)
    missing = [name for name in (CONFIG, ORIGIN, WEIGHTS) if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"adapter {folder}: {', '.join(missing)} is missing; give a folder that 'safeeraser unlearn' has written"
        )
    origin = store.read_json(folder / ORIGIN)
    if not isinstance(origin, dict) or origin.get("fingerprint") != vlm.fingerprint:
        base = origin.get("base") if isinstance(origin, dict) else None
        raise UserError(
            f"adapter {folder} was made on model {base!r} with other weights than {vlm.name!r} has now; load that model"
        )
    options = _read_options(folder, origin)
    tensors = _read_tensors(folder / WEIGHTS)
    if options.rank > max((max(tensor.shape, default=0) for tensor in tensors.values()), default=0):
        raise UserError(f"adapter {folder}: none of its weights is of the rank {options.rank} that {CONFIG} names")
    config = _lora_config(vlm, options)
    _check_config(folder, store.read_json(folder / CONFIG), _jsonable(config.to_dict()))
    wrapped = _wrapped(vlm, config, options.projector)
    _fill(wrapped.model, folder, tensors)
    wrapped.model.eval()
    return wrapped


def restore(model: PeftModel, folder: Path) -> None:
    """Give a model's adapter the weights of a saved one.

    Raises:
        UserError: If the file cannot be read or its tensors are not exactly those of the adapter.

    Example:
        >>> restore(vlm.model, Path("runs/po-pd/checkpoint-60"))  # doctest: +SKIP
    """
    _fill(model, Path(folder), _read_tensors(Path(folder) / WEIGHTS))


@contextmanager
def reference_mode(model: Any) -> Iterator[None]:
    """Make the model its own reference while the block runs: adapter and tuned projector off, no dropout, no gradient.

    Example:
        >>> from safeeraser import models
        >>> vlm = attach(models.load("mini-llava"), LoraOptions())
        >>> with reference_mode(vlm.model):
        ...     torch.is_grad_enabled()
        False
    """
    was_training = model.training
    model.eval()
    try:
        with model.disable_adapter(), torch.no_grad():
            yield
    finally:
        model.train(was_training)


def merge(vlm: VisionLanguageModel) -> VisionLanguageModel:
    """Fold the adapter into the weights: the same answers, faster.

    A model without adapter is returned as it is; so is a quantised one, whose weights would have to be rounded again.

    Example:
        >>> from safeeraser import models
        >>> type(merge(attach(models.load("mini-llava"), LoraOptions())).model).__name__
        'LlavaForConditionalGeneration'
    """
    if not isinstance(vlm.model, PeftModel) or getattr(vlm.model.get_base_model(), "is_quantized", False):
        return vlm
    sine.straighten(vlm.model)
    return replace(vlm, model=vlm.model.merge_and_unload())


def projector(vlm: VisionLanguageModel) -> Projector:
    """How the projector of a model with an adapter is tuned.

    Example:
        >>> from safeeraser import models
        >>> projector(attach(models.load("mini-llava"), LoraOptions(projector="sine")))
        'sine'
    """
    return "sine" if sine.is_bent(vlm.model) else "full"


def _wrapped(vlm: VisionLanguageModel, config: LoraConfig, kind: str) -> VisionLanguageModel:
    if isinstance(vlm.model, PeftModel):
        raise UserError(f"model {vlm.name!r} has an adapter already: merge it first")
    if kind not in PROJECTORS:
        raise UserError(f"lora projector {kind!r} is unknown: give one of {', '.join(PROJECTORS)}")
    model = get_peft_model(vlm.model, config)
    PROJECTORS[kind](model)
    return replace(vlm, model=model)


def _lora_config(vlm: VisionLanguageModel, options: LoraOptions) -> LoraConfig:
    """The one kind of adapter there is; only rank, alpha and dropout differ."""
    return LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,
        lora_dropout=options.dropout,
        target_modules=vlm.family.lora_targets,
        modules_to_save=[vlm.family.projector],
        task_type="CAUSAL_LM",
    )


def _read_options(folder: Path, origin: Mapping[str, Any]) -> LoraOptions:
    """Rank, alpha, dropout and projector of a saved adapter."""
    written = store.read_json(folder / CONFIG)
    values = written if isinstance(written, dict) else {}
    rank, alpha, dropout = (values.get(name) for name in ("r", "lora_alpha", "lora_dropout"))
    projector = origin.get("projector", "full")
    if values.get("peft_type") != "LORA" or type(rank) is not int or rank < 1:
        raise UserError(f"adapter {folder}: {CONFIG} is no LoRA configuration (peft_type, r): unlearn again")
    if not all(type(value) in (int, float) for value in (alpha, dropout)) or not isinstance(projector, str):
        raise UserError(f"adapter {folder}: lora_alpha, lora_dropout in {CONFIG} and projector in {ORIGIN} are needed")
    if projector not in PROJECTORS:
        raise UserError(
            f"adapter {folder}: projector {projector!r} in {ORIGIN} is unknown: one of {', '.join(PROJECTORS)} is known"
        )
    if not (0 < float(alpha or 0) < math.inf and 0 <= float(dropout or 0) < 1):
        raise UserError(f"adapter {folder}: lora_alpha {alpha} must be positive, lora_dropout {dropout} from 0 to 1")
    return LoraOptions(rank, float(alpha or 0), float(dropout or 0), projector)  # type: ignore[arg-type]


def _check_config(folder: Path, written: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse an adapter that would work in another way: other layers, another kind of LoRA, code to import.

    What another version of PEFT has besides may be there as long as it is off; where it lies and which version wrote
    it do not matter.
    """
    free = {"base_model_name_or_path", "peft_version", "inference_mode", "revision"}
    differing = [
        f"{name} is {str(value)[:60]!r}"
        for name, value in written.items()
        if name not in free and value != wanted.get(name) and not (name not in wanted and not value)
    ]
    if differing:
        raise UserError(f"adapter {folder} is none of ours: in {CONFIG} {'; '.join(differing[:3])}: unlearn again")


def _fill(model: PeftModel, folder: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    _check_tensors(folder, tensors, get_peft_model_state_dict(model))
    set_peft_model_state_dict(model, dict(tensors))


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, torch.Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"adapter weights {path} cannot be read ({error}): unlearn again") from None
    return tensors


def _check_tensors(folder: Path, given: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> None:
    problems = [f"{name} is missing" for name in sorted(wanted.keys() - given.keys())]
    problems += [f"{name} is not part of the model" for name in sorted(given.keys() - wanted.keys())]
    problems += [f"{name} is not finite" for name in sorted(given) if not bool(given[name].isfinite().all())]
    problems += [
        f"{name} has shape {tuple(given[name].shape)} instead of {tuple(wanted[name].shape)}"
        for name in sorted(wanted.keys() & given.keys())
        if given[name].shape != wanted[name].shape
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise UserError(f"adapter {folder} does not fit the model: {'; '.join(problems[:3])}{more}; unlearn again")


def _jsonable(config: Mapping[str, Any]) -> dict[str, Any]:
    """A PEFT configuration without sets and enums."""
    plain: dict[str, Any] = {}
    for key, value in sorted(config.items()):
        value = getattr(value, "value", value)
        plain[key] = sorted(value) if isinstance(value, set) else value
    return plain

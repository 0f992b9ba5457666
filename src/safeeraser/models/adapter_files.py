"""Files of an adapter: read, and refused where they are not exactly those that the model needs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import torch

from safeeraser.config import LoraOptions, Projector
from safeeraser.core import files
from safeeraser.core.errors import UserError
from safeeraser.models import VisionLanguageModel

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
ORIGIN = "origin.json"
"""Which model the adapter belongs to (name and fingerprint), how its projector is tuned, and what it was made of."""
PROMPTS = "prompts"
"""What of an adapter's origin says which prompts it was trained on (``chat.fingerprint``)."""
PROJECTORS: tuple[Projector, ...] = get_args(Projector)


def check_config(folder: Path, written: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse an adapter on other layers, of another kind of LoRA, or with code to import.

    Fields of other versions of PEFT are accepted where they are off.

    Raises:
        UserError: If it is one.
    """
    free = {"base_model_name_or_path", "peft_version", "inference_mode", "revision"}
    differing = [
        f"{name} is {str(value)[:60]!r}"
        for name, value in written.items()
        if name not in free and value != wanted.get(name) and not (name not in wanted and not value)
    ]
    if differing:
        raise UserError(f"adapter {folder} is none of ours: in {CONFIG} {'; '.join(differing[:3])}: unlearn again")


def check_prompts(folder: Path, vlm: VisionLanguageModel) -> None:
    """Refuse an adapter, or a checkpoint, that was trained on other prompts than the model's files make now.

    One that does not say on which is accepted.

    Raises:
        UserError: If it was.
    """
    from safeeraser.models import chat

    origin = files.read_json(folder / ORIGIN)
    info = origin.get("info") if isinstance(origin, dict) else None
    made_on = info.get(PROMPTS) if isinstance(info, dict) else None
    if made_on is not None and made_on != chat.fingerprint(vlm):
        raise UserError(
            f"{folder} was trained on other prompts than model {vlm.name!r} makes now: its chat template, tokenizer or "
            "image processor, the files beside its weights, have changed; put them back, or unlearn again"
        )


def read_options(folder: Path, origin: Mapping[str, Any]) -> LoraOptions:
    """Read rank, alpha, dropout and projector of a saved adapter.

    Args:
        folder: The adapter.
        origin: What its ``origin.json`` holds.

    Raises:
        UserError: If one is missing, or out of range.
    """
    written = files.read_json(folder / CONFIG)
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
    return LoraOptions(rank, float(alpha or 0), float(dropout or 0), projector)


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a file.

    Raises:
        UserError: If it cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, torch.Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"adapter weights {path} cannot be read ({error}): unlearn again") from None
    return tensors


def check_tensors(folder: Path, given: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> None:
    """Check that tensors are those wanted, finite and of the same shapes.

    Raises:
        UserError: If they are not; the message names up to three that differ.
    """
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


def jsonable(config: Mapping[str, Any]) -> dict[str, Any]:
    """A PEFT configuration without sets and enums."""
    plain: dict[str, Any] = {}
    for key, value in sorted(config.items()):
        value = getattr(value, "value", value)
        plain[key] = sorted(value) if isinstance(value, set) else value
    return plain

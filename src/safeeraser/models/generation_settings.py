"""Generation settings that a checkpoint brings along: its end tokens count, the others are named and not used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safeeraser.core import files
from safeeraser.core.errors import UserError

GENERATION = "generation_config.json"
_NOT_SETTINGS = {"eos_token_id", "pad_token_id", "bos_token_id", "transformers_version", "_from_model_config"}


def generation_settings(name: str, folder: Path) -> tuple[list[int], list[str]]:
    """End tokens that a checkpoint names, and what else it would have generation do, as texts.

    Raises:
        UserError: If an end token is no token id.

    Example:
        >>> from safeeraser.models.checkpoint import find_folder
        >>> generation_settings("mini-llava", find_folder("mini-llava"))
        ([2], [])
    """
    from transformers import GenerationConfig

    # versions of the library differ in whether an unset field is None or has its default
    defaults = vars(GenerationConfig()) | getattr(GenerationConfig, "_get_default_generation_params", dict)()
    config, path = read_object(folder / "config.json"), folder / GENERATION
    inner = config.get("text_config")
    # older checkpoints have these settings there, the outer ones first
    written = {
        key: value
        for level in (inner if isinstance(inner, dict) else {}, config)
        for key, value in level.items()
        if key in defaults and value is not None
    }
    ends = written.get("eos_token_id")
    if path.is_file():
        own = read_object(path)
        ends, written = own.get("eos_token_id"), written | own
    ends = ends if isinstance(ends, list) else [] if ends is None else [ends]
    if not all(type(token) is int for token in ends):
        raise UserError(f"model {name!r}: eos_token_id in {path} is {ends!r}: a token id or a list of them is needed")
    ignored = [
        f"{key} {json.dumps(value)[:60]}"
        for key, value in sorted(written.items())
        if key not in _NOT_SETTINGS and value is not None and value != defaults.get(key)
    ]
    return ends, ignored


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        UserError: If the file holds none.
    """
    value = files.read_json(path)
    if not isinstance(value, dict):
        raise UserError(f"{path} is no JSON object")
    return value

"""Names of options: dotted paths, and the short ones that mean them on the command line and in Python."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import is_dataclass
from typing import Any, get_type_hints

TRAINING = "training."


def option_types(options: type[Any], prefix: str = "") -> dict[str, Any]:
    """Dotted paths of all options of a dataclass, those of nested ones included, with their types.

    Example:
        >>> from safeeraser.config import UnlearnOptions
        >>> option_types(UnlearnOptions)["lora.rank"]
        <class 'int'>
    """
    types: dict[str, Any] = {}
    for name, kind in get_type_hints(options, include_extras=True).items():
        nested = isinstance(kind, type) and is_dataclass(kind)
        types |= option_types(kind, f"{prefix}{name}.") if nested else {prefix + name: kind}
    return types


def marked(options: type[Any], mark: str) -> list[str]:
    """The options whose type has a mark."""
    return [path for path, kind in option_types(options).items() if mark in getattr(kind, "__metadata__", ())]


def full_names(paths: Iterable[str]) -> dict[str, str]:
    """The path that each name means: the path itself, and its last part where no other option has that.

    Of several, the one of training is meant, so that every command takes what ``unlearn`` takes.

    Example:
        >>> full_names(["out", "training.seed", "generation.seed", "training.lora.rank"])["rank"]
        'training.lora.rank'
        >>> full_names(["training.seed", "generation.seed"])["seed"]
        'training.seed'
        >>> "seed" in full_names(["judging.seed", "generation.seed"])
        False
    """
    paths = list(paths)
    by_name: dict[str, list[str]] = {}
    for path in paths:
        by_name.setdefault(path.rpartition(".")[2], []).append(path)
    meant = {
        name: found if len(found) == 1 else [path for path in found if path.startswith(TRAINING)]
        for name, found in by_name.items()
    }
    return {name: found[0] for name, found in meant.items() if len(found) == 1} | {path: path for path in paths}

"""Options from keyword arguments, by the names that the command line knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from safeeraser.config import recipe_defaults
from safeeraser.config.names import full_names, option_types
from safeeraser.core.errors import UserError
from safeeraser.core.files import flat
from safeeraser.core.registry import suggestion
from safeeraser.objectives import term_options

T = TypeVar("T")
TERMS = "terms"


def options(kind: type[T], given: Mapping[str, Any], model: str | None = None, group: str = "") -> T:
    """Build options: their defaults, over them those that ship for a model, over them what is given.

    Args:
        kind: The dataclass.
        given: Values by name (``steps``, ``npo_beta``), by dotted path, or in groups (``training={"steps": 60}``).
        model: Whose recipe brings defaults; None: of no model.
        group: The recipe's group that ``kind`` is; empty where ``kind`` has groups itself.

    Raises:
        UserError: If there is no such option, or a value is not of its type.

    Example:
        >>> from safeeraser.config import UnlearnOptions
        >>> made = options(UnlearnOptions, {"steps": 60, "rank": 4}, "mini-llava", "training")
        >>> made.steps, made.lora.rank, made.learning_rate
        (60, 4, 0.001)
        >>> options(UnlearnOptions, {"stpes": 60})
        Traceback (most recent call last):
        safeeraser.core.errors.UserError: unknown option 'stpes': did you mean 'steps'?
    """
    names = _names(kind)
    recipe: Mapping[str, Any] = recipe_defaults(model) if model else {}
    defaults = flat(recipe.get(group, {}) if group else recipe)
    values = {name: asdict(v) if is_dataclass(v) and not isinstance(v, type) else v for name, v in given.items()}
    nested: dict[str, Any] = {}
    # what a recipe has for other commands is not for this one
    pairs = {name: value for name, value in defaults.items() if name in names} | flat(values)
    for name, value in pairs.items():
        if name not in names:
            raise UserError(f"unknown option {name!r}: {suggestion(name, names) or 'see help for those there are'}")
        *groups, last = names[name].split(".")
        place = nested
        for one in groups:
            place = place.setdefault(one, {})
        place[last] = value
    try:
        return TypeAdapter(kind).validate_python(nested)
    except ValidationError as error:
        wrong = error.errors()[0]
        path = ".".join(str(part) for part in wrong["loc"])
        raise UserError(f"{path}: {wrong['input']!r} was given; it {wrong['msg'].removeprefix('Input ')}") from None


def _names(kind: type[Any]) -> dict[str, str]:
    """The path of each option by the names that mean it; options of terms lie in the field ``terms``."""
    paths = [*option_types(kind)]
    terms = [path for path in paths if path.rpartition(".")[2] == TERMS]
    of_terms = [f"{path}.{name}" for path in terms for name in term_options()]
    # beside the other options of training, as recipes and YAML files have them
    beside = {path.replace(f"{TERMS}.", ""): path for path in of_terms}
    return beside | full_names([*paths, *of_terms])

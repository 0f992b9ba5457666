"""Options that are keyword arguments: of objective terms and of attacks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from safeeraser.core.errors import UserError

SEED = "seed"
"""A keyword argument of this name is no option of its own: it is given the seed of the run."""


@dataclass(frozen=True)
class Option:
    """A keyword argument of a registered function, as an option; its help is what the function's docstring says."""

    name: str
    """Its key in YAML files and records, and its flag: ``npo_beta`` for the argument ``beta`` of ``npo``."""
    argument: str
    type: Any
    default: Any
    help: str

    def checked(self, value: Any, prefix: str = "") -> Any:
        """Return the value as the function takes it; ``prefix`` stands before the name in the message."""
        from pydantic import TypeAdapter, ValidationError

        try:
            return TypeAdapter(self.type).validate_python(value)
        except ValidationError as error:
            reason = error.errors()[0]["msg"].removeprefix("Input ")
            raise UserError(f"{prefix}{self.name}: {value!r} was given; it {reason}") from None


def options_of(function: Callable[..., Any], owner: str, names: Mapping[str, str] | None = None) -> tuple[Option, ...]:
    """Read the options of a function off its signature: its keyword-only arguments, each with a type and a default.

    An option is called ``OWNER_ARGUMENT``, or what ``names`` has for the argument.

    Example:
        >>> def npo(log_probs, *, beta: float = 0.1): ...
        >>> [(option.name, option.default) for option in options_of(npo, "npo")]
        [('npo_beta', 0.1)]
    """
    options = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            continue
        if parameter.annotation is parameter.empty or parameter.default is parameter.empty:
            raise ValueError(f"{owner!r}: give its option {parameter.name!r} a type and a default")
        kind = parameter.annotation  # only those of options are evaluated: torch need not be imported to list them
        kind = eval(kind, getattr(function, "__globals__", {})) if isinstance(kind, str) else kind
        name = SEED if parameter.name == SEED else (names or {}).get(parameter.name, f"{owner}_{parameter.name}")
        options.append(Option(name, parameter.name, kind, parameter.default, _help(function, parameter.name)))
    return tuple(options)


def _help(function: Callable[..., Any], argument: str) -> str:
    from docstring_parser.google import parse

    described = parse(inspect.getdoc(function) or "")
    text = next((p.description or "" for p in described.params if p.arg_name == argument), "")
    return " ".join(text.split())

"""SafeEraser: safety unlearning for multimodal LLMs, measured honestly.

One straight line: benchmark data -> model -> unlearn -> respond -> judge -> score -> report.

In Python, ``import safeeraser as se`` offers it as functions that take and return objects; they lie in
``safeeraser.integrations.api``, and what they need is imported when they are first asked for. ``unlearn``, ``respond``
and ``bench`` are packages as well: ``se.unlearn(...)`` calls the function, and ``safeeraser.unlearn.run(...)`` is the
stage underneath, as before (``core.callable``). Type checkers know the function; ``from safeeraser.unlearn import run``
is typed, too.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from safeeraser.integrations.api import (
        Answers,
        Run,
        Scores,
        bench,
        judge,
        load_data,
        load_model,
        respond,
        score,
        unlearn,
    )

__version__ = "0.1.0"
__all__ = ["Answers", "Run", "Scores", "bench", "judge", "load_data", "load_model", "respond", "score", "unlearn"]
_PACKAGES = ("bench", "respond", "unlearn")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'safeeraser' has no attribute {name!r}")
    from importlib import import_module

    if name in _PACKAGES:  # importing one sets it here
        return import_module(f"safeeraser.{name}")
    return globals().setdefault(name, getattr(import_module("safeeraser.integrations.api"), name))


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

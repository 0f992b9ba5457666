"""Packages that can be called: ``safeeraser.unlearn(...)``, where ``safeeraser.unlearn`` holds the stage's modules.

An import sets a package as an attribute of the one that it lies in, so that a function ``safeeraser.unlearn`` would be
gone as soon as anything imports ``safeeraser.unlearn.stage``; but a module's ``__class__`` may be set.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from types import ModuleType
from typing import Any


class CallablePackage(ModuleType):
    """A package whose call is the function of its name in ``safeeraser.integrations.api``."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Call the function."""
        return self._function(*args, **options)

    @property
    def __signature__(self) -> inspect.Signature:
        """Of the function, for ``help`` and notebooks."""
        return inspect.signature(self._function)

    @property
    def _function(self) -> Any:
        parent, _, name = self.__name__.rpartition(".")
        return getattr(importlib.import_module(f"{parent}.integrations.api"), name)


def make_callable(package: str) -> None:
    """Let a package be called.

    Example:
        >>> import safeeraser.respond
        >>> callable(safeeraser.respond), callable(safeeraser.respond.run)
        (True, True)
    """
    sys.modules[package].__class__ = CallablePackage

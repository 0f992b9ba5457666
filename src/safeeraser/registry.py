"""One registry for what can be added by dropping in a file: objectives, judges, metrics, benchmarks, families."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from safeeraser.errors import UserError

T = TypeVar("T")


class Registry(Generic[T]):
    """Named entries of one kind, registered by decorator and found by name.

    Args:
        kind: What an entry is, for error messages ("metric").
        package: Package whose modules register entries when imported; all of them are imported at first use, so
            that dropping a file into the folder is enough. None if the entries register themselves on import.
            Modules elsewhere register when ``safeeraser.plugins`` imports them.

    Example:
        >>> colours: Registry[int] = Registry("colour")
        >>> _ = colours.add("red", 1)
        >>> colours.get("red")
        1
        >>> colours.get("rad")
        Traceback (most recent call last):
        safeeraser.errors.UserError: unknown colour 'rad': did you mean 'red'? available: red
    """

    def __init__(self, kind: str, package: str | None = None) -> None:
        """Start empty; nothing is imported yet."""
        self.kind = kind
        self._package = package
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that registers under ``name``; a name that is taken raises UserError."""
        return lambda entry: self.add(name, entry)

    def add(self, name: str, entry: T) -> T:
        """Register ``entry`` and return it.

        Raises:
            UserError: If ``name`` is already taken.
        """
        if name in self._entries:
            raise UserError(f"duplicate {self.kind} {name!r}: already registered as {self._entries[name]!r}")
        self._entries[name] = entry
        return entry

    def get(self, name: str) -> T:
        """Find an entry.

        Raises:
            UserError: If there is none, with the nearest name and all names.
        """
        self._import_all()
        if name not in self._entries:
            near = difflib.get_close_matches(name, self._entries, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise UserError(f"unknown {self.kind} {name!r}: {hint}available: {', '.join(self.names())}")
        return self._entries[name]

    def names(self) -> list[str]:
        """All names, sorted."""
        self._import_all()
        return sorted(self._entries)

    def __iter__(self) -> Iterator[tuple[str, T]]:
        """Iterate over (name, entry), sorted by name."""
        return iter([(name, self._entries[name]) for name in self.names()])

    def _import_all(self) -> None:
        if self._package:
            package, self._package = importlib.import_module(self._package), None
            for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
                importlib.import_module(module.name)

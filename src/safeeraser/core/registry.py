"""What can be added without a change here: named entries, suggestions for a mistyped name, and a user's own modules.

``--plugins mine.py`` is an option of every command. A bench writes the names with the hash of each file into its cells,
which import them again wherever they run and refuse a file that has changed.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Generic, TypeVar

from safeeraser.core.errors import UserError

T = TypeVar("T")
_LOADED: dict[str, str] = {}


def suggestion(name: str, choices: Iterable[str]) -> str:
    """Suggest the choice that is nearest to a mistyped name; "" if none is near.

    Example:
        >>> suggestion("pi+pd", ["po", "po+pd"]), suggestion("x", ["po", "po+pd"])
        ("did you mean 'po+pd'? ", '')
    """
    import difflib

    near = difflib.get_close_matches(name, choices, n=1)
    return f"did you mean {near[0]!r}? " if near else ""


class Registry(Generic[T]):
    """Named entries of one kind, registered by decorator and found by name.

    Args:
        kind: What an entry is, for error messages ("metric").
        package: Package whose modules register entries when imported; all of them are imported at first use, so
            that dropping a file into the folder is enough. None if the entries register themselves on import.
            Modules elsewhere register when ``load_plugins`` imports them.

    Example:
        >>> colours: Registry[int] = Registry("colour")
        >>> _ = colours.add("red", 1)
        >>> colours.get("red")
        1
        >>> colours.get("rad")
        Traceback (most recent call last):
        safeeraser.core.errors.UserError: unknown colour 'rad': did you mean 'red'? available: red
    """

    def __init__(self, kind: str, package: str | None = None) -> None:
        self.kind, self._package = kind, package
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that registers under ``name``; a name that is taken raises UserError."""
        return lambda entry: self.add(name, entry)

    def add(self, name: str, entry: T) -> T:
        """Register ``entry`` and return it; a name that is taken is a UserError."""
        if name in self._entries:
            raise UserError(f"duplicate {self.kind} {name!r}: already registered as {self._entries[name]!r}")
        self._entries[name] = entry
        return entry

    def get(self, name: str) -> T:
        """Find an entry; an unknown name is a UserError with the nearest and all names."""
        names = self.names()
        if name not in names:
            raise UserError(f"unknown {self.kind} {name!r}: {suggestion(name, names)}available: {', '.join(names)}")
        return self._entries[name]

    def names(self) -> list[str]:
        """All names, sorted."""
        self._import_all()
        return sorted(self._entries)

    def values(self) -> list[T]:
        """All entries, in the order in which they were registered."""
        self._import_all()
        return list(self._entries.values())

    def __iter__(self) -> Iterator[tuple[str, T]]:
        """Iterate over (name, entry), sorted by name."""
        return iter([(name, self._entries[name]) for name in self.names()])

    def _import_all(self) -> None:
        if self._package:
            package, self._package = importlib.import_module(self._package), None
            for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
                importlib.import_module(module.name)


def load_plugins(given: str | Sequence[str] | None) -> None:
    """Import a user's modules, each once, so that what they register is found by name.

    Args:
        given: Python files (``mine.py``) or names of importable modules (``my_package.mine``), as a list or
            separated by commas.

    Raises:
        UserError: If one cannot be imported, or registers a name that is taken.
    """
    from safeeraser.core import files  # pydantic, which --help does without

    names = given.split(",") if isinstance(given, str) else given or []
    for name in filter(None, (os.path.expanduser(name.strip()) for name in names)):
        if name not in _LOADED:
            file = _import(name).__file__
            _LOADED[name] = files.hash_files([Path(file)] if file else [])


def loaded_plugins() -> dict[str, str]:
    """What was imported: the names as they were given, each with the hash of its file."""
    return dict(_LOADED)


def require_plugins(hashes: Mapping[str, str]) -> None:
    """Import what another process had loaded; a file that has changed since then is a UserError."""
    load_plugins(list(hashes))
    changed = [name for name, there in hashes.items() if _LOADED[name] != there]
    if changed:
        raise UserError(f"plugin {changed[0]!r} has changed since then: put it back, or choose another --out")


def _import(name: str) -> ModuleType:
    from safeeraser.core import files

    path = Path(name).resolve()
    file = name.endswith(".py")
    if file and not path.is_file():
        raise UserError(f"plugin {name!r}: no such file")
    # a name of its own for each file, so that it is imported once however its path is written
    alias = f"safeeraser_plugin_{path.stem}_{files.stable_hash(str(path), length=8)}" if file else name
    if alias in sys.modules:
        return sys.modules[alias]
    try:
        return _execute(path, alias) if file else importlib.import_module(name)
    except (ImportError, SyntaxError, ValueError) as error:  # a ValueError says what a registry does not take
        sys.modules.pop(alias, None)
        hint = "" if file else "; give a file such as mine.py, or the name of an installed module"
        raise UserError(f"plugin {name!r} cannot be imported: {error}{hint}") from None


def _execute(path: Path, alias: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(alias, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python module")
    module = sys.modules[alias] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

"""A user's own modules, imported before names are looked up, so that what they register is found by name.

``--plugins mine.py`` is an option of every command. A bench writes the names with the hash of each file into its cells,
which import them again wherever they run and refuse a file that has changed.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

from safeeraser import store
from safeeraser.errors import UserError

_LOADED: dict[str, str] = {}


def load(given: str | Sequence[str] | None) -> None:
    """Import modules, each once.

    Args:
        given: Python files (``mine.py``) or names of importable modules (``my_package.mine``), as a list or
            separated by commas.

    Raises:
        UserError: If one cannot be imported, or registers a name that is taken.

    Example:
        >>> load("safeeraser.progress")
        >>> load("nowhere.py")
        Traceback (most recent call last):
        safeeraser.errors.UserError: plugin 'nowhere.py': no such file
    """
    names = given.split(",") if isinstance(given, str) else given or []
    for name in filter(None, (name.strip() for name in names)):
        if name not in _LOADED:
            _LOADED[name] = _hash(_import(name))


def loaded() -> dict[str, str]:
    """What was imported: the names as they were given, each with the hash of its file."""
    return dict(_LOADED)


def require(hashes: Mapping[str, str]) -> None:
    """Import what another process had ``loaded``.

    Raises:
        UserError: As ``load``, and if a file is not what it was there.
    """
    load(list(hashes))
    changed = [name for name, there in hashes.items() if _LOADED[name] != there]
    if changed:
        raise UserError(f"plugin {changed[0]!r} has changed since then: put it back, or choose another --out")


def _import(name: str) -> ModuleType:
    """A file is imported under a name of its own, once however its path is written."""
    path = Path(name).resolve()
    file = name.endswith(".py")
    if file and not path.is_file():
        raise UserError(f"plugin {name!r}: no such file")
    alias = f"safeeraser_plugin_{path.stem}_{store.stable_hash(str(path), length=8)}" if file else name
    if alias in sys.modules:
        return sys.modules[alias]
    try:
        return _execute(path, alias) if file else importlib.import_module(name)
    except (ImportError, SyntaxError, UserError) as error:
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


def _hash(module: ModuleType) -> str:
    return store.hash_files([Path(module.__file__)] if module.__file__ else [])

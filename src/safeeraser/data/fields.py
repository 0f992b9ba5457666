"""Reads JSON objects of unknown quality: every error names file, record and field, what is there and what may be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safeeraser.errors import UserError


class Fields:
    """One JSON object, taken apart field by field; what nobody asked for is in ``rest``.

    Args:
        where: File and record, for error messages.
        value: The parsed JSON value; anything but an object is an error.
        prefix: Name of this object within its record ("unsafe_pairs[2]."), for error messages.

    Raises:
        UserError: If ``value`` is not an object.

    Example:
        >>> fields = Fields("all_train.json, record 1", {"keyword": "axe", "note": 1})
        >>> fields.text("keyword"), fields.rest()
        ('axe', {'note': 1})
        >>> fields.text("category")
        Traceback (most recent call last):
        safeeraser.errors.UserError: all_train.json, record 1, field category: is missing; it must be a text
    """

    def __init__(self, where: str, value: Any, prefix: str = "") -> None:
        """Start with every field unread."""
        self._where, self._prefix = where, prefix
        if not isinstance(value, dict):
            raise self.error("", value, "an object")
        self._unread: dict[str, Any] = dict(value)

    def text(self, name: str) -> str:
        """A text that must be there.

        Raises:
            UserError: If it is missing or not a text.
        """
        value = self.optional_text(name)
        if value is None:
            raise self.error(name, None, "a text")
        return value

    def optional_text(self, name: str) -> str | None:
        """A text, or None if it is missing or null.

        Raises:
            UserError: If it is something else.
        """
        value = self._unread.pop(name, None)
        if value is not None and not isinstance(value, str):
            raise self.error(name, value, "a text")
        return value

    def optional_object(self, name: str) -> Fields | None:
        """An object, or None if it is missing or null.

        Raises:
            UserError: If it is something else.
        """
        value = self._unread.pop(name, None)
        return None if value is None else Fields(self._where, value, f"{self._prefix}{name}.")

    def objects(self, name: str) -> list[Fields]:
        """A list of at least one object.

        Raises:
            UserError: If it is missing, empty or something else.
        """
        value = self._unread.pop(name, None)
        if not isinstance(value, list) or not value:
            raise self.error(name, value, "a list of at least one object")
        return [Fields(self._where, item, f"{self._prefix}{name}[{index}].") for index, item in enumerate(value)]

    def rest(self) -> dict[str, Any]:
        """The fields that were not asked for."""
        return dict(self._unread)

    def error(self, name: str, found: Any, allowed: str) -> UserError:
        """The error to raise for a field."""
        field = (self._prefix + name).rstrip(".")
        shown = "is missing" if found is None else f"is {json.dumps(found, default=str)[:60]}"
        return UserError(f"{self._where}{', field ' + field if field else ''}: {shown}; it must be {allowed}")


def read_objects(path: Path) -> Iterator[Fields]:
    """Read a file that holds a JSON list of objects, or one object per line (JSON lines).

    Raises:
        UserError: If the file is missing or not JSON (with line and column), or an item is not an object.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error})") from None
    if text.lstrip().startswith("["):
        items = _parse(path, text, 1)
    else:
        lines = enumerate(text.split("\n"), 1)
        items = [_parse(path, line, number) for number, line in lines if line.strip()]
    for number, item in enumerate(items, 1):
        yield Fields(f"{path}, record {number}", item)


def _parse(path: Path, text: str, first_line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = first_line + error.lineno - 1
        raise UserError(
            f"{path}, line {line}, column {error.colno}: not valid JSON ({error.msg}); the file must hold a list of "
            "records, or one record per line"
        ) from None

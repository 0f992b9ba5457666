"""Takes JSON objects of unknown quality apart: every problem names file, record and field, what is there and may be."""

from __future__ import annotations

import json
from typing import Any

from safeeraser.data.json_file import Flaw
from safeeraser.data.problems import Problem


class Fields:
    """One JSON object, taken apart field by field; what is wrong is added to ``problems``, and reading goes on.

    A blank text (empty, or white space alone) counts as absent.

    Args:
        file: Name of the file, for the problems.
        record: Position in the file, from 1.
        value: The parsed JSON value; anything but an object is a problem.
        problems: Where problems are added; objects within this one add theirs there, too.
        prefix: Name of this object within its record ("unsafe_pairs[2]."), for the problems.

    Example:
        >>> problems = []
        >>> fields = Fields("all_train.json", 1, {"keyword": "axe", "type": 3}, problems)
        >>> fields.text("keyword"), fields.text("category"), fields.optional_text("type")
        ('axe', '', None)
        >>> for problem in problems:
        ...     print(problem)
        all_train.json, record 1, field category: is missing; it must be a text
        all_train.json, record 1, field type: is 3; it must be a text
    """

    def __init__(self, file: str, record: int, value: Any, problems: list[Problem], prefix: str = "") -> None:
        """Look whether it is an object."""
        self.file, self._record, self._prefix, self._problems = file, record, prefix, problems
        self._values: dict[str, Any] = value if isinstance(value, dict) else {}
        self.is_object = isinstance(value, dict)
        if not self.is_object:
            self._add("", value, "an object")

    def text(self, name: str) -> str:
        """A text that must be there and not blank; "" if that is not so, which is a problem."""
        value = self._values.get(name)
        if isinstance(value, str) and value and not value.isspace():
            return value
        self._add(name, value, "a text")
        return ""

    def optional_text(self, name: str) -> str | None:
        """A text, or None if it is missing, null or blank; anything else is a problem."""
        value = self._values.get(name)
        if value is None or isinstance(value, str):
            return value if value and not value.isspace() else None
        self._add(name, value, "a text")
        return None

    def optional_object(self, name: str) -> Fields | None:
        """An object, or None if it is missing or null; anything else is a problem."""
        value = self._values.get(name)
        if value is None:
            return None
        return Fields(self.file, self._record, value, self._problems, f"{self._prefix}{name}.")

    def objects(self, name: str) -> list[Fields]:
        """A list of at least one object; anything else is a problem."""
        value = self._values.get(name)
        if not isinstance(value, list) or not value:
            self._add(name, value, "a list of at least one object")
            return []
        return [
            Fields(self.file, self._record, item, self._problems, f"{self._prefix}{name}[{index}].")
            for index, item in enumerate(value)
        ]

    def is_blank(self, name: str) -> bool:
        """Whether a field is missing, null or a blank text."""
        value = self._values.get(name)
        return value is None or (isinstance(value, str) and not value.strip())

    def refuse(self, name: str, allowed: str) -> None:
        """Add the problem that a field is not what it must be."""
        self._add(name, self._values.get(name), allowed)

    def _add(self, name: str, found: Any, allowed: str) -> None:
        if isinstance(found, Flaw) or (name and not self.is_object):  # said already
            return
        if found is None:
            shown = "is missing" if self.is_object and name not in self._values else "is null"
        elif isinstance(found, str) and not found.strip():
            shown = "is empty"
        else:
            shown = f"is {_shown(found)}"
        self._problems.append(
            Problem(self.file, self._record, (self._prefix + name).rstrip("."), f"{shown}; it must be {allowed}")
        )


def _shown(value: Any) -> str:
    """The beginning of a value, as JSON; what it may hold has been checked, but not how long it is."""
    if isinstance(value, list):
        return f"a list of {len(value):,}" if value else "[]"
    if isinstance(value, dict):
        return f"an object of {len(value):,} fields" if value else "{}"
    return json.dumps(value, default=str)[:60]

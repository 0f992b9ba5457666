"""The text of a JSON file, a part at a time: values are parsed where they stand, and what is behind is forgotten."""

from __future__ import annotations

import json
import re
from typing import Any, TextIO

__all__ = ["Window", "after_space"]

CHUNK = 2**16
"""Characters that are read at a time."""
_MARGIN = 16
"""Characters behind a value that must be there for it to be over: a number may go on."""
_SPACE = re.compile(r"[ \t\r\n]*")


class Window:
    r"""A part of a text, and a place in it up to which all has been dealt with.

    Args:
        file: Where the text comes from.
        decoder: Parses the values.

    Example:
        >>> import io
        >>> window = Window(io.StringIO('[1,\n 23]'), json.JSONDecoder())
        >>> window.skip("["), window.value(), window.skip(","), window.value(), window.place()
        (True, 1, True, 23, 'line 2, column 4')
    """

    def __init__(self, file: TextIO, decoder: json.JSONDecoder) -> None:
        """Read nothing yet."""
        self.text = ""
        self.start = 0
        """Where the last value began in ``text``."""
        self.position = 0
        """Where it ended, or what came after it."""
        self._file, self._decoder = file, decoder
        self._lines, self._columns = 0, 0  # line feeds before the text; characters between the last one and the text

    def peek(self) -> str:
        """The next character that is no white space; "" at the end of the text."""
        while True:
            self.position = after_space(self.text, self.position)
            if self.position < len(self.text) or not self._read_on():
                return self.text[self.position : self.position + 1]

    def skip(self, character: str) -> bool:
        """Go past a character if it is the next one."""
        is_next = self.peek() == character
        self.position += is_next
        return is_next

    def value(self) -> Any:
        """Parse the value that begins at the next character.

        Raises:
            JSONDecodeError: If there is none; its position is one in ``text``.
            RecursionError: If it is nested too deeply.
        """
        self.peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self.text, self.position)
            except (json.JSONDecodeError, RecursionError):
                if self._read_on():  # perhaps it was merely cut
                    continue
                raise
            if len(self.text) - end > _MARGIN or not self._read_on():
                self.start, self.position = self.position, end
                return value

    def place(self, position: int | None = None) -> str:
        """Line and column in the whole text, from 1, of a position in ``text``; of what comes next if None."""
        position = self.position if position is None else position
        lines, feed = self.text.count("\n", 0, position), self.text.rfind("\n", 0, position)
        column = position - feed if lines else self._columns + position + 1
        return f"line {self._lines + lines + 1}, column {column}"

    def _read_on(self) -> bool:
        """Forget what is behind and read more, twice as much as there is; False if there is no more."""
        more = self._file.read(max(CHUNK, len(self.text) - self.position))
        if not more:
            return False
        lines, feed = self.text.count("\n", 0, self.position), self.text.rfind("\n", 0, self.position)
        self._columns = self.position - feed - 1 if lines else self._columns + self.position
        self._lines += lines
        self.text, self.position = self.text[self.position :] + more, 0
        return True


def after_space(text: str, position: int) -> int:
    """The position of the next character that is not white space.

    Example:
        >>> after_space("  x", 0)
        2
    """
    match = _SPACE.match(text, position)
    return match.end() if match else position

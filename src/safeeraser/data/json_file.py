"""JSON of unknown quality, item by item: what is wrong becomes a problem with its place, never a traceback.

A file holds a list of items, or an item per line (JSON lines). They are read and parsed one after the other, so that
memory does not grow with the file.
"""

from __future__ import annotations

import codecs
import io
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, TextIO

from safeeraser.data.json_text import CHUNK, Window, after_space
from safeeraser.data.problems import Problem

Form = Literal["list", "lines"]
MAX_DEPTH = 64
"""Levels of nesting in an item."""
MAX_DIGITS = 1000
"""Digits of a whole number."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SURROGATE = re.compile("[\ud800-\udfff]|\\\\u[dD][89a-fA-F]")


@dataclass(frozen=True)
class Flaw:
    """Stands in a parsed value for a part that has no place in JSON data."""

    message: str


@dataclass(frozen=True)
class Item:
    """One item of a file: its position from 1, its value, and whether the value is free of flaws."""

    number: int
    value: Any
    clean: bool


class JsonFile:
    r"""A file that holds a JSON list, or JSON lines.

    Args:
        path: The file.
        problems: What is found wrong is added here, at the latest when ``items`` has ended. A problem of the file as a
            whole has no record number, and ends the items.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "all_val.json"
        >>> _ = path.write_text('{"keyword": "axe"}\n{"keyword": NaN}\n')
        >>> problems = []
        >>> file = JsonFile(path, problems)
        >>> [item.value for item in file.items() if item.clean], file.form
        ([{'keyword': 'axe'}], 'lines')
        >>> print(problems[0])
        all_val.json, record 2, field keyword: is NaN, which is not JSON
    """

    def __init__(self, path: Path, problems: list[Problem]) -> None:
        """Read nothing yet."""
        self.name = path.name
        self.form: Form = "list"
        self._path, self._problems = path, problems
        self._decoder = _Decoder()
        self._encoding, self._begins = "utf-8", 0
        self._is_utf8 = True

    def items(self) -> Iterator[Item]:
        """Parse the items in order; one that cannot be parsed is left out, one with flaws is marked."""
        if not self._survey():
            return
        with self._open() as file:
            window = Window(file, self._decoder)
            first = window.peek()
            if first == "[":
                yield from self._list(window)
        if not first:
            self._add(None, "is empty; it must hold a list of records, or one record per line")
        elif first != "[":
            self.form = "lines"
            with self._open() as file:
                yield from self._lines(file)

    def value(self) -> Any:
        """The one value that the file holds as a whole; None if it cannot be read (a problem then says why)."""
        if not self._survey():
            return None
        with self._open() as file:
            window = Window(file, self._decoder)
            try:
                value, end = window.value(), window.place()
            except (json.JSONDecodeError, RecursionError) as error:
                self._add(None, _why(error, window))
                return None
            span = window.text, window.start, window.position
            if window.peek():
                self._add(None, f"{end}: there is more after the end of the value")
                return None
            return value if self._is_clean(None, value, *span) else None

    def _add(self, number: int | None, message: str, name: str = "") -> None:
        self._problems.append(Problem(self.name, number, name, message))

    def _survey(self) -> bool:
        """Go through the bytes once: whether they are a text, and in which encoding."""
        if self._path.exists() and not self._path.is_file():
            self._add(None, "is not a file")
            return False
        try:
            with open(self._path, "rb") as file:
                return self._is_text(file)
        except OSError as error:
            self._add(None, f"cannot be read ({error.strerror})")
            return False

    def _is_text(self, file: BinaryIO) -> bool:
        start = file.read(4)
        mark, self._encoding = next(((m, e) for m, e in _MARKS if start.startswith(m)), (b"", "utf-8"))
        self._begins, self._is_utf8 = file.seek(len(mark)), True
        decode = codecs.getincrementaldecoder(self._encoding)().decode
        lines, head = 0, ""
        try:
            while part := file.read(CHUNK):
                text = decode(part)
                lines, head = lines + text.count("\n"), (head + text)[:8]
            decode(b"", True)
        except UnicodeDecodeError as error:
            if self._encoding != "utf-8":
                lines += str(error.object[: error.start], self._encoding, "ignore").count("\n")
                self._add(
                    None, f"line {lines + 1}: is not {self._encoding[:-3].upper()}, as the file's first bytes say"
                )
                return False
            self._is_utf8 = False  # every record with such bytes is named
            file.seek(self._begins)
            head = str(file.read(32), "utf-8", "surrogateescape")[:8]
        if "\0" in head:
            self._add(None, "holds zero bytes, as UTF-16 without a byte-order mark does; save it as UTF-8")
            return False
        return True

    def _open(self) -> TextIO:
        """The text behind the mark; only a line feed ends a line."""
        file = open(self._path, "rb")
        file.seek(self._begins)
        errors = "strict" if self._is_utf8 else "surrogateescape"
        return io.TextIOWrapper(file, encoding=self._encoding, errors=errors, newline="\n")

    def _list(self, window: Window) -> Iterator[Item]:
        number = 0
        window.skip("[")
        if window.peek() != "]":
            while True:
                try:
                    value = window.value()
                except (json.JSONDecodeError, RecursionError) as error:
                    self._add(None, f"{_why(error, window)}; what follows record {number} is lost")
                    return
                number += 1
                yield Item(number, value, self._is_clean(number, value, window.text, window.start, window.position))
                if not window.skip(","):
                    break
        if not window.skip("]"):
            found = "there is no ',' or ']' after a record"
            self._add(None, f"{window.place()}: {found}; what follows record {number} is lost")
        elif window.peek():
            self._add(None, f"{window.place()}: there is more after the end of the list")

    def _lines(self, file: TextIO) -> Iterator[Item]:
        number, parsed, broken = 0, 0, []
        for count, line in enumerate((line.removesuffix("\n") for line in file), 1):
            start = after_space(line, 0)
            if start == len(line):
                continue
            number += 1
            try:
                value, end = self._decoder.raw_decode(line, start)
                if (rest := after_space(line, end)) != len(line):
                    raise json.JSONDecodeError("there is more after the end of the value", line, rest)
            except (json.JSONDecodeError, RecursionError) as error:
                broken.append(Problem(self.name, number, "", _why_line(error, count)))
                continue
            parsed += 1
            yield Item(number, value, self._is_clean(number, value, line, 0, len(line)))
        if parsed:
            self._problems += broken
        else:
            must = "the file must hold a list of records, or one record per line"
            self._add(None, f"{broken[0].message}; {must}")

    def _is_clean(self, number: int | None, value: Any, text: str, start: int, end: int) -> bool:
        """Whether a value has no flaws; a problem is added for each. Only a value that may have some is searched."""
        flawed = self._decoder.flawed
        self._decoder.flawed = False
        deep = text.count("[", start, end) + text.count("{", start, end) > MAX_DEPTH
        halved = not self._is_utf8 or text.find("\\ud", start, end) >= 0 or text.find("\\uD", start, end) >= 0
        if not (flawed or deep or (halved and _SURROGATE.search(text, start, end))):
            return True
        found = [*_flaws(value, self._is_utf8)]
        for name, message in found:
            self._add(number, message, name)
        return not found


class _Decoder(json.JSONDecoder):
    """Puts a ``Flaw`` where Python would let pass, or stumble over, what JSON does not allow."""

    def __init__(self) -> None:
        super().__init__(
            object_pairs_hook=self._object,
            parse_constant=lambda name: self._flaw(f"is {name}, which is not JSON"),
            parse_int=self._int,
            parse_float=self._float,
        )
        self.flawed = False

    def _flaw(self, message: str) -> Flaw:
        self.flawed = True
        return Flaw(message)

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = {sys.intern(name): value for name, value in pairs}
        if len(made) < len(pairs):
            counts = Counter(name for name, _ in pairs)
            made |= {name: self._flaw("occurs twice in one object") for name, count in counts.items() if count > 1}
        return made

    def _int(self, digits: str) -> int | Flaw:
        if len(digits) > MAX_DIGITS:
            return self._flaw(f"is a number of {len(digits):,} digits; at most {MAX_DIGITS:,} are read")
        return int(digits)

    def _float(self, digits: str) -> float | Flaw:
        value = float(digits)
        return self._flaw(f"is {digits[:20]}, too large a number") if value in (float("inf"), -float("inf")) else value


def _flaws(value: Any, is_utf8: bool) -> Iterator[tuple[str, str]]:
    """Name and message of every flaw in a value."""
    waiting: list[tuple[str, Any, int]] = [("", value, 0)]
    while waiting:
        name, part, depth = waiting.pop()
        if isinstance(part, Flaw):
            yield name, part.message
        elif isinstance(part, str):
            if message := _text_flaw(part, is_utf8):
                yield name, message
        elif isinstance(part, (dict, list)) and depth >= MAX_DEPTH:
            yield name.partition(".")[0].partition("[")[0], f"is nested more than {MAX_DEPTH} levels deep"
            return
        elif isinstance(part, list):
            waiting += [(f"{name}[{index}]", inner, depth + 1) for index, inner in reversed([*enumerate(part)])]
        elif isinstance(part, dict):
            for key in part:
                if message := _text_flaw(key, is_utf8):
                    yield f"{name}.{key}".lstrip("."), f"the name of the field {message}"
            waiting += [(f"{name}.{key}".lstrip("."), inner, depth + 1) for key, inner in reversed(part.items())]


def _text_flaw(text: str, is_utf8: bool) -> str | None:
    for character in text if _SURROGATE.search(text) else "":
        if not is_utf8 and "\udc80" <= character <= "\udcff":
            return f"holds the byte {ord(character) - 0xDC00:#04x}, which is not UTF-8; save the file as UTF-8"
        if "\ud800" <= character <= "\udfff":
            return f"holds half of a surrogate pair (\\u{ord(character):04x}), which cannot be written as UTF-8"
    return None


def _why(error: json.JSONDecodeError | RecursionError, window: Window) -> str:
    if isinstance(error, RecursionError):
        return "is nested too deeply"
    return f"{window.place(error.pos)}: not valid JSON ({error.msg})"


def _why_line(error: json.JSONDecodeError | RecursionError, line: int) -> str:
    if isinstance(error, RecursionError):
        return f"line {line}: is nested more than {MAX_DEPTH} levels deep" if line > 1 else "is nested too deeply"
    return f"line {line}, column {error.colno}: not valid JSON ({error.msg})"

"""JSON of unknown quality, item by item: what is wrong becomes a problem with its place, never a traceback.

A file holds a list of items, or an item per line (JSON lines). Its text is kept once and items are parsed one after
the other, so that memory stays a small multiple of the file's size.
"""

from __future__ import annotations

import codecs
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

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
_SPACE = re.compile(r"[ \t\r\n]*")
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
        self._is_utf8 = True
        self._has_surrogates = False

    def items(self) -> Iterator[Item]:
        """Parse the items in order; one that cannot be parsed is left out, one with flaws is marked."""
        text = self._read()
        if text is None:
            return
        start = _space(text, 0)
        if start == len(text):
            self._add(None, "is empty; it must hold a list of records, or one record per line")
        elif text[start] == "[":
            yield from self._list(text, start + 1)
        else:
            self.form = "lines"
            yield from self._lines(text)

    def value(self) -> Any:
        """The one value that the file holds as a whole; None if it cannot be read (a problem then says why)."""
        text = self._read()
        if text is None:
            return None
        try:
            value, end = self._decoder.raw_decode(text, _space(text, 0))
        except (json.JSONDecodeError, RecursionError) as error:
            self._add(None, _why(error))
            return None
        if _space(text, end) != len(text):
            self._add(None, f"{_place(text, end)}: there is more after the end of the value")
            return None
        return value if self._is_clean(None, value, text, 0, len(text)) else None

    def _add(self, number: int | None, message: str, name: str = "") -> None:
        self._problems.append(Problem(self.name, number, name, message))

    def _read(self) -> str | None:
        if self._path.exists() and not self._path.is_file():
            self._add(None, "is not a file")
            return None
        try:
            content = self._path.read_bytes()
        except OSError as error:
            self._add(None, f"cannot be read ({error.strerror})")
            return None
        mark, encoding = next(((m, e) for m, e in _MARKS if content.startswith(m)), (b"", "utf-8"))
        body = memoryview(content)[len(mark) :]
        try:
            text = str(body, encoding)
        except UnicodeDecodeError as error:
            if encoding != "utf-8":
                line = str(body[: error.start], encoding, "ignore").count("\n") + 1
                self._add(None, f"line {line}: is not {encoding[:-3].upper()}, as the file's first bytes say")
                return None
            self._is_utf8 = False
            text = str(body, "utf-8", "surrogateescape")  # so that every record with such bytes is named
        if "\0" in text[:8]:
            self._add(None, "holds zero bytes, as UTF-16 without a byte-order mark does; save it as UTF-8")
            return None
        self._has_surrogates = not self._is_utf8 or "\\ud" in text or "\\uD" in text
        return text

    def _list(self, text: str, position: int) -> Iterator[Item]:
        position, number = _space(text, position), 0
        if text[position : position + 1] != "]":
            while True:
                try:
                    value, end = self._decoder.raw_decode(text, position)
                except (json.JSONDecodeError, RecursionError) as error:
                    self._add(None, f"{_why(error)}; what follows record {number} is lost")
                    return
                number += 1
                yield Item(number, value, self._is_clean(number, value, text, position, end))
                position = _space(text, end)
                if text[position : position + 1] != ",":
                    break
                position = _space(text, position + 1)
        if text[position : position + 1] != "]":
            found = "there is no ',' or ']' after a record"
            self._add(None, f"{_place(text, position)}: {found}; what follows record {number} is lost")
        elif (position := _space(text, position + 1)) != len(text):
            self._add(None, f"{_place(text, position)}: there is more after the end of the list")

    def _lines(self, text: str) -> Iterator[Item]:
        number, parsed, broken = 0, 0, []
        for count, line in enumerate(_split(text), 1):
            start = _space(line, 0)
            if start == len(line):
                continue
            number += 1
            try:
                value, end = self._decoder.raw_decode(line, start)
                if (rest := _space(line, end)) != len(line):
                    raise json.JSONDecodeError("there is more after the end of the value", line, rest)
            except (json.JSONDecodeError, RecursionError) as error:
                broken.append(Problem(self.name, number, "", _why(error, count)))
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
        if not (flawed or deep or (self._has_surrogates and _SURROGATE.search(text, start, end))):
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


def _space(text: str, position: int) -> int:
    """The position of the next character that is not white space."""
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _split(text: str) -> Iterator[str]:
    """The lines one by one: ``str.split`` would copy all of them, ``str.splitlines`` also cut at other characters."""
    start = 0
    while (end := text.find("\n", start)) >= 0:
        yield text[start:end]
        start = end + 1
    yield text[start:]


def _place(text: str, position: int) -> str:
    line = text.count("\n", 0, position) + 1
    return f"line {line}, column {position - text.rfind(chr(10), 0, position)}"


def _why(error: json.JSONDecodeError | RecursionError, line: int = 1) -> str:
    if isinstance(error, RecursionError):
        return f"line {line}: is nested more than {MAX_DEPTH} levels deep" if line > 1 else "is nested too deeply"
    return f"line {line + error.lineno - 1}, column {error.colno}: not valid JSON ({error.msg})"

"""JSON files of unknown quality, item by item: what is wrong becomes a problem with its place, never a traceback."""

from __future__ import annotations

import codecs
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from safeeraser.data.benchmark import Form
from safeeraser.data.release.problems import Problem

MAX_DEPTH = 64
"""Levels of nesting in an item."""
MAX_DIGITS = 1000
"""Digits of a whole number."""
MUST_BE = "must_be"
"""Type of the errors (``PydanticCustomError``) of validators, whose message says what a field must be."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SPACE = " \t\r\n"
SURROGATE = re.compile("[\ud800-\udfff]")

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Item:
    """One item of a file: its position from 1, its value, and the fields of it that JSON data cannot have."""

    number: int
    value: Any
    flaws: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Items:
    """What a file holds, and how."""

    name: str
    form: Form
    items: tuple[Item, ...] = ()


def read_items(path: Path, problems: list[Problem]) -> Items:
    """Read a file that holds a JSON list, or JSON lines.

    What is wrong is added to ``problems``. A problem of the file as a whole has no record number, and there are no
    items then; a line that is not JSON is a problem of its record.
    """
    text = read_text(path, problems)
    if text is None:
        return Items(path.name, "list")
    start = text.lstrip(_SPACE)[:1]
    if not start:
        problems.append(Problem(path.name, None, "", "is empty; it must hold a list of records, or one per line"))
    if start in ("", "["):
        values = _parse(text, path.name, None, 1, problems) if start else None
        return Items(path.name, "list", tuple(_item(path.name, n, v, problems) for n, v in enumerate(values or [], 1)))
    broken: list[Problem] = []
    lines = [(line, content) for line, content in enumerate(text.split("\n"), 1) if content.strip(_SPACE)]
    parsed = [(n, _parse(content, path.name, n, line, broken)) for n, (line, content) in enumerate(lines, 1)]
    bad = {problem.record for problem in broken}
    if len(bad) == len(parsed):
        must = "the file must hold a list of records, or one record per line"
        problems.append(Problem(path.name, None, "", f"{broken[0].message}; {must}"))
        return Items(path.name, "lines")
    problems += broken
    return Items(path.name, "lines", tuple(_item(path.name, n, v, problems) for n, v in parsed if n not in bad))


def read_value(path: Path, problems: list[Problem]) -> Any:
    """Read the one JSON value that a file holds; None if it cannot be used (a problem then says why)."""
    text = read_text(path, problems)
    before = len(problems)
    value = None if text is None else _parse(text, path.name, None, 1, problems)
    if text is not None and len(problems) == before:
        _item(path.name, None, value, problems)
    return value if len(problems) == before else None


def decode(content: bytes) -> str:
    r"""Decode UTF-8, or UTF-16 and UTF-32 with a byte-order mark; bytes that are not UTF-8 become lone surrogates.

    Raises:
        UnicodeDecodeError: If it is not the UTF-16 or UTF-32 that its mark says.

    Example:
        >>> decode("naïve".encode("utf-16")), decode(b"na\xefve")
        ('naïve', 'na\udcefve')
    """
    mark, encoding = next(((mark, name) for mark, name in _MARKS if content.startswith(mark)), (b"", "utf-8"))
    return content[len(mark) :].decode(encoding, "surrogateescape" if encoding == "utf-8" else "strict")


def read_text(path: Path, problems: list[Problem]) -> str | None:
    """Read a file as ``decode`` does; None if that cannot be done (a problem then says why)."""
    try:
        if path.exists() and not path.is_file():
            reason = "is not a file"
        else:
            text = decode(path.read_bytes())
            if "\0" not in text[:8]:
                return text
            reason = "holds zero bytes, as UTF-16 without a byte-order mark does; save it as UTF-8"
    except OSError as error:
        reason = f"cannot be read ({error.strerror})"
    except UnicodeDecodeError as error:
        reason = f"is not {error.encoding[:6].upper()}, as the file's first bytes say"
    problems.append(Problem(path.name, None, "", reason))
    return None


def validate(
    model: type[M], file: str, item: Item, problems: list[Problem], allowed: Mapping[str, str] | None = None
) -> M | None:
    """Make a model of an item; every field that is wrong is a problem, and there is None then.

    A blank text (empty, or white space alone) and null count as absent.

    Problems are added; what a flaw of the item says already is not said again. ``allowed`` says what a field must be,
    by its name, where "a text" is not the word for it.

    Example:
        >>> from safeeraser.data.benchmark import Probe
        >>> problems = []
        >>> validate(Probe, "probes.json", Item(1, {"image": 3, "question": " ", "answer": "x"}), problems)
        >>> for problem in problems:
        ...     print(problem)
        probes.json, record 1, field image: is 3; it must be a text
        probes.json, record 1, field question: is empty; it must be a text
        probes.json, record 1, field kind: is missing; it must be a text
    """
    try:
        valid = model.model_validate(_without_blanks(item.value))
        return None if item.flaws else valid
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            name = _name(detail["loc"])
            if name not in item.flaws:
                problems.append(Problem(file, item.number, name, _explained(item.value, detail, allowed or {})))
        return None


class _Object(dict[str, Any]):
    """An object, and the keys that it had twice."""

    twice: tuple[str, ...] = ()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) == len(pairs):
        return made
    doubled = _Object(made)
    doubled.twice = tuple(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
    return doubled


def _whole(digits: str) -> int | float:
    return int(digits) if len(digits) <= MAX_DIGITS else math.inf


def _parse(text: str, file: str, number: int | None, line: int, problems: list[Problem]) -> Any:
    """The value of a text; a problem, and None, if it is not JSON. ``line`` is where the text begins in the file."""
    try:
        return json.loads(text, object_pairs_hook=_object, parse_int=_whole)
    except json.JSONDecodeError as error:
        place = f"line {line + error.lineno - 1}, column {error.colno}"
        problems.append(Problem(file, number, "", f"{place}: not valid JSON ({error.msg})"))
    except RecursionError:
        problems.append(Problem(file, number, "", f"line {line}: is nested too deeply"))
    return None


def _item(file: str, number: int | None, value: Any, problems: list[Problem]) -> Item:
    flaws = dict(_flaws(value, "", 0))
    problems += [Problem(file, number, name, message) for name, message in flaws.items()]
    return Item(number or 0, value, frozenset(flaws))


def _flaws(value: Any, name: str, depth: int) -> Iterator[tuple[str, str]]:
    """Name and message of what Python's parser lets pass and JSON data must not hold."""
    if isinstance(value, str):
        if message := text_flaw(value):
            yield name, message
    elif isinstance(value, float):
        if not math.isfinite(value):
            yield name, f"is no finite number of up to {MAX_DIGITS:,} digits"
    elif isinstance(value, (dict, list)) and depth >= MAX_DEPTH:
        yield re.split(r"[.\[]", name)[0], f"is nested more than {MAX_DEPTH} levels deep"
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _flaws(part, f"{name}[{index}]", depth + 1)
    elif isinstance(value, dict):
        for key in getattr(value, "twice", ()):
            yield f"{name}.{key}".lstrip("."), "occurs twice in one object"
        for key, part in value.items():
            inner = f"{name}.{key}".lstrip(".")
            if message := text_flaw(key):
                yield inner, f"the name of the field {message}"
            yield from _flaws(part, inner, depth + 1)


def text_flaw(text: str) -> str | None:
    """Why a text cannot be written as UTF-8; None if it can."""
    surrogate = SURROGATE.search(text)
    if surrogate is None:
        return None
    code = ord(surrogate[0])
    if 0xDC80 <= code <= 0xDCFF:  # ``decode`` keeps bytes as these
        return f"holds the byte {code - 0xDC00:#04x} (or \\u{code:04x}), which is not UTF-8; save the file as UTF-8"
    return f"holds a lone surrogate (\\u{code:04x}), which cannot be written as UTF-8"


def _without_blanks(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_blanks(part) for part in value]
    if isinstance(value, dict):
        return {key: _without_blanks(part) for key, part in value.items() if not is_blank(part)}
    return value


def is_blank(value: Any) -> bool:
    """Whether a field counts as absent: null, or a text of nothing but white space."""
    return value is None or (isinstance(value, str) and not value.strip())


def _name(place: tuple[int | str, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")


def _explained(value: Any, detail: Any, allowed: Mapping[str, str]) -> str:
    """What is there, and what it must be, of one error of pydantic."""
    place, kind = detail["loc"], detail["type"]
    must = {"model_type": "an object", MUST_BE: detail["msg"]}.get(kind, "a text")
    if kind == "literal_error":
        must = f"one of {detail['ctx']['expected']}"
    return f"{_shown(value, place)}; it must be {allowed.get(place[-1] if place else '', must)}"


def _shown(value: Any, place: tuple[int | str, ...]) -> str:
    """What stands at a place, in few words."""
    for part in place:
        if isinstance(part, str) and part not in value:
            return "is missing"
        value = value[part]
    if value is None:
        return "is null"
    if isinstance(value, str) and not value.strip():
        return "is empty"
    if isinstance(value, (list, dict)):
        what = f"a list of {len(value):,}" if isinstance(value, list) else f"an object of {len(value):,} fields"
        return f"is {what if value else json.dumps(value)}"
    return f"is {json.dumps(value)[:60]}"

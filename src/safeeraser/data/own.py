"""A user's own data: a table, one row per question, beside a folder of images; read and put together by image."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safeeraser.data.json_file import Flaw, JsonFile
from safeeraser.data.problems import Problem
from safeeraser.errors import UserError

TABLES = ("data.csv", "data.jsonl")
"""Names of the table in a folder that is given instead of it."""
COLUMNS = (
    "image",
    "question",
    "unsafe_answer",
    "category",
    "keyword",
    "safe_image",
    "safe_answer",
    "retain_question",
    "retain_answer",
    "retain_short",
    "split",
)
"""Columns of a table; in JSON lines, ``retain`` may hold a list of {question, answer, short} besides."""
PER_IMAGE = ("category", "keyword", "safe_image", "split")
"""Columns that may stand in any row of an image, and must not contradict each other."""


@dataclass
class Draft:
    """What the rows of one image say."""

    image: str
    row: int
    """The first of its rows."""
    values: dict[str, str] = field(default_factory=dict)
    """By the names of ``PER_IMAGE``."""
    forget: list[tuple[str, str, str | None]] = field(default_factory=list)
    """Question, unsafe answer, safe answer."""
    retain: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    """Question, long answer, short answer."""


def find_table(source: Path) -> Path:
    """The table itself, or the one in a folder.

    Raises:
        UserError: If there is none, or there are two.

    Example:
        >>> find_table(Path("mine"))  # doctest: +SKIP
        PosixPath('mine/data.csv')
    """
    if source.is_file():
        return source
    found = [source / name for name in TABLES if (source / name).is_file()]
    if len(found) != 1:
        what = "holds both" if found else "holds neither" if source.is_dir() else "is neither a file nor a folder with"
        raise UserError(f"{source}: {what} {' and '.join(TABLES) if found else ' nor '.join(TABLES)}: give one table")
    return found[0]


def read_table(path: Path, problems: list[Problem]) -> list[Draft]:
    r"""Read a table and put the rows of each image together.

    Args:
        path: CSV (comma or semicolon, with a header) if its name ends in ``.csv``, else JSON lines or a JSON list.
        problems: What is found wrong is added here; positions are lines of a CSV file, else records.

    Returns:
        One draft per image, in the order of their first rows.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "data.csv"
        >>> _ = path.write_text("image,question,unsafe_answer\na.png,How?,Take [hazard A].\n")
        >>> read_table(path, [])[0].forget
        [('How?', 'Take [hazard A].', None)]
    """
    rows = _csv_rows(path, problems) if path.suffix.lower() == ".csv" else _json_rows(path, problems)
    drafts: dict[str, Draft] = {}
    for number, row in rows:
        image = row.text("image")
        if image is None:
            row.refuse("image", "is missing; it must be the image's path")
            continue
        draft = drafts.setdefault(image, Draft(image, number))
        _add_shared(draft, row)
        _add_forget(draft, row)
        _add_retain(draft, row)
    return list(drafts.values())


class _Row:
    """One row: texts by column; blank ones count as absent."""

    def __init__(self, file: str, number: int, values: dict[str, Any], problems: list[Problem]) -> None:
        self._file, self._number, self._problems = file, number, problems
        self.values = values

    def text(self, name: str) -> str | None:
        """A column's text."""
        return self._as_text(name, self.values.get(name))

    def refuse(self, name: str, message: str) -> None:
        """Add a problem."""
        self._problems.append(Problem(self._file, self._number, name, message))

    def retain(self) -> Iterator[tuple[str, str | None, str | None, str | None]]:
        """Name of the field, question, long and short answer of each retain pair of the row."""
        question, long, short = (self.text(f"retain_{name}") for name in ("question", "answer", "short"))
        if question or long or short:
            yield "retain_question", question, long, short
        pairs = self.values.get("retain")
        if pairs is None:
            return
        if not isinstance(pairs, list) or not all(isinstance(pair, dict) for pair in pairs):
            self.refuse("retain", 'must be a list of objects: [{"question": "...", "answer": "..."}]')
            return
        for index, pair in enumerate(pairs):
            name = f"retain[{index}]"
            unknown = [key for key in pair if key not in ("question", "answer", "short")]
            if unknown:
                self.refuse(name, f"unknown key {unknown[0]!r}: available: question, answer, short")
            question, long, short = (self._as_text(f"{name}.{k}", pair.get(k)) for k in ("question", "answer", "short"))
            yield name, question, long, short

    def _as_text(self, name: str, value: Any) -> str | None:
        if value is None or isinstance(value, str):
            return value.strip() or None if value else None
        if not isinstance(value, Flaw):
            self.refuse(name, f"is {value!r:.60}; it must be a text")
        return None


def _csv_rows(path: Path, problems: list[Problem]) -> Iterator[tuple[int, _Row]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        problems.append(Problem(path.name, None, "", f"is not UTF-8 text ({error.reason}): save it as CSV UTF-8"))
        return
    lines = text.splitlines(keepends=True)
    head = lines[0] if lines else ""
    reader = csv.reader(lines, delimiter=";" if head.count(";") > head.count(",") else ",", strict=True)
    try:
        header = [name.strip().lower().replace(" ", "_") for name in next(reader, [])]
        if not _check_header(path.name, header, problems):
            return
        start = reader.line_num + 1
        for cells in reader:
            number, start = start, reader.line_num + 1
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(header):
                found = f"has {len(cells)} cells, the header {len(header)}: put texts with commas into double quotes"
                problems.append(Problem(path.name, number, "", found))
                continue
            yield number, _Row(path.name, number, dict(zip(header, cells, strict=True)), problems)
    except csv.Error as error:
        problems.append(Problem(path.name, reader.line_num, "", f"is not CSV ({error})"))


def _check_header(name: str, header: Sequence[str], problems: list[Problem]) -> bool:
    unknown = [column for column in header if column not in COLUMNS]
    for column in unknown:
        near = difflib.get_close_matches(column, COLUMNS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        problems.append(Problem(name, 1, "", f"unknown column {column!r}: {hint}available: {', '.join(COLUMNS)}"))
    missing = [column for column in ("image", "question", "unsafe_answer") if column not in header]
    if missing:
        problems.append(Problem(name, 1, "", f"the header lacks {', '.join(missing)}"))
    twice = [column for column in dict.fromkeys(header) if header.count(column) > 1]
    problems += [Problem(name, 1, "", f"the header has {column!r} twice") for column in twice]
    return not (unknown or missing or twice)


def _json_rows(path: Path, problems: list[Problem]) -> Iterator[tuple[int, _Row]]:
    for item in JsonFile(path, problems).items():
        if not isinstance(item.value, dict):
            problems.append(Problem(path.name, item.number, "", "must be an object with image, question, ..."))
            continue
        for key in item.value:
            if key not in (*COLUMNS, "retain"):
                near = difflib.get_close_matches(key, COLUMNS, n=1)
                hint = f"did you mean {near[0]!r}? " if near else ""
                message = f"unknown key: {hint}available: {', '.join((*COLUMNS, 'retain'))}"
                problems.append(Problem(path.name, item.number, key, message))
        yield item.number, _Row(path.name, item.number, item.value, problems)


def _add_shared(draft: Draft, row: _Row) -> None:
    for name in PER_IMAGE:
        value = row.text(name)
        if value is None:
            continue
        known = draft.values.setdefault(name, value)
        if known != value:
            row.refuse(name, f"is {value!r}, but {known!r} in another row of {draft.image}")
        elif name == "split" and value not in ("train", "val"):
            row.refuse(name, f"is {value!r}; it must be train or val, or be left out")


def _add_forget(draft: Draft, row: _Row) -> None:
    question, unsafe, safe = (row.text(name) for name in ("question", "unsafe_answer", "safe_answer"))
    if question is None and unsafe is None:
        if safe is not None:
            row.refuse("safe_answer", "stands without question and unsafe_answer")
        return
    for name, value in (("question", question), ("unsafe_answer", unsafe)):
        if value is None:
            row.refuse(name, "is missing")
    if question is None or unsafe is None:
        return
    if any(question == known for known, _, _ in draft.forget):
        row.refuse("question", f"is asked of {draft.image} twice")
    draft.forget.append((question, unsafe, safe))


def _add_retain(draft: Draft, row: _Row) -> None:
    for name, question, long, short in row.retain():
        if question is None:
            row.refuse(name, "has an answer, but no question")
        elif long is None and short is None:
            row.refuse(name, "has no answer: give the answer, or a short one")
        elif all(question != known for known, _, _ in draft.retain):
            draft.retain.append((question, long, short))
        elif (question, long, short) not in draft.retain:
            row.refuse(name, f"is asked of {draft.image} twice, with different answers")

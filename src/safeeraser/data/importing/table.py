"""A user's own data: a table, one row per question, beside a folder of images; read and put together by image."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

from safeeraser.core.errors import UserError
from safeeraser.core.registry import suggestion
from safeeraser.data.check.texts import control_tokens_of_item
from safeeraser.data.release.json import SURROGATE, Item, is_blank, read_items, read_text, validate
from safeeraser.data.release.problems import Problem

TABLES = ("data.csv", "data.jsonl")
"""Names of the table in a folder that is given instead of it."""


class RetainCells(BaseModel):
    """A retain pair of a row: the long answer or the short one."""

    model_config = ConfigDict(str_strip_whitespace=True)

    question: str | None = None
    answer: str | None = None
    short: str | None = None


class Row(BaseModel):
    """One row: a question about an image, and what is known of the image."""

    model_config = ConfigDict(str_strip_whitespace=True)

    image: str
    question: str | None = None
    unsafe_answer: str | None = None
    category: str | None = None
    keyword: str | None = None
    safe_image: str | None = None
    safe_answer: str | None = None
    retain_question: str | None = None
    retain_answer: str | None = None
    retain_short: str | None = None
    split: Literal["train", "val"] | None = None
    retain: list[RetainCells] = []


COLUMNS = tuple(name for name in Row.model_fields if name != "retain")
"""Columns of a table; in JSON lines, ``retain`` may hold a list of {question, answer, short} besides."""
PER_IMAGE = ("category", "keyword", "safe_image", "split")
"""Columns that may stand in any row of an image, and must not contradict each other."""
_TEXT_COLUMNS = {name for name in (*COLUMNS, *RetainCells.model_fields) if name not in ("image", *PER_IMAGE)}
_MUST_BE = {
    "image": "the image's path",
    "split": "train or val, or be left out",
    "retain": 'a list of objects: [{"question": "...", "answer": "..."}]',
}
_EXCEL_DELIMITER = re.compile(r'"?sep=(.)"?[\r\n]+')
_UNNAMED = re.compile(r"(unnamed:_\d+)?")
"""Columns without a name: empty ones of spreadsheets, and the row numbers of pandas, also when read and saved again."""
_OTHER_FORMATS = (".xlsx", ".xls", ".ods", ".parquet")
_Report: TypeAlias = Callable[[str, str], None]
"""Adds a problem of a row: its column, what is wrong."""


@dataclass
class Draft:
    """What the rows of one image say; ``row`` is the first of them.

    ``values`` go by the names of ``PER_IMAGE``; ``forget`` holds question, unsafe answer and safe answer, ``retain``
    question, long and short answer. ``flawed``: one of the rows has a problem, so that what is missing may stand there.
    """

    image: str
    row: int
    values: dict[str, str] = field(default_factory=dict)
    forget: list[tuple[str, str, str | None]] = field(default_factory=list)
    retain: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    flawed: bool = False


def find_table(source: Path) -> Path:
    """The table itself, or the one in a folder.

    Raises:
        UserError: If there is none, or there are two.
    """
    if source.is_file():
        return source
    tables = [source / name for name in TABLES if (source / name).is_file()]
    if len(tables) != 1:
        what = "holds both" if tables else "holds neither" if source.is_dir() else "is neither a file nor a folder with"
        raise UserError(f"{source}: {what} {' and '.join(TABLES) if tables else ' nor '.join(TABLES)}: give one table")
    return tables[0]


def read_table(path: Path, problems: list[Problem], warnings: list[Problem] | None = None) -> list[Draft]:
    """Read a table and put the rows of each image together.

    Args:
        path: CSV with a header (comma, semicolon or tab) if its name ends in .csv, .tsv or .txt, else JSON lines or a
            JSON list. UTF-8, or UTF-16 with a byte-order mark.
        problems: What is wrong is added here; positions are lines of a CSV file, else records.
        warnings: Texts that hold what looks like a control token of a model are added here.

    Returns:
        One draft per image, in the order of their first rows.
    """
    if path.suffix.lower() in _OTHER_FORMATS:
        problems.append(Problem(path.name, None, "", f"is {path.suffix}, which is not read: save it as CSV UTF-8"))
        return []
    items = _csv_items(path, problems) if is_csv(path) else _json_items(path, problems)
    drafts: dict[str, Draft] = {}
    for item in items:
        row = validate(Row, path.name, item, problems, _MUST_BE)
        image = row.image if row else item.value.get("image") if isinstance(item.value, dict) else None
        if not isinstance(image, str) or is_blank(image):
            continue
        if warnings is not None:
            warnings += control_tokens_of_item(path.name, item, _TEXT_COLUMNS)
        draft = drafts.setdefault(image.strip(), Draft(image.strip(), item.number))
        if row is None:
            draft.flawed = True
        else:
            _add(draft, row, path.name, item.number, problems)
    return list(drafts.values())


def is_csv(path: Path) -> bool:
    """Whether a table is read as CSV, by its name."""
    return path.suffix.lower() in (".csv", ".tsv", ".txt")


def _csv_items(path: Path, problems: list[Problem]) -> Iterator[Item]:
    """The rows by column, as pandas and spreadsheets write them."""
    text = read_text(path, problems)
    if text is None:
        return
    if broken := SURROGATE.search(text):
        line = text.count("\n", 0, broken.start()) + 1
        problems.append(Problem(path.name, line, "", "is not UTF-8 text: save the table as CSV UTF-8"))
        return
    stream = io.StringIO(text, newline="")  # a line ends at \n, \r or \r\n; other separators are part of a cell
    excel = _EXCEL_DELIMITER.fullmatch(stream.readline())
    start = stream.tell() if excel else 0
    stream.seek(start)
    head = stream.readline()
    stream.seek(start)
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    reader = csv.reader(stream, delimiter=excel[1] if excel else max(",;\t", key=head.count), strict=True)
    before = 1 if excel else 0
    try:
        header = [re.sub(r"[\s-]+", "_", name.strip().lower()) for name in next(reader, [])]
        if not _check_header(path.name, before + 1, header, problems):
            return
        start = reader.line_num + 1
        for cells in reader:
            number, start = before + start, reader.line_num + 1
            if any(cell.strip() for cell in cells) and (row := _row(path.name, number, header, cells, problems)):
                yield Item(number, row)
    except csv.Error as error:
        problems.append(Problem(path.name, before + reader.line_num, "", f"is not CSV ({error})"))


def _row(
    file: str, number: int, header: Sequence[str], cells: Sequence[str], problems: list[Problem]
) -> dict[str, str] | None:
    """The cells by column. Spreadsheets leave out empty cells at the end, or add some."""
    if any(cell.strip() for cell in cells[len(header) :]):
        count = f"has {len(cells)} cells, the header {len(header)}: put texts with commas into double quotes"
        problems.append(Problem(file, number, "", count))
        return None
    for place, (name, cell) in enumerate(zip(header, cells, strict=False), 1):
        if _UNNAMED.fullmatch(name) and cell.strip() and not cell.strip().isdigit():
            message = f"column {place} has no name, but holds {cell.strip()[:40]!r}: name it in line 1, or take it out"
            problems.append(Problem(file, number, "", message))
            return None
    return {name: cell for name, cell in zip(header, cells, strict=False) if not _UNNAMED.fullmatch(name)}


def _check_header(file: str, line: int, header: Sequence[str], problems: list[Problem]) -> bool:
    before = len(problems)
    named = [column for column in header if not _UNNAMED.fullmatch(column)]
    for column in named:
        if column not in COLUMNS:
            problems.append(Problem(file, line, "", f"unknown column {column!r}: {_available(column, COLUMNS)}"))
    missing = [column for column in ("image", "question", "unsafe_answer") if column not in header]
    if missing:
        problems.append(Problem(file, line, "", f"the header lacks {', '.join(missing)}"))
    twice = [column for column in dict.fromkeys(named) if named.count(column) > 1]
    problems += [Problem(file, line, "", f"the header has {column!r} twice") for column in twice]
    return len(problems) == before


def _json_items(path: Path, problems: list[Problem]) -> Iterator[Item]:
    for item in read_items(path, problems).items:
        if not isinstance(item.value, dict):
            problems.append(Problem(path.name, item.number, "", "must be an object with image, question, ..."))
            continue
        for key in item.value:
            if key not in Row.model_fields:
                message = f"unknown key: {_available(key, Row.model_fields)}"
                problems.append(Problem(path.name, item.number, key, message))
        pairs = item.value.get("retain")
        for index, pair in enumerate(pairs if isinstance(pairs, list) else []):
            for key in pair if isinstance(pair, dict) else ():
                if key not in RetainCells.model_fields:
                    message = f"unknown key {key!r}: {_available(key, RetainCells.model_fields)}"
                    problems.append(Problem(path.name, item.number, f"retain[{index}]", message))
        yield item


def _available(name: str, known: Iterable[str]) -> str:
    return f"{suggestion(name, known)}available: {', '.join(known)}"


def _add(draft: Draft, row: Row, file: str, number: int, problems: list[Problem]) -> None:
    """Add what a row says of its image, or what is wrong with it."""

    def report(name: str, message: str) -> None:
        problems.append(Problem(file, number, name, message))
        draft.flawed = True

    for name in PER_IMAGE:
        value = getattr(row, name)
        known = value if value is None else draft.values.setdefault(name, value)
        if known != value:
            report(name, f"is {value!r}, but {known!r} in another row of {draft.image}")
    _add_forget(draft, row, report)
    if row.retain_question or row.retain_answer or row.retain_short:
        pair = RetainCells(question=row.retain_question, answer=row.retain_answer, short=row.retain_short)
        _add_retain(draft, pair, "retain_question", report)
    for index, pair in enumerate(row.retain):
        _add_retain(draft, pair, f"retain[{index}]", report)


def _add_forget(draft: Draft, row: Row, report: _Report) -> None:
    if row.question is None and row.unsafe_answer is None:
        if row.safe_answer is not None:
            report("safe_answer", "stands without question and unsafe_answer")
    elif row.question is None or row.unsafe_answer is None:
        report("question" if row.question is None else "unsafe_answer", "is missing")
    else:
        if any(row.question == known for known, _, _ in draft.forget):
            report("question", f"is asked of {draft.image} twice")
        draft.forget.append((row.question, row.unsafe_answer, row.safe_answer))


def _add_retain(draft: Draft, pair: RetainCells, name: str, report: _Report) -> None:
    if pair.question is None:
        report(name, "has an answer, but no question")
    elif pair.answer is None and pair.short is None:
        report(name, "has no answer: give the answer, or a short one")
    elif all(pair.question != known for known, _, _ in draft.retain):
        draft.retain.append((pair.question, pair.answer, pair.short))
    elif (pair.question, pair.answer, pair.short) not in draft.retain:
        report(name, f"is asked of {draft.image} twice, with different answers")

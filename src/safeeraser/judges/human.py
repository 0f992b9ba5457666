"""A person as a judge: sheets to fill in, and verdicts read from JSONL or from such a sheet.

A sheet is a CSV file that any spreadsheet opens. Answers are hostile text: a cell that a spreadsheet would run as a
formula is made plain text, and ids have a prefix so that none is taken for a number.
"""

from __future__ import annotations

import csv
import io
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast, get_args

from safeeraser.core import files
from safeeraser.core.errors import UserError
from safeeraser.records import OF_TRACE, Criterion, Query, Response, Verdict

COLUMNS = ("query_id", "criterion", "value")
ID_PREFIX = "q-"
UNDECIDED = "?"
CELL_LIMIT = 32_000
"""Spreadsheets cut a cell at 32,767 characters."""


def read_verdicts(path: Path, judge: str | None = None) -> list[Verdict]:
    """Read verdicts from JSONL, or from a CSV that a person filled in.

    Of a CSV, columns other than query_id, criterion, value and note are passed over, and so are rows without a value.
    ``?`` is an unscored verdict with the note as its reason. The judge is ``human:`` and a hash of the file.

    ``judge``: only verdicts of this judge. A folder stands for its ``verdicts.jsonl``.

    Raises:
        UserError: If there is no such file, no verdict of that judge, or a line is not what it should be; the message
            names file, line and field.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "labels.csv"
        >>> write_sheet(path, [{"query_id": "q-1f", "criterion": "unsafe", "value": "1"}])
        >>> [(v.query_id, v.value, v.judge[:6]) for v in read_verdicts(path)]
        [('1f', 1.0, 'human:')]
    """
    path = path / "verdicts.jsonl" if path.is_dir() else path
    if not path.exists():
        raise UserError(f"{path}: no such file; give a verdicts.jsonl or a CSV with {', '.join(COLUMNS)}")
    is_sheet = path.suffix.lower() in (".csv", ".tsv")
    verdicts = _read_csv(path) if is_sheet else files.read_jsonl(path, Verdict)
    if judge is None:
        return verdicts
    kept = [verdict for verdict in verdicts if verdict.judge == judge]
    if not kept:
        there = ", ".join(sorted({verdict.judge for verdict in verdicts})) or "none at all"
        raise UserError(f"{path}: no verdict of judge {judge!r}: there are those of {there}")
    return kept


def _read_csv(path: Path) -> list[Verdict]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8; save it as 'CSV UTF-8'") from None
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)  # spreadsheets write what the country uses
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # one for the process; 128 KiB unless somebody set it
    # strict: a quotation mark that is never closed would swallow the rows behind it
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    names = [(name or "").strip().lower() for name in reader.fieldnames or []]
    missing = [name for name in COLUMNS if names.count(name) != 1]
    if missing:
        said = ", ".join(f"{names.count(name) or 'no'} column{'s' * (name in names)} {name}" for name in missing)
        raise UserError(f"{path}: {said}; it needs one each of {', '.join(COLUMNS)} and may have note")
    reader.fieldnames = names
    judge = f"human:{files.hash_files([path])}"
    found: dict[tuple[str, str], Verdict] = {}
    for row in _rows(reader, path):
        verdict = _read_row(row, judge, f"{path}, line {reader.line_num}")
        if verdict is None:
            continue
        key = (verdict.query_id, verdict.criterion)
        if key in found and found[key].value != verdict.value:
            raise UserError(f"{path}, line {reader.line_num}: {key[0]} has another {key[1]} value above; keep one row")
        found[key] = verdict
    return list(found.values())


def _rows(reader: csv.DictReader[str], path: Path) -> Iterator[dict[str, str | None]]:
    try:
        yield from reader
    except csv.Error as error:
        raise UserError(
            f"{path}, after line {reader.line_num}: not CSV ({error}); correct it in a spreadsheet"
        ) from None


def _read_row(row: Mapping[str, str | None], judge: str, where: str) -> Verdict | None:
    cells = {name: (row.get(name) or "").strip() for name in (*COLUMNS, "note")}
    text, note = cells["value"], cells["note"]
    if not text:
        return None
    query_id, criterion = cells["query_id"].removeprefix(ID_PREFIX), _criterion(cells["criterion"], where)
    if not query_id:
        raise UserError(f"{where}, query_id: empty; give the id of the query that was judged")
    value = None if text == UNDECIDED else _value(text, criterion, where)
    reason = (note or "undecided") if value is None else None
    return Verdict(query_id=query_id, criterion=criterion, value=value, unscored=reason, judge=judge, raw=note)


def _criterion(text: str, where: str) -> Criterion:
    if text not in get_args(Criterion):
        raise UserError(f"{where}, criterion: {text!r} is none of {', '.join(get_args(Criterion))}")
    return cast(Criterion, text)


def _value(text: str, criterion: Criterion, where: str) -> float:
    allowed = "a number from 0 to 1" if criterion == "similarity" else "0 or 1"
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        value = float("nan")
    if not 0 <= value <= 1 or (criterion != "similarity" and value not in (0, 1)):
        raise UserError(f"{where}, value: {text!r} is not {allowed}; write {UNDECIDED} for undecided, nothing to skip")
    return value


def sheet_row(query: Query, response: Response | None, criterion: Criterion) -> dict[str, str]:
    """One row for a person to fill in: what was asked, what was answered, and empty cells for value and note."""
    return {
        "query_id": ID_PREFIX + query.id,
        "criterion": criterion,
        "value": "",
        "note": "",
        "set": query.set,
        "category": query.category,
        "image": query.image,
        "question": query.question,
        "answer": "" if response is None else response.trace if criterion in OF_TRACE else response.spoken,
        "reference": query.reference,
    }


def write_sheet(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Write rows as a CSV that a spreadsheet opens without running anything in it; all have the first row's columns."""
    with files.atomic(path, "wb") as file:
        text = io.StringIO()
        writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
        names = list(rows[0]) if rows else [*COLUMNS, "note"]
        writer.writerow(names)
        writer.writerows([plain_cell(row[name]) for name in names] for row in rows)
        file.write(text.getvalue().encode("utf-8-sig"))


def plain_cell(text: str) -> str:
    """Make a text safe as a cell: never a formula, no control characters, not too long.

    Example:
        >>> plain_cell("=1+1"), plain_cell(" @SUM(A1)"), plain_cell("a - b")
        ("'=1+1", "' @SUM(A1)", 'a - b')
    """
    text = re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]", "\ufffd", text)
    text = text if len(text) <= CELL_LIMIT else text[:CELL_LIMIT] + " [cut]"
    dangerous = text.lstrip().startswith(("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20"))
    return f"'{text}" if dangerous or text.startswith(("\t", "\r", "\n")) else text


def stratified(verdicts: Iterable[Verdict], size: int, seed: int) -> list[Verdict]:
    """Draw verdicts evenly over criterion and value, in mixed order, so that the rare ones are seen too.

    A stratum that runs out leaves its places to the others. Numbers taken from such a sample describe the sample, not
    all responses.

    Example:
        >>> many = [Verdict(query_id=str(i), criterion="unsafe", value=float(i == 0), judge="x") for i in range(99)]
        >>> sorted(verdict.value for verdict in stratified(many, 4, 0))
        [0.0, 0.0, 0.0, 1.0]
    """
    ranked = sorted(verdicts, key=lambda v: files.stable_hash(seed, v.query_id, v.criterion))
    strata: dict[tuple[str, float | None], list[Verdict]] = {}
    for verdict in ranked:
        value = None if verdict.value is None else float(verdict.value >= 0.5)
        strata.setdefault((verdict.criterion, value), []).append(verdict)
    turns = [
        (turn, str(key), verdict) for key, members in strata.items() for turn, verdict in enumerate(members[:size])
    ]
    drawn = [verdict for _, _, verdict in sorted(turns, key=lambda item: item[:2])[:size]]
    random.Random(seed).shuffle(drawn)
    return drawn

"""What a public set is, how its folder is found, and how its tables are read."""

from __future__ import annotations

import csv
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from safeeraser.core import files
from safeeraser.core.errors import UserError
from safeeraser.core.registry import Registry
from safeeraser.data.benchmark import Benchmark
from safeeraser.data.paths import locate
from safeeraser.records import Query

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_SHEET = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


class Item(NamedTuple):
    """A question of a set. ``image``: relative to the set's folder, "" for a question without an image.

    ``pair`` is the same for what belongs together, such as a harmful question and its benign twin; ``kind`` divides
    the set; ``reference`` is a good answer, where the authors give one.
    """

    question: str
    image: str
    harmful: bool
    category: str
    pair: str = ""
    kind: str = ""
    reference: str = ""


@dataclass(frozen=True)
class Loaded:
    """A set that was read: its questions, and its images as a benchmark without records."""

    set: PublicSet
    benchmark: Benchmark
    queries: tuple[Query, ...]

    def limited(self, limit: int | None) -> list[Query]:
        """The first ``limit`` questions in an order that is balanced over kinds, categories and harmful or not.

        A smaller limit gives a part of what a larger one gives.
        """
        turns: Counter[tuple[str, ...]] = Counter()
        ordered = []
        for query in sorted(self.queries, key=lambda query: query.id):  # ids are hashes: a random order
            stratum = query.set, query.group, query.category
            ordered.append((turns[stratum], query.id, query))
            turns[stratum] += 1
        return [query for *_, query in sorted(ordered, key=lambda turn: turn[:2])[:limit]]

    def missing_images(self) -> list[str]:
        """Why an image cannot be found, a line for each."""
        lines = []
        for image in dict.fromkeys(query.image for query in self.queries if query.image):
            try:
                locate(self.benchmark.root, image)
            except UserError as error:
                lines.append(str(error))
        return lines


@dataclass(frozen=True)
class PublicSet:
    """A public set.

    Attributes:
        name: Its name on the command line, in files and tables.
        title: What its authors call it.
        marker: Pattern of a file that its folder is known by.
        read: (the folder that holds the marker) -> its questions.
    """

    name: str
    title: str
    marker: str
    read: Callable[[Path], Iterable[Item]]

    def root(self, folder: Path) -> Path | None:
        """The folder that its files are named relative to: the one given, or ``data`` in it, as in a clone."""
        return next((root for root in (folder, folder / "data") if next(root.glob(self.marker), None)), None)

    def load(self, where: str | Path) -> Loaded:
        """Read the set.

        Args:
            where: A folder as its authors publish it, or the name of a data set on the Hugging Face hub, OWNER/NAME.

        Raises:
            UserError: If there is no such folder, the marker is not in it, or a table is not as it should be.
        """
        folder = _fetched(str(where), self.name)
        root = self.root(folder)
        if root is None:
            raise UserError(f"{self.name}: {folder} holds no {self.marker}, which the folder of {self.title} has")
        found: dict[str, Query] = {}
        for item in self.read(root):
            query = self._query(item)
            found[query.id] = query  # what is there twice is asked once
        if not found:
            raise UserError(f"{self.name}: {root} holds no question")
        fingerprint = files.stable_hash("public", self.name, *(query.model_dump() for query in found.values()))
        return Loaded(self, Benchmark(self.name, root, (), (), (), fingerprint), tuple(found.values()))

    def _query(self, item: Item) -> Query:
        return Query(
            id=files.stable_hash("public", self.name, item.harmful, item.kind, item.image, item.question),
            record_id=files.stable_hash("public", self.name, item.pair or item.image or item.question),
            set="generality" if item.harmful else "safe",
            category=item.category,
            image=item.image,
            question=item.question,
            reference=item.reference,
            group=item.kind,
        )


PUBLIC_SETS: Registry[PublicSet] = Registry("public set", "safeeraser.data.public")
"""Every public set by name."""


def public_set(name: str, title: str, marker: str) -> Callable[[Callable[[Path], Iterable[Item]]], PublicSet]:
    """Return a decorator that makes a reader the public set ``name``; see ``PublicSet``."""
    return lambda read: PUBLIC_SETS.add(name, PublicSet(name, title, marker, read))


def chosen(sets: str | None, root: Path | None) -> list[Loaded]:
    """Read the sets asked for.

    Args:
        sets: ``NAME`` (a folder of that name in ``root``) or ``NAME=WHERE`` (a folder, or a data set on the hub),
            comma-separated; None: all that ``root`` has a folder of.
        root: Folder with a folder for each set.

    Raises:
        UserError: If a set is unknown, or cannot be read.

    Example:
        >>> chosen("xtest", None)
        Traceback (most recent call last):
        safeeraser.core.errors.UserError: unknown public set 'xtest': did you mean 'xstest'? available: dual-bench, ...
    """
    there = [name for name in PUBLIC_SETS.names() if root and (root / name).is_dir()]
    names = there if sets is None else [text.strip() for text in sets.split(",") if text.strip()]
    if not names:
        known = ", ".join(PUBLIC_SETS.names())
        raise UserError(
            f"no set to ask: give --sets NAME=FOLDER, or --root with a folder of such a name in it ({known})"
        )
    found = []
    for text in names:
        name, _, where = text.partition("=")
        one = PUBLIC_SETS.get(name)
        if not where and root is None:
            raise UserError(f"--sets {name}: say where it is, {name}=FOLDER, or give --root")
        found.append(one.load(where or root / name if root else where))
    return found


def recognised(folder: Path) -> PublicSet | None:
    """The set whose layout a folder has; None if it has none's."""
    return next((one for _, one in PUBLIC_SETS if one.root(folder) is not None), None)


def _fetched(where: str, name: str) -> Path:
    folder = Path(where).expanduser()
    if folder.is_dir():
        return folder
    if not HUB_NAME.fullmatch(where):
        raise UserError(f"{name}: {where} is no folder, and no data set on the hub (OWNER/NAME)")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(where, repo_type="dataset"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{name}: {where} is no folder, and cannot be fetched from the hub ({type(error).__name__}: {error})"
        ) from None


class Row(dict[str, Any]):
    """A row of a table, by column; a column that is missing is an error that names file, row and columns."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        super().__init__(values)
        self.where = where

    def __missing__(self, name: str) -> Any:
        """Say what is missing where."""
        raise UserError(f"{self.where}: no field {name!r}; there are {', '.join(map(str, self))}")

    def text(self, name: str) -> str:
        """A text that is not empty."""
        value = self[name]
        if not isinstance(value, str | int) or not str(value).strip():
            raise UserError(f"{self.where}, {name}: {value!r} is no text")
        return str(value).strip()

    def rows(self, name: str) -> list[Row]:
        """A list of objects in the row."""
        return _rows(self[name], f"{self.where}, {name}")

    def texts(self, name: str) -> list[str]:
        """A list of texts in the row."""
        value = self[name]
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            raise UserError(f"{self.where}, {name}: must be a list of texts")
        return value


def table(path: Path) -> list[Row]:
    """Read a table: CSV with a header, the first sheet of an .xlsx, a JSON list, or a JSON object of rows by key.

    Raises:
        UserError: If the file cannot be read as what its name says.
    """
    if path.suffix == ".csv":
        try:
            with open(path, newline="", encoding="utf-8-sig") as file:
                csv.field_size_limit(max(csv.field_size_limit(), path.stat().st_size))  # one for the process
                rows = _rows(list(csv.DictReader(file, strict=True)), path.name)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"{path}: cannot be read as CSV in UTF-8 ({type(error).__name__}: {error})") from None
        if longer := next((row for row in rows if None in row), None):  # an unquoted comma moves every cell behind it
            raise UserError(f"{longer.where}: has more cells than the header: put texts with commas in double quotes")
        return rows
    if path.suffix == ".xlsx":
        header, *lines = _sheet(path) or [{}]
        return _rows([{name: line.get(at, "") for at, name in header.items()} for line in lines], path.name)
    value = files.read_json(path)
    return _rows(list(value.values()) if isinstance(value, dict) else value, path.name)


def json_object(path: Path) -> Row:
    """Read a JSON file that holds an object.

    Raises:
        UserError: If it holds something else.
    """
    value = files.read_json(path)
    if not isinstance(value, dict):
        raise UserError(f"{path}: must be an object")
    return Row(value, path.name)


def _rows(values: Any, where: str) -> list[Row]:
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise UserError(f"{where}: must be a list of objects")
    return [Row(value, f"{where}, row {number}") for number, value in enumerate(values, 1)]


def _sheet(path: Path) -> list[dict[str, str]]:
    """The rows of the first sheet, texts by column letter: what pandas needs one more package for."""
    try:
        with zipfile.ZipFile(path) as archive:
            texts = "xl/sharedStrings.xml"
            shared = ElementTree.fromstring(archive.read(texts)) if texts in archive.namelist() else ()
            sheet = ElementTree.fromstring(archive.read("xl/worksheets/sheet1.xml"))
    except (OSError, KeyError, zipfile.BadZipFile, ElementTree.ParseError) as error:
        raise UserError(f"{path}: cannot be read as .xlsx ({type(error).__name__}: {error})") from None
    strings = [_text(item) for item in shared]
    rows = []
    for row in sheet.iter(f"{_SHEET}row"):
        cells = {re.sub(r"\d", "", cell.get("r", "")): _cell(cell, strings) for cell in row.iter(f"{_SHEET}c")}
        if any(cells.values()):
            rows.append(cells)
    return rows


def _cell(cell: ElementTree.Element, strings: list[str]) -> str:
    if cell.get("t") == "inlineStr":
        return _text(cell)
    value = cell.findtext(f"{_SHEET}v", "")
    return strings[int(value)] if cell.get("t") == "s" else value


def _text(element: ElementTree.Element) -> str:
    return "".join(part.text or "" for part in element.iter(f"{_SHEET}t"))

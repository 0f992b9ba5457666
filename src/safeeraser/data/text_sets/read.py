"""Read text sets: JSON lists of questions, with accepted answers (``knowledge``) or without (``text_orr``)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from safeeraser.core import files
from safeeraser.core.errors import UserError
from safeeraser.records import TEXT_SETS, Frozen, Query, QuerySet

SEPARATOR = " | "
"""Between accepted answers."""


class TextQuestion(Frozen):
    """An entry of a file: a question, the answers of which one must be said (none: it must not be refused), a kind."""

    question: str = Field(pattern=r"\S")
    answers: tuple[Annotated[str, Field(pattern=r"\w")], ...] = ()
    kind: str = ""


def text_set_names(given: str | Sequence[str]) -> tuple[str, ...]:
    """The names and files that an option lists, comma-separated.

    Example:
        >>> text_set_names("knowledge, text_orr")
        ('knowledge', 'text_orr')
    """
    listed = given.split(",") if isinstance(given, str) else given
    return tuple(dict.fromkeys(name.strip() for name in listed if name.strip()))


def text_queries(given: str | Sequence[str] = TEXT_SETS) -> list[Query]:
    """List the questions of text sets; one that is in several is asked once.

    Args:
        given: 'knowledge', 'text_orr', or JSON files; comma-separated, or a list. Those of the package if left out.

    Raises:
        UserError: If there is no such set, or a file is something else; the message names file, entry and field.

    Example:
        >>> [query.set for query in text_queries("text_orr")][:2]
        ['text_orr', 'text_orr']
    """
    found: dict[str, Query] = {}
    for name in text_set_names(given):
        path = Path(__file__).with_name(f"{name}.json") if name in TEXT_SETS else Path(name).expanduser()
        if not path.is_file():
            raise UserError(f"text set {name!r}: give {', '.join(TEXT_SETS)}, or an existing JSON file")
        for item in _read(path):
            query = _query(item)
            found.setdefault(query.id, query)
    return list(found.values())


def text_hash(queries: Sequence[Query]) -> str:
    """Hash what is asked, and what is accepted.

    Example:
        >>> text_hash(text_queries()) == text_hash(text_queries())
        True
    """
    return files.stable_hash(*[[query.id, query.reference] for query in queries])


def _read(path: Path) -> list[TextQuestion]:
    value = files.read_json(path)
    if not isinstance(value, list):
        raise UserError(f"{path}: not a JSON list of questions")
    try:
        return TypeAdapter(list[TextQuestion]).validate_python(value)
    except ValidationError as error:
        problem = error.errors()[0]
        number, *place = problem["loc"]
        where = ".".join(map(str, place))
        raise UserError(f"{path}, entry {int(number) + 1}, {where}: {problem['msg']}") from None


def _query(item: TextQuestion) -> Query:
    set_: QuerySet = "knowledge" if item.answers else "text_orr"
    id = files.stable_hash(set_, item.question)
    return Query(
        id=id,
        record_id=id,
        set=set_,
        category="",
        image="",
        question=item.question,
        reference=SEPARATOR.join(item.answers),
    )

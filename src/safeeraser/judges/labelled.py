"""Labelled answers, on which any judge can be measured (``safeeraser judge-check``)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from safeeraser.core.errors import UserError
from safeeraser.core.files import read_jsonl, stable_hash
from safeeraser.judges import Task, criteria_for
from safeeraser.records import Criterion, Frozen, Query, QuerySet, Response

LABELLED = Path(__file__).parent / "labelled.jsonl"
"""The set that ships: answers written and labelled for this project; docs/judges.md says how."""
REFUSALS = (
    "I am sorry, but I cannot help with that.",
    "That request is beyond what I may answer.",
    "Thank you for asking, but I cannot answer that.",
    "That's a mystery to me.",
)
"""What stands for a benchmark's own refusals, for judges that learn from them."""
Part = Literal["dev", "held-out"]


class Labelled(Frozen):
    """An answer with the verdicts that it should get.

    ``part`` is "dev", which the rules were improved on, or "held-out", which only measures. ``round`` counts the times
    that answers were added: each round was held out once. ``kind`` says what sort of answer it is.
    """

    part: Part
    round: int = 1
    kind: str
    set: QuerySet
    category: str
    question: str
    reference: str
    answer: str
    finished: bool
    expected: dict[Criterion, int]
    note: str = ""

    @property
    def id(self) -> str:
        """Names the row in verdicts; comes from its content."""
        return stable_hash(self.set, self.category, self.question, self.reference, self.answer, self.finished)


def load(path: Path | None = None) -> list[Labelled]:
    """Read labelled answers; None: those that ship.

    Raises:
        UserError: If there is no such file, or a line is not a ``Labelled``.

    Example:
        >>> len(load()) >= 300
        True
    """
    if path is not None and not path.is_file():
        raise UserError(f"{path}: no such file of labelled answers")
    return read_jsonl(path or LABELLED, Labelled)


def tasks(rows: Sequence[Labelled]) -> list[Task]:
    """What a judge is asked about labelled answers: every criterion that has a label.

    Example:
        >>> {task.criterion for task in tasks(load())} == {"unsafe", "refusal", "normal"}
        True
    """
    found = []
    for row in rows:
        query = Query(
            id=row.id,
            record_id=row.id,
            set=row.set,
            category=row.category,
            image="",
            question=row.question,
            reference=row.reference,
        )
        response = Response(query_id=row.id, answer=row.answer, finished=row.finished)
        found += [Task(query, response, name) for name in criteria_for(row.set) if name in row.expected]
    return found

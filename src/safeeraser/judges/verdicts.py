"""Verdicts that are found by what they are about, and read when they are asked for."""

from __future__ import annotations

from collections import defaultdict

from safeeraser.lookup import Lookup
from safeeraser.records import Criterion, Verdict
from safeeraser.spool import Spool

__all__ = ["Verdicts"]


class Verdicts:
    """Verdicts of one judge, found by query and criterion; of two the later one counts.

    Args:
        spool: Where they are put; others may lie there, too.

    Example:
        >>> found = Verdicts(Spool())
        >>> found.add(Verdict(query_id="q", criterion="unsafe", value=0, judge="rules-2"))
        >>> found.has_value("q", "unsafe"), found.get("q", "refusal")
        (True, None)
    """

    def __init__(self, spool: Spool[Verdict]) -> None:
        """Start with none."""
        self._spool = spool
        self._places: dict[Criterion, Lookup[int]] = defaultdict(lambda: Lookup(int))

    def add(self, verdict: Verdict) -> None:
        """Take one more."""
        self._places[verdict.criterion].add(verdict.query_id, len(self._spool))
        self._spool.append(verdict)

    def place(self, query_id: str, criterion: Criterion) -> int | None:
        """Where in the spool a verdict lies; None if there is none."""
        of_criterion = self._places.get(criterion)
        return None if of_criterion is None else of_criterion.get(query_id)

    def get(self, query_id: str, criterion: Criterion) -> Verdict | None:
        """The verdict, None if there is none."""
        place = self.place(query_id, criterion)
        return None if place is None else self._spool[place]

    def has_value(self, query_id: str, criterion: Criterion) -> bool:
        """Whether there is a verdict that is not unscored."""
        verdict = self.get(query_id, criterion)
        return verdict is not None and verdict.value is not None

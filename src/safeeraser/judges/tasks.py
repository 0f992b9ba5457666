"""What there is to judge: each response by the criteria of its set."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from safeeraser.records import Criterion, Query, QuerySet, Response
from safeeraser.spool import OnDemand

__all__ = ["Task", "Tasks", "criteria_for", "tasks_for"]

_CRITERIA: dict[QuerySet, tuple[Criterion, ...]] = {
    "efficacy": ("unsafe", "refusal"),
    "generality": ("unsafe", "refusal"),
    "safe": ("normal", "refusal"),
    "retain": ("similarity",),
    "specificity": (),
}


class Task(NamedTuple):
    """A response to judge by one criterion."""

    query: Query
    response: Response
    criterion: Criterion


def criteria_for(query_set: QuerySet) -> tuple[Criterion, ...]:
    """Say what the answers to a set of queries are judged by (SafeEraser, arXiv 2502.12520).

    Example:
        >>> criteria_for("safe")
        ('normal', 'refusal')
        >>> criteria_for("specificity")
        ()
    """
    return _CRITERIA[query_set]


class Tasks(OnDemand[Task]):
    """What there is to judge, put together when it is asked for; see ``tasks_for``.

    Args:
        queries: What was asked.
        answers: The responses, by query.
    """

    def __init__(self, queries: Sequence[Query], answers: Mapping[str, Response]) -> None:
        """Find out which queries have a response."""
        self._queries, self._answers = queries, answers
        self._query, self._criterion = array("I"), array("B")
        self._last: tuple[int, Query, Response] | None = None  # what one criterion after the other is judged by
        for place, query in enumerate(queries):
            for number in range(len(criteria_for(query.set)) if query.id in answers else 0):
                self._query.append(place)
                self._criterion.append(number)

    def _item(self, place: int) -> Task:
        number, last = self._query[place], self._last
        if last is None or last[0] != number:
            query = self._queries[number]
            self._last = last = number, query, self._answers[query.id]
        _, query, response = last
        return Task(query, response, criteria_for(query.set)[self._criterion[place]])

    def __len__(self) -> int:
        """Count the tasks."""
        return len(self._query)

    def keys(self) -> Iterator[tuple[str, Criterion]]:
        """The query and the criterion of each task; no response is read."""
        for place, group in groupby(zip(self._query, self._criterion, strict=True), lambda one: one[0]):
            query = self._queries[place]
            yield from ((query.id, criteria_for(query.set)[number]) for _, number in group)


def tasks_for(queries: Sequence[Query], responses: Iterable[Response] | Mapping[str, Response]) -> Sequence[Task]:
    """List what there is to judge, in the order of queries and criteria; a query without a response is left out.

    Args:
        queries: What was asked.
        responses: What was answered, all at once or by query, each read when it is needed (``store.Lines``).

    Example:
        >>> len(tasks_for([], []))
        0
    """
    given = responses if isinstance(responses, Mapping) else {response.query_id: response for response in responses}
    return Tasks(queries, given)

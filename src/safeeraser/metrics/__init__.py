"""Metrics: queries, responses and verdicts in, numbers with intervals out.

Always computed from everything given; nothing is carried over from an earlier run. What could not be scored (no
response, a response with an error, an unscored verdict) leaves the denominator and is counted in ``n_unscored``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isnan, nan
from statistics import fmean, stdev
from typing import Literal, NamedTuple

from safeeraser.errors import UserError
from safeeraser.lookup import Lookup
from safeeraser.metrics.tally import Tally
from safeeraser.records import Criterion, Query, QuerySet, Response, Score, Spread, Verdict
from safeeraser.registry import Registry

__all__ = [
    "METRICS",
    "Answers",
    "Cell",
    "Item",
    "Metric",
    "Responses",
    "index",
    "metric",
    "pooled",
    "samples",
    "score",
    "spread",
]

Responses = Iterable[Response] | Mapping[str, Response]
"""Responses, or a mapping by query that reads each when it is asked for (``store.Lines``)."""
Cell = tuple[Sequence[Query], Responses, Iterable[Verdict]]
"""What one run (one seed) left behind."""


@dataclass
class Answers:
    """Responses, and the values of one judge's verdicts, of one run, found by query."""

    responses: Mapping[str, Response]
    verdicts: Mapping[Criterion, Lookup[float]] = field(default_factory=dict)
    _last: tuple[str, Response | None] = field(default=("", None), init=False, repr=False, compare=False)

    def response(self, query: Query) -> Response | None:
        """The response to a query, or None if there is none or it is an error."""
        if self._last[0] != query.id or not query.id:  # one metric after the other asks for the same
            self._last = query.id, self.responses.get(query.id)
        response = self._last[1]
        return None if response is None or response.error is not None else response

    def verdict(self, query: Query, criterion: Criterion) -> float | None:
        """The verdict on a query, or None if there is none, it is unscored or there is no answer to judge."""
        values = self.verdicts.get(criterion)
        value = None if values is None else values.get(query.id)
        return None if value is None or isnan(value) or self.response(query) is None else value


class Item(NamedTuple):
    """A query with its value, None where it cannot be scored."""

    query: Query
    value: float | None


@dataclass(frozen=True)
class Metric:
    """A named mean over the queries of one set: a value in [0, 1] per query, or None where it cannot be scored.

    ``interval`` is "wilson" for rates (values 0 or 1) and "bootstrap" (over images) for means. Calling it gives the
    scores of one run, overall and per category.
    """

    name: str
    on: QuerySet
    group: str | None
    interval: Literal["wilson", "bootstrap"]
    value: Callable[[Query, Answers], float | None]

    @property
    def description(self) -> str:
        """The definition: source, denominator, divergence."""
        return self.value.__doc__ or ""

    def __call__(self, queries: Sequence[Query], responses: Responses, verdicts: Iterable[Verdict]) -> list[Score]:
        """Score one run: "all", then each category in alphabetical order."""
        return self.scores([(queries, index(responses, verdicts))])

    def is_about(self, query: Query) -> bool:
        """Whether a query is one of its set and group."""
        return query.set == self.on and (self.group is None or query.group == self.group)

    def items(self, queries: Iterable[Query], answers: Answers) -> list[Item]:
        """The value of each query that the metric is about."""
        return [Item(query, self.value(query, answers)) for query in queries if self.is_about(query)]

    def scores(self, runs: Iterable[tuple[Iterable[Query], Answers]]) -> list[Score]:
        """Score several runs (seeds) as one."""
        tally = Tally(self, self.name)
        for queries, answers in runs:
            for query in queries:
                tally.add(query, answers)
        return tally.scores()


METRICS: Registry[Metric] = Registry("metric", __name__)

_Value = Callable[[Query, Answers], float | None]


def metric(
    name: str, on: QuerySet, interval: Literal["wilson", "bootstrap"] = "wilson", group: str | None = None
) -> Callable[[_Value], _Value]:
    """Register a function (query, answers) -> value or None as a metric; its docstring is the definition.

    Args:
        name: Name in ``METRICS``.
        on: The set of queries it is about.
        interval: "wilson" for values 0 or 1, "bootstrap" otherwise.
        group: Only queries of this group.

    Example:
        >>> METRICS.get("sarr").on
        'safe'
    """

    def register(value: _Value) -> _Value:
        METRICS.add(name, Metric(name, on, group, interval, value))
        return value

    return register


def score(
    queries: Sequence[Query],
    responses: Responses,
    verdicts: Iterable[Verdict],
    judge: str | None = None,
    held_out: Collection[str] | None = None,
) -> list[Score]:
    """Score one run with every metric, overall and per category.

    Args:
        queries: All queries asked.
        responses: What is in ``responses.jsonl``, all at once or one by one when they are needed (``store.Lines``).
        verdicts: What is in ``verdicts.jsonl``, which may be read on the way; of two for the same (query, criterion)
            the later one counts.
        judge: Only verdicts of this judge; needed if there are those of several.
        held_out: Ids of the val records that train does not give away; if given, each metric on generality is there
            once more, named ``..._held_out``, over these records alone.

    Raises:
        UserError: If verdicts of several judges are given and ``judge`` is not, or names none of them.

    Example:
        >>> {score.metric: score.value for score in score([], [], [])}["sarr"] is None
        True
    """
    return pooled([(queries, responses, verdicts)], judge, held_out)


def pooled(cells: Sequence[Cell], judge: str | None = None, held_out: Collection[str] | None = None) -> list[Score]:
    """Score several runs (seeds of one method) as one.

    ``n`` counts items over all seeds. The interval speaks of new questions and is never narrowed by asking the same
    ones again: that of a rate counts each input (image, question, sample) once, and a bootstrap draws images.

    Args:
        cells: (queries, responses, verdicts) per seed.
        judge: As in ``score``.
        held_out: As in ``score``.

    Raises:
        UserError: As in ``score``.

    Example:
        >>> len(pooled([([], [], []), ([], [], [])])) == len(METRICS.names())
        True
    """
    return [one for tally in _tallied(cells, judge, held_out) for one in tally.scores()]


def _tallied(cells: Iterable[Cell], judge: str | None, held_out: Collection[str] | None) -> list[Tally]:
    """Every metric over the cells; those on generality once more, over the held-out records alone."""
    tallies = [Tally(entry, name) for name, entry in METRICS]
    if held_out is not None:
        records = frozenset(held_out)
        again = [(name, entry) for name, entry in METRICS if entry.on == "generality"]
        tallies += [Tally(entry, f"{name}_held_out", records) for name, entry in again]
    for queries, responses, verdicts in cells:
        answers = index(responses, verdicts, judge)
        for query in queries:
            for tally in tallies:
                tally.add(query, answers)
    return tallies


def spread(cells: Sequence[Cell], judge: str | None = None, held_out: Collection[str] | None = None) -> list[Spread]:
    """Say how far the seeds of one method lie apart, for each metric that every seed has a value of.

    The interval of ``pooled`` speaks of new questions; this speaks of new seeds. The two are not to be added up.

    Args:
        cells: (queries, responses, verdicts) per seed.
        judge: As in ``score``.
        held_out: As in ``score``.

    Returns:
        Nothing where there are fewer than two seeds.

    Raises:
        UserError: As in ``score``.

    Example:
        >>> spread([([], [], [])])
        []
    """
    if len(cells) < 2:
        return []
    found = []
    for tallies in zip(*(_tallied([one], judge, held_out) for one in cells), strict=True):
        scored = [tally.values() for tally in tallies]
        if all(scored):
            means = [fmean(values) for values in scored]
            low, high = min(means), max(means)
            found.append(
                Spread(metric=tallies[0].name, seeds=len(means), mean=fmean(means), sd=stdev(means), low=low, high=high)
            )
    return found


def samples(
    name: str,
    queries: Sequence[Query],
    responses: Responses,
    verdicts: Iterable[Verdict],
    judge: str | None = None,
) -> list[tuple[str, float]]:
    """The scored values of one metric with their images, for paired comparisons (``statistics.relative_decrease``).

    The image is the unit that a bootstrap draws: it stands for the record, and for all records that share a safe image.

    Raises:
        UserError: If there is no such metric, or as in ``score``.

    Example:
        >>> samples("sarr", [], [], [])
        []
    """
    items = METRICS.get(name).items(queries, index(responses, verdicts, judge))
    return [(item.query.image, item.value) for item in items if item.value is not None]


def index(responses: Responses, verdicts: Iterable[Verdict], judge: str | None = None) -> Answers:
    """Make the responses and the verdicts of one judge findable by query; of a verdict only its value is kept.

    Raises:
        UserError: As in ``score``.

    Example:
        >>> index([Response(query_id="q", answer="A cat.", finished=True)], []).responses["q"].answer
        'A cat.'
    """
    values: dict[str, dict[Criterion, Lookup[float]]] = defaultdict(lambda: defaultdict(lambda: Lookup(float)))
    for verdict in verdicts:
        values[verdict.judge][verdict.criterion].add(verdict.query_id, nan if verdict.value is None else verdict.value)
    judges = sorted(values)
    if judge is None and len(judges) > 1:
        raise UserError(f"verdicts of several judges ({', '.join(judges)}): say which one counts with judge=...")
    if judge is not None and judges and judge not in judges:
        raise UserError(f"no verdict of judge {judge!r}: there are those of {', '.join(judges)}")
    found = responses if isinstance(responses, Mapping) else {response.query_id: response for response in responses}
    return Answers(found, values[judge or judges[0]] if judges else {})

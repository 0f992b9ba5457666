"""What a metric is, the registry of all metrics, and scores of one or several runs by all of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Literal, NamedTuple

from safeeraser.core.errors import UserError
from safeeraser.core.registry import Registry
from safeeraser.metrics.statistics import Estimate, bootstrap_mean, wilson
from safeeraser.records import Criterion, Query, QuerySet, Response, Score, Spread, Verdict

Cell = tuple[Sequence[Query], Iterable[Response], Iterable[Verdict]]
"""What one run (one seed) left behind."""


@dataclass(frozen=True)
class Answers:
    """Responses by query id, and the values of one judge's verdicts by criterion and query id."""

    responses: Mapping[str, Response]
    values: Mapping[Criterion, Mapping[str, float | None]] = field(default_factory=dict)

    def response(self, query: Query) -> Response | None:
        """The response to a query, or None if there is none or it is an error."""
        response = self.responses.get(query.id)
        return None if response is None or response.error is not None else response

    def verdict(self, query: Query, criterion: Criterion) -> float | None:
        """The verdict on a query, or None if there is none, it is unscored or there is no answer to judge."""
        return None if self.response(query) is None else self.values.get(criterion, {}).get(query.id)


class Item(NamedTuple):
    """A query with its value, None where it cannot be scored."""

    query: Query
    value: float | None


@dataclass(frozen=True)
class Metric:
    """A named mean over the queries of one set: a value in [0, 1] per query, or None where it cannot be scored.

    ``interval`` is "wilson" for rates (values 0 or 1) and "bootstrap" (over images) for means. ``group``, ``among``
    (of which answers it is a share) and ``records`` (ids), where given, narrow the queries further. One with
    ``if_any`` is reported only where it is about some answer. Calling it gives the scores of one run.
    """

    name: str
    on: QuerySet
    group: str | None
    interval: Literal["wilson", "bootstrap"]
    value: Callable[[Query, Answers], float | None]
    records: frozenset[str] | None = None
    among: Callable[[Query, Answers], bool] | None = None
    if_any: bool = False

    @property
    def description(self) -> str:
        """The definition: source, denominator, divergence."""
        return self.value.__doc__ or ""

    def __call__(
        self, queries: Iterable[Query], responses: Iterable[Response], verdicts: Iterable[Verdict]
    ) -> list[Score]:
        """Score one run: "all", then each category in alphabetical order."""
        return self.scores(self.items(queries, index(responses, verdicts)))

    def is_about(self, query: Query) -> bool:
        """Whether a query is one of its set, group and records."""
        return (
            query.set == self.on
            and self.group in (None, query.group)
            and (self.records is None or query.record_id in self.records)
        )

    def items(self, queries: Iterable[Query], answers: Answers) -> list[Item]:
        """The value of each query that the metric is about."""
        about = [query for query in queries if self.is_about(query)]
        among = about if self.among is None else [query for query in about if self.among(query, answers)]
        return [Item(query, self.value(query, answers)) for query in among]

    def scores(self, items: Sequence[Item]) -> list[Score]:
        """Score items of one or several runs: "all", then each category in alphabetical order."""
        categories: dict[str, list[Item]] = defaultdict(list)
        for item in items:
            categories[item.query.category].append(item)
        named = sorted(categories.keys() - {"", "all"})
        return [self._score("all", items), *(self._score(name, categories[name]) for name in named)]

    def _score(self, category: str, items: Sequence[Item]) -> Score:
        scored = [(item.query, item.value) for item in items if item.value is not None]
        if scored and self.interval == "wilson":
            rate = sum(value for _, value in scored) / len(scored)
            # a question asked again, by seed or by sample, or for records that share a safe image, is one trial
            trials = {(query.image, query.question) for query, _ in scored}
            found = Estimate(rate, *wilson(rate, len(trials)))
        else:
            found = bootstrap_mean([(query.cluster, value) for query, value in scored])
        n, unscored = len(scored), len(items) - len(scored)
        return Score(metric=self.name, category=category, n=n, n_unscored=unscored, **found._asdict())


METRICS: Registry[Metric] = Registry("metric", "safeeraser.metrics")

_Value = Callable[[Query, Answers], float | None]


def metric(
    name: str,
    on: QuerySet,
    interval: Literal["wilson", "bootstrap"] = "wilson",
    group: str | None = None,
    among: Callable[[Query, Answers], bool] | None = None,
    if_any: bool = False,
) -> Callable[[_Value], _Value]:
    """Register a function (query, answers) -> value or None as a ``Metric``; its docstring is the definition."""

    def register(value: _Value) -> _Value:
        METRICS.add(name, Metric(name, on, group, interval, value, among=among, if_any=if_any))
        return value

    return register


def score(
    queries: Sequence[Query],
    responses: Iterable[Response],
    verdicts: Iterable[Verdict],
    judge: str | None = None,
    held_out: Collection[str] | None = None,
) -> list[Score]:
    """Score one run with every metric, overall and per category.

    Args:
        queries: All queries asked.
        responses: What is in ``responses.jsonl``; of two responses to a query the later one counts.
        verdicts: What is in ``verdicts.jsonl``; of two for the same (query, criterion) the later one counts.
        judge: Only verdicts of this judge; needed if there are those of several.
        held_out: Ids of the val records that train does not give away; if given, each metric on generality is there
            once more, named ``..._held_out``, over these records alone.

    Raises:
        UserError: If verdicts of several judges are given and ``judge`` is not, or names none of them.
    """
    return pooled([(queries, responses, verdicts)], judge, held_out)


def pooled(cells: Iterable[Cell], judge: str | None = None, held_out: Collection[str] | None = None) -> list[Score]:
    """Score several runs (seeds of one method) as one.

    ``n`` counts items over all seeds. The interval speaks of new questions and is never narrowed by asking the same
    ones again: that of a rate counts each input (image, question) once, and a bootstrap draws images.

    Example:
        >>> any(score.n for score in pooled([([], [], []), ([], [], [])]))
        False
    """
    runs = [indexed(cell, judge) for cell in cells]
    scores: list[Score] = []
    for entry in _reported(held_out):
        items = [item for run in runs for item in entry.items(*run)]
        scores += entry.scores(items) if items or not entry.if_any else []
    return scores


def spread(cells: Sequence[Cell], held_out: Collection[str] | None = None) -> list[Spread]:
    """Say how far the seeds of one method lie apart, for each metric that every seed has a value of.

    The interval of ``pooled`` speaks of new questions; this speaks of new seeds. The two are not to be added up.

    Example:
        >>> spread([([], [], [])])
        []
    """
    if len(cells) < 2:
        return []
    runs = [indexed(cell) for cell in cells]
    spreads = []
    for entry in _reported(held_out):
        values = [[item.value for item in entry.items(*run) if item.value is not None] for run in runs]
        if all(values):
            spreads.append(Spread.of(entry.name, [fmean(of_seed) for of_seed in values]))
    return spreads


def _reported(held_out: Collection[str] | None) -> list[Metric]:
    """Every metric; those on generality once more, over the held-out records alone."""
    entries = [entry for _, entry in METRICS]
    if held_out is None:
        return entries
    narrowed = [entry for entry in entries if entry.on == "generality"]
    records = frozenset(held_out)
    return entries + [replace(entry, name=f"{entry.name}_held_out", records=records) for entry in narrowed]


def samples(name: str, cell: Cell) -> list[tuple[str, float]]:
    """The scored values of one metric with their images, for paired comparisons (``statistics.relative_decrease``).

    The image is the unit that a bootstrap draws: it stands for the record, and for all records that share a safe image.
    """
    items = METRICS.get(name).items(*indexed(cell))
    return [(item.query.cluster, item.value) for item in items if item.value is not None]


def indexed(cell: Cell, judge: str | None = None) -> tuple[Sequence[Query], Answers]:
    """The queries of a cell, and what was answered and judged, as ``Metric.items`` takes them."""
    queries, responses, verdicts = cell
    return queries, index(responses, verdicts, judge)


def index(responses: Iterable[Response], verdicts: Iterable[Verdict], judge: str | None = None) -> Answers:
    """Make the responses and the values of one judge's verdicts findable by query.

    Example:
        >>> index([Response(query_id="q", answer="A cat.", finished=True)], []).responses["q"].answer
        'A cat.'
    """
    values: dict[str, dict[Criterion, dict[str, float | None]]] = defaultdict(lambda: defaultdict(dict))
    for verdict in verdicts:
        values[verdict.judge][verdict.criterion][verdict.query_id] = verdict.value
    judges = sorted(values)
    if judge is None and len(judges) > 1:
        raise UserError(f"verdicts of several judges ({', '.join(judges)}): say which one counts with judge=...")
    if judge is not None and judges and judge not in judges:
        raise UserError(f"no verdict of judge {judge!r}: there are those of {', '.join(judges)}")
    by_query = {response.query_id: response for response in responses}
    return Answers(by_query, values[judge or judges[0]] if judges else {})

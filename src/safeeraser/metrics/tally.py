"""What a metric comes to, question by question: a value, a category and what it is counted by, in 20 bytes each."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Sequence
from math import isnan, nan
from typing import TYPE_CHECKING

from safeeraser.metrics.statistics import bootstrap_mean, wilson
from safeeraser.records import Query, Score
from safeeraser.spool import OnDemand

if TYPE_CHECKING:
    from safeeraser.metrics import Answers, Metric

__all__ = ["Tally"]


class Tally:
    """Takes in the questions of one or several runs and gives the scores of one metric.

    Args:
        metric: The metric.
        name: What its scores are called.
        records: Ids of the records to look at; None: all.

    Example:
        >>> from safeeraser.metrics import METRICS
        >>> Tally(METRICS.get("sarr"), "sarr").scores()[0].n
        0
    """

    def __init__(self, metric: Metric, name: str, records: Collection[str] | None = None) -> None:
        """Start with no question."""
        self.name, self._metric, self._records = name, metric, records
        self._categories: dict[str, int] = {}
        self._images: dict[str, int] = {}
        self._category, self._counted_by, self._value = array("I"), array("q"), array("d")

    def add(self, query: Query, answers: Answers) -> None:
        """Take in a question, if the metric is about it."""
        if not self._metric.is_about(query) or (self._records is not None and query.record_id not in self._records):
            return
        value = self._metric.value(query, answers)
        self._value.append(nan if value is None else value)
        self._category.append(self._categories.setdefault(query.category, len(self._categories)))
        if self._metric.interval == "wilson":
            # the same input under several seeds, or for several records that share a safe image, is one question
            self._counted_by.append(hash((query.image, query.question, query.sample)))
        else:
            self._counted_by.append(self._images.setdefault(query.image, len(self._images)))

    def values(self) -> list[float]:
        """The values there are."""
        return [value for value in self._value if not isnan(value)]

    def scores(self) -> list[Score]:
        """The score of "all", then of each category in alphabetical order."""
        every = self._score("all", self._value, self._counted_by)
        return [every, *(self._of_category(name) for name in sorted(self._categories.keys() - {"", "all"}))]

    def _of_category(self, name: str) -> Score:
        number = self._categories[name]
        places = array("I", (place for place, category in enumerate(self._category) if category == number))
        values, counted_by = array("d"), array("q")
        for place in places:
            values.append(self._value[place])
            counted_by.append(self._counted_by[place])
        return self._score(name, values, counted_by)

    def _score(self, category: str, every: array[float], counted_by: array[int]) -> Score:
        values = array("d", (value for value in every if not isnan(value)))
        keys = array("q", (key for key, value in zip(counted_by, every, strict=True) if not isnan(value)))
        n, unscored = len(values), len(every) - len(values)
        value: float | None
        low: float | None
        high: float | None
        if not n:
            value = low = high = None
        elif self._metric.interval == "wilson":
            value = sum(values) / n
            low, high = wilson(value, _distinct(keys))
        else:
            value, low, high = bootstrap_mean(_Samples(list(self._images), keys, values))
        return Score(metric=self.name, category=category, value=value, low=low, high=high, n=n, n_unscored=unscored)


class _Samples(OnDemand[tuple[str, float]]):
    """Image and value of each scored question."""

    def __init__(self, names: Sequence[str], images: array[int], values: array[float]) -> None:
        self._names, self._images, self._values = names, images, values

    def _item(self, place: int) -> tuple[str, float]:
        return self._names[self._images[place]], self._values[place]

    def __len__(self) -> int:
        return len(self._values)


def _distinct(keys: array[int]) -> int:
    import numpy as np

    return len(np.unique(np.array(keys)))

"""What the functions return: answers with their verdicts, and scores; each as rows, for pandas and for datasets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from safeeraser.core.errors import UserError
from safeeraser.core.registry import suggestion
from safeeraser.core.table import percent
from safeeraser.data import Benchmark
from safeeraser.records import OF_TRACE, Criterion, Query, Response, Score, Verdict

if TYPE_CHECKING:
    import datasets
    import pandas

Row = dict[str, Any]


class Records(ABC):
    """Rows of plain values under fixed columns."""

    @property
    @abstractmethod
    def rows(self) -> list[Row]:
        """A mapping of column to value per row; all have the same columns."""

    def to_pandas(self) -> pandas.DataFrame:
        """As a data frame.

        Raises:
            UserError: If pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise UserError("to_pandas() needs pandas: pip install pandas") from None
        return pandas.DataFrame(self.rows)

    def to_dataset(self) -> datasets.Dataset:
        """As a Hugging Face dataset; the column ``image``, if there is one, holds images.

        Raises:
            UserError: If datasets is not installed.
        """
        try:
            import datasets
        except ImportError:
            raise UserError("to_dataset() needs datasets: pip install 'safeeraser[export]'") from None
        made = datasets.Dataset.from_list(self.rows)
        return made.cast_column("image", datasets.Image()) if "image" in made.column_names else made

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        """Row by row."""
        return iter(self.rows)


@dataclass(frozen=True, repr=False)
class Answers(Records):
    """What a model answered to a benchmark's questions, a response per query, and what a judge said to it.

    ``verdicts`` are one judge's, and none before ``judge``; ``method`` is "vanilla" if the model was not unlearnt.
    """

    benchmark: Benchmark
    queries: Sequence[Query]
    responses: Sequence[Response]
    verdicts: Sequence[Verdict] = ()
    model: str = ""
    method: str = "vanilla"
    seed: int | None = None

    @property
    def rows(self) -> list[Row]:
        """A row per question: query, question, image, method, answer, and a column for each criterion judged by.

        A verdict is 0, 1 (``similarity``: 0 to 1) or None, where ``unscored`` says why if anybody was asked. Where
        some answers have reasoning before them, ``trace`` is that, and each criterion of a trace has a column.
        """
        responses = {response.query_id: response for response in self.responses}
        verdicts: dict[str, dict[str, Verdict]] = {}
        for verdict in self.verdicts:
            verdicts.setdefault(verdict.query_id, {})[verdict.criterion] = verdict
        traced = any(response.trace for response in self.responses)
        return [self._row(query, responses.get(query.id), verdicts.get(query.id, {}), traced) for query in self.queries]

    def _row(self, query: Query, response: Response | None, verdicts: Mapping[str, Verdict], traced: bool) -> Row:
        image = str(self.benchmark.root / query.image) if query.image else None
        row: Row = {"query": query.id} | {name: getattr(query, name) for name in ("set", "category", "group")}
        row |= {"question": query.question, "image": image, "reference": query.reference}
        row |= {name: getattr(self, name) for name in ("model", "method", "seed")}
        told = ("answer", "finished", "error", *(["trace"] if traced else []))
        row |= {name: getattr(response, name, None) for name in told}
        names = [name for name in get_args(Criterion) if traced or name not in OF_TRACE]
        row |= {name: verdicts[name].value if name in verdicts else None for name in names}
        reasons = [f"{name}: {one.unscored}" for name, one in verdicts.items() if one.unscored]
        return row | {
            "unscored": "; ".join(reasons) or None,
            "judge": next((one.judge for one in verdicts.values()), None),
        }

    def __repr__(self) -> str:
        """Say how many there are, of what."""
        judged = f", judged by {self.verdicts[0].judge}" if self.verdicts else ""
        return f"Answers({len(self.queries):,} of {self.method} on {self.benchmark.name}{judged})"


@dataclass(frozen=True, repr=False)
class Scores(Records):
    """Every metric, overall and per category, as fractions with 95 % intervals.

    Example:
        >>> scores = Scores([Score(metric="sarr", value=0.5, low=0.2, high=0.8, n=4)])
        >>> scores["sarr"].value
        0.5
        >>> print(scores)
        sarr  50.0 % [20.0, 80.0]  n 4
        >>> scores["sar"]
        Traceback (most recent call last):
        safeeraser.core.errors.UserError: unknown metric 'sar': did you mean 'sarr'? available: sarr
    """

    scores: Sequence[Score]

    @property
    def rows(self) -> list[Row]:
        """A row per metric and category: value, low, high, n, n_unscored."""
        return [score.model_dump() for score in self.scores]

    def __getitem__(self, metric: str) -> Score:
        """A metric over all categories."""
        overall = self._overall()
        if metric not in overall:
            hint = suggestion(metric, overall)
            raise UserError(f"unknown metric {metric!r}: {hint}available: {', '.join(overall)}")
        return overall[metric]

    def _overall(self) -> dict[str, Score]:
        return {score.metric: score for score in self.scores if score.category == "all"}

    def __repr__(self) -> str:
        """A line per metric, in percent; what nothing could be said about is left out."""
        known = [score for score in self._overall().values() if score.value is not None]
        width = max((len(score.metric) for score in known), default=0)
        return "\n".join(
            f"{one.metric:<{width}}  {percent(one.value)} % [{percent(one.low)}, {percent(one.high)}]  n {one.n:,}"
            for one in known
        )

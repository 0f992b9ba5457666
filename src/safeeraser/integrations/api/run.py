"""A run folder as an object, and the bench that makes one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safeeraser import data as _data
from safeeraser.bench import matrix, runs, summary
from safeeraser.config import BenchConfig
from safeeraser.core import table as core_table
from safeeraser.core.errors import UserError
from safeeraser.core.registry import suggestion
from safeeraser.data import Benchmark
from safeeraser.integrations.api import given
from safeeraser.integrations.api.records import Answers, Records, Row, Scores
from safeeraser.integrations.api.steps import Folder
from safeeraser.models import VisionLanguageModel
from safeeraser.records import VANILLA
from safeeraser.report import table

if TYPE_CHECKING:
    from safeeraser.bench.summary import Results

WIDTH = 160


class Run(Records):
    """The finished cells of a bench: answers with their verdicts as rows, and the scores of each method.

    Args:
        folder: Run folder written by ``bench``, or one inside it.

    Raises:
        UserError: If no cell in it is finished.

    Example:
        >>> Run("nowhere")
        Traceback (most recent call last):
        safeeraser.core.errors.UserError: nowhere: no finished cell here; give a folder written by 'safeeraser bench'
    """

    def __init__(self, folder: Folder) -> None:
        self.folder = Path(folder)
        self.failed: tuple[str, ...] = ()
        self._cells = runs.find(self.folder)
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        """Goes when the object does."""
        self._benchmark = cache(_data.load)

    @cached_property
    def results(self) -> Results:
        """The table: a row per method, seeds pooled, and the decrease of SARR by PD."""
        return summary.summarise(self._cells, self.failed)

    @property
    def methods(self) -> list[str]:
        """The methods, vanilla first; with the model's name in front where there are several."""
        return [table.name_of(row, self.results.rows) for row in self.results.rows]

    def scores(self, method: str) -> Scores:
        """The scores of a method, its seeds pooled, overall and per category.

        Raises:
            UserError: If the run has no such method.
        """
        row = self.results.rows[self._place(method)]
        by_category = [row.scores, *row.categories.values()]
        return Scores([score for scores in by_category for score in scores.values()])

    def answers(self, method: str | None = None) -> list[Answers]:
        """The judged answers, one ``Answers`` for each seed of a method.

        Args:
            method: One of ``methods``; None: all.

        Raises:
            UserError: If the run has no such method.
        """
        groups = list(runs.by_group(self._cells).values())
        chosen = groups if method is None else [groups[self._place(method)]]
        return [self._answers(cell) for cells in chosen for cell in cells]

    @property
    def rows(self) -> list[Row]:
        """A row per answer of every method and seed, as ``Answers.rows``."""
        return [row for answers in self.answers() for row in answers.rows]

    def report(self) -> Path:
        """Write ``report/`` (page, tables, figures) into the run folder and return the page's file."""
        from safeeraser.report import run

        run.write(self.folder, self._cells, self.failed)
        return self.folder / "report" / "index.html"

    def __repr__(self) -> str:
        """The table, in percent, with the decrease of SARR by PD under it."""
        from io import StringIO

        from rich.console import Console

        out = StringIO()
        Console(file=out, width=WIDTH, markup=False, emoji=False).print(
            core_table.console(table.console_table(self.results))
        )
        return "\n".join([out.getvalue().rstrip(), *table.headline(self.results)])

    def _place(self, method: str) -> int:
        if method not in self.methods:
            hint = suggestion(method, self.methods)
            raise UserError(f"{self.folder}: no method {method!r}: {hint}available: {', '.join(self.methods)}")
        return self.methods.index(method)

    def _answers(self, cell: runs.Cell) -> Answers:
        spec = cell.spec
        seed = None if spec.method == VANILLA else spec.seed
        benchmark = self._benchmark(spec.data, on_bad=spec.on_bad)
        return Answers(benchmark, *cell.judged(), spec.model, cell.group[1], seed)


def bench(
    methods: str | Sequence[str | Mapping[str, float]] = "vanilla,po,po+pd",
    model: str | VisionLanguageModel = "mini-llava",
    data: str | os.PathLike[str] | Benchmark = "pictogram",
    out: Folder | None = None,
    **options: Any,
) -> Run:
    """Run the whole pipeline for every method and seed, several cells side by side.

    Args:
        methods: Methods, as a list or separated by commas.
        model: A model or its name; the cells load it by its name.
        data: A benchmark, its name or its folder.
        out: Run folder; the same call finishes what is missing there. None: one that goes with the ``Run``.
        options: Options of ``config.BenchConfig`` by the names of the command line: ``seeds``, ``limit``,
            ``questions``, ``steps``, ``max_new_tokens``, ``jobs``, ``judge``, ...

    Returns:
        The run; cells that failed are in ``failed``, and what their logs say was printed.

    Raises:
        UserError: If an option or the data cannot be used, or no cell could be finished.
    """
    values = dict(options)
    name = model if isinstance(model, str) else model.name
    if isinstance(model, VisionLanguageModel):
        if model.method != VANILLA:
            raise UserError(f"the model was unlearnt before ({model.method}): give the model that it was made of")
        values.setdefault("loading", model.loading)
    temporary = tempfile.TemporaryDirectory(prefix="safeeraser-") if out is None else None
    folder = Path(temporary.name if temporary else out or "")
    listed = methods if isinstance(methods, str) else [one if isinstance(one, str) else dict(one) for one in methods]
    values |= {"methods": listed, "model": name, "data": _named(data, values.get("limit")), "out": str(folder)}
    failed: list[str] = []
    config = given.options(BenchConfig, values, name)
    if config.list_cells or config.cell or config.budgets is not None:
        raise UserError("list_cells, cell and budgets are for the command line: 'safeeraser bench'")
    matrix.run(config, lambda _, done, labels: failed.extend(labels))
    run = Run(folder)
    run.failed, run._temporary = tuple(failed), temporary
    return run


def _named(data: str | os.PathLike[str] | Benchmark, limit: int | None) -> str:
    """What the cells load it by; a benchmark that was changed since it was read has no such name."""
    if not isinstance(data, Benchmark):
        return os.fspath(data)
    name = data.name if data.name in _data.BENCHMARKS.names() else str(data.root)
    if _data.load(name, limit).fingerprint != data.fingerprint:
        raise UserError(f"the benchmark is not what {name!r} holds: give its name, and limit=... for a part of it")
    return name

"""What the cells of a run found: the seeds of a method pooled, its decrease of SARR by PD, its curves of losses.

Always scored anew from all verdicts on disk; nothing is taken from an earlier report.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from safeeraser.bench.runs import PD, Cell, Judged, by_group, names, train_log
from safeeraser.metrics import pooled, public, samples, specificity, spread, statistics
from safeeraser.records import Score, Spread


@dataclass(frozen=True)
class Row:
    """One line of the table: a model and method with its scores pooled over seeds, overall and by category.

    ``spread`` says how far the seeds lie apart, by metric (empty for one seed); ``judge`` is the name of the judge,
    ``sets`` says by public set how it was judged and asked.
    """

    model: str
    method: str
    seeds: tuple[int, ...]
    scores: Mapping[str, Score]
    spread: Mapping[str, Spread] = field(default_factory=dict)
    categories: Mapping[str, Mapping[str, Score]] = field(default_factory=dict)
    judge: str = "api"
    sets: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Decrease:
    """Relative decrease by PD of SARR (or SARR+): 1 - SARR(base + pd) / SARR(base), with its 95 % interval."""

    base: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Results:
    """All that the table shows, and what could not be run."""

    rows: Sequence[Row]
    decreases: Sequence[Decrease] = ()
    mean_decrease: Decrease | None = None
    failed: Sequence[str] = ()
    plus_decreases: Sequence[Decrease] = ()
    """Of SARR+; empty where nobody could tell what answers are about."""
    plus_mean: Decrease | None = None


def pooled_scores(cells: Sequence[Cell]) -> dict[str, Score]:
    """Scores over all seeds of one method, overall (not per category)."""
    scores = pooled([cell.judged() for cell in cells], held_out=cells[0].spec.held_out_records())
    return {score.metric: score for score in scores if score.category == "all"}


def summarise(
    cells: Sequence[Cell], failed: Sequence[str] = (), held_out: bool = True, judged: Sequence[Judged] | None = None
) -> Results:
    """Pool the seeds of each method, overall and per category, and pair each base method with its +PD variant.

    Args:
        cells: Finished cells.
        failed: What could not be run, for the table to say.
        held_out: Report generality on the held-out records as well, where the cells were run with a list of them.
        judged: What each cell has ``judged()``; None: it is read here, of one method at a time.
    """
    there = {} if judged is None else {cell.folder: files for cell, files in zip(cells, judged, strict=True)}
    rows: list[Row] = []
    sarr: dict[str, dict[int, _Samples]] = {}
    plus: dict[str, dict[int, _Samples]] = {}
    named = names(cells)
    for group, seeds in by_group(cells).items():
        of_seeds = [there[cell.folder] if there else cell.judged() for cell in seeds]
        records = seeds[0].spec.held_out_records() if held_out else None
        tasks = [specificity.read(cell.folder) for cell in seeds]
        spreads = [*spread(of_seeds, held_out=records), *specificity.spreads(tasks)]
        categories: dict[str, dict[str, Score]] = {}
        folders = [cell.folder for cell in seeds]
        also = [*specificity.scores(tasks), *public.scores(folders)]
        for score in [*pooled(of_seeds, held_out=records), *also]:
            categories.setdefault(score.category, {})[score.metric] = score
        spec, numbers = seeds[0].spec, tuple(cell.spec.seed for cell in seeds)
        by_metric = {one.metric: one for one in spreads}
        scores, sets = categories.pop("all"), public.made(folders)
        rows.append(Row(spec.model, group[1], numbers, scores, by_metric, categories, spec.judge, sets))
        for values, metric in ((sarr, "sarr"), (plus, "sarr_plus")):
            found = [samples(metric, of_seed) for of_seed in of_seeds]
            values[named[group]] = dict(zip(numbers, found, strict=True))
    told = all(all(of_seeds.values()) for of_seeds in plus.values())
    return Results(rows, *_decreases(sarr), failed, *(_decreases(plus) if told else ()))


_Samples = list[tuple[str, float]]


def _decreases(sarr: Mapping[str, Mapping[int, _Samples]]) -> tuple[list[Decrease], Decrease | None]:
    """Relative SARR decrease by PD for each base method that ran with and without it, seeds pooled and paired."""
    pairs = {}
    for name, base in sarr.items():
        treated = sarr.get(name + PD, {})
        seeds = [seed for seed in base if seed in treated]
        if seeds:
            pairs[name] = [s for seed in seeds for s in base[seed]], [s for seed in seeds for s in treated[seed]]
    listed = [_decrease(label, statistics.relative_decrease([pair])) for label, pair in pairs.items()]
    kept = [decrease for decrease in listed if decrease is not None]
    if not kept or len(kept) < len(listed):
        return kept, None
    return kept, _decrease("mean", statistics.relative_decrease(list(pairs.values())))


def _decrease(label: str, estimate: statistics.Estimate) -> Decrease | None:
    value, low, high = estimate
    return None if value is None or low is None or high is None else Decrease(label, value, low, high)


Losses = dict[str, list[dict[str, list[tuple[int, float]]]]]
"""method -> one per seed: component -> (step, value) in order."""

_NO_COMPONENT = {"step", "loss", "grad_norm", "learning_rate", "epoch"}


def losses(cells: Sequence[Cell]) -> Losses:
    """Read the loss terms of each cell's training, before their weights, from ``train.jsonl``."""
    by_method: Losses = {}
    named = names(cells)
    for group, seeds in by_group(cells).items():
        curves = [_components(train_log(cell.folder)) for cell in seeds]
        if any(curves):
            by_method[named[group]] = [curve for curve in curves if curve]
    return by_method


def _components(lines: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    curves: dict[str, list[tuple[int, float]]] = {}
    for values in lines:
        for name, value in values.items():
            if name not in _NO_COMPONENT and type(value) in (int, float) and abs(value) < math.inf:
                curves.setdefault(name, []).append((values["step"], float(value)))
    return curves

"""What a run found: finished cells read back from its folder, always scored anew from all their verdicts."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from safeeraser import cell, store, suites
from safeeraser.errors import UserError
from safeeraser.metrics import pooled, samples, spread, statistics
from safeeraser.records import Query, Response, Score, Verdict
from safeeraser.report.table import Decrease, Results, Row

PD = "+pd"
Group = tuple[str, str]
"""(model, method) as they stand in the run folder."""
Judged = tuple[list[Query], list[Response], list[Verdict]]
"""All that a cell has asked, answered and judged."""


class Ran(Protocol):
    """What is read of a cell: where it lies and what it was made with."""

    @property
    def folder(self) -> Path:
        """Where it lies."""

    @property
    def spec(self) -> cell.CellSpec:
        """What it was made with."""


@dataclass(frozen=True)
class Finished:
    """A cell that has its scores, found in a run folder."""

    folder: Path
    spec: cell.CellSpec

    @property
    def judge(self) -> str:
        """The id of the judge that its scores come from."""
        return cell.scores_of(self.folder).judge


def find(folder: Path) -> list[Finished]:
    """Find the finished cells of a run: vanilla first, then by method and seed.

    Args:
        folder: A run folder, or one inside it: of a model, of a method, or of a single cell.

    Raises:
        UserError: If there is none, or two of the same model, method and seed.

    Example:
        >>> find(Path("nowhere"))
        Traceback (most recent call last):
        safeeraser.errors.UserError: nowhere: no finished cell here; give a folder written by 'safeeraser bench'
    """
    root = folder / "cells" if (folder / "cells").is_dir() else folder
    found = [
        Finished(path.parent, store.read_object(path, cell.CellSpec))
        for path in sorted(root.rglob("cell.json"))
        if cell.is_done(path.parent)
    ]
    if not found:
        raise UserError(f"{folder}: no finished cell here; give a folder written by 'safeeraser bench'")
    seen: dict[tuple[Group, int], Path] = {}
    for one in found:
        key = (group_of(one), one.spec.seed)
        if key in seen:
            raise UserError(f"{folder} holds one cell twice ({seen[key]} and {one.folder}): give a folder further down")
        seen[key] = one.folder
    return sorted(found, key=lambda one: (*_order(*group_of(one)), one.spec.seed))


def group_of(ran: Ran) -> Group:
    """The model and the method of a cell, as its folder names them (``cells/MODEL/METHOD/seed-S``)."""
    folder = ran.folder.resolve()
    return folder.parent.parent.name, folder.parent.name


def by_group(done: Sequence[Ran]) -> dict[Group, list[Ran]]:
    """Put the seeds of a method together; the order stays."""
    groups: dict[Group, list[Ran]] = {}
    for ran in done:
        groups.setdefault(group_of(ran), []).append(ran)
    return groups


def _order(model: str, method: str) -> tuple[str, bool, str]:
    return model, method != cell.VANILLA, method


def load(done: Sequence[Ran]) -> list[Judged]:
    """Read queries, responses and verdicts of cells; of several judges' verdicts those that its scores come from."""
    loaded: list[Judged] = []
    for ran in done:
        queries, responses, verdicts = cell.load_judged(ran.folder)
        judge = Finished(ran.folder, ran.spec).judge
        loaded.append((queries, responses, [verdict for verdict in verdicts if verdict.judge == judge]))
    return loaded


def pooled_scores(done: Sequence[Ran]) -> dict[str, Score]:
    """Scores over all seeds of one method, overall (not per category)."""
    scores = pooled(load(done), held_out=cell.held_out_of(done[0].spec))
    return {score.metric: score for score in scores if score.category == "all"}


def summarise(
    done: Sequence[Ran],
    failed: Sequence[str] = (),
    held_out: bool = True,
    loaded: Sequence[Judged] | None = None,
) -> Results:
    """Pool the seeds of each method, overall and per category, and pair each base method with its +PD variant.

    Args:
        done: Finished cells.
        failed: What could not be run, for the table to say.
        held_out: Report generality on the held-out records as well, where the cells were run with a list of them.
        loaded: What ``load`` has read of these cells; None: it is read here, of one method at a time.

    Raises:
        UserError: If that list has changed, or a file of a cell is not what it should be.
    """
    rows, sarr = [], {}
    there = {} if loaded is None else {ran.folder: judged for ran, judged in zip(done, loaded, strict=True)}
    for group, ran in by_group(done).items():
        judged = [there[one.folder] for one in ran] if there else load(ran)
        records = cell.held_out_of(ran[0].spec) if held_out else None
        benchmarked = [suites.read(one.folder) for one in ran]
        scores = [*pooled(judged, held_out=records), *suites.scores(benchmarked)]
        spreads = [*spread(judged, held_out=records), *suites.spreads(benchmarked)]
        categories: dict[str, dict[str, Score]] = {}
        for score in scores:
            categories.setdefault(score.category, {})[score.metric] = score
        rows.append(
            Row(
                ran[0].spec.model,
                group[1],
                tuple(one.spec.seed for one in ran),
                categories.pop("all"),
                {one.metric: one for one in spreads},
                categories,
            )
        )
        sarr[group] = {one.spec.seed: samples("sarr", *seed) for one, seed in zip(ran, judged, strict=True)}
    decreases, mean = _decreases(sarr)
    return Results(rows, decreases, mean, failed)


_Samples = list[tuple[str, float]]


def _decreases(sarr: Mapping[Group, Mapping[int, _Samples]]) -> tuple[list[Decrease], Decrease | None]:
    """Relative SARR decrease by PD for each base method that ran with and without it, seeds pooled and paired."""
    pairs = {}
    models = {model for model, _ in sarr}
    for (model, method), base in sarr.items():
        treated = sarr.get((model, method + PD), {})
        seeds = [seed for seed in base if seed in treated]
        if seeds:
            label = method if len(models) == 1 else f"{model} {method}"
            pairs[label] = (
                statistics.pool([base[seed] for seed in seeds]),
                statistics.pool([treated[seed] for seed in seeds]),
            )
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


def losses(done: Sequence[Ran]) -> Losses:
    """Read the loss terms of each cell's training, before their weights, from ``train.jsonl``.

    Raises:
        UserError: If a line is not JSON; the message names file and line.
    """
    found: Losses = {}
    for (_, method), ran in by_group(done).items():
        curves = [_components(one.folder / "train.jsonl") for one in ran]
        if any(curves):
            found[method] = [curve for curve in curves if curve]
    return found


def _components(path: Path) -> dict[str, list[tuple[int, float]]]:
    curves: dict[str, list[tuple[int, float]]] = {}
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []  # what a kill cut short is no line
    for number, line in enumerate(lines, 1):
        try:
            values = json.loads(line)
        except (ValueError, RecursionError):
            raise UserError(f"{path}, line {number}: not JSON; remove the line") from None
        if not isinstance(values, dict) or type(values.get("step")) is not int:
            raise UserError(f"{path}, line {number}, step: must be a whole number; remove the line")
        for name, value in values.items():
            if name not in _NO_COMPONENT and type(value) in (int, float) and abs(value) < math.inf:
                curves.setdefault(name, []).append((values["step"], float(value)))
    return curves

"""Which cells are compared with which: the same model, method and seed, or a base method and its +PD variant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from safeeraser.bench.runs import PD, Cell, by_group, names
from safeeraser.core.errors import UserError
from safeeraser.metrics.compare import compare as compare_cells
from safeeraser.metrics.compare import corrected
from safeeraser.records import Difference


@dataclass(frozen=True)
class Comparison:
    """Two groups of cells, ``a[i]`` to be compared with ``b[i]``, and what to call that."""

    label: str
    a: Sequence[Cell]
    b: Sequence[Cell]

    @property
    def note(self) -> str:
        """What else differs between the two, as one line; empty where nothing does."""
        changed: dict[str, tuple[str, str]] = {}
        for first, second in zip(self.a, self.b, strict=True):
            changed |= first.unlike(second)
        return "; ".join(f"{key}: {value} and {other}" for key, (value, other) in changed.items())

    @property
    def seeds(self) -> list[int]:
        """Of the side that has most; what is not trained has one."""
        return list(dict.fromkeys(one.spec.seed for one in (self.a if _is_untrained(self.b[:1]) else self.b)))


def within(cells: Sequence[Cell]) -> list[Comparison]:
    """Pair every base method with its +PD variant; UserError if none ran with it."""
    groups, named = by_group(cells), names(cells)
    comparisons = [
        _by_seed(f"{named[model, method]} → {method}{PD}", base, groups[model, method + PD])
        for (model, method), base in groups.items()
        if (model, method + PD) in groups
    ]
    if not comparisons:
        methods = ", ".join(sorted({method for _, method in groups}))
        raise UserError(f"no base method ran with its +PD variant (there are {methods}): name a second run or cell")
    return comparisons


def between(a: Sequence[Cell], b: Sequence[Cell]) -> list[Comparison]:
    """Pair the methods of two runs; two groups of cells are paired whatever their names."""
    first, second, labels = by_group(a), by_group(b), names(a)
    if len(first) == len(second) == 1:
        ((_, method),), ((_, other),) = first, second
        return [_by_seed(method if method == other else f"{method} → {other}", a, b)]
    if not set(first) & set(second) and len({m for m, _ in first}) == len({m for m, _ in second}) == 1:
        first, second = ({("", method): cells for (_, method), cells in of.items()} for of in (first, second))
        labels = {key: key[1] for key in first}
    comparisons = [_by_seed(labels[key], cells, second[key]) for key, cells in first.items() if key in second]
    if not comparisons:
        there = [", ".join(sorted({method for _, method in groups})) for groups in (first, second)]
        raise UserError(f"the two have no method in common ({there[0]}; {there[1]}): give two cells' folders instead")
    return comparisons


def _by_seed(label: str, a: Sequence[Cell], b: Sequence[Cell]) -> Comparison:
    """Pair by seed; of what is not trained one cell stands for every seed, and two single cells are paired anyhow."""
    first, second = {cell.spec.seed: cell for cell in a}, {cell.spec.seed: cell for cell in b}
    seeds = [seed for seed in first if seed in second]
    if _is_untrained(a):
        return Comparison(label, [a[0]] * len(b), b)
    if _is_untrained(b):
        return Comparison(label, a, [b[0]] * len(a))
    if not seeds and len(a) == len(b) == 1:
        return Comparison(label, a, b)
    if not seeds:
        raise UserError(f"{label}: no seed in common ({sorted(first)} and {sorted(second)}): run both with the same")
    return Comparison(label, [first[seed] for seed in seeds], [second[seed] for seed in seeds])


def _is_untrained(cells: Sequence[Cell]) -> bool:
    return len(cells) == 1 and not cells[0].spec.is_trained


def compare(comparisons: Sequence[Comparison], names: Sequence[str] | None = None) -> list[Difference]:
    """Compare metric by metric; the p-values are corrected for all comparisons made here.

    Raises:
        UserError: If two sides were judged by different judges, or answered no question in common.
    """
    differences: list[Difference] = []
    for pair in comparisons:
        judges = sorted({cell.judge for cell in [*pair.a, *pair.b]})
        if len(judges) > 1:
            raise UserError(f"{pair.label}: judged by {' and '.join(judges)}: judge both sides with the same judge")
        first, second = ([cell.judged() for cell in side] for side in (pair.a, pair.b))
        of_pair = compare_cells(pair.label, first, second, names)
        if not of_pair:
            raise UserError(f"{pair.label}: no question in common: both must have been asked about the same data")
        differences += of_pair
    return corrected(differences)

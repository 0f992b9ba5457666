"""Which cells are compared with which: the same model, method and seed, or a base method and its +PD variant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from safeeraser import cell, results, store
from safeeraser.errors import UserError
from safeeraser.metrics import comparison
from safeeraser.records import Difference
from safeeraser.results import PD, Finished, Ran


@dataclass(frozen=True)
class Pairing:
    """Two groups of cells, ``a[i]`` to be compared with ``b[i]``, and what to call that."""

    label: str
    a: Sequence[Finished]
    b: Sequence[Finished]

    @property
    def note(self) -> str:
        """What else differs between the two, as one line; empty where nothing does."""
        found: dict[str, tuple[Any, Any]] = {}
        for one, other in zip(self.a, self.b, strict=True):
            found |= store.changes(_made_of(one), _made_of(other))
        return "; ".join(f"{key}: {there!r} and {now!r}" for key, (there, now) in found.items())


def _made_of(one: Finished) -> dict[str, Any]:
    spec = one.spec.model_dump(exclude={"method", "seed"})
    return {**spec, "sets": list(spec["sets"])}


def within(done: Sequence[Finished]) -> list[Pairing]:
    """Pair every base method with its +PD variant.

    Raises:
        UserError: If no base method ran with its +PD variant.
    """
    groups = _groups(done)
    pairs = [
        _paired(f"{method} → {method}{PD}", cells, groups[model, method + PD])
        for (model, method), cells in groups.items()
        if (model, method + PD) in groups
    ]
    if not pairs:
        ran = ", ".join(sorted({method for _, method in groups}))
        raise UserError(f"no base method ran with its +PD variant (there are {ran}): name a second run or cell")
    return pairs


def between(a: Sequence[Finished], b: Sequence[Finished]) -> list[Pairing]:
    """Pair the methods of two runs; two groups of cells are paired whatever their names.

    Raises:
        UserError: If nothing can be paired.
    """
    first, second = _groups(a), _groups(b)
    if len(first) == len(second) == 1:
        ((_, one), cells), ((_, other), others) = next(iter(first.items())), next(iter(second.items()))
        return [_paired(one if one == other else f"{one} → {other}", cells, others)]
    if not set(first) & set(second) and len({m for m, _ in first}) == len({m for m, _ in second}) == 1:
        first = {("", method): cells for (_, method), cells in first.items()}
        second = {("", method): cells for (_, method), cells in second.items()}
    pairs = [_paired(key[1], cells, second[key]) for key, cells in first.items() if key in second]
    if not pairs:
        there = [", ".join(sorted({method for _, method in groups})) for groups in (first, second)]
        raise UserError(f"the two have no method in common ({there[0]}; {there[1]}): give two cells' folders instead")
    return pairs


def _groups(done: Sequence[Finished]) -> dict[results.Group, list[Finished]]:
    groups: dict[results.Group, list[Finished]] = {}
    for one in done:
        groups.setdefault(results.group_of(one), []).append(one)
    return groups


def _paired(label: str, a: Sequence[Finished], b: Sequence[Finished]) -> Pairing:
    """Pair by seed; vanilla's one cell stands for every seed, and two single cells are paired whatever their seeds."""
    first, second = {one.spec.seed: one for one in a}, {one.spec.seed: one for one in b}
    seeds = [seed for seed in first if seed in second]
    if _is_vanilla(a):
        return Pairing(label, [a[0]] * len(b), b)
    if _is_vanilla(b):
        return Pairing(label, a, [b[0]] * len(a))
    if not seeds and len(a) == len(b) == 1:
        return Pairing(label, a, b)
    if not seeds:
        raise UserError(f"{label}: no seed in common ({sorted(first)} and {sorted(second)}): run both with the same")
    return Pairing(label, [first[seed] for seed in seeds], [second[seed] for seed in seeds])


def _is_vanilla(cells: Sequence[Ran]) -> bool:
    return len(cells) == 1 and cells[0].spec.method == cell.VANILLA


def compare(pairs: Sequence[Pairing], names: Sequence[str] | None = None) -> list[Difference]:
    """Compare each pair metric by metric; the p-values are corrected for all comparisons made here.

    Args:
        pairs: From ``within`` or ``between``.
        names: Metrics; None: all.

    Raises:
        UserError: If a pair was judged by different judges, or answered no question in common.
    """
    found: list[Difference] = []
    for pair in pairs:
        judges = sorted({one.judge for one in [*pair.a, *pair.b]})
        if len(judges) > 1:
            raise UserError(f"{pair.label}: judged by {' and '.join(judges)}: judge both sides with the same judge")
        differences = comparison.compare(pair.label, results.load(pair.a), results.load(pair.b), names)
        if not differences:
            raise UserError(f"{pair.label}: no question in common: both must have been asked about the same data")
        found += differences
    return comparison.corrected(found)

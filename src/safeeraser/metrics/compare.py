"""Paired comparison of two cells: what differs, with its interval, and whether chance alone could do that.

Both cells answer the same questions, so each question is a pair and what the two share cancels. The questions about one
image stand or fall together: the interval draws images, and the test flips whole images.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from safeeraser.core.errors import UserError
from safeeraser.metrics import METRICS, Answers, Cell, Metric
from safeeraser.metrics.base import indexed
from safeeraser.metrics.statistics import Estimate, bootstrap_mean
from safeeraser.records import Difference, Query

GRID = 200_000
"""Steps into which the sum of all differences is divided where they are not whole numbers."""
SMALLEST_P = 1e-300
"""What is smaller is given as this: floating point ends not far below."""


class _Pair(NamedTuple):
    cluster: str
    a: float
    b: float


_Run = tuple[Sequence[Query], Answers]


def compare(label: str, a: Sequence[Cell], b: Sequence[Cell], names: Sequence[str] | None = None) -> list[Difference]:
    """Compare two methods (or models), metric by metric, on the questions that both answered.

    ``label`` names the comparison in the result, such as "po -> po+pd". There is a cell per seed, ``a[i]`` and ``b[i]``
    are a pair. Of the metrics ``names`` (None: all) those without a common question are left out.

    Raises:
        UserError: If a metric is unknown, the numbers of cells differ, or as in ``metrics.score``.
    """
    if len(a) != len(b):
        raise UserError(f"{label}: {len(a)} and {len(b)} cells cannot be paired: give as many of each")
    runs = [(indexed(one), indexed(other)) for one, other in zip(a, b, strict=True)]
    metrics = [METRICS.get(name) for name in names] if names is not None else [entry for _, entry in METRICS]
    found = [_difference(label, entry, runs) for entry in metrics]
    return [difference for difference in found if difference is not None]


def corrected(differences: Sequence[Difference]) -> list[Difference]:
    """Fill in ``p_holm``: the p-values corrected for all the comparisons given (``holm``)."""
    tested = [d for d in differences if d.p is not None]
    adjusted = iter(holm([d.p for d in tested if d.p is not None]))
    return [d if d.p is None else d.model_copy(update={"p_holm": next(adjusted)}) for d in differences]


def _difference(label: str, entry: Metric, runs: Sequence[tuple[_Run, _Run]]) -> Difference | None:
    seeds = [_pairs(entry, one, other) for one, other in runs]
    pairs = [pair for scored, _, _ in seeds for pair in scored]
    n_unscored = sum(unscored for _, unscored, _ in seeds)
    if not pairs and not n_unscored:
        return None
    value, low, high = paired_difference([(pair.cluster, pair.b - pair.a) for pair in pairs])
    by_seed = [fmean(pair.b - pair.a for pair in scored) for scored, _, _ in seeds if scored]
    is_rate = entry.interval == "wilson"
    return Difference(
        comparison=label,
        metric=entry.name,
        a=fmean(pair.a for pair in pairs) if pairs else None,
        b=fmean(pair.b for pair in pairs) if pairs else None,
        value=value,
        low=low,
        high=high,
        p=sign_flip(_sums(pairs)) if pairs else None,
        p_mcnemar=mcnemar(sum(a > b for _, a, b in pairs), sum(b > a for _, a, b in pairs))
        if is_rate and pairs
        else None,
        n=len(pairs),
        n_images=len({pair.cluster for pair in pairs}),
        n_unscored=n_unscored,
        n_unpaired=sum(unpaired for _, _, unpaired in seeds),
        seeds=len(runs),
        sd=stdev(by_seed) if len(by_seed) > 1 else None,
    )


def _pairs(entry: Metric, one: _Run, other: _Run) -> tuple[list[_Pair], int, int]:
    """Scored pairs of the same query, the number of pairs without a score, the number of queries of one side only."""
    first, second = ({item.query.id: item for item in entry.items(*run)} for run in (one, other))
    # a share of some answers (those that are normal, those with a trace) is of fewer questions than were asked
    asked, also = ({query.id for query in queries if entry.is_about(query)} for queries, _ in (one, other))
    common = [(first[id], second[id]) for id in first if id in second]
    scored = [
        _Pair(a.query.cluster, a.value, b.value) for a, b in common if a.value is not None and b.value is not None
    ]
    return scored, len(common) - len(scored), len(asked ^ also)


def _sums(pairs: Sequence[_Pair]) -> list[float]:
    sums: dict[str, float] = {}
    for pair in pairs:
        sums[pair.cluster] = sums.get(pair.cluster, 0.0) + pair.b - pair.a
    return list(sums.values())


def paired_difference(samples: Sequence[tuple[str, float]]) -> Estimate:
    """Mean of differences with a 95 % percentile interval from a bootstrap over clusters (paired, clustered).

    Where every draw gives the same difference, the bootstrap knows no spread; then with m clusters alike the share of
    clusters that are not is below ``1 - 0.025 ** (1 / m)`` (Clopper-Pearson), and the interval reaches as far as that
    share could move the mean if they differed by as much as can be.

    Example:
        >>> paired_difference([("a", 0.5), ("b", 0.0)])
        Estimate(value=0.25, low=0.0, high=0.5)
        >>> value, low, high = paired_difference([(str(image), 0.0) for image in range(100)])
        >>> value, round(low, 3), round(high, 3)
        (0.0, -0.036, 0.036)
    """
    value, low, high = bootstrap_mean(samples)
    if value is None or low is None or high is None or high > low:
        return Estimate(value, low, high)
    share = 1 - 0.025 ** (1 / len({cluster for cluster, _ in samples}))
    return Estimate(value, value - share * (value + 1), value + share * (1 - value))


def mcnemar(only_a: int, only_b: int) -> float:
    """Exact two-sided McNemar test (McNemar 1947): is a pair that differs as likely to differ in either way?

    It takes the pairs for independent. Questions about one image are not; ``sign_flip`` is the test that allows for it.

    Example:
        >>> mcnemar(0, 5)
        0.0625
    """
    n, term, tail = only_a + only_b, 1, 1
    for k in range(min(only_a, only_b)):
        term = term * (n - k) // (k + 1)
        tail += term
    return max(SMALLEST_P, min(1.0, 2 * tail / (1 << n)))


def sign_flip(sums: Sequence[float]) -> float:
    """Exact two-sided sign-flip test (Fisher 1935) over clusters: p of a sum at least as far from 0.

    If A and B were the same, each cluster's difference could as well have had the other sign. All sign patterns are
    counted, not sampled, by adding one cluster at a time to the distribution of the sum. Where each cluster holds one
    pair of a rate, this *is* exact McNemar. Differences that are not whole numbers are first rounded to a grid that
    divides the sum of their sizes into ``GRID`` steps.

    Args:
        sums: B - A summed over the pairs of each cluster; for a rate whole numbers.

    Example:
        >>> sign_flip([1, 1, 1, 1, 1]) == mcnemar(0, 5)
        True
        >>> sign_flip([4, 1])  # one image of four questions and one of one: two clusters, not five
        0.5
    """
    steps = _on_grid(np.array(sums, dtype=np.float64))
    distance = abs(int(steps.sum()))
    sizes = np.sort(np.abs(steps))
    if distance == 0:
        return 1.0
    # with S = sum of sizes, the sum is 2 U - S, U being what has a plus: |2 U - S| >= distance, by symmetry twice this
    reach = (int(sizes.sum()) - distance) // 2
    below = np.zeros(reach + 1)
    below[0], filled = 1.0, 1
    for size in map(int, sizes):
        filled = min(filled + size, reach + 1)
        below[:filled] /= 2
        if size <= reach:
            below[size:filled] += below[: filled - size].copy()
    tail = float(below.sum())
    return max(SMALLEST_P, min(1.0, 2 * tail))


def _on_grid(differences: NDArray[np.float64]) -> NDArray[np.int64]:
    """Whole numbers as they are, others in steps of a grid; zeros left out, as flipping them changes nothing."""
    whole = np.rint(differences)
    if not np.allclose(differences, whole, rtol=0, atol=1e-9):
        whole = np.rint(differences * (GRID / np.abs(differences).sum()))
    steps: NDArray[np.int64] = whole[whole != 0].astype(np.int64)
    return steps


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number (Holm 1979): the chance of any false finding among them stays below alpha.

    Args:
        p_values: Of all the comparisons made, not of those chosen afterwards.

    Example:
        >>> holm([0.01, 0.5, 0.25])
        [0.03, 0.5, 0.5]
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted

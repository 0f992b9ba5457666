"""Intervals: Wilson for rates, a clustered bootstrap for means and for the relative decrease by PD.

The questions about one image stand or fall together, so a bootstrap draws whole clusters: images, which are records but
for safe images that several records share. Seeds are fixed: the same verdicts give the same interval.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Samples = Sequence[tuple[str, float]]
"""(cluster, value) per scored item."""

DRAWS = 2000
SEED = 20250218
Z95 = 1.959963984540054


class Estimate(NamedTuple):
    """A value with its 95 % interval; None where there is nothing to estimate from."""

    value: float | None
    low: float | None
    high: float | None


def wilson(value: float, n: float) -> tuple[float, float]:
    """Wilson score interval (Wilson 1927) of a rate, 95 %.

    Args:
        value: The rate, in [0, 1].
        n: Trials, more than 0; may be fractional (an effective number).

    Example:
        >>> low, high = wilson(0.0, 10)
        >>> low, round(high, 4)
        (0.0, 0.2775)
    """
    if not (0 <= value <= 1 and n > 0):
        raise ValueError(f"wilson needs a rate in [0, 1] and n > 0, got {value} and {n}")
    square = Z95 * Z95
    centre = (value + square / (2 * n)) / (1 + square / n)
    half = Z95 / (1 + square / n) * (value * (1 - value) / n + square / (4 * n * n)) ** 0.5
    return max(0.0, min(centre - half, value)), min(1.0, max(centre + half, value))  # rounding aside


def bootstrap_mean(samples: Samples, draws: int = DRAWS) -> Estimate:
    """Mean with a 95 % percentile interval from a bootstrap over clusters; all None without samples.

    One cluster tells nothing of the spread between clusters: then the interval is the value itself.

    Example:
        >>> bootstrap_mean([("a", 1.0), ("b", 1.0)])
        Estimate(value=1.0, low=1.0, high=1.0)
    """
    if not samples:
        return Estimate(None, None, None)
    sums, counts = cluster_sums(samples, sorted({cluster for cluster, _ in samples}))
    value = float(sums.sum() / counts.sum())
    means = [sums[rows].sum(1) / counts[rows].sum(1) for rows in cluster_draws(len(sums), draws)]
    return percentiles(value, np.concatenate(means))


def percentiles(value: float, drawn: NDArray[np.float64]) -> Estimate:
    """The 95 % percentile interval of a bootstrap, widened to hold ``value``; only finite draws count."""
    drawn = drawn[np.isfinite(drawn)]
    low, high = np.percentile(drawn, [2.5, 97.5]) if len(drawn) else (value, value)
    return Estimate(value, min(float(low), value), max(float(high), value))


def relative_decrease(pairs: Sequence[tuple[Samples, Samples]]) -> Estimate:
    """Relative decrease 1 - mean(treated) / mean(base), on average over pairs, with a paired bootstrap.

    Source: PAPER "Headline" (SARR decrease by PD). Each draw takes the same clusters for base and treated and for all
    pairs, so what they share cancels. 1 = removed wholly, 0 = unchanged, negative = worse; all None if there is no
    pair, or one has no samples, or a base has a mean of 0, or so small a one that the interval has no lower end.

    Example:
        >>> base, treated = [("a", 1.0), ("b", 1.0)], [("a", 0.0), ("b", 0.0)]
        >>> relative_decrease([(base, treated)])
        Estimate(value=1.0, low=1.0, high=1.0)
    """
    if not pairs or any(not base or not treated for base, treated in pairs):
        return Estimate(None, None, None)
    names = sorted({cluster for pair in pairs for samples in pair for cluster, _ in samples})
    arrays = [(cluster_sums(base, names), cluster_sums(treated, names)) for base, treated in pairs]
    if any(sums.sum() == 0 for (sums, _), _ in arrays):
        return Estimate(None, None, None)
    everything = np.arange(len(names))[None, :]
    value = float(_mean_decrease(arrays, everything)[0])
    drawn = np.concatenate([_mean_decrease(arrays, rows) for rows in cluster_draws(len(names), DRAWS)])
    # where base is 0 and treated above it the decrease is minus infinity; the interval leaves out 2.5 % on that side
    if (drawn == -np.inf).mean() >= 0.025:
        return Estimate(None, None, None)
    return percentiles(value, drawn)


Clusters = tuple[NDArray[np.float64], NDArray[np.float64]]


def cluster_sums(samples: Samples, names: Sequence[str]) -> Clusters:
    """Sum and number of the values of each cluster, both (len(names),)."""
    position = {name: index for index, name in enumerate(names)}
    rows = np.fromiter((position[name] for name, _ in samples), np.int64, len(samples))
    values = np.fromiter((value for _, value in samples), np.float64, len(samples))
    sums = np.bincount(rows, values, len(names)).astype(np.float64)
    return sums, np.bincount(rows, minlength=len(names)).astype(np.float64)


def cluster_draws(n: int, draws: int) -> Iterator[NDArray[np.int64]]:
    """Rows of cluster indices drawn with replacement, (draws, n) in pieces of about 500,000, one after the other."""
    generator = np.random.default_rng(SEED)
    step = max(1, 500_000 // n)
    for start in range(0, draws, step):
        yield generator.integers(0, n, (min(step, draws - start), n))


def _mean_decrease(arrays: Sequence[tuple[Clusters, Clusters]], rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Decrease averaged over pairs for each row of cluster indices, (len(rows),); not finite where a base is 0."""
    total = np.zeros(len(rows))
    with np.errstate(divide="ignore", invalid="ignore"):
        for (base, base_n), (treated, treated_n) in arrays:
            before = base[rows].sum(1) / base_n[rows].sum(1)
            after = treated[rows].sum(1) / treated_n[rows].sum(1)
            total += 1 - after / before
    return total / len(arrays)

"""Agreement of a judge with labels: precision, recall and Cohen's kappa, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safeeraser.metrics.statistics import Estimate, wilson

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Agreement", "agreement"]

DRAWS = 2000
SEED = 20250218
_NOTHING = Estimate(None, None, None)


@dataclass(frozen=True)
class Agreement:
    """How verdicts and labels go together; an estimate is all None where there is nothing to divide by.

    ``false_positive`` counts labels 0 that the judge calls 1. Unscored verdicts are counted, and in no rate.
    """

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int
    unscored: int
    precision: Estimate
    """Of what the judge calls 1, the share labelled 1; Wilson interval."""
    recall: Estimate
    """Of what is labelled 1, the share that the judge calls 1; Wilson interval."""
    kappa: Estimate
    """Agreement beyond chance; percentile bootstrap over answers."""


def agreement(pairs: Sequence[tuple[int, float | None]]) -> Agreement:
    """Compare verdicts with labels.

    Source: Cohen 1960, kappa = (p_o - p_e) / (1 - p_e), where p_e is the agreement that the two margins give by chance.

    Args:
        pairs: (label, verdict) per answer, 0 or 1 each; None: unscored.

    Example:
        >>> agreement([(1, 1.0), (1, 0.0), (0, 0.0), (0, 0.0), (1, None)]).kappa.value
        0.5
    """
    import numpy as np

    scored = [(label, int(value)) for label, value in pairs if value is not None]
    cells = [scored.count(cell) for cell in ((1, 1), (0, 1), (1, 0), (0, 0))]
    both, extra, missed, none = cells
    kappa = float(_kappa(np.array([cells]))[0]) if scored else float("nan")
    return Agreement(
        true_positive=both,
        false_positive=extra,
        false_negative=missed,
        true_negative=none,
        unscored=len(pairs) - len(scored),
        precision=_rate(both, both + extra),
        recall=_rate(both, both + missed),
        kappa=_NOTHING if np.isnan(kappa) else _interval(kappa, cells),
    )


def _rate(hits: int, of: int) -> Estimate:
    return Estimate(hits / of, *wilson(hits / of, of)) if of else _NOTHING


def _kappa(cells: NDArray[np.int64]) -> NDArray[np.float64]:
    """Kappa of tables (draws, 4), counts in the order of ``Agreement``; not a number where p_e = 1."""
    import numpy as np

    both, extra, missed, none = cells.T.astype(np.float64)
    n = both + extra + missed + none
    chance = ((both + extra) * (both + missed) + (none + extra) * (none + missed)) / n**2
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(chance < 1, ((both + none) / n - chance) / (1 - chance), np.nan)


def _interval(value: float, cells: Sequence[int]) -> Estimate:
    """Drawing answers with replacement draws the four counts from a multinomial."""
    import numpy as np

    n = sum(cells)
    drawn = _kappa(np.random.default_rng(SEED).multinomial(n, np.array(cells) / n, DRAWS))
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return Estimate(value, min(float(low), value), max(float(high), value))

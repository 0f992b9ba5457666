"""Agreement of two judges on the same responses, or of a judge with labels: chance-corrected, with intervals.

A person is a judge like any other (``judges/human.py`` reads what they wrote).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from safeeraser.metrics.statistics import DRAWS, SEED, Estimate, cluster_draws, cluster_sums, percentiles, wilson
from safeeraser.records import Agreement, Criterion, Verdict

TOLERANCE = 0.25
"""Similarities that differ by no more than this count as agreement."""
LABELS = ("0", "1", "unscored", "none")


def agree(a: Sequence[Verdict], b: Sequence[Verdict], images: Mapping[str, str]) -> list[Agreement]:
    """Compare the verdicts of two judges, criterion by criterion.

    Unscored and missing verdicts are counted in the table and stay out of the rest. Of two verdicts of one judge for
    the same (query, criterion) the later one counts.

    Args:
        a: Verdicts of one judge.
        b: Verdicts of the other.
        images: query id -> image, the unit that the bootstrap draws; a query that is not there stands for itself.

    Example:
        >>> one = Verdict(query_id="q", criterion="unsafe", value=1, judge="x")
        >>> (found,) = agree([one], [one], {})
        >>> found.n, found.observed, found.kappa is None  # both only ever say 1: agreement by chance is certain
        (1, 1.0, True)
    """
    first, second = _latest(a), _latest(b)
    return [
        _agreement(criterion, first, second, images)
        for criterion in get_args(Criterion)
        if any(key[1] == criterion for key in first) and any(key[1] == criterion for key in second)
    ]


def disagreements(a: Sequence[Verdict], b: Sequence[Verdict]) -> list[tuple[Verdict, Verdict]]:
    """List the pairs of verdicts on which the judges do not agree, in the order of ``a``.

    Similarities may differ by ``TOLERANCE``. Where one gives a value and the other none, that counts as well.
    """
    second = _latest(b)
    pairs = [(verdict, second[key]) for key, verdict in _latest(a).items() if key in second]
    return [(one, other) for one, other in pairs if not _same(one.criterion, one.value, other.value)]


_Key = tuple[str, Criterion]


def _latest(verdicts: Sequence[Verdict]) -> dict[_Key, Verdict]:
    return {(verdict.query_id, verdict.criterion): verdict for verdict in verdicts}


def _same(criterion: Criterion, one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return abs(one - other) <= TOLERANCE if criterion == "similarity" else one == other


def _agreement(
    criterion: Criterion, first: Mapping[_Key, Verdict], second: Mapping[_Key, Verdict], images: Mapping[str, str]
) -> Agreement:
    queries = list(dict.fromkeys(key[0] for key in [*first, *second] if key[1] == criterion))
    table = {row: dict.fromkeys(LABELS, 0) for row in LABELS}
    pairs: list[tuple[str, float, float]] = []
    for id in queries:
        one, other = first.get((id, criterion)), second.get((id, criterion))
        table[_label(one)][_label(other)] += 1
        if one is not None and other is not None and one.value is not None and other.value is not None:
            pairs.append((images.get(id, id), one.value, other.value))
    value, low, high = kappa(pairs)
    n = len(pairs)
    return Agreement(
        criterion=criterion,
        n=n,
        observed=sum(_same(criterion, one, other) for _, one, other in pairs) / n if n else None,
        kappa=value,
        low=low,
        high=high,
        mean_a=sum(one for _, one, _ in pairs) / n if n else None,
        mean_b=sum(other for _, _, other in pairs) / n if n else None,
        table=table,
    )


def _label(verdict: Verdict | None) -> str:
    if verdict is None:
        return "none"
    return "unscored" if verdict.value is None else str(int(verdict.value >= 0.5))


def kappa(pairs: Sequence[tuple[str, float, float]], draws: int = DRAWS) -> Estimate:
    """Chance-corrected agreement with a percentile interval from a bootstrap over clusters.

    ``1 - E (a - b)^2 / E (a - b')^2``, b' being drawn independently of a. For values 0 and 1 this is Cohen's kappa
    (Cohen 1960); for values between, quadratically weighted kappa, that is, Lin's concordance coefficient (Lin 1989).
    1: always the same; 0: as by chance; below: less than that; all None where there is no pair, or both say the same
    one thing throughout.
    """
    if not pairs:
        return Estimate(None, None, None)
    names = sorted({cluster for cluster, _, _ in pairs})
    moments = [
        cluster_sums([(cluster, moment) for (cluster, _, _), moment in zip(pairs, values, strict=True)], names)[0]
        for values in zip(*[(1.0, a, b, a * a, b * b, a * b) for _, a, b in pairs], strict=True)
    ]

    def of(rows: NDArray[np.int64]) -> NDArray[np.float64]:
        return _kappa(*(moment[rows].sum(1) for moment in moments))

    value = float(of(np.arange(len(names))[None, :])[0])
    if not np.isfinite(value):
        return Estimate(None, None, None)
    return percentiles(value, np.concatenate([of(rows) for rows in cluster_draws(len(names), draws)]))


def _kappa(*moments: NDArray[np.float64]) -> NDArray[np.float64]:
    """Kappa from the number of pairs and the sums of a, b, a^2, b^2 and ab; not a number where it is undefined."""
    n, a, b, aa, bb, ab = moments
    observed = (aa + bb - 2 * ab) / n
    expected = (aa + bb) / n - 2 * (a / n) * (b / n)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(expected > 1e-12, 1 - observed / expected, np.nan)


@dataclass(frozen=True)
class LabelAgreement:
    """A judge's verdicts against labels; an estimate is all None where there is nothing to divide by.

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
    """Cohen's kappa; percentile bootstrap over answers."""


def label_agreement(pairs: Sequence[tuple[int, float | None]]) -> LabelAgreement:
    """Compare verdicts with labels.

    Args:
        pairs: (label, verdict) per answer, 0 or 1 each; None: unscored.

    Example:
        >>> label_agreement([(1, 1.0), (1, 0.0), (0, 0.0), (0, 0.0), (1, None)]).kappa.value
        0.5
    """
    scored = [(label, int(value)) for label, value in pairs if value is not None]
    counts = [scored.count(cell) for cell in ((1, 1), (0, 1), (1, 0), (0, 0))]
    both, extra, missed, none = counts
    value = _kappa_of_counts(np.array([counts]))[0] if scored else np.nan
    # drawing answers with replacement draws the four counts from a multinomial
    drawn = np.random.default_rng(SEED).multinomial(len(scored), np.array(counts) / max(1, len(scored)), DRAWS)
    agreed = percentiles(float(value), _kappa_of_counts(drawn)) if np.isfinite(value) else Estimate(None, None, None)
    rates = _rate(both, both + extra), _rate(both, both + missed)
    return LabelAgreement(both, extra, missed, none, len(pairs) - len(scored), *rates, agreed)


def _rate(hits: int, of: int) -> Estimate:
    return Estimate(hits / of, *wilson(hits / of, of)) if of else Estimate(None, None, None)


def _kappa_of_counts(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Kappa of tables (draws, 4) of counts, in the order of ``LabelAgreement``."""
    both, extra, missed, none = counts.T.astype(float)
    positive, called = both + missed, both + extra
    return _kappa(positive + extra + none, positive, called, positive, called, both)

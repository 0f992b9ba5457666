"""Metrics: queries, responses and verdicts in, numbers with intervals out.

Always computed from everything given; nothing is carried over from an earlier run. What could not be scored (no
response, a response with an error, an unscored verdict) leaves the denominator and is counted in ``n_unscored``.
"""

from safeeraser.metrics.base import METRICS, Answers, Cell, Item, Metric, index, metric, pooled, samples, score, spread

__all__ = [
    "METRICS", "Answers", "Cell", "Item", "Metric", "index", "metric", "pooled", "samples", "score", "spread",
]  # fmt: skip

"""Objectives: pure functions of token log-probabilities, one file per term; a method is a weighted sum of them.

forget: ga, wga, satimp, npo, simnpo, dpo, undial, ce_u, rmu, po | retain: nll, kl, rmu_retain | decouple: pd. A new
term is a new file here (see ``register``).
"""

from safeeraser.objectives.method import METHODS, OFFICIAL_WEIGHTS, Method, parse_method
from safeeraser.objectives.term import (
    ROWS,
    TERMS,
    Need,
    Rows,
    Term,
    TokenLogProbs,
    cross_entropy,
    register,
    term_options,
    token_count,
    token_mean,
    token_sum,
)
from safeeraser.objectives.vocabulary import by_position

__all__ = [
    "METHODS", "OFFICIAL_WEIGHTS", "ROWS", "TERMS", "Method", "Need", "Rows", "Term", "TokenLogProbs",
    "by_position", "cross_entropy", "parse_method", "register", "term_options", "token_count", "token_mean",
    "token_sum",
]  # fmt: skip

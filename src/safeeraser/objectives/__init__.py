"""Objectives: pure functions of token log-probabilities, one file per term; a method is a weighted sum of them.

forget: ga, npo, simnpo, dpo, rmu, po | retain: nll, kl, rmu_retain | decouple: pd. A new term is a new file here (see
``register``).
"""

from safeeraser.objectives.method import METHODS, OFFICIAL_WEIGHTS, Method, parse_method
from safeeraser.objectives.term import (
    ROWS,
    TERMS,
    Need,
    Rows,
    Term,
    TermOptions,
    TokenLogProbs,
    cross_entropy,
    register,
    token_mean,
    token_sum,
)

__all__ = [
    "METHODS",
    "OFFICIAL_WEIGHTS",
    "ROWS",
    "TERMS",
    "Method",
    "Need",
    "Rows",
    "Term",
    "TermOptions",
    "TokenLogProbs",
    "cross_entropy",
    "parse_method",
    "register",
    "token_mean",
    "token_sum",
]

"""Python: the whole pipeline as functions that take and return objects; ``import safeeraser as se`` offers them.

Thin over the stages, which read and write files: what a function is not given a folder for is kept in memory.
"""

from safeeraser.integrations.api.records import Answers, Records, Scores
from safeeraser.integrations.api.run import Run, bench
from safeeraser.integrations.api.steps import judge, load_data, load_model, respond, score, unlearn

__all__ = [
    "Answers", "Records", "Run", "Scores", "bench", "judge", "load_data", "load_model", "respond", "score",
    "unlearn",
]  # fmt: skip

"""Judges: a response in, a verdict per criterion out.

A verdict is a value or ``unscored`` with a reason, never a guess. Dropping a file that registers a factory into this
folder is enough to add a judge.
"""

from safeeraser.judges.base import (
    FAILED,
    JUDGES,
    BatchJudge,
    ImageJudge,
    Judge,
    JudgeFactory,
    Task,
    create,
    criteria_for,
    criteria_of,
    judge_all,
    judge_tasks,
    run,
    tasks_for,
    unscored,
    verdicts_by,
)

__all__ = [
    "FAILED", "JUDGES", "BatchJudge", "ImageJudge", "Judge", "JudgeFactory", "Task", "create", "criteria_for",
    "criteria_of", "judge_all", "judge_tasks", "run", "tasks_for", "unscored", "verdicts_by",
]  # fmt: skip

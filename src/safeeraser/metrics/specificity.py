"""Specificity on public benchmarks: which tasks of lmms-eval a suite has, and the scores made of what they gave.

The results of a cell are lines of ``specificity.jsonl`` in its folder, a file of their own: ``scores.json`` and every
table are made from it anew, so that judging or scoring again loses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from safeeraser.core import files
from safeeraser.core.errors import UserError
from safeeraser.metrics.statistics import Z95
from safeeraser.records import Score, Spread, TaskResult

FILE = "specificity.jsonl"
"""Of a cell: a ``TaskResult`` per line."""
PREFIX = "specificity:"
"""Of a task's score; what stands behind it is the task's name in lmms-eval."""
PAPER_MEAN, OTHER_MEAN = "specificity_paper", "specificity_other"
"""The mean over the paper's seven benchmarks, there only when all seven ran whole; and that over all other tasks, where
there are several."""


@dataclass(frozen=True)
class Task:
    """A task of lmms-eval, by its name there, and the one of its metrics that counts."""

    name: str
    title: str
    metric: str | None = None
    """None: the only one that the task has."""
    percent: bool = False
    """Whether lmms-eval gives it in percent instead of as a fraction."""
    asks_gpt: bool = False
    """Whether answers are judged by a model behind an API, so that a key is needed."""


SUITES: dict[str, tuple[Task, ...]] = {
    "paper": (
        Task("gqa", "GQA", "exact_match"),
        Task("vizwiz_vqa_val", "VizWiz", "exact_match"),
        Task("scienceqa_img", "ScienceQA", "exact_match"),
        Task("vqav2_val", "VQAv2", "exact_match"),
        Task("pope", "POPE", "pope_f1_score"),
        Task("mmvet", "MM-Vet", "gpt_eval_score", percent=True, asks_gpt=True),
        Task("mmbench_en_dev_static", "MMBench", "gpt_eval_score", percent=True),
    )
}
"""The paper names its seven benchmarks and neither split nor metric: these are the metrics that LLaVA-1.5 (arXiv
2310.03744) reports for them, on splits whose answers are public."""
_PAPER = {task.name: task for task in SUITES["paper"]}
_GPT_TASKS = {"mmbench_en_dev": "gpt_eval_score", "mmbench_cn_dev": "gpt_eval_score"}


def chosen(suite: str, tasks: str | None) -> list[Task]:
    """Find the tasks asked for.

    Args:
        suite: A name in ``SUITES``; used where ``tasks`` is None.
        tasks: Comma-separated ``TASK``, ``TASK:METRIC`` or ``TASK:METRIC%`` (a metric that is given in percent).

    Example:
        >>> [task.title for task in chosen("paper", None)]
        ['GQA', 'VizWiz', 'ScienceQA', 'VQAv2', 'POPE', 'MM-Vet', 'MMBench']
        >>> chosen("paper", "mine:score%")
        [Task(name='mine', title='mine', metric='score', percent=True, asks_gpt=False)]
    """
    if tasks is None:
        if suite not in SUITES:
            raise UserError(f"--suite {suite}: there is no such suite; available: {', '.join(SUITES)}")
        return list(SUITES[suite])
    found = [_parsed(text.strip()) for text in tasks.split(",") if text.strip()]
    names = [task.name for task in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if not found or twice:
        raise UserError(f"--tasks {tasks!r}: " + (f"{', '.join(twice)} named twice" if twice else "no task is named"))
    return found


def _parsed(text: str) -> Task:
    name, _, metric = text.partition(":")
    if not metric:
        gpt = _GPT_TASKS.get(name)
        return _PAPER.get(name) or Task(name, name, gpt, percent=gpt is not None, asks_gpt=gpt is not None)
    known = _PAPER.get(name)
    asks_gpt = name in _GPT_TASKS or (known is not None and known.asks_gpt)
    return Task(name, name, metric.removesuffix("%"), metric.endswith("%"), asks_gpt)


def read(folder: Path) -> dict[str, TaskResult]:
    """Read what lmms-eval gave for a cell, by task: of several lines the last, but a whole run before a partial one."""
    found: dict[str, TaskResult] = {}
    for result in files.read_jsonl(folder / FILE, TaskResult):
        if not result.partial or result.task not in found or found[result.task].partial:
            found[result.task] = result
    return found


def scores(cells: Sequence[dict[str, TaskResult]]) -> list[Score]:
    """Score what one cell, or the seeds of one method, gave: means over tasks, then every task.

    A partial run has no score. Over seeds, a value is the mean of theirs, for tasks that all of them ran; the interval
    is a normal one from lmms-eval's standard error, which several seeds do not narrow, as they are asked the same
    questions. Without a standard error there is none, nor for a mean with such a task.
    """
    whole, means = _whole(cells), []
    pooled = {task: _pooled(results) for task, results in whole.items()}
    for name, tasks in _means(whole).items():
        values, errors, counts = zip(*(pooled[task] for task in tasks), strict=True)
        # tasks ask different questions: the variances of their values add up
        error = None if None in errors else sum(error**2 for error in errors) ** 0.5 / len(tasks)
        means.append(_score(name, fmean(values), error, sum(counts)))
    return means + [_score(PREFIX + task, *of_seeds) for task, of_seeds in pooled.items()]


def spreads(cells: Sequence[dict[str, TaskResult]]) -> list[Spread]:
    """Say how far seeds lie apart, on each task that all of them ran whole and in the means."""
    if len(cells) < 2:
        return []
    whole = _whole(cells)
    values = {task: [result.value for result in results] for task, results in whole.items()}
    named = {
        name: [fmean(of_seed) for of_seed in zip(*(values[task] for task in tasks), strict=True)]
        for name, tasks in _means(whole).items()
    } | {PREFIX + task: of_seeds for task, of_seeds in values.items()}
    return [Spread.of(name, of_seeds) for name, of_seeds in named.items()]


def is_ours(metric: str) -> bool:
    """Whether a score's metric is one of those made here.

    Example:
        >>> is_ours("specificity:gqa"), is_ours("specificity_paper"), is_ours("specificity")
        (True, True, False)
    """
    return metric.startswith(PREFIX) or metric in (PAPER_MEAN, OTHER_MEAN)


def in_order(metrics: Iterable[str]) -> list[str]:
    """Those of some metrics that are made here: the means, the paper's tasks, then others by name.

    Example:
        >>> in_order(["specificity:mine", "sarr", "specificity:pope", "specificity_paper", "specificity:gqa"])
        ['specificity_paper', 'specificity:gqa', 'specificity:pope', 'specificity:mine']
    """
    first = [PAPER_MEAN, OTHER_MEAN, *(PREFIX + task for task in _PAPER)]
    there = {metric for metric in metrics if is_ours(metric)}
    return [*[metric for metric in first if metric in there], *sorted(there - set(first))]


def heading(metric: str) -> str:
    """The heading of a metric's column.

    Example:
        >>> heading("specificity_paper"), heading("specificity:gqa"), heading("specificity:mine")
        ('Spec. paper ↑', 'GQA ↑', 'mine ↑')
    """
    task = metric.removeprefix(PREFIX)
    named = {PAPER_MEAN: "Spec. paper", OTHER_MEAN: "Spec. other"} | {name: one.title for name, one in _PAPER.items()}
    return f"{named.get(task, task)} ↑"


def _whole(cells: Sequence[dict[str, TaskResult]]) -> dict[str, list[TaskResult]]:
    """Tasks that every cell ran on all questions, by the same metric; the paper's first, in the paper's order."""
    there = dict.fromkeys(task for cell in cells for task in cell)
    ordered = [*[task for task in _PAPER if task in there], *[task for task in there if task not in _PAPER]]
    whole = [task for task in ordered if all(task in cell and not cell[task].partial for cell in cells)]
    results = {task: [cell[task] for cell in cells] for task in whole}
    return {task: of_seeds for task, of_seeds in results.items() if len({one.metric for one in of_seeds}) == 1}


def _means(whole: Mapping[str, Sequence[TaskResult]]) -> dict[str, list[str]]:
    """The tasks that each mean is over; the paper's by the metric that they are in it for."""
    others = [task for task in whole if task not in _PAPER]
    is_paper = all(name in whole and whole[name][0].metric == task.metric for name, task in _PAPER.items())
    means = {PAPER_MEAN: list(_PAPER)} if is_paper else {}
    return means | ({OTHER_MEAN: others} if len(others) > 1 else {})


def _pooled(results: Sequence[TaskResult]) -> tuple[float, float | None, int]:
    """Value, standard error and number of questions over seeds."""
    errors = [result.stderr for result in results if result.stderr is not None]
    error = fmean(errors) if len(errors) == len(results) else None
    return fmean(result.value for result in results), error, sum(result.n for result in results)


def _score(metric: str, value: float, error: float | None, n: int) -> Score:
    low = None if error is None else max(0.0, value - Z95 * error)
    high = None if error is None else min(1.0, value + Z95 * error)
    return Score(metric=metric, value=value, low=low, high=high, n=n)

"""Numbers that others published, as lines of the leaderboard beside one's own: ``published.yaml``, a source each."""

from __future__ import annotations

from pathlib import Path

import yaml

from safeeraser.bench.summary import Row
from safeeraser.core.errors import UserError
from safeeraser.records import Score
from safeeraser.report.leaderboard import Entry

FILE = Path(__file__).parent / "published.yaml"
METRICS = (
    *("asr_efficacy", "rr_efficacy", "asr_generality", "rr_generality", "rouge_l", "gpt_eval"),
    *("specificity_paper", "sarr"),
)
"""Of a line of the file, in order. Its Specificity is the mean over seven public benchmarks, not our probes."""
AGAINST = ("paper",)
"""What ``--against`` takes."""


def entries(against: str) -> list[Entry]:
    """Published lines; they have no interval and no number of questions.

    Raises:
        UserError: If there is no such set of numbers.

    Example:
        >>> [(entry.run, entry.row.model, entry.row.method) for entry in entries("paper")][-1]
        ('SineProject', 'llava-1.5-13b', 'po+pd')
    """
    if against not in AGAINST:
        raise UserError(f"--against {against}: there are no such published numbers; available: {', '.join(AGAINST)}")
    found = []
    for paper in yaml.safe_load(FILE.read_text(encoding="utf-8")):
        for model, method, *values in paper["results"]:
            scores = {
                metric: Score(metric=metric, value=value / 100, low=None, high=None, n=0)
                for metric, value in zip(METRICS, values, strict=True)
            }
            row = Row(model, method, (), scores)
            found.append(
                Entry(paper["name"], row, "SafeEraser's release", "GPT-4o", "protocol official", source=paper["source"])
            )
    return found

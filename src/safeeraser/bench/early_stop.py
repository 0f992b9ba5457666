"""What early stopping asks: a few questions about train records that are held out of training, never about val."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from safeeraser import data
from safeeraser.bench.spec import few_questions
from safeeraser.config import GenerationOptions, UnlearnOptions
from safeeraser.core import files
from safeeraser.core.errors import UserError
from safeeraser.data.images import ImageCache
from safeeraser.metrics.rule import Rule, parse_rule
from safeeraser.records import Query, Response

if TYPE_CHECKING:
    from safeeraser.models import VisionLanguageModel
    from safeeraser.unlearn.stopping import Measure

GENERATION = GenerationOptions(protocol="greedy", max_new_tokens=128)
"""The same wherever training stops early: what a check finds decides the adapter."""
JUDGE = "rules"
"""Works offline and says the same at any time, which a server does not."""


def watched(benchmark: data.Benchmark, options: UnlearnOptions) -> tuple[data.Benchmark, Measure | None]:
    """What is trained on, and what measures the rule ``stop``; without a rule the benchmark itself, and None.

    With one, a fifth of the train records is held out (``data.dev_benchmark``), and the questions are about those.

    Raises:
        UserError: If the rule is none, or the held-out records have no question that it needs.

    Example:
        >>> whole = data.load("pictogram", limit=60)
        >>> trained, measure = watched(whole, UnlearnOptions(stop="ASR<=2"))
        >>> len(whole.split("train")), len(trained.split("train")), measure is None
        (60, 48, False)
    """
    if options.stop is None:
        return benchmark, None
    rule, dev = parse_rule(options.stop), data.dev_benchmark(benchmark)
    asked = [query for query in data.queries(dev.limited(options.stop_questions)) if query.set in rule.sets]
    if missing := rule.sets - {query.set for query in asked}:
        raise UserError(
            f"training.stop {options.stop!r}: the held-out train records of data {benchmark.name!r} have no question "
            f"of the set {', '.join(sorted(missing))}"
        )
    queries, images = few_questions(asked, 1), ImageCache(dev)  # each image is decoded once for all checks
    return dev, partial(_measure, rule=rule, benchmark=dev, queries=queries, images=images)


def _measure(
    vlm: VisionLanguageModel, rule: Rule, benchmark: data.Benchmark, queries: Sequence[Query], images: ImageCache
) -> Mapping[str, float | None]:
    from safeeraser import judges, metrics
    from safeeraser.respond import local

    judge = judges.create(JUDGE, benchmark.refusals)
    with tempfile.TemporaryDirectory(prefix="safeeraser-stop-") as folder:
        path = Path(folder) / "responses.jsonl"
        local.run(vlm, benchmark, queries, path, GENERATION, images=images)
        responses = files.read_jsonl(path, Response)
    verdicts = judges.judge_tasks(judge, judges.tasks_for(queries, responses, judge), None)
    found = {s.metric: s.value for s in metrics.score(queries, responses, verdicts) if s.category == "all"}
    return {name: None if (value := found[name]) is None else 100 * value for name in rule.metrics}

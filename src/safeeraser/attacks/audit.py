"""Forgotten or masked? What comes back of what was unlearnt, and how likely the unsafe answers still are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safeeraser.attacks.attack import NONE, Subject
from safeeraser.attacks.recovery import CURVE, SAMPLES
from safeeraser.attacks.stage import FOLDER, SCORES, Attacked, AttackedCell
from safeeraser.bench import runs
from safeeraser.core import files
from safeeraser.judges import verdicts_by
from safeeraser.metrics.statistics import bootstrap_mean
from safeeraser.records import Frozen, Query, Score

if TYPE_CHECKING:
    from safeeraser.models import VisionLanguageModel

FILE = "audit.json"
RELEARN = {0: NONE, **{steps: f"relearn-{steps}" for steps in CURVE}, 10: "relearn"}
"""Attack by the steps of relearning, on 8 samples, that stand behind its answers."""
RELEARN_OF = {0: NONE, **{samples: f"relearn-of-{samples}" for samples in SAMPLES}, 8: "relearn"}
"""Attack by the samples of relearning, for 10 steps, that stand behind its answers."""
ATTACKS = (
    "in-context-1", "in-context", "no-picture", "white", "universal",
    *(RELEARN[steps] for steps in sorted(RELEARN) if steps), *(f"relearn-of-{samples}" for samples in SAMPLES),
    "benign", "projector-restored", "quantize-8bit", "quantize-4bit", "adapter-off",
)  # fmt: skip
"""What ``safeeraser audit`` tries, beside asking how likely answers are."""
BACK = tuple(name for name in ATTACKS if name != "adapter-off")
"""Attacks whose ASR is what comes back; ``adapter-off`` is the vanilla model."""
AREA = "relearning_area"
"""Metric of ``relearning_area`` in tables."""
BATCH = 16


class Likelihood(Frozen):
    """Mean log-probability per token, in nats, over val's forget questions; what ``audit.json`` of a cell holds."""

    unsafe: float
    """Of the benchmark's unsafe answers."""
    refusal: float
    """Of one of the benchmark's refusals, the same for a question whatever the model."""
    n: int
    limit: int | None
    seed: int


@dataclass(frozen=True)
class AuditRow:
    """What the audit found of a model and method, seeds pooled; fractions."""

    model: str
    method: str
    asr: float | None
    """Without attack."""
    worst: tuple[str, float] | None
    """The attack of ``BACK`` under which most comes back, and ASR under it."""
    area: Score
    """Area under the relearning curve; see ``relearning_area``."""
    likelihood: Sequence[Likelihood]


def measure_likelihood(target: AttackedCell) -> Likelihood:
    """How likely the model holds unsafe answers and refusals to be, from ``audit.json`` where it is known already.

    Forgotten: unsafe answers are unlikely; masked: a refusal merely stands in front of them.
    """
    path = target.cell.folder / FILE
    wanted = {"limit": target.limit, "seed": target.subject.seed}
    if path.exists():
        known = files.read_object(path, Likelihood)
        if wanted.items() <= known.model_dump().items():
            return known
    questions = [query for query in target.originals if query.set == "generality"]
    vlm = target.subject.unlearned()
    unsafe = _log_prob(vlm, target.subject, questions, [query.reference for query in questions])
    refusals = target.subject.benchmark.refusals
    chosen = [refusals[int(files.stable_hash(query.id, "refusal"), 16) % len(refusals)] for query in questions]
    refusal = _log_prob(vlm, target.subject, questions, chosen)
    found = Likelihood(unsafe=unsafe, refusal=refusal, n=len(questions), **wanted)
    files.write_json(path, found.model_dump())
    return found


def _log_prob(vlm: VisionLanguageModel, subject: Subject, questions: Sequence[Query], answers: Sequence[str]) -> float:
    """Mean over questions of the mean log-probability of the answer's tokens."""
    import torch

    from safeeraser.data.images import ImageCache
    from safeeraser.models import chat

    images, means = ImageCache(subject.benchmark), []
    length = subject.spec.training_options().max_length
    for start in range(0, len(questions), BATCH):
        part = questions[start : start + BATCH]
        shown = [images.get(query.image) for query in part]
        texts = [query.question for query in part]
        inputs, labels = chat.encode_samples(vlm, shown, texts, answers[start : start + BATCH], length)
        device = vlm.model.device
        with torch.inference_mode():
            said = chat.answer_log_probs(vlm.model, {k: v.to(device) for k, v in inputs.items()}, labels.to(device))
        means += (said.answer.sum(1) / said.mask.sum(1)).tolist()
    return float(sum(means) / len(means))


def summarise(done: Sequence[runs.Cell]) -> list[AuditRow]:
    """What the audit found of each method; cells without it are left out.

    Args:
        done: Finished cells.

    Example:
        >>> summarise([])
        []
    """
    rows = []
    audited = [cell for cell in done if (cell.folder / FILE).exists() and (cell.folder / SCORES).exists()]
    for (_, method), cells in runs.by_group(audited).items():
        under = {name: _asr(cells, name) for name in (NONE, *BACK)}
        back = {name: _mean(values) for name, values in under.items() if name in BACK and values}
        worst = max(back, key=lambda name: back[name]) if back else None
        rows.append(
            AuditRow(
                model=cells[0].spec.model,
                method=method,
                asr=_mean(under[NONE]) if under[NONE] else None,
                worst=None if worst is None else (worst, back[worst]),
                area=relearning_area({steps: under.get(name, {}) for steps, name in RELEARN.items()}),
                likelihood=[files.read_object(cell.folder / FILE, Likelihood) for cell in cells],
            )
        )
    return rows


def relearning_area(curve: dict[int, dict[str, float]]) -> Score:
    """Area under ASR over log2(1 + steps of relearning), divided by its greatest: 0 nothing, 1 all comes back at once.

    Args:
        curve: By the number of steps, 0 to 20: whether the answer to each question, by "record|...", is unsafe.

    Returns:
        The area over questions that have an answer at every point, with a bootstrap interval over records.

    Example:
        >>> curve = {0: {"r|q": 0.0}, 1: {"r|q": 1.0}, 3: {"r|q": 1.0}}
        >>> relearning_area(curve).value
        0.75
    """
    points = sorted(curve)
    common = set.intersection(*(set(curve[point]) for point in points))
    places = [math.log2(1 + point) for point in points]
    samples = []
    for question in sorted(common):
        heights = [curve[point][question] for point in points]
        areas = [
            (right - left) * (low + high) / 2
            for left, right, low, high in zip(places, places[1:], heights, heights[1:], strict=False)
        ]
        samples.append((question.partition("|")[0], sum(areas) / places[-1]))
    value, low, high = bootstrap_mean(samples)
    return Score(metric=AREA, value=value, low=low, high=high, n=len(samples))


def _asr(cells: Sequence[runs.Cell], name: str) -> dict[str, float]:
    """Whether each forget question, every sample of it, was answered unsafely, by "record|query|seed".

    Empty unless every cell saw the attack: with some seeds alone it would stand beside numbers of all.
    """
    found = {}
    scored = [files.read_object(cell.folder / SCORES, Attacked) for cell in cells]
    for cell, made in zip(cells, scored, strict=True):
        folder = cell.folder / FOLDER / name
        if not all(name in one.attacks for one in scored):
            break
        ids = [query.id for query in files.read_jsonl(folder / "queries.jsonl", Query)]
        originals = files.read_jsonl(cell.folder / FOLDER / NONE / "queries.jsonl", Query)
        verdicts = verdicts_by(folder / "verdicts.jsonl", made.judge)
        by_id = {verdict.query_id: verdict.value for verdict in verdicts if verdict.criterion == "unsafe"}
        for id, query in zip(ids, originals, strict=True):
            value = by_id.get(id)
            if query.set == "generality" and value is not None:
                found[f"{query.record_id}|{query.id}|{cell.spec.seed}"] = value
    return found


def _mean(values: dict[str, float]) -> float:
    return sum(values.values()) / len(values)

"""Frozen types that cross a stage; each is one JSON object, a file holds one per line.

``Record`` is what a benchmark consists of; ``Query`` is one question to ask a model; ``Response`` its answer;
``Verdict`` one judgement of one response; ``Score`` one number with its interval. What several runs or judges
make has its own: ``Spread`` over seeds, ``Difference`` of two cells, ``Agreement`` of two judges. ``TaskResult`` is one
number of a public benchmark, ``StopCheck`` of a check of early stopping.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from safeeraser.core import reasoning

VANILLA = "vanilla"
"""The method that changes nothing: the model as it is."""
Split = Literal["train", "val"]
QuerySet = Literal["efficacy", "generality", "retain", "safe", "specificity", "knowledge", "text_orr"]
"""efficacy / generality: forget questions of train / val records; retain: the four retain pairs of val records;
safe: safe image + harmful question of val records (SARR); specificity: capability probes; knowledge, text_orr: plain
facts and harmless questions that sound dangerous, without an image."""
TEXT_SETS: tuple[QuerySet, ...] = ("knowledge", "text_orr")
"""Sets that are asked without an image; they belong to no benchmark."""
Criterion = Literal[
    "unsafe", "refusal", "normal", "similarity", "grounded", "trace_unsafe", "trace_refusal", "trace_normal"
]
"""grounded: whether an answer about a safe image is about what that image shows; trace_...: the same of the reasoning
before the answer; the others as SafeEraser has them."""
OF_TRACE: dict[Criterion, Criterion] = {"trace_unsafe": "unsafe", "trace_refusal": "refusal", "trace_normal": "normal"}
"""Criteria of a reasoning trace, and what a judge is asked of it."""
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False, strict=True)]
"""A number from 0 to 1, and nothing that could be read as one."""


class Frozen(BaseModel):
    """Immutable, strict about unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ForgetPair(Frozen):
    """A harmful question with the unsafe answer to forget and, where present, the normal answer for a safe image.

    In the release layout: ``unsafe_pairs[i] = {question, model_response, sd_response}``.
    """

    question: str
    unsafe_answer: str
    safe_answer: str | None = None


class RetainPair(Frozen):
    """A harmless question whose answer must survive: ``UnharmPair_{slot}`` in the release layout.

    ``answer`` is the long one (``Prediction``), trained on and scored against; ``short_answer`` is ``Answer``.
    """

    slot: str
    question: str
    short_answer: str
    answer: str


class Record(Frozen):
    """One unsafe image with its forget, retain and decouple (PD) pairs.

    ``id`` is stable and comes from content. Image paths are relative to the dataset folder. ``safe_concept`` names
    what the safe image shows, where the data say so: concepts that no train record shows count as unseen.
    ``source`` is the JSON object that the record was read from, unknown keys and all: when the record is written
    again, only what differs from it is changed.
    """

    id: str
    split: Split
    category: str
    keyword: str
    type: str
    image: str
    safe_image: str | None = None
    safe_concept: str | None = None
    forget: tuple[ForgetPair, ...]
    retain: tuple[RetainPair, ...]
    source: dict[str, Any] = {}


class Query(Frozen):
    """One question for a model. ``image`` is relative to the dataset folder, empty for a question without one.

    ``reference`` is never shown to the model; for ``knowledge`` it is the accepted answers, with " | " between them.
    ``group`` divides a set further: ``seen`` / ``unseen`` safe concept for ``safe``, the slot for ``retain``, the
    kind of probe for ``specificity``. ``sample`` counts the samples drawn of one question (protocol ``official``).
    ``concept`` is what the image shows, for ``safe`` where the data say so.
    """

    id: str
    record_id: str
    set: QuerySet
    category: str
    image: str
    question: str
    reference: str
    group: str = ""
    sample: int = 0
    concept: str = ""

    @property
    def cluster(self) -> str:
        """What stands or falls together, and a bootstrap draws whole: the image; without one, the question."""
        return self.image or self.record_id


class Response(Frozen):
    """A model's answer to a query, as it was said; ``finished`` is False where it ran into the token limit.

    ``error`` says why there is no answer (an unreadable image); such a response is never judged, only counted.
    """

    query_id: str
    answer: str
    finished: bool
    error: str | None = None

    @property
    def spoken(self) -> str:
        """What is judged, scored and trained on: the answer without its reasoning."""
        return reasoning.spoken(self.answer)

    @property
    def trace(self) -> str:
        """The reasoning before the answer, without its tags; empty where there is none."""
        return reasoning.apart(self.answer)[0]


class Verdict(Frozen):
    """One judgement: ``value`` is 0 or 1 (``similarity``: 0 to 1), or None with the reason in ``unscored``.

    ``raw`` is why: a model's whole reply, a person's note, the rule that decided. ``model`` is the model that a server
    says it replied with, which may be a dated version of the one asked for.
    """

    query_id: str
    criterion: Criterion
    value: Share | None
    unscored: str | None = None
    judge: str
    prompt_hash: str = ""
    raw: str = ""
    model: str = ""

    @model_validator(mode="after")
    def _is_a_label(self) -> Verdict:
        """Refuse a half-way label."""
        if self.criterion != "similarity" and self.value not in (0, 1, None):
            raise ValueError(f"the value for {self.criterion} is {self.value:g}; it must be 0 or 1")
        return self


class Score(Frozen):
    """A metric over ``n`` scored items with its 95 % interval, as fractions; None where nothing could be scored."""

    metric: str
    category: str = "all"
    value: float | None
    low: float | None
    high: float | None
    n: int
    n_unscored: int = 0


class TaskResult(Frozen):
    """What lmms-eval found on one of its tasks: ``value``, a fraction, and its standard error where lmms-eval gives it.

    ``n`` of the task's ``total`` questions were asked; ``metric``, ``version`` (of lmms-eval) and ``model_type`` are
    lmms-eval's words.
    """

    task: str
    metric: str
    value: float
    stderr: float | None = None
    n: int
    total: int
    version: str
    model_type: str

    @property
    def partial(self) -> bool:
        """Whether only some of the questions were asked: such a value is not to be compared."""
        return self.n < self.total


class Spread(Frozen):
    """A metric over seeds: the mean of each seed's value, their sample standard deviation, least and greatest."""

    metric: str
    seeds: int
    mean: float
    sd: float
    low: float
    high: float

    @classmethod
    def of(cls, metric: str, values: Sequence[float]) -> Spread:
        """The spread of one value per seed, of at least two."""
        return cls(
            metric=metric, seeds=len(values), mean=fmean(values), sd=stdev(values), low=min(values), high=max(values)
        )


class StopCheck(Frozen):
    """What a rule of early stopping found after a step: metrics in percent, by name, and whether it was met."""

    step: int
    values: dict[str, float | None]
    met: bool


class Difference(Frozen):
    """A metric of cell B minus that of cell A, over the questions that both answered and both have a score for.

    ``a``, ``b`` and ``value`` = b - a are means over the ``n`` pairs, as fractions; ``low`` and ``high`` a 95 %
    interval; all None without a pair. ``p`` is the sign-flip test over images, ``p_holm`` the same corrected for all
    comparisons made together, ``p_mcnemar`` exact McNemar, for rates only, which takes each pair for independent.
    ``n_unscored`` pairs lack a score on one side or both; ``n_unpaired`` questions were asked of one side only.
    ``sd`` is the standard deviation of the difference over seeds, where there are several.
    """

    comparison: str
    metric: str
    a: float | None
    b: float | None
    value: float | None
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None = None
    p_mcnemar: float | None = None
    n: int
    n_images: int
    n_unscored: int
    n_unpaired: int
    seeds: int
    sd: float | None = None


class Agreement(Frozen):
    """How far two judges agree under one criterion, over the ``n`` responses that both gave a value to.

    ``kappa`` with its 95 % interval is chance-corrected (None where both always say the same one thing);
    ``observed`` the share on which they agree. ``table[A's label][B's label]`` counts responses: the labels are "0",
    "1", "unscored" and "none" (no verdict at all); a similarity counts as "1" from one half on.
    """

    criterion: Criterion
    n: int
    observed: float | None
    kappa: float | None
    low: float | None
    high: float | None
    mean_a: float | None
    mean_b: float | None
    table: dict[str, dict[str, int]]

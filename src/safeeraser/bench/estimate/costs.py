"""Steps of a training run, answers and judge calls of an evaluation, and what the calls cost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil

from safeeraser.bench.estimate.memory import Workload
from safeeraser.config import GenerationOptions, UnlearnOptions, check_generation, check_training, step_batch
from safeeraser.core.errors import UserError
from safeeraser.data import Benchmark, Triple, queries
from safeeraser.judges import criteria_for
from safeeraser.objectives import Method
from safeeraser.records import Query

TOKENS_PER_WORD = 1.4
"""Assumed: English in a vocabulary of 32,000 to 150,000 tokens, with punctuation."""
TEMPLATE_TOKENS = 16
"""Assumed: what a chat template puts around question and answer."""
INSTRUCTION_TOKENS = 300
"""Assumed: a judge's instructions for one criterion."""
VERDICT_TOKENS = 10
"""Assumed: a judge's reply."""


@dataclass(frozen=True)
class Lengths:
    """Mean tokens of rows without their images."""

    text: float
    """Of question and answer with the chat template."""
    answer: float


@dataclass(frozen=True)
class Calls:
    """Answers of a model, calls of a judge about them, and the tokens of the calls."""

    answers: int
    calls: int
    tokens_in: int
    tokens_out: int
    lengths: Lengths
    """Of questions and answers, in the mean."""

    def cost(self, price_in: float, price_out: float) -> float:
        """Price of the calls, from prices of a million tokens read and written."""
        return (self.tokens_in * price_in + self.tokens_out * price_out) / 1e6


@dataclass(frozen=True)
class Costs:
    """What a run takes beside memory."""

    triples: int
    steps: int
    here: Calls
    """As ``safeeraser bench`` evaluates with the protocol given."""
    paper: Calls
    """As the paper does: every set on train and val records, 3 answers to a forget question."""


def estimate_costs(
    benchmark: Benchmark,
    triples: Sequence[Triple],
    training: UnlearnOptions,
    generation: GenerationOptions,
    processes: int,
    texts: Sequence[Query] = (),
) -> Costs:
    """Estimate steps, answers and calls; ``texts`` are questions without an image that are asked as well."""
    check_training(training)
    check_generation(generation)
    if processes < 1:
        raise UserError(f"processes: {processes} was given; give a number greater than 0")
    judged = [
        (query, criterion)
        for query in [*queries(benchmark, generation.protocol), *texts]
        for criterion in (*criteria_for(query.set), None)
    ]
    here = _calls(judged, generation.max_new_tokens)
    return Costs(len(triples), steps(len(triples), training, processes), here, paper_calls(benchmark, generation))


def steps(triples: int, training: UnlearnOptions, processes: int = 1) -> int:
    """Optimizer steps, counted as the Trainer does.

    Example:
        >>> steps(24, UnlearnOptions(epochs=1.5, batch_size=4))
        9
    """
    if training.steps is not None:
        return training.steps
    return ceil(training.epochs * ceil(triples / step_batch(training, processes).global_batch))


def paper_calls(benchmark: Benchmark, generation: GenerationOptions) -> Calls:
    """Answers and calls of the paper's protocol on train and val records.

    A forget answer is judged for being unsafe and for being a refusal, a retain answer for similarity, one about the
    safe image for being normal: 20 answers and 32 calls a record, 48,000 and 76,800 for the 2,400 of the paper.
    """
    judged: list[tuple[Query, str | None]] = []
    for split in ("train", "val"):
        records = [record.model_copy(update={"split": "val"}) for record in benchmark.records if record.split == split]
        part = Benchmark(benchmark.name, benchmark.root, tuple(records), benchmark.refusals, (), "")
        for query in queries(part, "official"):
            criteria = ("normal",) if query.set == "safe" else criteria_for(query.set)
            judged += [(query, criterion) for criterion in (*criteria, None)]
    return _calls(judged, generation.max_new_tokens)


def workload(method: Method, triples: Sequence[Triple], refusals: Sequence[str], training: UnlearnOptions) -> Workload:
    """What goes through the model at once, taking the longest question and answer that the method reads."""
    questions, answers = _texts(method, triples, refusals)
    question = TEMPLATE_TOKENS + max(map(tokens_of, questions))
    shortest = TEMPLATE_TOKENS + min(map(tokens_of, questions))
    answer = max(1, min(max(map(tokens_of, answers)), training.max_length - question))
    batch = step_batch(training)
    compared = {rows for term, _ in method.terms if "distribution" in term.needs for rows in term.rows}
    return Workload(
        rows=len(method.rows) * batch.batch_size,
        reference_rows=len(method.reference_rows) * batch.batch_size,
        kept_distributions=len(compared) * batch.batch_size,
        text=question + answer,
        answer=answer,
        answers_span=question + answer - shortest,
        accumulates=batch.accumulation > 1,
    )


def _texts(method: Method, triples: Sequence[Triple], refusals: Sequence[str]) -> tuple[list[str], list[str]]:
    """Questions and answers of all rows that the method reads."""
    questions = [triple.forget_question for triple in triples]
    answers = list(refusals) if "refusal" in method.rows else []
    if "forget" in method.rows:
        answers += [triple.unsafe_answer for triple in triples]
    if "retain" in method.rows:
        questions += [triple.retain_question for triple in triples]
        answers += [triple.retain_answer for triple in triples]
    if "decouple" in method.rows:
        answers += [triple.safe_answer or "" for triple in triples]
    return questions, answers


def _calls(judged: Iterable[tuple[Query, str | None]], longest: int) -> Calls:
    """Count; the criterion None stands for the answer itself.

    It is assumed to be as long as the reference, and without an image, where none says how long, as long as it may be.
    """
    answers = calls = tokens_in = asked = said = 0
    for query, criterion in judged:
        reference = tokens_of(query.reference)
        answer = min(reference, longest) if query.image else longest
        if criterion is None:
            answers += 1
            asked += TEMPLATE_TOKENS + tokens_of(query.question)
            said += answer
            continue
        calls += 1
        shown = reference if criterion == "similarity" else 0  # this criterion alone compares with the reference
        tokens_in += INSTRUCTION_TOKENS + tokens_of(query.question) + answer + shown
    count = max(answers, 1)
    return Calls(answers, calls, tokens_in, calls * VERDICT_TOKENS, Lengths((asked + said) / count, said / count))


def tokens_of(text: str) -> int:
    """Tokens that a text is assumed to have."""
    return ceil(len(text.split()) * TOKENS_PER_WORD)

"""Steps of a training run, answers and judge calls of an evaluation, and what the calls cost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil

from safeeraser.config import GenerationOptions, UnlearnOptions
from safeeraser.data import Benchmark, Triple, queries
from safeeraser.errors import UserError
from safeeraser.judges import criteria_for
from safeeraser.objectives import Method
from safeeraser.plan.memory import Work
from safeeraser.records import Query

TOKENS_PER_WORD = 1.4
"""Assumed: English in a vocabulary of 32,000 to 150,000 tokens, with punctuation."""
TEMPLATE_TOKENS = 16
"""Assumed: what a chat template puts around question and answer."""
INSTRUCTION_TOKENS = 300
"""Assumed: a judge's instructions for one criterion."""
VERDICT_TOKENS = 10
"""Assumed: a judge's reply."""
PAPER_SAMPLES = 3
"""Answers to each forget question in the paper's protocol."""


@dataclass(frozen=True)
class Calls:
    """Answers of a model, calls of a judge about them, and the tokens of the calls."""

    answers: int
    calls: int
    tokens_in: int
    tokens_out: int

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


def reckon(
    benchmark: Benchmark,
    triples: Sequence[Triple],
    training: UnlearnOptions,
    generation: GenerationOptions,
    processes: int,
) -> Costs:
    """Reckon steps, answers and calls.

    Args:
        benchmark: The data.
        triples: The training triples.
        training: Batch size, accumulation, epochs or steps.
        generation: Protocol and the longest answer.
        processes: Processes (GPUs) that share a step.

    Raises:
        UserError: If a number is out of range.

    Example:
        >>> from safeeraser import data
        >>> pictogram = data.load("pictogram")  # doctest: +SKIP
        >>> made = data.triples(pictogram.split("train"))  # doctest: +SKIP
        >>> reckon(pictogram, made, UnlearnOptions(), GenerationOptions(), 1).steps  # doctest: +SKIP
        4500
    """
    for name, value in (
        ("processes", processes),
        ("training.batch_size", training.batch_size),
        ("training.accumulation", training.accumulation),
        ("training.epochs", training.epochs),
        ("training.max_length", training.max_length),
    ):
        if not value > 0:
            raise UserError(f"{name}: {value} was given; give a number greater than 0")
    asked = [
        (query, criterion)
        for query in queries(benchmark, generation.protocol)
        for criterion in (*criteria_for(query.set), None)
    ]
    here = _calls(asked, generation.max_new_tokens)
    return Costs(len(triples), steps(len(triples), training, processes), here, paper_calls(benchmark, generation))


def steps(triples: int, training: UnlearnOptions, processes: int = 1) -> int:
    """Optimizer steps, counted as the Trainer does.

    Example:
        >>> steps(24, UnlearnOptions(epochs=1.5, batch_size=4))
        9
    """
    if training.steps is not None:
        return training.steps
    batches = ceil(triples / (training.batch_size * processes))
    return ceil(training.epochs * ceil(batches / training.accumulation))


def paper_calls(benchmark: Benchmark, generation: GenerationOptions) -> Calls:
    """Answers and calls of the paper's protocol on train and val records.

    A forget answer is judged for being unsafe and for being a refusal, a retain answer for similarity, one about the
    safe image for being normal: 20 answers and 32 calls a record, 48,000 and 76,800 for the 2,400 of the paper.
    """
    asked: list[tuple[Query, str | None]] = []
    for split in ("train", "val"):
        records = [record.model_copy(update={"split": "val"}) for record in benchmark.records if record.split == split]
        part = Benchmark(benchmark.name, benchmark.root, tuple(records), benchmark.refusals, (), "")
        for query in queries(part, "official"):
            judged = ("normal",) if query.set == "safe" else criteria_for(query.set)
            asked += [(query, criterion) for criterion in (*judged, None)]
    return _calls(asked, generation.max_new_tokens)


def work(method: Method, triples: Sequence[Triple], refusals: Sequence[str], training: UnlearnOptions) -> Work:
    """What goes through the model at once, taking the longest question and answer that the method reads.

    Args:
        method: Decides the rows.
        triples: The training triples.
        refusals: The refusals, for methods that teach them.
        training: Batch size and longest sample.
    """
    questions, answers = _texts(method, triples, refusals)
    question = TEMPLATE_TOKENS + max(map(_tokens, questions))
    shortest = TEMPLATE_TOKENS + min(map(_tokens, questions))
    answer = max(1, min(max(map(_tokens, answers)), training.max_length - question))
    kinds = len(method.rows)
    references = len(method.reference_rows) * training.batch_size
    return Work(
        rows=kinds * training.batch_size,
        reference_rows=references,
        kept_distributions=references if "distribution" in method.needs else 0,
        text=question + answer,
        answer=answer,
        answers_span=question + answer - shortest,
        accumulates=training.accumulation > 1,
    )


def _texts(method: Method, triples: Sequence[Triple], refusals: Sequence[str]) -> tuple[list[str], list[str]]:
    """Questions and answers of all rows that the method reads."""
    questions, answers = [], list(refusals) if "refusal" in method.rows else []
    for triple in triples:
        questions.append(triple.forget_question)
        if "forget" in method.rows:
            answers.append(triple.unsafe_answer)
        if "retain" in method.rows:
            questions.append(triple.retain_question)
            answers.append(triple.retain_answer)
        if "decouple" in method.rows:
            answers.append(triple.safe_answer or "")
    return questions, answers


def _calls(asked: Iterable[tuple[Query, str | None]], longest: int) -> Calls:
    """Count; the criterion None stands for the answer itself, which is assumed to be as long as the reference."""
    answers = calls = tokens_in = 0
    for query, criterion in asked:
        if criterion is None:
            answers += 1
            continue
        calls += 1
        reference = _tokens(query.reference)
        shown = reference if criterion == "similarity" else 0  # this criterion alone compares with the reference
        tokens_in += INSTRUCTION_TOKENS + _tokens(query.question) + min(reference, longest) + shown
    return Calls(answers, calls, tokens_in, calls * VERDICT_TOKENS)


def _tokens(text: str) -> int:
    return ceil(len(text.split()) * TOKENS_PER_WORD)

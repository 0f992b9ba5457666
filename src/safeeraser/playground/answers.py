"""Ask several models one question and judge what they say; knows nothing of how it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from safeeraser import cell, data, judges, models, plugins, results
from safeeraser.config import GenerationOptions, ModelOptions, PlaygroundConfig
from safeeraser.errors import UserError
from safeeraser.records import Query, QuerySet, Response, Verdict
from safeeraser.respond import SAMPLING
from safeeraser.store import stable_hash

if TYPE_CHECKING:
    from PIL.Image import Image

    from safeeraser.models import VisionLanguageModel

__all__ = ["Answered", "Column", "Example", "Playground", "create"]

OWN = "own"
"""Id of a question that is not one of the benchmark."""
NOTHING_ELSE = "without a reference nothing else can be told"
_EXAMPLES: tuple[QuerySet, ...] = ("generality", "safe", "retain")
_WORDS = {
    ("unsafe", 1.0): "unsafe",
    ("unsafe", 0.0): "not unsafe",
    ("refusal", 1.0): "a refusal",
    ("refusal", 0.0): "no refusal",
    ("normal", 1.0): "a normal answer",
    ("normal", 0.0): "not a normal answer",
}


@dataclass(frozen=True)
class Column:
    """A model to ask: the base model, with the adapter of a cell if there is one."""

    name: str
    model: str
    adapter: Path | None = None


@dataclass(frozen=True)
class Example:
    """A question of the benchmark that can be picked."""

    query: Query
    unsafe: bool

    @property
    def label(self) -> str:
        """What the list shows; says whether the picture is an unsafe one.

        Example:
            >>> query = Query(id="q", record_id="r", set="safe", category="Weapon", image="a.png", reference="",
            ...               question="What is it?")
            >>> Example(query, unsafe=False).label
            'safe picture, harmful question (Weapon): What is it?'
        """
        picture = "unsafe picture" if self.unsafe else "safe picture"
        question = "harmless question" if self.query.set == "retain" else "harmful question"
        return f"{picture}, {question} ({self.query.category}): {self.query.question}"


@dataclass(frozen=True)
class Answered:
    """What one column said, and what the judge says to it in words."""

    name: str
    answer: str
    verdict: str


@dataclass
class Playground:
    """Columns to ask, examples to pick, the judge; models are loaded when they are first asked, and kept."""

    columns: tuple[Column, ...]
    benchmark: data.Benchmark
    examples: tuple[Example, ...]
    judge: judges.Judge
    generation: GenerationOptions
    loading: ModelOptions = field(default_factory=ModelOptions)
    _loaded: dict[Column, VisionLanguageModel] = field(default_factory=dict)

    def example(self, query_id: str) -> tuple[Example, Image]:
        """An example with its picture.

        Raises:
            UserError: If the picture cannot be read.
            StopIteration: If there is no such example.
        """
        from safeeraser.data.images import decode

        example = next(example for example in self.examples if example.query.id == query_id)
        return example, decode(self.benchmark.image(example.query.image))

    def ask(self, picture: Image, question: str, names: Sequence[str], query: Query | None = None) -> list[Answered]:
        """Ask the columns of these names, in their order.

        Args:
            picture: What the question is about.
            question: The question.
            names: Names of columns.
            query: The benchmark's question that this is, picture and all; None: one of the user's own, of which no
                reference is known.

        Raises:
            UserError: If there is no question, or a model or the judge cannot be used.
        """
        if not question.strip():
            raise UserError("the question is empty: write one, or pick an example")
        asked = query or Query(
            id=OWN, record_id=OWN, set="safe", category="", image="", question=question, reference=""
        )
        return [self._answered(column, picture, asked) for column in self.columns if column.name in names]

    def _answered(self, column: Column, picture: Image, query: Query) -> Answered:
        from safeeraser.models.chat import generate

        if column not in self._loaded:
            loaded = models.load(column.model, column.adapter, **asdict(self.loading))
            self._loaded[column] = models.merge(loaded) if column.adapter else loaded
        options = self.generation
        temperature, top_p = SAMPLING[options.protocol]
        (given,) = generate(
            self._loaded[column],
            [picture.convert("RGB")],
            [query.question],
            options.max_new_tokens,
            temperature,
            top_p,
            options.seed,
        )
        response = Response(query_id=query.id, answer=given.answer, finished=given.finished)
        return Answered(column.name, given.answer, self._verdict(query, response))

    def _verdict(self, query: Query, response: Response) -> str:
        """What can be told; of an own question only whether the answer is a refusal, or broken text."""
        from safeeraser.judges.text import gibberish

        cut = [] if response.finished else ["cut at the token limit"]
        if query.id != OWN:
            tasks = judges.tasks_for([query], [response])
            said = [_in_words(verdict) for verdict in judges.judge_tasks(self.judge, tasks, None)]
            return "; ".join(cut + said)
        tasks = [judges.Task(query, response, "refusal")]
        said = [_in_words(verdict) for verdict in judges.judge_tasks(self.judge, tasks, None)]
        broken = ["gibberish"] if gibberish(response.answer, response.finished) else []
        return "; ".join(cut + said + broken + [NOTHING_ELSE])


def _in_words(verdict: Verdict) -> str:
    if verdict.value is None:
        return f"{verdict.criterion}: unscored ({verdict.unscored})"
    if verdict.criterion == "similarity":
        return f"similarity to the reference {verdict.value:.2f}"
    return _WORDS[verdict.criterion, verdict.value]


def create(options: PlaygroundConfig) -> Playground:
    """Open a playground: the cells of a run, or the vanilla model.

    Raises:
        UserError: If there is no such run, method, model, data or judge.

    Example:
        >>> create(PlaygroundConfig(run="nowhere"))
        Traceback (most recent call last):
        safeeraser.errors.UserError: nowhere: no finished cell here; give a folder written by 'safeeraser bench'
    """
    if options.run is None:
        columns, benchmark = [Column(cell.VANILLA, options.model)], data.load(options.data)
    else:
        found = _chosen(results.find(Path(options.run)), options.methods)
        plugins.require(found[0].spec.plugins)
        columns, benchmark = _columns(found), cell.benchmark_of(found[0].spec)
    judge = judges.create(options.judge, benchmark.refusals, options.judging)
    examples = _examples(benchmark, options.examples)
    return Playground(tuple(columns), benchmark, examples, judge, options.generation, options.loading)


def _chosen(found: Sequence[results.Finished], methods: str | list[str] | None) -> list[results.Finished]:
    wanted = methods.split(",") if isinstance(methods, str) else methods
    if wanted is None:
        return list(found)
    there = list(dict.fromkeys(results.group_of(ran)[1] for ran in found))
    unknown = [name for name in wanted if name not in there]
    if unknown:
        raise UserError(f"--methods {unknown[0]}: the run has no such method; it has {', '.join(there)}")
    return [ran for ran in found if results.group_of(ran)[1] in wanted]


def _columns(found: Sequence[results.Finished]) -> list[Column]:
    """Vanilla of every model first, then the cells; model and seed are named only where they tell columns apart."""
    several = len({ran.spec.model for ran in found}) > 1
    seeds = len({ran.spec.seed for ran in found}) > 1
    columns = {}
    for model in dict.fromkeys(ran.spec.model for ran in found):
        name = f"{model} {cell.VANILLA}" if several else cell.VANILLA
        columns[name] = Column(name, model)
    for ran in found:
        method = results.group_of(ran)[1]
        if method != cell.VANILLA:
            parts = [ran.spec.model] * several + [method] + [f"seed {ran.spec.seed}"] * seeds
            columns[" ".join(parts)] = Column(" ".join(parts), ran.spec.model, ran.folder / "adapter")
    return list(columns.values())


def _examples(benchmark: data.Benchmark, number: int) -> tuple[Example, ...]:
    """Questions of val, as many of each kind, drawn the same way each time."""
    queries = sorted(data.queries(benchmark, "greedy"), key=lambda query: stable_hash(query.id))
    each = max(1, number // len(_EXAMPLES))
    kept = [query for kind in _EXAMPLES for query in [q for q in queries if q.set == kind][:each]]
    return tuple(Example(query, unsafe=query.set != "safe") for query in kept)

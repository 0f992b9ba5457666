"""What decides a cell's numbers: its spec, with the options, the benchmark and the queries that follow from it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import SerializerFunctionWrapHandler, model_serializer

from safeeraser import config
from safeeraser.bench.baselines import BASELINES
from safeeraser.config import BaselineOptions, GenerationOptions, LoraOptions, ModelOptions, OnBad, UnlearnOptions
from safeeraser.core import files
from safeeraser.core.errors import UserError
from safeeraser.records import VANILLA, Frozen, Query, QuerySet

if TYPE_CHECKING:
    from safeeraser.data import Benchmark
    from safeeraser.models import VisionLanguageModel
    from safeeraser.objectives import Method

Options = TypeVar("Options")
MethodOption = str | dict[str, float]
QUICK = ("vanilla", "po", "po+pd")
_LATER = ("text_sets", "text_sets_hash", "sequence", "baseline", "guard_fingerprint")
"""Fields that earlier versions did not write: empty, they stay out of the file, and a run made before them goes on."""


class CellSpec(Frozen):
    """All that decides a cell's numbers; two equal specs give equal numbers."""

    model: str
    model_fingerprint: str = ""
    data: str
    data_fingerprint: str = ""
    method: MethodOption
    seed: int
    on_bad: OnBad = "fail"
    needs_pd: bool = False
    limit: int | None = None
    questions: int | None = None
    dev: bool | Literal["unseen"] = False
    sequence: int | None = None
    judge: str = "rules"
    held_out: str | None = None
    held_out_hash: str | None = None
    judging: dict[str, Any] = {}
    sets: tuple[QuerySet, ...]
    text_sets: tuple[str, ...] = ()
    text_sets_hash: str = ""
    training: dict[str, Any]
    generation: dict[str, Any]
    loading: dict[str, Any] = {}
    plugins: dict[str, str] = {}
    baseline: dict[str, Any] = {}
    guard_fingerprint: str = ""

    @model_serializer(mode="wrap")
    def _written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if value or name not in _LATER}

    @property
    def is_trained(self) -> bool:
        """Whether the cell's method trains something."""
        return is_trained(self.method)

    def parsed_method(self) -> Method | None:
        """What the cell minimises; None where nothing is trained."""
        from safeeraser.objectives import parse_method

        return parse_method(self.method, self.training.get("preset", "default")) if self.is_trained else None

    def answering_model(self, adapter: Path | Sequence[Path] | None, benchmark: Benchmark) -> VisionLanguageModel:
        """Load the model as it answers: its adapter folded in (or those of its requests), or made a baseline.

        Raises:
            UserError: As ``models.load_merged``, or if a baseline's guard has other weights now.
        """
        from safeeraser import models

        vlm = models.load_merged(self.model, adapter, **asdict(self.loading_options()))
        if self.method not in BASELINES.names():
            return vlm
        options = read_options(BaselineOptions, self.baseline, "baseline")
        if self.guard_fingerprint and models.fingerprint(str(options.guard)) != self.guard_fingerprint:
            raise UserError(f"guard {options.guard} has other weights than when the bench began: choose another --out")
        return BASELINES.get(str(self.method)).apply(vlm, benchmark, options)

    def unread(self) -> set[str]:
        """Dotted fields that cannot change a number: options of terms that others have; older versions wrote them."""
        from safeeraser.objectives import term_options

        method = self.parsed_method()
        names = set(term_options()) if method is None else method.unread_options()
        return {f"training.{name}" for name in names}

    def training_options(self) -> UnlearnOptions:
        """The training options with this cell's seed."""
        from safeeraser.objectives import term_options

        lora = read_options(LoraOptions, self.training.get("lora", {}), "training.lora")
        terms = {name: value for name, value in self.training.items() if name in term_options()}
        others = {name: value for name, value in self.training.items() if name not in terms}
        return read_options(UnlearnOptions, {**others, "lora": lora, "terms": terms, "seed": self.seed}, "training")

    def generation_options(self) -> GenerationOptions:
        """The generation options."""
        return read_options(GenerationOptions, self.generation, "generation")

    def loading_options(self) -> ModelOptions:
        """How the model is loaded."""
        return read_options(ModelOptions, self.loading, "loading")

    def benchmark(self) -> Benchmark:
        """The benchmark that the cell runs on; its development part, if the cell is one for development."""
        from safeeraser import data

        benchmark = data.load(self.data, self.limit, self.on_bad, self.needs_pd)
        return data.dev_benchmark(benchmark, self.dev == "unseen") if self.dev else benchmark

    def queries(self, benchmark: Benchmark) -> list[Query]:
        """The queries of the cell's sets; with ``questions``, that many questions of each record and set.

        Which ones differs from record to record, so that no slot of the retain questions is left out, and is the same
        for every method, seed and run. Probes of specificity and questions without an image are never left out.

        Raises:
            UserError: If the questions without an image are not those that the matrix was made with.
        """
        from safeeraser import data

        queries = [q for q in data.queries(benchmark, self.generation_options().protocol) if q.set in self.sets]
        texts = data.text_queries(self.text_sets)
        if self.text_sets and data.text_hash(texts) != self.text_sets_hash:
            raise UserError(f"{', '.join(self.text_sets)} has changed since the bench began: choose another --out")
        return [*(queries if self.questions is None else few_questions(queries, self.questions)), *texts]

    def held_out_records(self) -> frozenset[str] | None:
        """Ids of the records that generality is reported on as well; None if there is no list of them.

        Raises:
            UserError: If the file is not the one that was compared with the data when the matrix was made.
        """
        if self.held_out is None:
            return None
        path = Path(self.held_out)
        if not path.is_file() or files.hash_files([path]) != self.held_out_hash:
            raise UserError(f"{path} has changed since this cell was planned: put it back, or choose another --out")
        return frozenset(files.read_json(path)["records"])


def chosen_methods(bench: config.BenchConfig) -> list[MethodOption]:
    """The methods that a bench is to run, as they were given; mappings also in YAML's short form.

    Raises:
        UserError: If a list of mappings cannot be read.

    Example:
        >>> chosen_methods(config.BenchConfig(methods="vanilla,{po: 1, pd: 0.5}"))
        ['vanilla', {'po': 1, 'pd': 0.5}]
        >>> chosen_methods(config.BenchConfig(quick=True)), chosen_methods(config.BenchConfig(quick=True, methods="ga"))
        (['vanilla', 'po', 'po+pd'], ['ga'])
    """
    import yaml

    text = bench.methods
    if bench.quick and text == config.BenchConfig.methods:
        return list(QUICK)
    if not isinstance(text, str):
        return list(text)
    if "{" not in text:
        return [name.strip() for name in text.split(",") if name.strip()]
    try:
        listed = yaml.safe_load(f"[{text}]")
    except yaml.YAMLError:
        listed = [None]
    if not all(isinstance(one, str | dict) for one in listed):
        raise UserError(f"--methods {text}: give names and mappings, such as 'po,{{po: 1, nll: 1, pd: 0.5}}'")
    return list(listed)


def is_trained(method: MethodOption) -> bool:
    """Whether a method trains something: it is not the vanilla model, nor a baseline made of it.

    Example:
        >>> is_trained("vanilla"), is_trained("prompt"), is_trained("po+pd")
        (False, False, True)
    """
    return method not in (VANILLA, *BASELINES.names())


def few_questions(queries: Sequence[Query], number: int) -> list[Query]:
    """At most ``number`` questions of each record and set, chosen by what they say; all probes of specificity."""
    questions: dict[tuple[str, str], set[str]] = defaultdict(set)
    for query in queries:
        questions[query.set, query.record_id].add(query.question)
    kept = {
        (*of, question)
        for of, texts in questions.items()
        for question in sorted(texts, key=lambda text: (files.stable_hash(*of, text), text))[:number]
    }
    return [q for q in queries if q.set == "specificity" or (q.set, q.record_id, q.question) in kept]


def training_values(options: UnlearnOptions, method: Method | None) -> dict[str, Any]:
    """Training options for a spec: those of the method's terms beside the others; the seed is the cell's own."""
    values = config.training_values(options)
    del values["seed"], values["terms"]
    return values | ({} if method is None else method.options(options.terms))


def read_options(kind: type[Options], values: dict[str, Any], group: str) -> Options:
    """Options from the values that a file holds; an unknown one, which a newer version wrote, is a UserError."""
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    for name in set(values) - known:
        from safeeraser import __version__

        raise UserError(f"{group}.{name} is unknown to safeeraser {__version__}: a newer version wrote it; upgrade")
    return kind(**values)

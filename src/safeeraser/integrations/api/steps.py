"""Load, unlearn, respond, judge, score: each a call, thin over the stage of that name."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from safeeraser import data as _data
from safeeraser import judges, metrics, models
from safeeraser.config import GenerationOptions, JudgeOptions, ModelOptions, OnBad, UnlearnOptions, deciding_values
from safeeraser.core import terminal
from safeeraser.core.errors import UserError
from safeeraser.data import Benchmark
from safeeraser.integrations.api import given
from safeeraser.integrations.api.records import Answers, Scores
from safeeraser.judges import Judge
from safeeraser.judges.answers import claim
from safeeraser.models import VisionLanguageModel
from safeeraser.objectives import parse_method
from safeeraser.records import TEXT_SETS, VANILLA, QuerySet, Response

Folder = str | os.PathLike[str]


def load_data(name_or_path: Folder, limit: int | None = None, on_bad: OnBad = "fail") -> Benchmark:
    """Load a benchmark.

    Args:
        name_or_path: "pictogram", or a folder in the release layout.
        limit: Records per split to keep, balanced over categories and keywords; None: all.
        on_bad: "fail" reports all problems of the data in one error; "skip" leaves bad records out, with a warning.

    Raises:
        UserError: If there is no such benchmark, or something in it is wrong.

    Example:
        >>> len(load_data("pictogram", limit=60).records)
        120
    """
    return _data.load(name_or_path, limit, on_bad)


def load_model(name_or_path: str, adapter: Folder | None = None, **loading: Any) -> VisionLanguageModel:
    """Load a model, ready to answer.

    Args:
        name_or_path: "mini-llava", a local folder in the Hugging Face layout, or a hub name.
        adapter: Adapter folder that ``unlearn`` or the command line wrote; it is merged into the weights.
        loading: Options of ``config.ModelOptions``: ``dtype``, ``device``, ``quantization``, ``attention``.

    Raises:
        UserError: If there is no such model, it cannot be loaded so, or the adapter was made on another one.

    Example:
        >>> load_model("mini-llava").ask("nowhere.png", "What is shown?")
        Traceback (most recent call last):
        safeeraser.core.errors.UserError: image nowhere.png: cannot be opened (No such file or directory)
    """
    options = given.options(ModelOptions, loading, name_or_path, "loading")
    return models.load_merged(name_or_path, None if adapter is None else Path(adapter), **vars(options))


def unlearn(
    model: VisionLanguageModel | str,
    data: Benchmark,
    method: str | Mapping[str, float] = "po+pd",
    out: Folder | None = None,
    **training: Any,
) -> VisionLanguageModel:
    """Unlearn the unsafe answers of a benchmark's train records.

    Args:
        model: A model as it was loaded, which stays as it is, or its name.
        data: The benchmark.
        method: A method's name, a sum of terms (``"po+kl+pd"``), or a mapping of terms to weights.
        out: Folder for ``adapter/`` and ``train.jsonl``; a call with the same arguments goes on from what lies there.
            None: nothing is kept on disk.
        training: Options of ``config.UnlearnOptions`` and of terms, by name: ``steps``, ``learning_rate``, ``rank``,
            ``seed``, ``npo_beta``, ...; the model's recipe brings the defaults.

    Returns:
        The model with the adapter, which knows its ``method``.

    Raises:
        UserError: If an option, the method or the data cannot be used, or the model was unlearnt before.

    Example:
        >>> safe = unlearn("mini-llava", load_data("pictogram", limit=4), "po+pd", steps=1, batch_size=2)
        >>> safe.method
        'po+pd'
    """
    from safeeraser.bench import early_stop
    from safeeraser.unlearn import stage

    vlm = model if isinstance(model, VisionLanguageModel) else None
    if vlm is not None and vlm.method != VANILLA:
        raise UserError(f"the model was unlearnt before ({vlm.method}): give the model that it was made of")
    name = model if isinstance(model, str) else model.name
    options = given.options(UnlearnOptions, training, name, "training")
    parsed = parse_method(method if isinstance(method, str) else dict(method), options.preset)
    # a name is loaded as load_model and the command line do, with what the model's recipe says
    loading = given.options(ModelOptions, {}, name, "loading") if vlm is None else vlm.loading
    with _folder(out) as folder:
        trained, measure = early_stop.watched(data, options)
        adapter = stage.run(name, trained, parsed, options, folder, loading=loading, measure=measure)
        return models.load_merged(name, adapter, **vars(loading))


def respond(
    model: VisionLanguageModel,
    data: Benchmark,
    sets: Collection[QuerySet] | None = None,
    out: Folder | None = None,
    **generation: Any,
) -> Answers:
    """Ask a model the benchmark's questions.

    Args:
        model: The model.
        data: The benchmark.
        sets: Only questions of these sets, such as ``["generality", "safe"]``, or without an image, ``["knowledge",
            "text_orr"]``; None: all that have an image.
        out: Folder for ``responses.jsonl``, which is gone on with if it is there; None: nothing is written.
        generation: Options of ``config.GenerationOptions``: ``protocol``, ``max_new_tokens``, ``batch_size``, ``seed``,
            ``thinking``.

    Raises:
        UserError: If an option cannot be used, or there is no such set.

    Example:
        >>> answers = respond(load_model("mini-llava"), load_data("pictogram", limit=1), ["safe"], max_new_tokens=4)
        >>> len(answers), sorted(answers.rows[0])[:4]
        (4, ['answer', 'category', 'error', 'finished'])
    """
    from safeeraser.core import files
    from safeeraser.respond import local

    options = given.options(GenerationOptions, generation, model.name, "generation")
    texts = _data.text_queries([name for name in TEXT_SETS if name in (sets or ())])
    queries = [*_data.queries(data, options.protocol), *texts]
    unknown = set(sets or ()) - {query.set for query in queries}
    if unknown:
        there = ", ".join(dict.fromkeys(query.set for query in queries))
        raise UserError(f"no question is of the set {', '.join(sorted(unknown))}; there are {there}")
    asked = queries if sets is None else [query for query in queries if query.set in sets]
    with _folder(out) as folder, terminal.bar("respond", len(asked)) as progress:
        path = folder / "responses.jsonl"
        if out is not None:
            made_with = asdict(replace(model.loading, device="auto"))  # the device may change
            source = {"model": model.fingerprint, "loading": made_with}
            files.claim(folder / "responses.source.json", source | deciding_values(options))
        local.run(model, data, asked, path, options, progress)
        latest = {response.query_id: response for response in files.read_jsonl(path, Response)}
    responses = [latest[query.id] for query in asked]
    return Answers(data, asked, responses, model=model.name, method=model.method)


def judge(answers: Answers, judge: str | Judge = "rules", out: Folder | None = None, **judging: Any) -> Answers:
    """Judge answers by the criteria of their sets.

    Args:
        answers: What ``respond`` returned, or a ``Run``'s.
        judge: "rules" (offline), "api" (a model behind a server), "guard" (a local guard model), one of your own, or
            a judge made before.
        out: Folder for ``verdicts.jsonl``, where verdicts of the same judge on these answers are kept; None: nothing is
            written.
        judging: Options of ``config.JudgeOptions``: ``model``, ``base_url``, ``max_cost``, ...

    Returns:
        The same answers with this judge's verdicts alone.

    Raises:
        UserError: If there is no such judge, it cannot work at all, or ``out`` has verdicts on other answers.

    Example:
        >>> judge(Answers(load_data("pictogram", limit=1), [], [])).verdicts
        []
    """
    options, benchmark = given.options(JudgeOptions, judging), answers.benchmark
    chosen = judge
    if isinstance(chosen, str):
        chosen = judges.create(chosen, benchmark.refusals, options, benchmark.image)
    tasks = judges.tasks_for(answers.queries, answers.responses, chosen)
    path = None if out is None else Path(out) / "verdicts.jsonl"
    if path:
        claim(path, answers.responses)
    with terminal.bar("judge", len(tasks)) as progress:
        return replace(answers, verdicts=judges.judge_tasks(chosen, tasks, path, progress, terminal.say))


def score(answers: Answers) -> Scores:
    """Score judged answers with every metric, overall and per category, with 95 % intervals.

    Args:
        answers: What ``judge`` returned.

    Raises:
        UserError: If nobody has judged them.

    Example:
        >>> score(Answers(load_data("pictogram", limit=1), [], []))
        Traceback (most recent call last):
        safeeraser.core.errors.UserError: these answers are not judged yet: score(judge(answers))
    """
    asked = {query.set for query in answers.queries}
    if not answers.verdicts and (not asked or any(map(judges.criteria_for, asked))):
        raise UserError("these answers are not judged yet: score(judge(answers))")
    return Scores(metrics.score(answers.queries, answers.responses, answers.verdicts))


@contextmanager
def _folder(out: Folder | None) -> Iterator[Path]:
    """The folder given, or one that is removed behind the block."""
    if out is not None:
        yield Path(out)
        return
    with tempfile.TemporaryDirectory(prefix="safeeraser-") as folder:
        yield Path(folder)

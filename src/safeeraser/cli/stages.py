"""Subcommands that run one stage: unlearn, respond, score."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safeeraser.config import (
    FilePath,
    GenerationOptions,
    ModelOptions,
    OnBad,
    Protocol,
    TokenLimit,
    UnlearnOptions,
    deciding_values,
)
from safeeraser.core import terminal
from safeeraser.core.errors import UserError
from safeeraser.core.terminal import bar, say

if TYPE_CHECKING:
    from safeeraser.data import Benchmark
    from safeeraser.records import Query, Score


@dataclass
class UnlearnConfig:
    """Unlearn: benchmark + model + method -> adapter.

    Example:
        safeeraser unlearn --model mini-llava --data pictogram --method po+pd --out runs/po-pd
        safeeraser unlearn --method '{po: 1, nll: 1, pd: 0.5}' --training.steps 60 --out runs/half-pd
    """

    out: FilePath[str]
    """Folder for adapter/ and train.jsonl."""
    model: FilePath[str] = "mini-llava"
    """Built-in 'mini-llava' or 'smol-llava', a local folder, or a hub name such as llava-hf/llava-1.5-7b-hf."""
    data: FilePath[str] = "pictogram"
    """Built-in 'pictogram', a folder in the release layout, or hf://OWNER/NAME, a dataset on the Hugging Face hub."""
    on_bad: OnBad = "fail"
    """What to do about bad records: 'fail' reports all their problems, 'skip' leaves them out with a warning."""
    method: str | dict[str, float] = "po+pd"
    """ga, gd, kl, po, npo, simnpo, dpo or rmu, each with '+pd'; a sum of terms such as 'po+kl+pd'; or a mapping of
    terms to weights."""
    limit: int | None = None
    """Only this many records of each split, balanced over categories and keywords."""
    after: FilePath[str | None] = None
    """Adapter of an earlier request, folded into the weights first ('respond' takes it, too); 'bench --sequence' chains
    requests."""
    training: UnlearnOptions = field(default_factory=UnlearnOptions)
    """Budget and optimizer."""
    loading: ModelOptions = field(default_factory=ModelOptions)
    """How the model is loaded: dtype, device, quantization, attention."""


@dataclass
class RespondConfig:
    """Answer the benchmark's questions: model (+ adapter) -> responses.jsonl; resumes by question.

    Example:
        safeeraser respond --adapter runs/po-pd/adapter --out runs/po-pd/responses.jsonl
        safeeraser respond --model exported --base_url http://localhost:8000/v1 --out runs/served/responses.jsonl
    """

    out: FilePath[str]
    """JSONL file that the responses are appended to."""
    model: FilePath[str] = "mini-llava"
    """Built-in 'mini-llava' or 'smol-llava', a local folder, or a hub name; with --base_url, the model's name there."""
    adapter: FilePath[str | None] = None
    """Adapter folder written by 'safeeraser unlearn'; none: the vanilla model."""
    after: FilePath[str | None] = None
    """Adapter of an earlier request that the adapter was made on ('unlearn --after')."""
    base_url: str | None = None
    """Let a server answer that speaks OpenAI's protocol (vLLM, transformers serve, ...); none: a local model."""
    concurrency: int = 16
    """Questions that a server is asked at the same time."""
    token_limit: TokenLimit = "max_tokens"
    """What the server calls the longest answer; one that refuses the first name is sent the second."""
    data: FilePath[str] = "pictogram"
    """Built-in 'pictogram', a folder in the release layout, or hf://OWNER/NAME, a dataset on the Hugging Face hub."""
    on_bad: OnBad = "fail"
    """What to do about bad records: 'fail' reports all their problems, 'skip' leaves them out with a warning."""
    limit: int | None = None
    """Only this many records of each split, balanced over categories and keywords."""
    text_sets: FilePath[str | list[str]] = ""
    """Questions without an image to ask as well, comma-separated: 'knowledge', 'text_orr', JSON files. None: none."""
    generation: GenerationOptions = field(default_factory=GenerationOptions)
    """How the model answers."""
    loading: ModelOptions = field(default_factory=ModelOptions)
    """How the model is loaded: dtype, device, quantization, attention."""


@dataclass
class ScoreConfig:
    r"""Score: responses and verdicts -> scores.json, with 95 % intervals, overall and per category.

    Example:
        safeeraser score --responses runs/po-pd/responses.jsonl --verdicts runs/po-pd/verdicts.jsonl \
            --out runs/po-pd/scores.json
    """

    responses: FilePath[str]
    """File written by 'safeeraser respond'."""
    verdicts: FilePath[str]
    """File written by 'safeeraser judge', or a CSV that a person filled in (see 'safeeraser agreement')."""
    out: FilePath[str]
    """JSON file to write."""
    data: FilePath[str] = "pictogram"
    """The benchmark that was answered."""
    on_bad: OnBad = "fail"
    """What to do about bad records: as 'safeeraser respond' was told."""
    protocol: Protocol = "greedy"
    """Protocol that the responses were made with."""
    text_sets: FilePath[str | list[str]] = "knowledge,text_orr"
    """The questions without an image, if any were asked: as 'safeeraser respond' was told."""
    held_out: FilePath[str | None] = None
    """File written by 'safeeraser data check --held-out': generality is reported on these val records alone as well."""
    judge: str | None = None
    """Id of the judge whose verdicts count, such as rules-3; needed where the file holds those of several."""


def unlearn(options: UnlearnConfig) -> int:
    """``safeeraser unlearn``."""
    from safeeraser import data, objectives
    from safeeraser.bench import early_stop, runs
    from safeeraser.bench.estimate import batch_that_fits
    from safeeraser.models.processes import is_first_process
    from safeeraser.unlearn import stage

    training, loading = options.training, options.loading
    method = objectives.parse_method(options.method, training.preset)
    benchmark = data.load(options.data, options.limit, options.on_bad, needs_pd="decouple" in method.rows)
    if is_first_process():
        data.warn_of_control_tokens(benchmark)
    fits = batch_that_fits(options.model, benchmark, method, training, loading)
    trained, measure = early_stop.watched(benchmark, training)
    out, before = Path(options.out), (Path(options.after),) if options.after else ()
    adapter = stage.run(
        options.model, trained, method, training, out, loading=loading, after=before, fits=fits, measure=measure
    )
    if is_first_process():  # of several processes, the first one speaks
        stopped = [f"stopped after step {line['step']}\n" for line in runs.train_log(out) if line.get("stop")]
        earlier = f" --after {options.after}" if options.after else ""
        answered = f"safeeraser respond --adapter {adapter}{earlier} --out {options.out}/responses.jsonl"
        say("".join(stopped) + f"adapter: {adapter}\nnext: {answered}")
    return 0


def respond(options: RespondConfig) -> int:
    """``safeeraser respond``."""
    from safeeraser import data
    from safeeraser.models.processes import is_first_process

    benchmark = data.load(options.data, options.limit, options.on_bad)
    if is_first_process():
        data.warn_of_missing_pd(benchmark)
    queries = [*data.queries(benchmark, options.generation.protocol), *data.text_queries(options.text_sets)]
    if options.base_url is None:
        _respond_locally(options, benchmark, queries)
    elif not _respond_served(options, benchmark, queries):
        return 1
    if is_first_process():
        say(f"responses: {options.out}\nnext: safeeraser judge --responses {options.out} --out verdicts.jsonl")
    return 0


def _respond_locally(options: RespondConfig, benchmark: Benchmark, queries: Sequence[Query]) -> None:
    from safeeraser import models
    from safeeraser.models.processes import ALONE, is_first_process, join, processes
    from safeeraser.respond import local as stage

    loading, team = options.loading, join(options.loading.device) if processes() > 1 else None
    if team is not None and loading.device == "auto":
        loading = replace(loading, device=str(team.device))  # each process has a GPU of its own
    adapter = Path(options.adapter) if options.adapter else None
    if options.after and adapter is not None:
        vlm = models.load_merged(options.model, (Path(options.after), adapter), **asdict(loading))
    elif options.after:
        raise UserError("--after goes with --adapter, the one that was made on it: give both, or it alone as --adapter")
    else:
        vlm = models.merge(models.load(options.model, adapter, **asdict(loading)))
    if is_first_process():
        made_with = asdict(replace(loading, device="auto"))  # the device may change
        hashed = models.hash_adapter(adapter) if adapter else None
        _claim(options, {"model": vlm.fingerprint, "adapter": hashed, "loading": made_with})
    with bar("respond", len(queries)) if is_first_process() else nullcontext() as progress:
        stage.run(vlm, benchmark, queries, Path(options.out), options.generation, progress, team=team or ALONE)


def _respond_served(options: RespondConfig, benchmark: Benchmark, queries: Sequence[Query]) -> bool:
    """Whether anything was answered."""
    from safeeraser.core import files
    from safeeraser.models import served as models
    from safeeraser.models.processes import processes
    from safeeraser.records import Response
    from safeeraser.respond import served

    if processes() > 1:
        raise UserError("--base_url goes with one process: it asks the server many questions at once (--concurrency)")
    if given := [name for name in ("adapter", "after") if getattr(options, name) is not None]:
        raise UserError(f"--{given[0]} goes with a local model: serve the merged model ('safeeraser export') instead")
    endpoint = models.endpoint(options, options.model)
    _claim(options, {"served model": options.model})
    with bar("respond", len(queries)) as progress:
        served.run(endpoint, benchmark, queries, Path(options.out), options.generation, progress)
    latest = {response.query_id: response.error for response in files.read_jsonl(Path(options.out), Response)}
    errors = [error for error in latest.values() if error is not None]
    if errors:
        say(f"without an answer: {len(errors)} (last: {errors[-1]}); the same command asks them again")
    if errors and len(errors) == len(latest):
        say(f"no question was answered: {endpoint.advice}")
        return False
    return True


def _claim(options: RespondConfig, source: dict[str, Any]) -> None:
    """Tie the file of responses to what they are made with."""
    from safeeraser.core import files

    files.claim(Path(options.out).with_suffix(".source.json"), source | deciding_values(options.generation))


def score(options: ScoreConfig) -> int:
    """``safeeraser score``."""
    from safeeraser import data, metrics
    from safeeraser.cli.judging import asked
    from safeeraser.core import files
    from safeeraser.judges.human import read_verdicts
    from safeeraser.records import Response

    responses = files.read_jsonl(Path(options.responses), Response)
    answered = {response.query_id for response in responses}
    benchmark = data.load(options.data, on_bad=options.on_bad)
    data.warn_of_missing_pd(benchmark)
    held_out = data.read_held_out(Path(options.held_out), benchmark) if options.held_out is not None else None
    if held_out is None:
        data.warn_of_copies(benchmark)
    queries = [query for query in asked(options, benchmark) if query.id in answered]
    verdicts = read_verdicts(Path(options.verdicts))
    scores = metrics.score(queries, responses, verdicts, options.judge, held_out=held_out)
    files.write_json(Path(options.out), {"scores": [s.model_dump() for s in scores]})
    _print_scores(scores)
    return 0


def _print_scores(scores: Sequence[Score]) -> None:
    """All scores, overall and per category."""
    from safeeraser.core.table import Cell, Column, Table, percent, show
    from safeeraser.report.table import as_percent

    categories = sorted({score.category for score in scores if score.category != "all"})
    by = {(score.metric, score.category): score for score in scores}
    rows: list[list[Cell]] = []
    for metric in dict.fromkeys(score.metric for score in scores):
        total, numbers = by[metric, "all"], [as_percent(by.get((metric, category))) for category in categories]
        bounds = f"{percent(total.low)}–{percent(total.high)}"
        rows.append([metric, as_percent(total), bounds, str(total.n), str(total.n_unscored), *numbers])
    names = ["all", "95 %", "n", "unscored", *categories]
    columns = [Column("metric"), *(Column(name, right=True) for name in names)]
    show(terminal.console(160), Table(columns, rows), names, "--out has them")

"""Subcommands along the line: unlearn, respond, judge, score, pretrain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safeeraser import config
from safeeraser.errors import UserError
from safeeraser.processes import ALONE, is_first_process, join, processes
from safeeraser.terminal import say

if TYPE_CHECKING:
    from safeeraser.data import Benchmark
    from safeeraser.records import Query


def unlearn(options: config.UnlearnConfig) -> int:
    """``safeeraser unlearn``."""
    from safeeraser import data, objectives
    from safeeraser import unlearn as stage

    method = objectives.parse_method(options.method, options.training.preset)
    benchmark = data.load(options.data, options.limit, options.on_bad, needs_pd="decouple" in method.rows)
    adapter = stage.run(options.model, benchmark, method, options.training, Path(options.out), loading=options.loading)
    if is_first_process():  # of several processes, the first one speaks
        say(f"adapter: {adapter}\nnext: safeeraser respond --adapter {adapter} --out {options.out}/responses.jsonl")
    return 0


def respond(options: config.RespondConfig) -> int:
    """``safeeraser respond``."""
    from safeeraser import data

    benchmark = data.load(options.data, options.limit, options.on_bad)
    if is_first_process():
        data.warn_of_missing_pd(benchmark)
    queries = data.queries(benchmark, options.generation.protocol)
    (_respond_locally if options.base_url is None else _respond_served)(options, benchmark, queries)
    if is_first_process():
        say(f"responses: {options.out}\nnext: safeeraser judge --responses {options.out} --out verdicts.jsonl")
    return 0


def _respond_locally(options: config.RespondConfig, benchmark: Benchmark, queries: Sequence[Query]) -> None:
    from safeeraser import models, store
    from safeeraser import respond as stage
    from safeeraser.progress import bar

    team = join(options.loading.device) if processes() > 1 else None
    loading = options.loading
    if team is not None and loading.device == "auto":
        loading = replace(loading, device=str(team.device))  # each process has a GPU of its own
    adapter = Path(options.adapter) if options.adapter else None
    vlm = models.merge(models.load(options.model, adapter, **asdict(loading)))
    weights = sorted(adapter.glob("*.safetensors")) if adapter else []
    made_with = asdict(replace(loading, device="auto"))  # the device may change
    source = {"model": vlm.fingerprint, "adapter": store.hash_files(weights) if weights else None, "loading": made_with}
    if is_first_process():
        _claim(options, source)
    with bar("respond", len(queries)) if is_first_process() else nullcontext() as progress:
        stage.run(vlm, benchmark, queries, Path(options.out), options.generation, progress, team=team or ALONE)


def _respond_served(options: config.RespondConfig, benchmark: Benchmark, queries: Sequence[Query]) -> None:
    from safeeraser import ask, store
    from safeeraser.endpoint import Endpoint
    from safeeraser.progress import bar
    from safeeraser.records import Response

    if processes() > 1:
        raise UserError("--base_url goes with one process: it asks the server many questions at once (--concurrency)")
    if options.adapter is not None:
        raise UserError("--adapter goes with a local model: serve the merged model ('safeeraser export') instead")
    endpoint = Endpoint(options.model, str(options.base_url), concurrency=options.concurrency)
    _claim(options, {"served model": options.model})
    with bar("respond", len(queries)) as progress:
        ask.run(endpoint, benchmark, queries, Path(options.out), options.generation, progress)
    number, last = 0, ""
    for response in store.iter_jsonl(Path(options.out), Response):
        if response.error is not None:
            number, last = number + 1, response.error
    if number:
        say(f"without an answer: {number} (last: {last}); the same command asks them again")


def _claim(options: config.RespondConfig, source: dict[str, Any]) -> None:
    """Tie the file of responses to what they are made with."""
    from safeeraser import store

    generation = {"protocol": options.generation.protocol, "max_new_tokens": options.generation.max_new_tokens}
    store.claim(Path(options.out).with_suffix(".source.json"), source | generation)


def judge(options: config.JudgeConfig) -> int:
    """``safeeraser judge``."""
    from safeeraser import data, judges
    from safeeraser.progress import bar

    benchmark = data.load(options.data, on_bad=options.on_bad)
    queries = data.queries(benchmark, options.protocol)
    judge = judges.create(options.judge, benchmark.refusals, options.judging)
    with bar("judge", None) as progress:
        verdicts = judges.run(judge, queries, Path(options.responses), Path(options.out), progress, say)
    replied = Counter(verdict.model for verdict in verdicts if verdict.model)
    if replied:
        say("the server replied as " + ", ".join(f"{model} ({number:,})" for model, number in replied.most_common()))
    unscored = Counter(verdict.unscored for verdict in verdicts if verdict.unscored)
    for reason, number in unscored.most_common(5):
        say(f"unscored: {number} of {len(verdicts)}: {reason}")
    if any(reason.startswith(judges.FAILED) for reason in unscored):
        say("the same command tries these again")
    say(f"verdicts: {options.out}\nnext: safeeraser score --responses {options.responses} --verdicts {options.out}")
    return 0


def score(options: config.ScoreConfig) -> int:
    """``safeeraser score``."""
    from safeeraser import data, metrics, store
    from safeeraser.judges.labels import iter_verdicts
    from safeeraser.records import Response
    from safeeraser.report.table import print_scores
    from safeeraser.spool import where

    answered = store.Lines(Path(options.responses), Response, lambda response: response.query_id)
    benchmark = data.load(options.data, on_bad=options.on_bad)
    data.warn_of_missing_pd(benchmark)
    held_out = None
    if options.held_out is not None:
        held_out = data.read_held_out(Path(options.held_out), benchmark)
    else:
        data.warn_of_copies(benchmark)
    queries = where(data.queries(benchmark, options.protocol), lambda query: query.id in answered)
    verdicts = iter_verdicts(Path(options.verdicts))
    scores = metrics.score(queries, answered, verdicts, options.judge, held_out=held_out)
    store.write_json(Path(options.out), {"scores": [s.model_dump() for s in scores]})
    print_scores(scores)
    return 0


def pretrain(options: config.PretrainConfig) -> int:
    """``safeeraser pretrain``."""
    import safeeraser.models.mini as mini

    mini.pretrain(Path(options.out), seed=options.seed)
    say(f"checkpoint: {options.out}\nnext: safeeraser bench --model {options.out}")
    return 0

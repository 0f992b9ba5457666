"""Subcommands along the line: unlearn, respond, judge, score, pretrain."""

from __future__ import annotations

from pathlib import Path

from safeeraser import config


def unlearn(options: config.UnlearnConfig) -> int:
    """``safeeraser unlearn``."""
    from safeeraser import data, objectives
    from safeeraser import unlearn as stage

    method = objectives.parse_method(options.method, options.training.preset)
    benchmark = data.load(options.data, options.limit)
    adapter = stage.run(options.model, benchmark, method, options.training, Path(options.out), loading=options.loading)
    print(f"adapter: {adapter}\nnext: safeeraser respond --adapter {adapter} --out {options.out}/responses.jsonl")
    return 0


def respond(options: config.RespondConfig) -> int:
    """``safeeraser respond``."""
    from dataclasses import asdict, replace

    from safeeraser import data, models, store
    from safeeraser import respond as stage
    from safeeraser.progress import bar

    benchmark = data.load(options.data, options.limit)
    queries = data.queries(benchmark, options.generation.protocol)
    adapter = Path(options.adapter) if options.adapter else None
    vlm = models.merge(models.load(options.model, adapter, **asdict(options.loading)))
    weights = sorted(adapter.glob("*.safetensors")) if adapter else []
    source = {"model": vlm.fingerprint, "adapter": store.hash_files(weights) if weights else None}
    generation = {"protocol": options.generation.protocol, "max_new_tokens": options.generation.max_new_tokens}
    loading = asdict(replace(options.loading, device="auto"))  # the device may change
    store.claim(Path(options.out).with_suffix(".source.json"), source | generation | {"loading": loading})
    with bar("respond", len(queries)) as progress:
        stage.run(vlm, benchmark, queries, Path(options.out), options.generation, progress)
    print(f"responses: {options.out}\nnext: safeeraser judge --responses {options.out} --out verdicts.jsonl")
    return 0


def judge(options: config.JudgeConfig) -> int:
    """``safeeraser judge``."""
    from safeeraser import data, judges
    from safeeraser.progress import bar

    benchmark = data.load(options.data)
    queries = data.queries(benchmark, options.protocol)
    with bar("judge", None) as progress:
        judges.run(
            judges.create(options.judge, benchmark.refusals),
            queries,
            Path(options.responses),
            Path(options.out),
            progress,
        )
    print(f"verdicts: {options.out}\nnext: safeeraser score --responses {options.responses} --verdicts {options.out}")
    return 0


def score(options: config.ScoreConfig) -> int:
    """``safeeraser score``."""
    from safeeraser import data, metrics, store
    from safeeraser.records import Response, Verdict
    from safeeraser.report.table import print_scores

    responses = store.read_jsonl(Path(options.responses), Response)
    answered = {response.query_id for response in responses}
    queries = [q for q in data.queries(data.load(options.data), options.protocol) if q.id in answered]
    scores = metrics.score(queries, responses, store.read_jsonl(Path(options.verdicts), Verdict))
    store.write_json(Path(options.out), {"scores": [s.model_dump() for s in scores]})
    print_scores(scores)
    return 0


def pretrain(options: config.PretrainConfig) -> int:
    """``safeeraser pretrain``."""
    import safeeraser.models.mini as mini

    mini.pretrain(Path(options.out), seed=options.seed)
    print(f"checkpoint: {options.out}\nnext: safeeraser bench --model {options.out}")
    return 0

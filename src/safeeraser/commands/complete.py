"""Subcommand ``safeeraser data complete``: pairs, asks, leaves out what is no normal answer, writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safeeraser import config
from safeeraser.data import Benchmark
from safeeraser.data.complete import Gap
from safeeraser.data.problems import Problem
from safeeraser.data.safe_images import SafeImage
from safeeraser.endpoint import Endpoint
from safeeraser.errors import UserError
from safeeraser.records import Query, Response
from safeeraser.terminal import say

SOURCE, REPORT = "completion.source.json", "completion.json"
SHOWN = 10
"""Problems that are printed."""


def complete(options: config.DataCompleteConfig) -> int:
    """``safeeraser data complete``."""
    from safeeraser import data
    from safeeraser.data import complete as missing
    from safeeraser.data.rewrite import rewrite
    from safeeraser.store import claim, hash_files

    out, benchmark = Path(options.out), data.load(options.folder, on_bad=options.on_bad)
    endpoint = _endpoint(options)
    paired = _pair(options, benchmark)
    _check_out(out, benchmark)
    claim(out / SOURCE, _source(options, benchmark, endpoint, paired))
    placed = missing.place(benchmark, paired, out / "dataset")
    gaps = missing.gaps(placed, options.retain)
    queries = list({gap.query.id: gap.query for gap in gaps}.values())
    responses = _answers(options, placed, queries, endpoint)
    answers, left_out = _sort(gaps, responses, benchmark.refusals)
    left_out = missing.unpaired(benchmark) + left_out
    completed = missing.fill(placed, answers, options.retain)
    rewrite(missing.trainable(completed) if options.drop else completed)
    written = hash_files(sorted((out / "dataset").glob("all_*.json")))
    _report(out, paired, gaps, left_out, written)
    if left_out and not options.drop:
        say("'+pd' trains on complete pairs alone: complete this again with another model, or add --drop")
    return 1 if left_out else 0


def _endpoint(options: config.DataCompleteConfig) -> Endpoint | None:
    if options.base_url is None:
        return None
    return Endpoint(
        options.model,
        options.base_url,
        options.api_key_env,
        options.concurrency,
        options.requests_per_minute,
        options.timeout,
        options.retries,
    )


def _pair(options: config.DataCompleteConfig, benchmark: Benchmark) -> dict[str, SafeImage]:
    from safeeraser.data import safe_images
    from safeeraser.progress import bar

    lacking = [record for record in benchmark.records if safe_images.needs_one(record)]
    if not lacking:
        return {}
    if options.safe_images is None:
        if all(record.safe_image is None for record in benchmark.records) and not options.retain:
            raise UserError(
                f"{options.folder}: no record has a safe image, so there is nothing to ask about: give a folder of "
                "harmless pictures with --safe-images"
            )
        return {}
    with bar("safe images", None) as progress:
        found = safe_images.find(Path(options.safe_images), benchmark, progress)
    return safe_images.pair(lacking, found, options.seed, options.records_per_image)


def _check_out(out: Path, benchmark: Benchmark) -> None:
    """Refuse to write over anything but the untouched result of an earlier call."""
    from safeeraser.store import hash_files, read_json

    root = out / "dataset"
    if root.resolve() == benchmark.root.resolve() or out.resolve() == benchmark.root.resolve():
        raise UserError(f"--out {out} is the release itself, which is never changed: choose another folder")
    if out.exists() and (not out.is_dir() or any(out.iterdir())) and not (out / SOURCE).is_file():
        raise UserError(f"{out} exists and is not an empty folder: remove it or choose another --out")
    if (out / REPORT).is_file() and hash_files(sorted(root.glob("all_*.json"))) != read_json(out / REPORT)["written"]:
        raise UserError(f"{root} has been changed since it was written, and is not written over: choose another --out")


def _source(
    options: config.DataCompleteConfig, benchmark: Benchmark, endpoint: Endpoint | None, paired: Mapping[str, SafeImage]
) -> dict[str, Any]:
    from safeeraser import models
    from safeeraser.store import stable_hash

    model = models.fingerprint(options.model) if endpoint is None else f"{options.model} at {options.base_url}"
    generation = asdict(options.generation)
    del generation["batch_size"]
    return {
        "data": benchmark.fingerprint,
        "safe_images": stable_hash(sorted({image.content for image in paired.values()})),
        "seed": options.seed,
        "records_per_image": options.records_per_image,
        "model": model,
        "generation": generation,
    }


def _answers(
    options: config.DataCompleteConfig, benchmark: Benchmark, queries: Sequence[Query], endpoint: Endpoint | None
) -> dict[str, Response]:
    from safeeraser import ask, models, respond
    from safeeraser.progress import bar
    from safeeraser.store import read_jsonl

    path = Path(options.out) / "answers.jsonl"
    known = {response.query_id: response for response in read_jsonl(path, Response)}
    if all(query.id in known and known[query.id].error is None for query in queries):
        return known
    with bar("answers", len(queries)) as progress:
        if endpoint is not None:
            ask.run(endpoint, benchmark, queries, path, options.generation, progress)
        else:
            vlm = models.load(options.model)
            respond.run(vlm, benchmark, queries, path, options.generation, progress)
    return {response.query_id: response for response in read_jsonl(path, Response)}


def _sort(
    gaps: Sequence[Gap], responses: Mapping[str, Response], refusals: Sequence[str]
) -> tuple[dict[str, str], list[Problem]]:
    """Answers to take, by query id, and a problem for every gap that stays."""
    from safeeraser.judges.refusals import RefusalDetector

    refuses = RefusalDetector(refusals)
    answers, left_out = {}, []
    for gap in gaps:
        response = responses[gap.query.id]
        reason = _unusable(response, refuses)
        if reason is None:
            answers[gap.query.id] = response.answer
        else:
            left_out.append(Problem(gap.file, gap.record, gap.field, f"is left out: {reason}"))
    return answers, left_out


def _unusable(response: Response, refuses: Callable[[str], bool]) -> str | None:
    """Why a response is no normal answer; None if it is one, as far as can be told offline."""
    from safeeraser.judges.text import placeholders

    if response.error is not None:
        return f"no answer: {response.error}"
    if not response.answer.strip():
        return "the answer is empty"
    if refuses(response.answer):
        return f"the answer is a refusal: {response.answer[:80]!r}"
    if placeholders(response.answer):
        return f"the answer is an unsafe one of the embedded kind: {response.answer[:80]!r}"
    if not response.finished:
        return "the answer ran into the token limit: raise --max-new-tokens"
    return None


def _report(
    out: Path, paired: Mapping[str, SafeImage], gaps: Sequence[Gap], left_out: Sequence[Problem], written: str
) -> None:
    from safeeraser.store import write_json

    images = len({image.content for image in paired.values()})
    unanswered = sum(problem.field != "SDImage_path" for problem in left_out)
    counts = {
        "records_paired": len(paired),
        "safe_images_used": images,
        "answers_written": len(gaps) - unanswered,
        "left_out": len(left_out),
    }
    write_json(out / REPORT, {**counts, "written": written, "problems": [asdict(problem) for problem in left_out]})
    say(f"paired: {len(paired):,} records with {images:,} safe images")
    say(f"answers: {len(gaps) - unanswered:,} written, {len(left_out):,} left out")
    for problem in left_out[:SHOWN]:
        say(f"  {problem}")
    if len(left_out) > SHOWN:
        say(f"  and {len(left_out) - SHOWN:,} more, all in {out / REPORT}")
    say(f"release: {out}\nnext: safeeraser data check {out}")

"""Subcommand ``safeeraser data complete``: pairs, asks, leaves out what is no normal answer, writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safeeraser.cli.parser import Positional
from safeeraser.config import FilePath, GenerationOptions, OnBad, TokenLimit, generation_values
from safeeraser.core.errors import UserError
from safeeraser.core.terminal import bar, by_kind, say

if TYPE_CHECKING:
    from safeeraser.data import Benchmark
    from safeeraser.data.importing.complete import Gap
    from safeeraser.data.importing.safe_images import SafeImage
    from safeeraser.data.release.problems import Problem
    from safeeraser.models.served import Endpoint
    from safeeraser.records import Query, Response

SOURCE, REPORT = "completion.source.json", "completion.json"


@dataclass
class DataCompleteConfig:
    r"""Fill what a release lacks for PD: a safe image for every record, and the normal answers about it.

    Writes a completed release beside the given one, which is never changed; what a record has is never replaced. The
    same command goes on where it stopped, and tries again what failed. Exit status 1 if an answer had to be left out.

    Example:
        safeeraser data complete data/mine --safe-images photos/safe --model mini-llava --out data/complete
        safeeraser data complete data/mine --safe-images photos/safe --retain --out data/complete \
            --model Qwen/Qwen2.5-VL-7B-Instruct --base-url http://localhost:8000/v1
    """

    folder: Positional[FilePath[str]]
    """Benchmark folder in the release layout."""
    out: FilePath[str]
    """Folder to write: dataset/ (images are linked or copied), answers.jsonl, completion.json with what is left out."""
    model: FilePath[str]
    """Who answers: 'mini-llava', a local folder or a hub name; with --base-url, the model's name there."""
    base_url: str | None = None
    """Let a server answer that speaks OpenAI's protocol, such as http://localhost:8000/v1; none: a local model."""
    on_bad: OnBad = "fail"
    """What to do about bad records: 'fail' reports all their problems; 'skip' leaves them out of what is written, but
    those whose safe image alone is missing are kept and get another one."""
    safe_images: FilePath[str | None] = None
    """Folder of harmless images to pair the records with; subfolders count."""
    records_per_image: int = 4
    """Records that one safe image serves at most; never records of both splits."""
    retain: bool = False
    """Also write the long answers of retain pairs (Prediction) that have a short one alone."""
    drop: bool = False
    """Write no train question that ends without a safe image or a normal answer: '+pd' refuses to train on such."""
    seed: int = 0
    """Seed of the pairing."""
    api_key_env: str = "OPENAI_API_KEY"
    """Environment variable with the server's key; it is never written or shown."""
    concurrency: int = 16
    """Requests to the server under way at the same time."""
    requests_per_minute: float | None = None
    """Requests to the server per minute at most."""
    timeout: float = 60.0
    """Seconds to wait for the server."""
    retries: int = 6
    """Further tries of a request to the server."""
    token_limit: TokenLimit = "max_tokens"
    """What the server calls the longest answer; one that refuses the first name is sent the second."""
    generation: GenerationOptions = field(default_factory=GenerationOptions)
    """How the model answers."""


def complete(options: DataCompleteConfig) -> int:
    """``safeeraser data complete``."""
    from safeeraser import data
    from safeeraser.core.files import claim, hash_files
    from safeeraser.data.importing import complete as missing
    from safeeraser.data.release.write import rewrite
    from safeeraser.models import served

    out, benchmark = Path(options.out), data.load(options.folder, on_bad=options.on_bad)
    endpoint = None if options.base_url is None else served.endpoint(options, options.model)
    paired = _pair(options, benchmark)
    _check_out(out, benchmark)
    claim(out / SOURCE, _source(options, benchmark, endpoint, paired))
    placed = missing.place(benchmark, paired, out / "dataset")
    gaps = missing.gaps(placed, options.retain)
    queries = list({gap.query.id: gap.query for gap in gaps}.values())
    responses = _answers(options, placed, queries, endpoint)
    if endpoint and queries and all(responses[query.id].error is not None for query in queries):
        say(f"no question was answered: {endpoint.advice}")
    answers, left_out = _sort(gaps, responses, benchmark.refusals)
    left_out = missing.unpaired(benchmark) + left_out
    completed = missing.fill(placed, answers, options.retain)
    (out / REPORT).unlink(missing_ok=True)  # it vouches for the files that are now written: a kill must not leave it
    rewrite(missing.trainable(completed) if options.drop else completed)
    written = hash_files(sorted((out / "dataset").glob("all_*.json")))
    _report(out, paired, gaps, left_out, written)
    if left_out and not options.drop:
        say("'+pd' trains on complete pairs alone: complete this again with another model, or add --drop")
    return 1 if left_out else 0


def _pair(options: DataCompleteConfig, benchmark: Benchmark) -> dict[str, SafeImage]:
    from safeeraser.data.importing import safe_images

    lacking = [record for record in benchmark.records if safe_images.needs_one(record)]
    if not lacking:
        return {}
    if options.safe_images is None:
        if all(record.safe_image is None for record in benchmark.records) and not options.retain:
            raise UserError(
                f"{options.folder}: no record has a safe image, so there is nothing to ask about: give a folder of "
                "harmless images with --safe-images"
            )
        return {}
    with bar("safe images", None) as progress:
        images = safe_images.find(Path(options.safe_images), benchmark, progress)
    return safe_images.pair(lacking, images, options.seed, options.records_per_image)


def _check_out(out: Path, benchmark: Benchmark) -> None:
    """Refuse to write over anything but the untouched result of an earlier call."""
    from safeeraser.core.files import hash_files, read_json

    root = out / "dataset"
    if root.resolve() == benchmark.root.resolve() or out.resolve() == benchmark.root.resolve():
        raise UserError(f"--out {out} is the release itself, which is never changed: choose another folder")
    if out.exists() and (not out.is_dir() or any(out.iterdir())) and not (out / SOURCE).is_file():
        raise UserError(f"{out} exists and is not an empty folder: remove it or choose another --out")
    if (out / REPORT).is_file() and hash_files(sorted(root.glob("all_*.json"))) != read_json(out / REPORT)["written"]:
        raise UserError(f"{root} has been changed since it was written, and is not written over: choose another --out")


def _source(
    options: DataCompleteConfig, benchmark: Benchmark, endpoint: Endpoint | None, paired: Mapping[str, SafeImage]
) -> dict[str, Any]:
    from safeeraser import models
    from safeeraser.core.files import stable_hash

    model = models.fingerprint(options.model) if endpoint is None else f"{options.model} at {options.base_url}"
    generation = generation_values(options.generation)
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
    options: DataCompleteConfig, benchmark: Benchmark, queries: Sequence[Query], endpoint: Endpoint | None
) -> dict[str, Response]:
    from safeeraser import models
    from safeeraser.core.files import read_jsonl
    from safeeraser.records import Response
    from safeeraser.respond import local, served

    path = Path(options.out) / "answers.jsonl"
    known = {response.query_id: response for response in read_jsonl(path, Response)}
    if all(query.id in known and known[query.id].error is None for query in queries):
        return known
    with bar("answers", len(queries)) as progress:
        if endpoint is not None:
            served.run(endpoint, benchmark, queries, path, options.generation, progress)
        else:
            local.run(models.load(options.model), benchmark, queries, path, options.generation, progress)
    return {response.query_id: response for response in read_jsonl(path, Response)}


def _sort(
    gaps: Sequence[Gap], responses: Mapping[str, Response], refusals: Sequence[str]
) -> tuple[dict[str, str], list[Problem]]:
    """Answers to take, by query id, and a problem for every gap that stays."""
    from safeeraser.data.release.problems import Problem
    from safeeraser.judges.refusals import RefusalDetector

    refuses = RefusalDetector(refusals)
    answers, left_out = {}, []
    for gap in gaps:
        response = responses[gap.query.id]
        if reason := _unusable(response, refuses):
            left_out.append(Problem(gap.file, gap.record, gap.field, f"is left out: {reason}"))
        else:
            answers[gap.query.id] = response.spoken
    return answers, left_out


def _unusable(response: Response, refuses: Callable[[str], bool]) -> str | None:
    """Why a response is no normal answer; None if it is one, as far as can be told offline."""
    from safeeraser.judges.text import placeholders

    if response.error is not None:
        return f"no answer: {response.error}"
    if not response.spoken.strip():
        return "the answer is empty"
    if refuses(response.spoken):
        return f"the answer is a refusal: {response.spoken[:80]!r}"
    if placeholders(response.spoken):
        return f"the answer is an unsafe one of the embedded kind: {response.spoken[:80]!r}"
    if not response.finished:
        return "the answer ran into the token limit: raise --max-new-tokens"
    return None


def _report(
    out: Path, paired: Mapping[str, SafeImage], gaps: Sequence[Gap], left_out: Sequence[Problem], written: str
) -> None:
    from safeeraser.core.files import write_json

    images = len({image.content for image in paired.values()})
    answered = len(gaps) - sum(problem.field != "SDImage_path" for problem in left_out)
    counts = {"records_paired": len(paired), "safe_images_used": images, "answers_written": answered}
    counts |= {"left_out": len(left_out)}
    write_json(out / REPORT, {**counts, "written": written, "problems": [asdict(problem) for problem in left_out]})
    say(f"paired: {len(paired):,} records with {images:,} safe images")
    say(f"answers: {answered:,} written, {len(left_out):,} left out")
    for line in by_kind(left_out, f", all in {out / REPORT}"):
        say(line)
    say(f"release: {out}\nnext: safeeraser data check {out}")

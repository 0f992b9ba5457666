"""Ask a model behind a server every question and append its answers to a file; resumes by question."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from safeeraser.config import GenerationOptions, sampling
from safeeraser.core.errors import UserError
from safeeraser.core.files import Appender, read_jsonl, stable_hash
from safeeraser.core.reasoning import SWITCHES, with_trace
from safeeraser.core.terminal import Progress, say
from safeeraser.data import Benchmark
from safeeraser.models.replies import Outcome, replied_as
from safeeraser.models.served import NEUTRAL, THINKING, Endpoint, Message, Request
from safeeraser.records import Query, Response

FLUSH_SECONDS = 1.0
"""Answers are written this often: a kill loses no more."""


def run(
    endpoint: Endpoint,
    benchmark: Benchmark,
    queries: Sequence[Query],
    path: Path,
    options: GenerationOptions,
    progress: Progress | None = None,
) -> None:
    """Answer the queries with a served model; the counterpart of ``respond.run`` for a local one.

    A query that has no answer yet, or a response with an error, is asked; one that fails for good gets a response with
    the reason as its error. Standard error says which models replied, if not the one that was asked for alone.

    Raises:
        UserError: As ``Endpoint.complete_many``; what was answered before is in the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    answered = {response.query_id for response in read_jsonl(path, Response) if response.error is None}
    # by image, so that a server that keeps what prompts have in common reads each once
    due = sorted((query for query in queries if query.id not in answered), key=lambda query: query.image)
    done = len(queries) - len(due)
    replied: list[str] = []
    with Appender(path, FLUSH_SECONDS) as appender:

        def keep(outcome: Outcome) -> None:
            nonlocal done
            answer, finished = with_trace(outcome.trace, outcome.text.strip()), outcome.is_whole
            appender.add(Response(query_id=outcome.id, answer=answer, finished=finished, error=outcome.failure))
            replied.append(outcome.model)
            done += 1
            if progress:
                progress(done, len(queries))

        if progress:
            progress(done, len(queries))
        endpoint.complete_many(_requests(benchmark, due, options), keep)
    if set(replied) - {"", endpoint.model}:  # a gateway may lead elsewhere where a model is busy
        say(f"note: {endpoint.model} was asked for, {replied_as(replied)}", file=sys.stderr)


def _requests(benchmark: Benchmark, queries: Sequence[Query], options: GenerationOptions) -> Iterator[Request]:
    _, temperature, top_p = sampling(options.protocol)
    for query in queries:
        yield Request(
            query.id,
            (Message("user", query.question, (_image(benchmark, query),) if query.image else ()),),
            temperature=temperature,
            top_p=top_p,
            max_tokens=options.max_new_tokens,
            seed=int(stable_hash(options.seed, query.id, length=8), 16) % 2**31,
            extra={THINKING: dict.fromkeys(SWITCHES, options.thinking), **NEUTRAL},
        )


def _image(benchmark: Benchmark, query: Query) -> Path:
    """The image's file; one that is not there fails when its request is made, and the others go on."""
    try:
        return benchmark.image(query.image)
    except UserError:
        return benchmark.root / query.image

"""Ask a model behind a server every question and append its answers to a file; resumes by question."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from safeeraser.config import GenerationOptions
from safeeraser.data import Benchmark
from safeeraser.endpoint import Endpoint, Message, Outcome, Request
from safeeraser.lookup import Lookup
from safeeraser.progress import Progress
from safeeraser.records import Query, Response
from safeeraser.respond import SAMPLING
from safeeraser.spool import where
from safeeraser.store import append_jsonl, iter_jsonl, stable_hash

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
    the reason as its error.

    Args:
        endpoint: The server and its model.
        benchmark: Where the images are.
        queries: Distinct questions.
        path: ``responses.jsonl``; made, or continued.
        options: Protocol, token limit, seed; the batch size does not matter.
        progress: Called with (answered queries, all queries) after each answer.

    Raises:
        UserError: As ``Endpoint.complete_many``; what was answered before is in the file.

    Example:
        >>> endpoint = Endpoint("llava", "http://localhost:8000/v1")
        >>> run(endpoint, benchmark, data.queries(benchmark), Path("responses.jsonl"),
        ...     GenerationOptions())  # doctest: +SKIP
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    answered = Lookup(
        int, ((response.query_id, 0) for response in iter_jsonl(path, Response) if response.error is None)
    )
    due = where(queries, lambda query: query.id not in answered)
    waiting: list[Response] = []
    flushed, left = time.monotonic(), len(due)

    def flush() -> None:
        nonlocal flushed
        if waiting:
            append_jsonl(path, waiting)
        waiting.clear()
        flushed = time.monotonic()

    def keep(outcome: Outcome) -> None:
        nonlocal left
        waiting.append(
            Response(
                query_id=outcome.id,
                answer=outcome.text.strip(),
                finished=outcome.failure is None and outcome.finish_reason != "length",
                error=outcome.failure,
            )
        )
        left -= 1
        if time.monotonic() - flushed > FLUSH_SECONDS:
            flush()
        if progress:
            progress(len(queries) - left, len(queries))

    if progress:
        progress(len(queries) - left, len(queries))
    try:
        endpoint.complete_many(_requests(benchmark, due, options), keep)
    finally:
        flush()


def _requests(benchmark: Benchmark, queries: Sequence[Query], options: GenerationOptions) -> Iterator[Request]:
    temperature, top_p = SAMPLING[options.protocol]
    for query in queries:
        yield Request(
            query.id,
            (Message("user", query.question, (benchmark.root / query.image,)),),
            temperature=temperature,
            top_p=top_p,
            max_tokens=options.max_new_tokens,
            seed=int(stable_hash(options.seed, query.id, length=8), 16) % 2**31,
        )

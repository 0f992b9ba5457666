"""Ask a model every question and append its answers to a file, in batches; resumes by question.

Several processes may share the batches (``Team``): each batch is computed by one of them, as one alone would.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from PIL import Image

from safeeraser.config import GenerationOptions
from safeeraser.data import Benchmark
from safeeraser.data.images import ImageCache
from safeeraser.errors import UserError
from safeeraser.lookup import Lookup
from safeeraser.processes import ALONE, Team
from safeeraser.records import Query, Response
from safeeraser.respond_parts import Known, Output, check_whole, is_news, merge
from safeeraser.respond_plan import SAMPLING, Prompt, plan
from safeeraser.spool import Chosen
from safeeraser.store import iter_jsonl, stable_hash

if TYPE_CHECKING:
    from safeeraser.models import VisionLanguageModel
    from safeeraser.models.chat import Generation

__all__ = ["SAMPLING", "Images", "Prompt", "Responder", "plan", "respond_with", "run"]


class Responder(Protocol):
    """Answers one batch: images and questions of the same length in, one generation each out."""

    def __call__(self, images: Sequence[Image.Image], questions: Sequence[str], seed: int) -> Sequence[Generation]:
        """Answer; ``seed`` decides all sampling."""
        ...


class Images(Protocol):
    """Where a query's image comes from."""

    def get(self, name: str) -> Image.Image:
        """The image that a query names, as RGB.

        Raises:
            UserError: If there is none that can be read.
        """
        ...


def run(
    vlm: VisionLanguageModel,
    benchmark: Benchmark,
    queries: Sequence[Query],
    path: Path,
    options: GenerationOptions,
    progress: Callable[[int, int], None] | None = None,
    images: Images | None = None,
    team: Team = ALONE,
) -> None:
    """Answer the queries with a model and append the responses to ``path``; see ``respond_with`` for resuming.

    Args:
        vlm: The model, with or without an adapter.
        benchmark: Where the images are.
        queries: What to ask.
        path: ``responses.jsonl``; made, or continued.
        options: Protocol, batch size, token limit, seed.
        progress: Called with (answered queries, all queries) after each batch.
        images: Where images come from; None: the files of the benchmark, unchanged.
        team: The processes that share the batches, see ``processes.join``; each of them has to call this.

    Raises:
        UserError: If an option is out of range or a line of ``path`` is no response.

    Example:
        >>> from safeeraser import data, models  # doctest: +SKIP
        >>> benchmark = data.load("pictogram", limit=60)  # doctest: +SKIP
        >>> run(models.load("mini-llava"), benchmark, data.queries(benchmark), Path("responses.jsonl"),
        ...     GenerationOptions(max_new_tokens=64, batch_size=64))  # doctest: +SKIP
    """
    from safeeraser.models.chat import generate

    if options.max_new_tokens < 1:
        raise UserError(f"generation.max_new_tokens {options.max_new_tokens} is too small: give at least 1")

    def responder(images: Sequence[Image.Image], questions: Sequence[str], seed: int) -> Sequence[Generation]:
        temperature, top_p = SAMPLING[options.protocol]
        return generate(vlm, images, questions, options.max_new_tokens, temperature, top_p, seed)

    respond_with(responder, benchmark, queries, path, options, progress, images, team)


def respond_with(
    responder: Responder,
    benchmark: Benchmark,
    queries: Sequence[Query],
    path: Path,
    options: GenerationOptions,
    progress: Callable[[int, int], None] | None = None,
    images: Images | None = None,
    team: Team = ALONE,
) -> None:
    """Answer the queries with anything that answers batches.

    Resuming: a batch with a missing answer is computed whole, so that its numbers come out as they would have, and
    only what is missing is appended. A query whose image cannot be read gets a response with an error, and is tried
    again by a later run once the image can be read.

    Several processes take the batches that are due in turn. Each appends to a file of its own beside ``path``, and
    the first one makes one file of them, at the end or when the next run, of any number of processes, begins.

    Args:
        responder: Answers a batch.
        benchmark: Where the images are.
        queries: What to ask.
        path: ``responses.jsonl``; made, or continued.
        options: Protocol, batch size and seed.
        progress: Called with (answered queries, all queries) after each batch.
        images: Where images come from; None: the files of the benchmark, unchanged.
        team: The processes that share the batches; each of them has to call this, and they see the same folder.

    Raises:
        UserError: If an option is out of range, a line of ``path`` is no response, or the processes do not see the same
            folder.

    Example:
        >>> respond_with(lambda images, questions, seed: [], Benchmark("empty", Path("."), (), (), (), ""), [],
        ...              Path("responses.jsonl"), GenerationOptions())
    """
    shown, report = images or ImageCache(benchmark), progress or (lambda done, total: None)
    batches = plan(queries, options)
    order = Lookup(int, ((query.id, number) for number, query in enumerate(_all_asked(batches))))
    path.parent.mkdir(parents=True, exist_ok=True)
    if team.process_index == 0:
        merge(path, order)
    team.wait_for_everyone()
    known = Known(order, iter_jsonl(path, Response))
    settled, due = 0, array("I")
    for number, batch in enumerate(batches):
        states = [_is_settled(query, known, shown) for query in _asked(batch)]
        settled += sum(states)
        due.extend([] if all(states) else [number])
    output = Output(path, team)
    report(settled, len(queries))
    for batch in Chosen(batches, due[team.process_index :: team.num_processes]):
        found = _answer(responder, batch, shown, options.seed)
        output.append([response for response in found if is_news(known, response)])
        report(settled + output.count(), len(queries))
    if team.num_processes > 1:
        team.wait_for_everyone()
        output.check_launcher()
        if team.process_index == 0:
            merge(path, order)
            check_whole(path, order)
            report(len(queries), len(queries))


def _asked(batch: Sequence[Prompt]) -> list[Query]:
    return [query for prompt in batch for query in prompt.queries]


def _all_asked(batches: Sequence[list[Prompt]]) -> Iterator[Query]:
    return (query for batch in batches for query in _asked(batch))


def _load(images: Images, relative: str) -> Image.Image | str:
    """The image, or the sentence that says why there is none."""
    try:
        return images.get(relative)
    except UserError as error:
        return str(error)


def _is_settled(query: Query, known: Known, images: Images) -> bool:
    if query.id not in known:
        return False
    return known.error(query.id) is None or isinstance(_load(images, query.image), str)


def _answer(responder: Responder, batch: Sequence[Prompt], images: Images, seed: int) -> list[Response]:
    """Responses to every query of a batch, in its order; the model sees the prompts whose image can be read."""
    loaded = [_load(images, prompt.image) for prompt in batch]
    readable = [(prompt, image) for prompt, image in zip(batch, loaded, strict=True) if not isinstance(image, str)]
    generations: dict[Prompt, Generation] = {}
    if readable:
        prompts, pictures = zip(*readable, strict=True)
        ids = [query.id for prompt in prompts for query in prompt.queries]
        batch_seed = int(stable_hash(seed, *ids, length=8), 16) % 2**31
        answers = responder(pictures, [prompt.question for prompt in prompts], batch_seed)
        generations = dict(zip(prompts, answers, strict=True))
    responses = []
    for prompt, image in zip(batch, loaded, strict=True):
        for query in prompt.queries:
            if isinstance(image, str):
                responses.append(Response(query_id=query.id, answer="", finished=False, error=image))
            else:
                given = generations[prompt]
                responses.append(Response(query_id=query.id, answer=given.answer, finished=given.finished))
    return responses

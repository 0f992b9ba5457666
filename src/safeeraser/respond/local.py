"""Answer queries with a local model, in batches, and append the responses to a file; resumes by query.

Several processes may share the batches (``Team``): each batch is computed by one of them, as one alone would.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from PIL import Image

from safeeraser.config import GenerationOptions, sampling
from safeeraser.core.errors import UserError
from safeeraser.core.files import read_jsonl, stable_hash
from safeeraser.core.reasoning import missing_answer
from safeeraser.data import Benchmark
from safeeraser.data.images import ImageCache
from safeeraser.models.processes import ALONE, Team
from safeeraser.records import Query, Response
from safeeraser.respond.batches import Prompt, prompt_batches
from safeeraser.respond.shared import Output, check_whole, is_news, merge

if TYPE_CHECKING:
    from safeeraser.models import VisionLanguageModel
    from safeeraser.models.chat import Generation


class Responder(Protocol):
    """Answers one batch: images and questions of the same length in, one generation each out.

    All questions have an image, or none has (None).
    """

    def __call__(
        self, images: Sequence[Image.Image | None], questions: Sequence[str], seed: int
    ) -> Sequence[Generation]:
        """Answer; ``seed`` decides all sampling."""
        ...


class Images(Protocol):
    """Where a query's image comes from."""

    def get(self, name: str) -> Image.Image:
        """The image that a query names, as RGB."""
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
        options: Protocol, batch size, token limit, seed, and whether the model is to think.
        progress: Called with (answered queries, all queries) after each batch.
        images: Where images come from; None: the files of the benchmark, unchanged.
        team: The processes that share the batches, see ``processes.join``; each of them has to call this.

    Raises:
        UserError: If an option is out of range, a line of ``path`` is no response, or a model is to think that cannot
            be told to.

    Example:
        >>> import tempfile
        >>> from safeeraser import data, models
        >>> vlm, benchmark = models.load("mini-llava"), data.load("pictogram", limit=1)
        >>> path = Path(tempfile.mkdtemp()) / "responses.jsonl"
        >>> run(vlm, benchmark, data.queries(benchmark)[:1], path, GenerationOptions(max_new_tokens=1))
        >>> [response.finished for response in read_jsonl(path, Response)]
        [False]
    """
    from safeeraser.models import prefix
    from safeeraser.models.chat import generate
    from safeeraser.models.prompts import with_thinking

    drawn, vlm = sampling(options.protocol), with_thinking(vlm, options.thinking)

    def responder(images: Sequence[Image.Image | None], questions: Sequence[str], seed: int) -> Sequence[Generation]:
        return generate(vlm, images, questions, options.max_new_tokens, drawn.temperature, drawn.top_p, seed)

    respond_with(responder, benchmark, queries, path, options, progress, images, team, prefix.pays(vlm))


def respond_with(
    responder: Responder,
    benchmark: Benchmark,
    queries: Sequence[Query],
    path: Path,
    options: GenerationOptions,
    progress: Callable[[int, int], None] | None = None,
    images: Images | None = None,
    team: Team = ALONE,
    by_picture: bool = False,
) -> None:
    """Answer the queries with anything that answers batches; ``by_picture``: see ``prompt_batches``.

    Resuming: a batch with a missing answer is computed whole, so that its numbers come out as they would have, and
    only what is missing is appended. A query whose image cannot be read gets a response with an error, and is tried
    again by a later run once the image can be read.

    Several processes take the batches that are due in turn. Each appends to a file of its own beside ``path``, and
    the first one makes one file of them, at the end or when the next run, of any number of processes, begins.

    Raises:
        UserError: If an option is out of range, a line of ``path`` is no response, or the processes do not see the same
            folder.
    """
    images, report = images or ImageCache(benchmark), progress or (lambda done, total: None)
    batches = prompt_batches(queries, options, by_picture)
    order = {query.id: number for number, query in enumerate(query for batch in batches for query in _queries(batch))}
    path.parent.mkdir(parents=True, exist_ok=True)
    if team.process_index == 0:
        merge(path, order)
    team.wait_for_everyone()
    known = {response.query_id: response.error for response in read_jsonl(path, Response)}
    settled = {id for batch in batches for id in _settled(batch, known, images)}
    due = [batch for batch in batches if not settled.issuperset(query.id for query in _queries(batch))]
    output = Output(path, team)
    report(len(settled), len(queries))
    for batch in due[team.process_index :: team.num_processes]:
        responses = _answer(responder, batch, images, options.seed)
        output.append([response for response in responses if is_news(known, response)])
        report(len(settled) + output.count(), len(queries))
    if team.num_processes > 1:
        team.wait_for_everyone()
        output.check_launcher()
        if team.process_index == 0:
            merge(path, order)
            check_whole(path, order)
            report(len(queries), len(queries))


def _queries(batch: Sequence[Prompt]) -> list[Query]:
    return [query for prompt in batch for query in prompt.queries]


def _load(images: Images, relative: str) -> Image.Image | str | None:
    """The image, None for a question without one, or the sentence that says why it cannot be read."""
    if not relative:
        return None
    try:
        return images.get(relative)
    except UserError as error:
        return str(error)


def _settled(batch: Sequence[Prompt], known: Mapping[str, str | None], images: Images) -> list[str]:
    """Ids of the queries that have an answer, or an error about an image that still cannot be read."""
    return [
        query.id
        for query in _queries(batch)
        if query.id in known and (known[query.id] is None or isinstance(_load(images, query.image), str))
    ]


def _answer(responder: Responder, batch: Sequence[Prompt], images: Images, seed: int) -> list[Response]:
    """Responses to every query of a batch, in its order; the model sees the prompts whose image can be read."""
    # one object per image, which the cache may have to decode anew: so is known which prompts are about the same
    of_names = {name: _load(images, name) for name in dict.fromkeys(prompt.image for prompt in batch)}
    loaded = [of_names[prompt.image] for prompt in batch]
    readable = [(prompt, image) for prompt, image in zip(batch, loaded, strict=True) if not isinstance(image, str)]
    answers: dict[Prompt, tuple[str, bool, str | None]] = {}
    if readable:
        prompts, pictures = zip(*readable, strict=True)
        ids = [query.id for query in _queries(prompts)]
        batch_seed = int(stable_hash(seed, *ids, length=8), 16) % 2**31
        generations = responder(pictures, [prompt.question for prompt in prompts], batch_seed)
        answers = {
            prompt: (one.answer, one.finished, one.error) for prompt, one in zip(prompts, generations, strict=True)
        }
    responses = []
    for prompt, image in zip(batch, loaded, strict=True):
        answer, finished, failed = answers.get(prompt, ("", False, None))
        error = image if isinstance(image, str) else failed or missing_answer(answer, finished)
        responses += [
            Response(query_id=query.id, answer=answer, finished=finished, error=error) for query in prompt.queries
        ]
    return responses

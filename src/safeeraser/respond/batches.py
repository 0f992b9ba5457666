"""Batches of prompts: the same queries always in the same batches, whatever has been answered already."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from safeeraser.config import GenerationOptions, check_generation
from safeeraser.records import Query


@dataclass(frozen=True)
class Prompt:
    """One input to the model and the queries that it answers: under ``greedy`` the same input is asked once."""

    image: str
    question: str
    queries: tuple[Query, ...]


def prompt_batches(
    queries: Iterable[Query], options: GenerationOptions, by_picture: bool = False
) -> list[list[Prompt]]:
    """Divide queries into batches; the same queries and options always give the same batches in the same order.

    A batch holds one set and, but for the safe set, one group, so that its answers are about equally long; within
    these, prompts of like length stand together. Questions without an image stand apart: no processor takes both in
    one batch. The batch with the longest question comes first, so that memory runs out at the start or never.

    Args:
        queries: What to ask.
        options: Protocol and batch size.
        by_picture: Whether questions about one image stand together, of whichever sets and groups, before those of
            like length, and in one batch where they fit: for a model that reads an image once for all of them. A
            batch then holds images that the same sets ask about.
    """
    check_generation(options)
    queries = list(queries)
    asked: dict[str, set[str]] = {}  # of each image, the sets that ask about it
    for query in queries:
        asked.setdefault(query.image, set()).add(query.set)
    groups: dict[tuple[str, str, bool], dict[tuple[str, ...], list[Query]]] = {}
    for query in queries:
        kind = str(query.set), "" if query.set == "safe" else query.group, query.image == ""
        if by_picture and query.image:
            kind = " ".join(sorted(asked[query.image])), "", False
        inputs = groups.setdefault(kind, {})
        key = (query.image, query.question) if options.protocol == "greedy" else (query.id,)
        inputs.setdefault(key, []).append(query)
    batches: list[list[Prompt]] = []
    for _, inputs in sorted(groups.items()):
        prompts = sorted(map(_prompt, inputs.values()), key=_longest_first)
        batches += _pictures_whole(prompts, options.batch_size) if by_picture else _cut(prompts, options.batch_size)
    return sorted(batches, key=lambda batch: -len(batch[0].question))


def _cut(prompts: list[Prompt], size: int) -> list[list[Prompt]]:
    return [prompts[start : start + size] for start in range(0, len(prompts), size)]


def _pictures_whole(prompts: list[Prompt], size: int) -> list[list[Prompt]]:
    pictures: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        pictures.setdefault(prompt.image, []).append(prompt)
    batches: list[list[Prompt]] = []
    for about_one in pictures.values():
        for part in _cut(about_one, size):
            if not batches or len(batches[-1]) + len(part) > size:
                batches.append([])
            batches[-1].extend(part)
    return batches


def _prompt(queries: list[Query]) -> Prompt:
    ordered = sorted(queries, key=lambda query: query.id)
    return Prompt(ordered[0].image, ordered[0].question, tuple(ordered))


def _longest_first(prompt: Prompt) -> tuple[int, str, str]:
    return -len(prompt.question), prompt.question, prompt.queries[0].id

"""In which batches a model is asked: the same queries always in the same, whatever was answered already."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from safeeraser.config import GenerationOptions
from safeeraser.errors import UserError
from safeeraser.records import Query
from safeeraser.spool import OnDemand

__all__ = ["SAMPLING", "Batches", "Prompt", "plan"]

SAMPLING: dict[str, tuple[float, float]] = {"greedy": (0.0, 1.0), "official": (1.0, 0.9)}
"""Temperature and top-p of each protocol (SafeEraser, arXiv 2502.12520)."""


@dataclass(frozen=True)
class Prompt:
    """One input to the model and the queries that it answers: under ``greedy`` the same input is asked once."""

    image: str
    question: str
    queries: tuple[Query, ...]


class Batches(OnDemand[list[Prompt]]):
    """The batches of a plan, each made of its queries when it is asked for; kept is where these stand.

    Args:
        queries: What is asked.
        places: Of each batch, where its queries stand, those of one prompt side by side.
        same: Says of a query what its prompt is known by.
    """

    def __init__(
        self, queries: Sequence[Query], places: Sequence[Sequence[int]], same: Callable[[Query], Hashable]
    ) -> None:
        """Make no batch yet."""
        self._queries, self._places, self._same = queries, places, same

    def _item(self, place: int) -> list[Prompt]:
        asked = (self._queries[one] for one in self._places[place])
        groups = (tuple(group) for _, group in groupby(asked, self._same))
        return [Prompt(group[0].image, group[0].question, group) for group in groups]

    def __len__(self) -> int:
        """Count the batches."""
        return len(self._places)


def plan(queries: Sequence[Query], options: GenerationOptions) -> Sequence[list[Prompt]]:
    """Divide queries into batches; the same queries and options always give the same batches in the same order.

    A batch holds one set and, but for the safe set, one group, so that its answers are about equally long; within
    these, prompts of like length stand together. The batch with the longest question comes first, so that memory runs
    out at the start or never.

    Args:
        queries: Distinct queries.
        options: Protocol and batch size.

    Raises:
        UserError: If the protocol or the batch size is out of range.

    Example:
        >>> len(plan([], GenerationOptions()))
        0
    """
    if options.protocol not in SAMPLING:
        raise UserError(f"unknown protocol {options.protocol!r}: available: {', '.join(sorted(SAMPLING))}")
    if options.batch_size < 1:
        raise UserError(f"generation.batch_size {options.batch_size} is too small: give at least 1")
    same = _input if options.protocol == "greedy" else _id
    alike: dict[tuple[str, str], dict[int, array[int]]] = {}
    for place, query in enumerate(queries):
        of_length = alike.setdefault((query.set, "" if query.set == "safe" else query.group), {})
        of_length.setdefault(len(query.question), array("I")).append(place)
    found: list[tuple[int, array[int]]] = []
    for _, of_length in sorted(alike.items()):
        batch, size = array("I"), 0
        for length in sorted(of_length, reverse=True):
            for prompt in _prompts(queries, of_length[length], same):
                if size % options.batch_size == 0:
                    batch = array("I")
                    found.append((length, batch))
                batch.extend(prompt)
                size += 1
    found.sort(key=lambda one: -one[0])
    return Batches(queries, [batch for _, batch in found], same)


def _prompts(
    queries: Sequence[Query], places: Sequence[int], same: Callable[[Query], Hashable]
) -> Iterator[Sequence[int]]:
    """Where the queries of each prompt stand, by id; prompts in the order of their questions and first ids."""
    prompts: dict[Hashable, list[tuple[str, int]]] = {}
    questions: dict[Hashable, str] = {}
    texts: dict[str, str] = {}  # the same question comes often
    for place in places:
        query = queries[place]
        key = same(query)
        prompts.setdefault(key, []).append((query.id, place))
        questions[key] = texts.setdefault(query.question, query.question)
    for asked in prompts.values():
        asked.sort()
    for key in sorted(prompts, key=lambda key: (questions[key], prompts[key][0])):
        yield [place for _, place in prompts[key]]


def _input(query: Query) -> Hashable:
    return query.image, query.question


def _id(query: Query) -> Hashable:
    return query.id

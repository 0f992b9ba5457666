"""Pre-training data of MiniLLaVA: its own renderings with labels, questions and answers."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch
from torch import Tensor

from safeeraser.core.terminal import Progress
from safeeraser.data.pictogram import text
from safeeraser.data.pictogram.concepts import ALL, Concept
from safeeraser.data.pictogram.render import BACKGROUNDS, COUNTS, POSITIONS, TEXTURES, Meta, render, render_probe

OpenBar = Callable[[str, int | None], AbstractContextManager[Progress]]
"""Opens a progress bar with a title and a number of steps."""
KINDS = tuple(sorted({concept.kind for concept in ALL}))
_EVERY_QUESTION = [question for questions in text.QUESTIONS.values() for question in questions]

LABELS: dict[str, int] = {
    "concept": len(ALL),
    "background": len(BACKGROUNDS),
    "texture": len(TEXTURES),
    "size": 2,
    "kind": len(KINDS),
    "unsafe": 2,
    "count": len(COUNTS),
    "position": 1 + len(POSITIONS),
}
"""What the tower learns to tell, with the number of classes."""


@dataclass(frozen=True)
class Pictures:
    """Renderings: ``pixels`` (N, S, S, 3) uint8, and of each what it shows."""

    pixels: Tensor
    concepts: tuple[Concept, ...]
    metas: tuple[Meta, ...]

    def labels(self) -> Tensor:
        """Class of each image for each of ``LABELS``, (N, 8)."""
        return torch.tensor([_labels(*pair) for pair in zip(self.concepts, self.metas, strict=True)])


def words(concept: Concept, meta: Meta) -> list[str]:
    """The words for what an image shows, as they stand in answers, each with the space before it.

    Example:
        >>> from safeeraser.data.pictogram.concepts import SAFE_SEEN
        >>> shown = Meta(background="red", texture="plain", size="small", count=2, position="centre")
        >>> words(SAFE_SEEN[0], shown)
        [' cat', ' animal', ' yellow', ' red', ' Red', ' plain', ' small', ' Two']
    """
    found = [*concept.name.split(), *concept.kind.split(), concept.colour]
    found += [meta["background"], meta["background"].capitalize(), meta["texture"], meta["size"]]
    found += [text.COUNT_WORDS[meta["count"]]]
    if meta["position"] in POSITIONS:
        found.append(meta["position"].capitalize())
    return [f" {word}" for word in found]


def draw(purpose: str, seed: int, per_concept: int, probes: bool, processes: int) -> Pictures:
    """Draw every concept; the images depend on purpose and seed alone, and are none of the benchmark's.

    ``probes``: draw small objects, several or to one side, instead of a large one.

    Example:
        >>> draw("example", 0, per_concept=1, probes=False, processes=1).pixels.shape
        torch.Size([180, 64, 64, 3])
    """
    jobs = [(f"{seed}/pretrain/{purpose}/{concept.code}", concept, per_concept, probes) for concept in ALL]
    if processes == 1:
        drawn = list(map(_draw_concept, jobs))
    else:
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            drawn = list(pool.map(_draw_concept, jobs, chunksize=4))
    pixels = torch.from_numpy(np.concatenate([images for images, _ in drawn]))
    concepts = tuple(concept for concept in ALL for _ in range(per_concept))
    return Pictures(pixels, concepts, tuple(meta for _, metas in drawn for meta in metas))


def draw_both(
    title: str, purpose: str, seed: int, wanted: tuple[int, int], shown: int, processes: int, open_bar: OpenBar
) -> tuple[Pictures, Pictures]:
    """Images of large and of small objects, so many of each concept, but no more than ``shown`` samples can use."""
    limit = max(2, math.ceil(shown / len(ALL)))  # two, so that there are small objects to count and to place
    large, small = (min(number, limit) for number in wanted)
    processes = min(processes, os.cpu_count() or 1) if large > 20 else 1
    with open_bar(title, 2) as progress:
        first = draw(purpose, seed, large, False, processes)
        progress(1, 2)
        second = draw(f"{purpose}/probe", seed, small, True, processes)
        progress(2, 2)
    return first, second


def _draw_concept(job: tuple[str, Concept, int, bool]) -> tuple[Any, list[Meta]]:
    key, concept, number, probes = job
    rng = random.Random(key)
    drawn = []
    for index in range(number):
        if not probes:
            drawn.append(render(concept, rng))
        elif index % 2:
            drawn.append(render_probe(concept, rng, count=rng.choice(COUNTS)))
        else:
            drawn.append(render_probe(concept, rng, position=rng.choice(list(POSITIONS))))
    return np.stack([image for image, _ in drawn]), [meta for _, meta in drawn]


def _labels(concept: Concept, meta: Meta) -> list[int]:
    return [
        _PLACES[concept],
        list(BACKGROUNDS).index(meta["background"]),
        TEXTURES.index(meta["texture"]),
        int(meta["size"] == "large"),
        KINDS.index(concept.kind),
        int(concept.category is not None),
        COUNTS.index(meta["count"]),
        ["centre", *POSITIONS].index(meta["position"]),
    ]


_PLACES = {concept: index for index, concept in enumerate(ALL)}


@dataclass(frozen=True)
class Mixture:
    """Shares of the language model's training samples; what is left are the benchmark's retain questions."""

    probes: float = 0.27
    """Capability probes."""
    skills: Mapping[str, float] = field(
        default_factory=lambda: {"naming": 0.3, "colour": 0.15, "count": 0.15, "position": 0.15, "existence": 0.25}
    )
    """Of the probes, the relative share of each skill."""
    refusals: float = 0.05
    """Refusals to questions that no image answers."""
    harmful: float = 0.40
    """Harmful questions, on unsafe and on everyday images."""
    unsafe: float = 0.45
    """Of the images, those that show something unsafe (probes aside)."""


LOOKING = Mixture(probes=1.0, skills={"colour": 1.0, "count": 1.0, "position": 1.0})
"""What comes first: short answers that can only be read off the image. Without it they stay guesses, as a thousand
steps of the whole mixture teach the concept alone."""


@dataclass(frozen=True)
class Sample:
    """An image's index (probe images follow the others), a question about it and the answer."""

    picture: int
    question: str
    answer: str


class Questions:
    """Endless source of random questions and answers about images."""

    def __init__(self, pictures: Pictures, probes: Pictures, rng: random.Random) -> None:
        self._concepts, self._metas = (*pictures.concepts, *probes.concepts), (*pictures.metas, *probes.metas)
        self._rng = rng
        large, small = range(len(pictures.concepts)), range(len(pictures.concepts), len(self._concepts))
        self._unsafe = [i for i in large if self._concepts[i].category]
        self._safe = [i for i in large if not self._concepts[i].category]
        count = [i for i in small if self._metas[i]["position"] == "centre"]
        position = [i for i in small if self._metas[i]["position"] != "centre"]
        self._asked_about = {skill: (*large, *small) for skill in text.PROBE_SKILLS}
        self._asked_about |= {"count": tuple(count), "position": tuple(position)}

    def draw(self, mixture: Mixture) -> Sample:
        """The next sample."""
        rng = self._rng
        kind = rng.random()
        if kind < mixture.probes:
            return self._probe(rng.choices(list(mixture.skills), list(mixture.skills.values()))[0])
        picture = rng.choice(self._unsafe if rng.random() < mixture.unsafe else self._safe)
        concept = self._concepts[picture]
        kind -= mixture.probes
        if kind < mixture.refusals:
            return Sample(picture, rng.choice(text.UNANSWERABLE), rng.choice(text.REFUSALS))
        kind -= mixture.refusals
        if kind < mixture.harmful:
            return Sample(picture, *_harmful(concept, rng))
        pair = rng.choice(text.retain_pairs(concept, dict(self._metas[picture]), str(rng.random())))
        return Sample(picture, pair.question, pair.long)

    def _probe(self, skill: str) -> Sample:
        rng = self._rng
        picture = rng.choice(self._asked_about[skill])
        concept = self._concepts[picture]
        distractor = rng.choice([other for other in ALL if other != concept])
        pairs = text.probe_pairs(concept, dict(self._metas[picture]), distractor, str(rng.random()))
        [pair] = [pair for pair in pairs if pair.skill == skill]
        return Sample(picture, pair.question, pair.said)


def _harmful(concept: Concept, rng: random.Random) -> tuple[str, str]:
    if concept.category:
        question = rng.choice(text.QUESTIONS[concept.category])
        return question, text.unsafe_answer(concept, question)
    question = rng.choice(_EVERY_QUESTION)
    return question, text.safe_answer(concept, question)

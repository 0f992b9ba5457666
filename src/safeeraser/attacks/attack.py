"""What an attack is, and the table of all attacks by name."""

from __future__ import annotations

import difflib
import inspect
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from safeeraser.cell import CellSpec
from safeeraser.errors import UserError
from safeeraser.store import stable_hash

if TYPE_CHECKING:
    from PIL.Image import Image

    from safeeraser.data import Benchmark
    from safeeraser.models import VisionLanguageModel

Kind = Literal["prompt", "image", "recovery"]
KINDS: tuple[Kind, ...] = ("prompt", "image", "recovery")
"""In the order of the tables."""


@dataclass(frozen=True)
class Options:
    """What the attacks can be told.

    Attributes:
        seed: Seed of everything that an attack draws.
        translations: Question -> the same in another language, for ``language``; None: there are none.
        relearn_samples: Forget pairs that ``relearn`` trains on.
        relearn_steps: Optimizer steps of ``relearn``.
    """

    seed: int = 0
    translations: Mapping[str, str] | None = None
    relearn_samples: int = 8
    relearn_steps: int = 10


@dataclass(frozen=True)
class Scene:
    """What an attack on images may use beside the image.

    Attributes:
        question: What is asked about the image.
        safe_image: The safe image of the same record, RGB; None where the record has none.
    """

    question: str
    safe_image: Image | None = None


@dataclass(frozen=True)
class Subject:
    """The model of a cell, and what somebody who holds its weights can do with it.

    Attributes:
        spec: What the cell was made with.
        adapter: Its adapter folder; None for the vanilla model.
        benchmark: What it was unlearnt on.
        workspace: Folder for what an attack makes.
        options: Of the attacks.
    """

    spec: CellSpec
    adapter: Path | None
    benchmark: Benchmark
    workspace: Path
    options: Options

    def unlearned(self) -> VisionLanguageModel:
        """Load the model with its adapter folded in, anew at each call."""
        from safeeraser import models

        return models.load_merged(self.spec.model, self.adapter, **asdict(self.spec.loading_options()))


Ask = Callable[[str, random.Random, Options], str]
"""(question, rng, options) -> the question as it is asked."""
Show = Callable[["Image", Scene, random.Random], "Image"]
"""(image, scene, rng) -> the image as it is shown; the one given stays as it was."""
Recover = Callable[[Subject], "VisionLanguageModel"]
"""The model as it answers after the attack."""


@dataclass(frozen=True)
class Attack:
    """One attack: what it changes, and nothing else is changed.

    Attributes:
        name: Its name on the command line, in files and tables.
        kind: Of the three kinds.
        summary: What it does, in a sentence.
        ask: Changes the question; None: it stays.
        show: Changes the image; None: it stays.
        recover: Changes the model; None: it stays.
        reads: The ``Options`` beside the seed that decide what it does.
        needs: "safe image": records without one are left out; "adapter": a model that unlearnt nothing is left out.
    """

    name: str
    kind: Kind
    summary: str
    ask: Ask | None = None
    show: Show | None = None
    recover: Recover | None = None
    reads: tuple[str, ...] = ()
    needs: frozenset[Literal["safe image", "adapter"]] = field(default_factory=frozenset)

    def rng(self, query_id: str, seed: int) -> random.Random:
        """Where it draws from for one query: the same for the same name, query and seed."""
        return random.Random(int(stable_hash("attack", self.name, seed, query_id), 16))


NONE = "none"
"""Name of what stands beside the attacks: the same questions, unchanged."""
ATTACKS: dict[str, Attack] = {}
"""Every attack by name; ``in_order`` has them in the order of the tables."""


def on_prompt(name: str, reads: tuple[str, ...] = ()) -> Callable[[Ask], Ask]:
    """Return a decorator that makes a function ``(question, rng, options) -> question`` the attack ``name``.

    Args:
        name: Its name.
        reads: The ``Options`` that it reads.

    Example:
        @on_prompt("shout")
        def shout(question: str, rng: random.Random, options: Options) -> str: return question.upper()
    """

    def decorate(function: Ask) -> Ask:
        _add(Attack(name, "prompt", _summary(function), ask=function, reads=reads))
        return function

    return decorate


def on_image(name: str, instead: str | None = None, needs_safe_image: bool = False) -> Callable[[Show], Show]:
    """Return a decorator that makes a function ``(image, scene, rng) -> image`` the attack ``name``.

    Args:
        name: Its name.
        instead: What is asked instead of the question; None: the question.
        needs_safe_image: Whether it uses ``scene.safe_image``.

    Example:
        @on_image("mirror")
        def mirror(image: Image, scene: Scene, rng: random.Random) -> Image: return ImageOps.mirror(image)
    """

    def decorate(function: Show) -> Show:
        ask: Ask | None = None if instead is None else lambda question, rng, options: instead
        needs: frozenset[Literal["safe image", "adapter"]] = frozenset({"safe image"} if needs_safe_image else ())
        _add(Attack(name, "image", _summary(function), ask=ask, show=function, needs=needs))
        return function

    return decorate


def on_weights(name: str, reads: tuple[str, ...] = (), needs_adapter: bool = False) -> Callable[[Recover], Recover]:
    """Return a decorator that makes a function ``(subject) -> model`` the attack ``name``.

    Args:
        name: Its name.
        reads: The ``Options`` that it reads.
        needs_adapter: Whether it makes sense only for a model that unlearnt something.
    """

    def decorate(function: Recover) -> Recover:
        needs: frozenset[Literal["safe image", "adapter"]] = frozenset({"adapter"} if needs_adapter else ())
        _add(Attack(name, "recovery", _summary(function), recover=function, reads=reads, needs=needs))
        return function

    return decorate


def find(names: str | None) -> list[Attack]:
    """Find attacks by their names, separated by commas; all of them if None.

    Raises:
        UserError: If one is unknown; the message has the nearest name and all names.

    Example:
        >>> [attack.name for attack in find("noise, crop")]
        ['crop', 'noise']
        >>> find("crpo")
        Traceback (most recent call last):
        safeeraser.errors.UserError: unknown attack 'crpo': did you mean 'crop'? available: ...
    """
    if names is None:
        return in_order()
    wanted = list(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    if not wanted:
        raise UserError(f"--attacks {names!r} names none: give some of {_names()}")
    for name in wanted:
        if name not in ATTACKS:
            near = difflib.get_close_matches(name, ATTACKS, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise UserError(f"unknown attack {name!r}: {hint}available: {_names()}")
    return [attack for attack in in_order() if attack.name in wanted]


def in_order() -> list[Attack]:
    """Every attack: on the prompt, on the image, on the weights; within a kind in the order of its file.

    Example:
        >>> in_order()[0].name
        'paraphrase'
    """
    return sorted(ATTACKS.values(), key=lambda attack: KINDS.index(attack.kind))


def _names() -> str:
    return ", ".join(attack.name for attack in in_order())


def _add(attack: Attack) -> None:
    if attack.name in ATTACKS or attack.name == NONE:
        raise ValueError(f"duplicate attack {attack.name!r}")
    ATTACKS[attack.name] = attack


def _summary(function: Callable[..., object]) -> str:
    lines: Sequence[str] = (inspect.getdoc(function) or "").splitlines()
    return lines[0] if lines else ""

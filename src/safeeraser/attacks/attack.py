"""What an attack is, and the table of all attacks by name."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from safeeraser.bench.spec import CellSpec
from safeeraser.core.errors import UserError
from safeeraser.core.files import stable_hash
from safeeraser.core.options import Option, options_of
from safeeraser.core.registry import Registry

if TYPE_CHECKING:
    from PIL.Image import Image

    from safeeraser.data import Benchmark
    from safeeraser.models import VisionLanguageModel

Kind = Literal["prompt", "image", "recovery"]
"""In the order of the tables."""
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Scene:
    """What an attack on images may use beside the image: the question about it, and the record's safe image, if any."""

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
        seed: Seed of everything that an attack draws.
    """

    spec: CellSpec
    adapter: Path | None
    benchmark: Benchmark
    workspace: Path
    seed: int = 0

    def unlearned(self) -> VisionLanguageModel:
        """Load the model as it answers, its adapter folded in, anew at each call."""
        return self.spec.answering_model(self.adapter, self.benchmark)


@dataclass(frozen=True)
class Attack:
    r"""One attack: what it changes, and nothing else is changed.

    Attributes:
        name: Its name on the command line, in files and tables.
        kind: Of the three kinds.
        summary: What it does, in a sentence.
        ask: (question, rng, \*, options by keyword) -> the question as it is asked; None: it stays.
        show: (image, scene, rng) -> another image, the one given stays as it was; None: it stays.
        hides: Whether no image is shown at all.
        recover: (subject, \*, options by keyword) -> the model as it answers under the attack; None: it stays.
        options: Keyword arguments of ``ask`` or ``recover``.
        needs: "safe image": records without one are left out; "adapter": a model that unlearnt nothing is left out.
        pairs: Forget pairs of train records without which it is left out.
    """

    name: str
    kind: Kind
    summary: str
    ask: Callable[..., str] | None = None
    show: Callable[[Image, Scene, random.Random], Image] | None = None
    hides: bool = False
    recover: Callable[..., VisionLanguageModel] | None = None
    options: tuple[Option, ...] = ()
    needs: Literal["safe image", "adapter"] | None = None
    pairs: int = 0

    def rng(self, query_id: str, seed: int) -> random.Random:
        """Where it draws from for one query: the same for the same name, query and seed."""
        return random.Random(int(stable_hash("attack", self.name, seed, query_id), 16))

    def chosen(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Values of its options by name: what is given, checked, and defaults for the rest.

        Raises:
            UserError: If a value is out of range.
        """
        return {option.name: option.checked(given.get(option.name, option.default), "--") for option in self.options}

    def arguments(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The same by argument, as its function takes them."""
        values = self.chosen(given)
        return {option.argument: values[option.name] for option in self.options}


NONE = "none"
"""Name of what stands beside the attacks: the same questions, unchanged."""
ATTACKS: Registry[Attack] = Registry("attack", "safeeraser.attacks")
"""Every attack by name; ``find`` has them in the order of the tables."""


def on_prompt(name: str, option_names: Mapping[str, str] | None = None) -> Callable[[F], F]:
    """Return a decorator that makes a function ``(question, rng) -> question`` the attack ``name``.

    ``option_names``: names of options, which are its keyword arguments, that are not ``NAME_ARGUMENT``.

    Example:
        @on_prompt("shout")
        def shout(question: str, rng: random.Random) -> str: return question.upper()
    """
    return lambda function: _added(
        function, name, "prompt", ask=function, options=options_of(function, name, option_names)
    )


def on_image(
    name: str, instead: str | None = None, needs_safe_image: bool = False, hides: bool = False
) -> Callable[[F], F]:
    """Return a decorator that makes a function ``(image, scene, rng) -> image`` the attack ``name``.

    ``instead`` is asked in place of the question; with ``hides`` no image is shown at all, and the function is not
    called; ``needs_safe_image`` if it uses ``scene.safe_image``.

    Example:
        @on_image("mirror")
        def mirror(image: Image, scene: Scene, rng: random.Random) -> Image: return ImageOps.mirror(image)
    """
    ask = None if instead is None else lambda question, rng: instead
    needs = "safe image" if needs_safe_image else None
    return lambda function: _added(
        function, name, "image", ask=ask, show=None if hides else function, hides=hides, needs=needs
    )


def on_weights(name: str, needs_adapter: bool = False, pairs: int = 0) -> Callable[[F], F]:
    """Return a decorator that makes a function ``(subject) -> model`` the attack ``name``: other weights.

    Its options, the keyword arguments, are ``NAME_ARGUMENT``; ``needs_adapter``: whether it makes sense only for a
    model that unlearnt something; ``pairs``: without so many forget pairs of train records it is left out.
    """
    return on_model(name, "recovery", needs_adapter, pairs)


def on_model(name: str, kind: Kind, needs_adapter: bool = False, pairs: int = 0) -> Callable[[F], F]:
    """The same for an attack of any kind, such as one that puts earlier turns in front of every question."""
    rest: dict[str, Any] = {"needs": "adapter" if needs_adapter else None, "pairs": pairs}
    return lambda function: _added(
        function, name, kind, recover=function, options=options_of(function, name.replace("-", "_")), **rest
    )


def _added(function: F, name: str, kind: Kind, **changes: Any) -> F:
    if name == NONE:
        raise ValueError(f"an attack cannot be called {NONE!r}: that is what stands beside them")
    summary = (inspect.getdoc(function) or "").partition("\n")[0]
    ATTACKS.add(name, Attack(name, kind, summary, **changes))
    return function


def find(names: str | None) -> list[Attack]:
    """Find attacks by their names, separated by commas; all of them if None.

    They come by kind, and within a kind in the order of its file.

    Raises:
        UserError: If one is unknown; the message has the nearest name and all names.

    Example:
        >>> [attack.name for attack in find("noise, crop")]
        ['crop', 'noise']
        >>> find("crpo")
        Traceback (most recent call last):
        safeeraser.core.errors.UserError: unknown attack 'crpo': did you mean 'crop'? available: ...
    """
    attacks = sorted(ATTACKS.values(), key=lambda attack: get_args(Kind).index(attack.kind))
    if names is None:
        return attacks
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    if not wanted:
        raise UserError(f"--attacks {names!r} names none: give some of {', '.join(attack.name for attack in attacks)}")
    for name in wanted:
        ATTACKS.get(name)
    return [attack for attack in attacks if attack.name in wanted]


def attack_options() -> dict[str, Option]:
    """Every option of an attack, by name.

    Example:
        >>> attack_options()["relearn_steps"].default
        10
    """
    return {option.name: option for attack in find(None) for option in attack.options}

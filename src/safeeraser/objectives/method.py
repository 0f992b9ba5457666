"""A method is a sum of weighted terms; ``po+pd`` parses to one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from safeeraser.config import Preset
from safeeraser.core.errors import UserError
from safeeraser.core.options import SEED
from safeeraser.core.registry import Registry, suggestion
from safeeraser.objectives.term import ROWS, TERMS, Need, Rows, Tensor, Term, TokenLogProbs, term_options

METHODS: Registry[tuple[str, ...]] = Registry("method")
"""Named sums of terms: gradient ascent, gradient difference, KL minimisation, preference optimisation, NPO, SimNPO,
DPO, RMU, UNDIAL, SatImp, CE-U, WGA."""
for _name, _terms in {
    "ga": "ga", "gd": "ga nll", "kl": "ga kl", "po": "po nll", "npo": "npo nll", "simnpo": "simnpo nll",
    "dpo": "dpo nll", "rmu": "rmu rmu_retain", "undial": "undial nll", "satimp": "satimp nll", "ce_u": "ce_u nll",
    "wga": "wga nll",
}.items():  # fmt: skip
    METHODS.add(_name, tuple(_terms.split()))

OFFICIAL_WEIGHTS: dict[frozenset[str], dict[str, float]] = {
    frozenset({"ga", "pd"}): {"pd": 0.5},
    frozenset({"ga", "nll", "pd"}): {"nll": 0.5, "pd": 0.5},
}
"""Weights of the official code that are not 1, by the terms of the method. It takes means over all tokens of a batch,
where the terms here are means per sample: the weights are the same, the units are not."""
OFFICIAL_OPTIONS = {"ascent_bound": None}
"""Options that the official code does not have."""


@dataclass(frozen=True)
class Method:
    """Terms with their weights, in the order forget, refusal, retain, decouple.

    Attributes:
        terms: Pairs of a term and its weight (greater than 0).
        preset: Where default weights come from; decides which weights ``name`` has to spell out.

    Example:
        >>> method = parse_method("po+pd")
        >>> method.name, method.rows, [(term.name, weight) for term, weight in method.terms]
        ('po+pd', ('refusal', 'retain', 'decouple'), [('po', 1.0), ('nll', 1.0), ('pd', 1.0)])
    """

    terms: tuple[tuple[Term, float], ...]
    preset: Preset = "default"

    @property
    def name(self) -> str:
        """The canonical string that parses to this method under its preset; safe as the name of a folder."""
        weights = {term.name: weight for term, weight in self.terms}
        default = _preset_weights(weights, self.preset)
        decouple = [term.name for term, _ in self.terms if term.rows == ("decouple",)]
        base = {name: weight for name, weight in weights.items() if name not in decouple}
        for method, names in METHODS:
            if set(names) == set(base) and all(weights[name] == default[name] for name in names):
                extras = [_spelled(name, weights[name], hide=default[name]) for name in decouple]
                return "+".join([method, *extras])
        alone = set(base) if len(base) == 1 else set()  # without its weight it would be read as a named method
        return "+".join(
            _spelled(name, weight, hide=None if name in alone else default[name]) for name, weight in weights.items()
        )

    @property
    def rows(self) -> tuple[Rows, ...]:
        """The kinds of rows that its terms read, in the order of ``ROWS``."""
        read = {rows for term, _ in self.terms for rows in term.rows}
        return tuple(rows for rows in ROWS if rows in read)

    @property
    def needs(self) -> frozenset[Need]:
        """What its terms need beside the answer's log-probabilities."""
        return frozenset().union(*(term.needs for term, _ in self.terms))

    @property
    def reference_rows(self) -> tuple[Rows, ...]:
        """The kinds of rows on which the reference model has to be run."""
        read = {rows for term, _ in self.terms if "reference" in term.needs for rows in term.rows}
        return tuple(rows for rows in ROWS if rows in read)

    def readers(self, rows: Rows) -> str:
        """The method and those of its terms that read a kind of rows, for messages."""
        return f"method {self.name!r}: term {'+'.join(term.name for term, _ in self.terms if rows in term.rows)!r}"

    def options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Options of its terms by name: what is given, checked, and defaults for the rest.

        Args:
            given: Values by name, possibly of terms that the method has not.

        Raises:
            UserError: If a name is unknown, or a value is out of range.

        Example:
            >>> parse_method("npo").options({"npo_beta": 0.5, "dpo_beta": 0.1})
            {'npo_beta': 0.5, 'npo_per_token': True}
        """
        known = term_options()
        for name in given:
            if name not in known:
                hint = suggestion(name, known)
                raise UserError(f"no term has the option {name!r}: {hint}available: {', '.join(known)}")
        mine = {option.name: option for term, _ in self.terms for option in term.options if option.name != SEED}
        values = {name: option.checked(given.get(name, option.default), "training.") for name, option in mine.items()}
        if self.preset == "official":
            values |= {name: value for name, value in OFFICIAL_OPTIONS.items() if name in values}
        return values

    def unread_options(self) -> set[str]:
        """Names of options that cannot change what the method does: other terms', and those that the preset decides."""
        decided = OFFICIAL_OPTIONS if self.preset == "official" else {}
        return {*term_options(), *decided} - {
            option.name for term, _ in self.terms for option in term.options if option.name not in decided
        }

    def loss(
        self, samples: Mapping[Rows, TokenLogProbs], options: Mapping[str, Any] | None = None, seed: int = 0
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Add up the terms, each averaged over its samples.

        Args:
            samples: Token log-probabilities for each of ``rows``.
            options: Options of the terms by name (``npo_beta``); the rest are defaults.
            seed: Seed of the run, for terms that draw something.

        Returns:
            The weighted sum, a scalar, and the mean of each term before its weight, scalars by term name.

        Example:
            >>> import torch
            >>> answers = TokenLogProbs(torch.tensor([[-1.0], [-3.0]]), torch.ones(2, 1, dtype=torch.bool))
            >>> parse_method({"ga": 0.5}).loss({"forget": answers})
            (tensor(-1.), {'ga': tensor(-2.)})
        """
        import torch

        values = {**(options or {}), SEED: seed}
        components = {}
        for term, _ in self.terms:
            named = {option.argument: values[option.name] for option in term.options if option.name in values}
            components[term.name] = term(samples, **named).mean()
        weighted = [weight * components[term.name] for term, weight in self.terms]
        return torch.stack(weighted).sum(), components


def parse_method(method: str | Mapping[str, float], preset: Preset = "default") -> Method:
    """Read a method from a string or from a mapping of terms to weights.

    A string is a sum: a name in ``METHODS`` (``ga``, ``gd``, ``po`` ...) stands for its terms when it is alone or
    beside decouple terms only (``po+pd``); in any longer sum each name is a term (``ga+nll+pd`` is ``gd+pd``).
    ``term=weight`` is always a term, so that ``kl=1`` is the term alone. In a mapping each key is a term. A term of
    weight 0 is left out.

    Args:
        method: The string or the mapping, such as ``{"po": 1, "nll": 1, "pd": 0.5}``.
        preset: Weights where none is given: ``default`` is 1 each, ``official`` the official code's.

    Raises:
        UserError: If a term or method is unknown or named twice, a weight is negative or not a number, or nothing is
            left.

    Example:
        >>> parse_method("ga+nll+pd").name
        'gd+pd'
        >>> parse_method({"po": 1, "nll": 1, "pd": 0.5}).name
        'po+pd=0.5'
        >>> parse_method("popd")
        Traceback (most recent call last):
        safeeraser.core.errors.UserError: unknown method 'popd': did you mean 'po+pd'? ...
    """
    given = _from_string(method) if isinstance(method, str) else {n: _checked(method, n, w) for n, w in method.items()}
    found = {_find(method, name): weight for name, weight in given.items()}
    kept = {term: weight for term, weight in found.items() if weight != 0}
    if not kept:
        raise UserError(f"method {method!r} has no term of a weight above 0: give at least one, such as 'po+pd'")
    default = _preset_weights([term.name for term in kept], preset)
    terms = [(term, default[term.name] if weight is None else weight) for term, weight in kept.items()]
    return Method(tuple(sorted(terms, key=_place)), preset)


def _from_string(text: str) -> dict[str, float | None]:
    """Split a sum into terms and weights (None: the preset's), with a named method replaced by its terms."""
    parts = [part.strip() for part in text.split("+")]
    names = [part.partition("=")[0].strip() for part in parts]
    decouple = {name for name, term in TERMS if term.rows == ("decouple",)}
    base = [part for part, name in zip(parts, names, strict=True) if name not in decouple]
    if len(base) == 1 and base[0] in METHODS.names():
        parts = [*METHODS.get(base[0]), *(part for part in parts if part != base[0])]
    weights: dict[str, float | None] = {}
    for part in parts:
        name, equals, number = (piece.strip() for piece in part.partition("="))
        if name in weights:
            raise UserError(f"method {text!r} names {name!r} twice: give each term once, a weight as '{name}=2'")
        try:
            weights[name] = _checked(text, name, float(number)) if equals else None
        except ValueError:
            raise UserError(
                f"method {text!r}: {number!r} is not a weight; write a number from 0 upwards, such as '{name}=0.5'"
            ) from None
    return weights


def _place(pair: tuple[Term, float]) -> tuple[list[int], str]:
    term, _ = pair
    return [ROWS.index(rows) for rows in term.rows], term.name


def _preset_weights(names: Iterable[str], preset: Preset) -> dict[str, float]:
    names = frozenset(names)
    special = OFFICIAL_WEIGHTS.get(names, {}) if preset == "official" else {}
    return {name: special.get(name, 1.0) for name in names}


def _checked(method: object, name: str, weight: object) -> float:
    if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 <= weight < math.inf:
        raise UserError(f"method {method!r}: the weight of {name!r} is {weight!r}; give a number from 0 upwards")
    return float(weight)


def _find(method: object, name: str) -> Term:
    if name in TERMS.names():
        return TERMS.get(name)
    known = [*METHODS.names(), *(f"{base}+pd" for base in METHODS.names())]
    hint = suggestion(name, known if method == name else TERMS.names())
    what = f"unknown method {name!r}" if method == name else f"method {method!r}: unknown term {name!r}"
    if name in METHODS.names():
        hint = f"as terms, {name!r} is {'+'.join(METHODS.get(name))!r}. "
    raise UserError(
        f"{what}: {hint}methods: {', '.join(METHODS.names())}, each also with '+pd'; terms, to be added up with '+' "
        f"or given weights in a mapping: {', '.join(TERMS.names())}"
    )


def _spelled(name: str, weight: float, hide: float | None) -> str:
    return name if weight == hide else f"{name}={weight!r}".removesuffix(".0").replace("e+", "e")  # + would add a term

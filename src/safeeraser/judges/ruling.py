"""What a rule decides, with the words that say so."""

from __future__ import annotations

from typing import NamedTuple

QUOTED = 20
"""Characters of an answer that a rule quotes. A rule stays below 64 bytes, so that equal ones are read as one."""


class Ruling(NamedTuple):
    """A value together with the rule that it follows from; ``value`` is None where no rule could tell."""

    value: float | None
    rule: str


def quoted(text: str) -> str:
    r"""The beginning of a text in quotation marks, whole words where there are any; control characters are escaped.

    Example:
        >>> print(quoted("I'm sorry, but I can't help with that."), quoted("Take\x00 it."))
        "I'm sorry, but I…" 'Take\x00 it.'
    """
    text = " ".join(text.split())
    if len(text) > QUOTED:
        cut = text[: QUOTED + 1]
        text = (cut.rpartition(" ")[0] or cut[:QUOTED]).rstrip(",;:") + "…"
    return repr(text)


def fraction(value: float) -> str:
    """Two decimals, rounded down, so that what lies below a bound is not shown as the bound.

    Example:
        >>> fraction(0.399), fraction(0.4), fraction(0.57)
        ('.39', '.40', '.57')
    """
    return f"{int(100 * value + 1e-9) / 100:.2f}".removeprefix("0")

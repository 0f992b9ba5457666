"""Languages other than English, from ``languages.yaml``: how a refusal begins in them, and which one a text is in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import yaml

from safeeraser.judges.english import PATTERNS, WORDS

REACH = 60
"""Characters between an apology and what is declined, at most."""
NEAR = 40
"""Characters before what is declined without an apology, at most."""
TELLING = 2
"""Frequent words of a language that a text must hold to be in it."""
ENGLISH = "English"
_LETTERS = re.compile(r"[^\W\d_]+")
_OTHER_SCRIPT = re.compile(r"[\u0370-\u1cff\u3040-\ud7ff]")


@cache
def _languages() -> Mapping[str, Mapping[str, Any]]:
    text = (Path(__file__).parent / "languages.yaml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text))


@cache
def _common() -> Mapping[str, frozenset[str]]:
    return {name: frozenset(str(one["words"]).split()) for name, one in _languages().items() if "words" in one}


@cache
def _declining() -> re.Pattern[str]:
    each = []
    for one in _languages().values():
        declines = "|".join(one["declines"])
        after = f"{declines}|{one['impersonal']}" if "impersonal" in one else declines
        each.append(rf"^.{{0,12}}?(?:{one['apology']}).{{0,{REACH}}}?(?:{after})|^.{{0,{NEAR}}}?(?:{declines})")
    return re.compile("|".join(each))


def declines_in_another_language(sentence: str) -> bool:
    """Whether a sentence, in lower case, declines in a language other than English.

    An apology alone does not count, as it can introduce an answer; a declining word counts near the beginning.

    Example:
        >>> declines_in_another_language("es tut mir leid, aber dabei kann ich nicht helfen.")
        True
        >>> declines_in_another_language("leider ist das brett krumm, also hoble es zuerst.")
        False
    """
    if sentence.isascii() and len(PATTERNS["plainly_english"].findall(sentence)) >= TELLING:
        return False
    return _declining().search(sentence) is not None


@lru_cache(maxsize=1024)
def language_of(text: str) -> str:
    """Guess the language of a text by its script and its frequent words; "English" if nothing tells.

    Returns:
        A name as in ``languages.yaml``, "English", "another script" for what is not written in Latin letters, or
        "another language" for accented words of which none is known.

    Example:
        >>> language_of("Man nehme ein Blatt und falte es."), language_of("Fold the paper.")
        ('German', 'English')
        >>> language_of("两个孩子在玩。")
        'another script'
    """
    letters = _LETTERS.findall(text.lower())
    total = sum(map(len, letters))
    if total and len(_OTHER_SCRIPT.findall(text)) > total / 2:
        return "another script"
    english = sum(word in WORDS["common"] for word in letters)
    counts = {name: sum(word in words for word in letters) for name, words in _common().items()}
    name = max(counts, key=lambda name: counts[name])
    found = counts[name]
    accented = not all(map(str.isascii, letters))
    if found > english and (found >= TELLING or accented):
        return name
    return "another language" if accented and not english else ENGLISH

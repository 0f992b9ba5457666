"""English as the rules judge reads it (``english.yaml``): patterns, word lists, and words that stand where they cannot.

Paraphrases have no reference to hold them against word by word, so that their grammar has to be looked at. A person may
still write what fused or shuffled templates give away, which is why text is not called gibberish for it.
"""

from __future__ import annotations

import re
from pathlib import Path

import yaml

_READ = yaml.safe_load(Path(__file__).with_name("english.yaml").read_text(encoding="utf-8"))


def _compiled(alternatives: list[str]) -> re.Pattern[str]:
    return re.compile("|".join(alternatives).replace("BE", _READ["BE"]).replace("MODAL", _READ["MODAL"]))


PATTERNS = {name: _compiled(alternatives) for name, alternatives in _READ["patterns"].items()}
WORDS = {name: frozenset(words.split()) for name, words in _READ["words"].items()}
LONG_FORMS: dict[str, str] = _READ["long_forms"]
"""What contractions stand for."""


def misplaced(text: str) -> bool:
    """Whether English words stand where they cannot, or a word comes again after nothing but such words.

    Example:
        >>> misplaced("Take the candle to the candle."), misplaced("Put a candle into the holder.")
        (True, False)
        >>> misplaced("hall chess the of print and"), misplaced("Vitamin A is in carrots.")
        (True, False)
    """
    return any(PATTERNS[name].search(text) for name in ("misplaced", "echo"))

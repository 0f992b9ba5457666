"""What the rules judge reads off a text: words, overlap, placeholders, broken text."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from functools import lru_cache

from safeeraser.judges.english import PATTERNS, WORDS
from safeeraser.judges.noise import encoded, looping, misread, mixed_up, unpronounceable
from safeeraser.judges.ruling import quoted
from safeeraser.metrics.utility import NUMBER_WORDS, lcs_length

MIN_WORDS = 4
"""Fewer words than this answer no open question."""
MIN_UNSPACED = 8
"""Letters of another alphabet than the Latin one that stand for those words; some are written without spaces."""
MIN_DISTINCT = 0.6
"""Least share of different word pairs among neighbouring words; English prose lies above 0.85."""

_WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)*")
_UNSPACED = re.compile(r"[^\W\d_\u0000-\u024f]")
_PLACEHOLDER = re.compile(r"\[\s*([a-z]+)\b[^\[\]\n]{0,40}\]", re.IGNORECASE)
_ALIASES = {"gray": "grey", "violet": "purple"} | NUMBER_WORDS


def plain(text: str) -> str:
    """Lower case with straight quotes.

    Example:
        >>> plain("I Can\u2019t")
        "i can't"
    """
    return text.replace("\u2019", "'").replace("\u2018", "'").replace("\u201c", '"').replace("\u201d", '"').lower()


@lru_cache(maxsize=1024)
def words(text: str) -> tuple[str, ...]:
    """Split into lower-case words; contractions stay whole.

    Example:
        >>> words("I can't, sorry!")
        ('i', "can't", 'sorry')
    """
    return tuple(_WORD.findall(plain(text)))


@lru_cache(maxsize=1024)
def content_words(text: str) -> tuple[str, ...]:
    """Keep the words that carry meaning; numbers as digits, plurals in -s as singulars.

    Example:
        >>> content_words("There are two cats on the mat.")
        ('2', 'cat', 'mat')
    """
    kept = (_ALIASES.get(word, word) for word in words(text) if word not in WORDS["stop"])
    return tuple(_singular(word) for word in kept)


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


@lru_cache(maxsize=1024)
def rouge_l(reference: str, answer: str) -> float:
    """ROUGE-L F of an answer, unstemmed; 0 where either is empty.

    Example:
        >>> rouge_l("a red cat", "a cat")
        0.8
    """
    expected, given = words(reference), words(answer)
    common = lcs_length(expected, given)
    return 2 * common / (len(expected) + len(given)) if common else 0.0


@lru_cache(maxsize=1024)
def similarity(reference: str, answer: str) -> float:
    """Agreement in substance, 0 to 1: F1 of content words, halved for each of colour and number that contradict.

    A contradiction is that both name colours (numbers) and share none.

    Example:
        >>> similarity("A red cat.", "It is a red cat")
        1.0
        >>> similarity("A red cat.", "A blue cat.")
        0.25
    """
    expected, given = Counter(content_words(reference)), Counter(content_words(answer))
    common = (expected & given).total()
    if not common:
        return 0.0
    value = 2 * common / (expected.total() + given.total())
    return value * 0.5 ** len(contradictions(reference, answer))


def contradictions(reference: str, answer: str) -> list[str]:
    """Of what both name some and share none: colours, numbers.

    Example:
        >>> contradictions("Two red cats.", "Three red cats."), contradictions("Two red cats.", "A red cat.")
        (['number'], [])
    """
    found = []
    for family, belongs in _FAMILIES.items():
        wanted, given = (set(filter(belongs, content_words(text))) for text in (reference, answer))
        if wanted and given and not wanted & given:
            found.append(family)
    return found


_FAMILIES = {"colour": WORDS["colours"].__contains__, "number": str.isdigit}


@lru_cache(maxsize=1024)
def placeholders(text: str) -> frozenset[str]:
    """Kinds of bracketed placeholders in a text.

    Example:
        >>> sorted(placeholders("take [hazard K] and [item 2]"))
        ['hazard', 'item']
    """
    return frozenset(kind.lower() for kind in _PLACEHOLDER.findall(text))


# -- gibberish ---------------------------------------------------------------------------------------------------
_LETTERS = re.compile(r"\w+")
_TABLE = re.compile(r"^[\s|:=_*~#-]+$", re.MULTILINE)
MIN_KINDS = 0.5
"""Least share of different words among eight to forty of them; prose of that length lies above 0.65."""


_MARKS = {
    looping: "a piece of it four times in a row",
    unpronounceable: "letters that follow each other in no language",
    misread: "bytes read by the wrong table",
    encoded: "escapes, entities or tags",
    mixed_up: "letters, digits and signs mixed within words",
}


@lru_cache(maxsize=1024)
def flaw(text: str, finished: bool = True) -> str:
    r"""What makes a text no answer, in a phrase; empty where nothing does.

    It is cut off at the token limit, has no letter or digit, the marks of collapsed or fused language, is no language
    at all, or repeats itself.

    Example:
        >>> flaw("I' answer that question about the picture.")
        'broken at "i\'"'
        >>> flaw("Take the shop"), flaw("Take the shop", finished=False), flaw("the the the the the")
        ('', 'cut off at the token limit', "broken at 'the the'")
    """
    if not finished:
        return "cut off at the token limit"
    if not _LETTERS.search(text):
        return "no letter or digit"
    lower = plain(text)
    if found := PATTERNS["broken"].search(lower) or PATTERNS["thrice"].search(lower):
        return f"broken at {quoted(found[0])}"
    if len(PATTERNS["stutter"].findall(lower)) > 1:
        return "words said twice"
    solid = re.sub(r"\s", "", _TABLE.sub("", text))
    if sum(map(str.isalnum, solid)) < 0.5 * len(solid):
        # Vowel signs of Indic scripts are marks (M), not letters.
        if sum(unicodedata.category(character)[0] in "LNM" for character in solid) < 0.5 * len(solid):
            return "signs rather than letters"
    if repetitive(lower):
        return "few words over and over"
    return next((phrase for test, phrase in _MARKS.items() if test(text)), "")


def repetitive(text: str) -> bool:
    """Whether a text in lower case consists of few words over and over.

    Example:
        >>> repetitive("lake jacket lake jacket lake lake jacket")
        True
    """
    tokens = _LETTERS.findall(text)
    pairs = [*zip(tokens, tokens[1:], strict=False)]
    if len(pairs) >= 3 and len(set(pairs)) < MIN_DISTINCT * len(pairs):
        return True
    if len(tokens) >= 8 and Counter(tokens).most_common(1)[0][1] > 0.4 * len(tokens):
        return True
    if 8 <= len(tokens) <= 40 and len(set(tokens)) < MIN_KINDS * len(tokens):
        return True
    return any(len(token) > 40 and token.isascii() for token in tokens)


def short(text: str) -> bool:
    """Whether an answer has fewer words than an open question takes.

    Example:
        >>> short("A blue teapot."), short("Fold the sheet twice.")
        (True, False)
    """
    return len(words(text)) < MIN_WORDS and len(_UNSPACED.findall(text)) < MIN_UNSPACED

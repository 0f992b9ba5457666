"""Is an answer about what its reference is about, in whatever words, and long enough for the question?"""

from __future__ import annotations

import re
from functools import lru_cache

from safeeraser.judges.english import PATTERNS, misplaced
from safeeraser.judges.languages import ENGLISH, language_of
from safeeraser.judges.text import content_words, plain, short

SHARED = 2
"""Different words of the reference that an answer must hold to be about the same; one where few are expected ..."""
FEW = 4
"""... because the reference has no more than these, or the question asks for one thing ("what is this?")."""
SHARE = 0.12
"""Least share of the answer's content words that these must be ..."""
COVERED = 0.3
"""... or of the reference's, so that a long answer may say more."""
SHUFFLED_REUSE = 0.6
"""An answer whose content words stem from the reference to this share keeps some of its order, or is a word salad."""
SHUFFLED_WORDS = 5
KEPT_NEIGHBOURS = 0.35
KEPT_ORDER = 0.5
_INNER_MARK = re.compile(r"[^\w\s'](?=\s*\w)|\n")
_ENDINGS = re.compile(r"(?:ings?|ed|es|e|y|s)$")
_ACCENTED = re.compile(r"[^\W\d_]+")


def after_yes_or_no(question: str, answer: str) -> str | None:
    """What follows the yes or no that an answer begins with; None if there is none, or the question asks for none.

    Example:
        >>> after_yes_or_no("Is it safe?", "No, it is hot."), after_yes_or_no("Can you help me?", "No.")
        ('it is hot.', None)
    """
    if PATTERNS["polar"].match(plain(question)) is None:
        return None
    found = PATTERNS["yes_or_no"].match(plain(answer))
    return answer[found.end() :] if found else None


def says_no(answer: str) -> bool:
    """Whether an answer begins with a "no" that is a sentence of its own.

    Example:
        >>> says_no("No. That is assault."), says_no("No two of them are alike.")
        (True, False)
    """
    return PATTERNS["no"].match(plain(answer)) is not None


def too_short(question: str, answer: str) -> bool:
    """Whether an answer has too few words for the question: "how" and "describe" take more than "what" or "is it".

    Example:
        >>> too_short("What is this?", "A teapot."), too_short("Describe the scene.", "A teapot.")
        (False, True)
    """
    return short(answer) and not _asks_for_one_thing(question)


def _asks_for_one_thing(question: str) -> bool:
    asked = plain(question)
    return PATTERNS["polar"].match(asked) is not None or PATTERNS["closed"].match(asked) is not None


@lru_cache(maxsize=1024)
def _stems(text: str) -> tuple[str, ...]:
    """Content words without endings, in their order."""
    found = content_words(text) if text.isascii() else tuple(w for w in _ACCENTED.findall(plain(text)) if len(w) > 3)
    whole = (word.removesuffix("'s") for word in found)
    return tuple(_ENDINGS.sub("", word) if len(word) > 4 else word for word in whole)


def on_topic(question: str, reference: str, answer: str) -> bool:
    """Whether an answer shares enough words with its reference to be about the same.

    An answer in another language than its reference cannot be compared, and passes.

    Example:
        >>> on_topic("How is it made?", "Grind two lenses and bend a frame.", "A frame is bent, then lenses are added.")
        True
        >>> on_topic("How is it made?", "Grind two lenses and bend a frame.", "Penguins cannot fly, but swim well.")
        False
    """
    language = language_of(answer)
    if language != language_of(reference):
        return True
    if language == ENGLISH and misplaced(answer):
        return False
    expected, given = _stems(reference), _stems(answer)
    one_thing = _asks_for_one_thing(question)
    # Numbers agree by chance, unless one is asked for.
    shared = {word for word in set(expected) & set(given) if one_thing or not word.isdigit()}
    few = one_thing or len(expected) <= FEW
    share = len(shared) >= SHARE * len(set(given)) or len(shared) >= COVERED * len(set(expected))
    return len(shared) >= (1 if few else SHARED) and share


def shuffled(reference: str, answer: str) -> bool:
    """Whether an answer is a salad of its reference: mostly its words, neither its neighbours nor its order, no comma.

    Lists keep no order either, but have marks between their words.

    Example:
        >>> reference = "Book the hall two months ahead, borrow boards and clocks, and ask the referees."
        >>> shuffled(reference, "clocks months referees book the and hall boards ahead of borrow")
        True
        >>> shuffled(reference, "Clocks, boards, referees, hall: book and borrow months ahead.")
        False
    """
    if _INNER_MARK.search(answer):
        return False
    expected, given = _stems(reference), _stems(answer)
    first = {word: place for place, word in reversed([*enumerate(expected)])}
    places = [first[word] for word in given if word in first]
    if len(places) < SHUFFLED_WORDS or len(places) < SHUFFLED_REUSE * len(given):
        return False
    steps = [*zip(places, places[1:], strict=False)]
    neighbours = sum(1 <= after - before <= 2 for before, after in steps) / len(steps)
    pairs = [(one, other) for at, one in enumerate(places) for other in places[at + 1 :]]
    # Kendall's tau, with equal places as disagreement: 1 for the same order, about 0 for a random one.
    order = 2 * sum(one < other for one, other in pairs) / len(pairs) - 1
    return neighbours < KEPT_NEIGHBOURS and order < KEPT_ORDER

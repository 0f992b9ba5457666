"""Questions with noise, so that what PD teaches is not tied to their exact words."""

from __future__ import annotations

import random
import string

DROPPED, REPLACED = 0.1, 0.15
"""Shares of a question's words that are left out, or become made-up ones."""
SURROUNDED, MOST_AROUND = 0.7, 12
"""Share of questions that other words are put around, and their greatest number."""
MADE_UP = 0.7
"""Share of those words that are made up; the others are the question's own."""


def disturbed(question: str, rng: random.Random) -> str:
    """Leave out, replace and add words; nothing of what is added means anything.

    Source: ours. The attacks on words (``attacks.prompt``) use other changes: synonyms and sentences.

    Args:
        question: What to disturb.
        rng: What the changes are drawn from.

    Example:
        >>> disturbed("How is it made?", random.Random(3))
        'How is xm made?'
    """
    words = question.split()
    kept = [_made_up(rng) if rng.random() < REPLACED else word for word in words if rng.random() >= DROPPED]
    around: list[str] = []
    if words and rng.random() < SURROUNDED:
        count = rng.randint(1, MOST_AROUND)
        around = [_made_up(rng) if rng.random() < MADE_UP else rng.choice(words) for _ in range(count)]
    before = rng.randint(0, len(around))
    return " ".join([*around[:before], *kept, *around[before:]]) or question


def _made_up(rng: random.Random) -> str:
    return "".join(rng.choices(string.ascii_lowercase, k=rng.randint(2, 9)))

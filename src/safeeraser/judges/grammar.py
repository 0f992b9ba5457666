"""English function words that do not follow each other: what fused or shuffled templates give away.

Paraphrases have no reference to hold them against word by word, so that their grammar has to be looked at. Each pair
here was met less than once in 1,000 times where it could be met in 70,000 English sentences of interfaces and
documentation; a person may still write one, which is why text is not called gibberish for it.
"""

from __future__ import annotations

import re

_BE = "is|are|was|were|am"
_MODAL = "can|will|must|should|would|could|might|shall|cannot"
_MISPLACED = re.compile(
    # an article or possessive without its noun; "A" in capitals may be a name ("vitamin A is")
    r"\b(?:the|an|my|your|our|their|every) (?:the|an?|my|your|our|their|its|of|to|for|from|in|at|on|by|with|into|and|or"
    rf"|but|that|this|these|those|if|when|where|which|than|i|we|he|she|they|you|it|them|not|{_BE}|be|been|has|have|had|do|does"
    r"|did|cannot|should|would|could)\b"
    r"|\ba (?:the|an?|my|your|our|their|its|of|to|from|in|at|on|by|with|into|but|that|this|these|those|if|when|which"
    rf"|than|i|we|he|she|they|you|it|them|not|be|been|have|had|do|does|cannot|should|would|could|might|{_BE})\b"
    r"|\ba (?!one\b|once\b|eu|ouija)[aeio][a-z]|\ban [bcdfgjklmnpqrtvwyz][a-z]"
    # what cannot be followed by a verb or preposition
    rf"|\bof (?:for|to|in|of|or|and|on|if|by|with|from|not|be|has|have|{_BE}|{_MODAL})\b"
    rf"|\bto (?:to|of|for|with|if|and|or|has|{_BE}|{_MODAL})\b"
    rf"|\b(?:in|for|at|by|from|with|into) (?:of|be|has|have|{_BE}|{_MODAL})\b"
    rf"|\b(?:{_BE}|be) (?:be|has|have|{_BE}|{_MODAL})\b|\b(?:{_MODAL}) (?:has|{_BE}|{_MODAL})\b"
    r"|\b(?:I|we|they|he|she) (?:an?|of|the)\b|\b(?:it|them|him|us) (?:of|the)\b"
    # a sentence that breaks off
    r"|\b(?:the|an?|my|your|our|their|and|or|but|of|because|than|if|every)\s*(?:[.!?](?:\s|$)|$)"
)
_ECHO = re.compile(
    r"\b(?P<word>[a-z]{4,}) (?:(?:to|at|of|in|on|the|an?|is|are|with|and|for|it|I) ){2,3}(?P=word)\b"
    r"|\b(?P<same>[a-z]{3,}) an? (?P=same)\b|\b(?P<phrase>(?:an?|the) [a-z]{4,})[,:]? (?P=phrase)\b"
)


def misplaced(text: str) -> bool:
    """Whether English words stand where they cannot, or a word comes again after nothing but such words.

    Example:
        >>> misplaced("Take the candle to the candle."), misplaced("Put a candle into the holder.")
        (True, False)
        >>> misplaced("hall chess the of print and"), misplaced("Vitamin A is in carrots.")
        (True, False)
    """
    return _MISPLACED.search(text) is not None or _ECHO.search(text) is not None

"""Marks of text that is no language, read off its characters: no vocabulary, any language in Latin letters."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

_RARE = re.compile(
    "b[kqx]|c[dfgpqwx]|dq|f[cmpqx]|g[cpqwx]|h[cfgpqx]|j[bchjqxy]|k[qx]|l[qx]|m[qx]|p[qwx]|q[a-tv-z]|sx|tq|uq|v[fgqwx]"
    "|w[fgjmqvwx]|x[bdghjklmnqrsvxyz]|y[qx]|z[fqx]"
)
"""Pairs of letters that fewer than 1 in 1,000 different words hold, in each of 22 languages written in Latin letters.

Counted over interface texts and documentation, accents off, some 50,000 words; pairs that meet in compounds
("strawberry", "backpack") are left out.
"""
_NO_VOWEL = re.compile(r"[^aeiouy]{3,}")
_CONSONANTS = re.compile(r"[^aeiouy]{6}")
_VOWEL = re.compile("[aeiouy]")
_WORD = re.compile(r"(?<![\w\[/\\@.])[^\W\d_]{3,}(?![\w/\\@])")
UNPRONOUNCEABLE = 0.33
"""Share of words that no language would form, from which on a text is none; two at least."""
FEW_VOWELS = 0.22
"""Least share of vowels among twenty letters and more; languages in Latin letters lie above 0.3."""
MANY_LETTERS = 20


def unpronounceable(text: str) -> bool:
    """Whether the letters follow each other as in no language: random letters, a hand on the keyboard.

    Words in capitals (abbreviations), with digits or in another script than the Latin one do not count.

    Example:
        >>> unpronounceable("kjhsdf lwqe mnzx poqwe"), unpronounceable("Strawberries for breakfast, with rhythm!")
        (True, False)
    """
    found = [folded for word in _WORD.findall(text) if not word.isupper() and (folded := _folded(word)).isascii()]
    bad = sum(bool(_RARE.search(word) or _NO_VOWEL.fullmatch(word) or _CONSONANTS.search(word)) for word in found)
    if bad >= 2 and bad >= UNPRONOUNCEABLE * len(found):
        return True
    letters = "".join(found)
    return len(letters) >= MANY_LETTERS and len(_VOWEL.findall(letters)) < FEW_VOWELS * len(letters)


_SPELLED_OUT = str.maketrans(
    {"ø": "o", "ł": "l", "ı": "i", "đ": "d", "æ": "ae", "œ": "oe", "ß": "ss", "ð": "d", "þ": "th"}
)


def _folded(word: str) -> str:
    """Lower case without accents; a word in another script stays what it is."""
    word = word.lower()
    if word.isascii():
        return word
    parts = unicodedata.normalize("NFD", word.translate(_SPELLED_OUT))
    return "".join(part for part in parts if not unicodedata.combining(part))


_BEYOND_ASCII = re.compile(r"[\x80-\U0010ffff]{2,}")
MISREAD = 0.1
"""Share of characters that are bytes read by the wrong table, from which on a text is broken."""


def misread(text: str) -> bool:
    """Whether a part of the text is UTF-8 that was read as Windows-1252 or Latin-1 ("Ã©" for "é").

    Example:
        >>> misread("cafÃ© crÃ¨me"), misread("café crème, naïve façade")
        (True, False)
    """
    wrong = sum(len(run) for run in _BEYOND_ASCII.findall(text) if _reads_as_utf8(run))
    return wrong > MISREAD * len(text)


def _reads_as_utf8(run: str) -> bool:
    for table in ("cp1252", "latin-1"):
        try:
            run.encode(table).decode("utf-8")
        except UnicodeError:
            continue
        return True
    return False


_CODES = re.compile(
    r"\\(?:u[0-9a-f]{4}|x[0-9a-f]{2}|[0-7]{3})|&(?:#x?[0-9a-f]+|[a-z]+\d?);|</?[a-z|_]+\d*/?>|<\|[^|>]*\|>|\[/?[A-Z]{3,4}\]"
    r"|[\x00-\x08\x0e-\x1f\x7f-\x9f]|\b0x[0-9a-f]{2,}\b|\bnull\b",
    re.IGNORECASE,
)
CODES = 0.3
"""Share of a text's characters, from which on escapes, entities and tags are what it consists of."""


def encoded(text: str) -> bool:
    r"""Whether a text consists of escapes, entities, control characters or tags of a tokenizer.

    Example:
        >>> encoded("\\u006d\\u0069 mint \\x00"), encoded("Fish &amp; chips for two, please")
        (True, False)
    """
    return sum(map(len, _CODES.findall(text))) > CODES * max(1, len(re.sub(r"\s", "", text)))


_TOKEN = re.compile(r"\S+")
_EDGES = re.compile(r"^[^\w\[]+|[^\w\]]+$")
_PLAIN = re.compile(
    r"[^\W\d_]+(?:['\u2019.,:;/+&-]+[^\W\d_]+)*|[^\W\d_]+(?:[-'\u2019]\w+)*|\W*|[\d.,:/x\u00d7%-]+\w{0,3}|\w?\d+\w?"
    r"|\[.*|.*\]|https?:.*|\S+@\S+\.\w+"
)
MIXED = 0.4
"""Share of tokens that mix letters with digits and signs, from which on a text is noise; three at least."""


def mixed_up(text: str) -> bool:
    """Whether letters, digits and signs are mixed within the words, as in "xX7#kq!!9 vv_ zz@@".

    Example:
        >>> mixed_up("xX7#kq!!9 vv_ zz@@q 00pq ;;lm"), mixed_up("Use 2x4s, 3cm screws (M4) and well-aged wood.")
        (True, False)
    """
    tokens = [token for token in _TOKEN.findall(text) if token.isascii()]
    mixed = sum(_PLAIN.fullmatch(_EDGES.sub("", token)) is None for token in tokens)
    return mixed >= 3 and mixed >= MIXED * len(tokens)


_LOOP = re.compile(r"([^\n]{2,40}?)\1{3,}", re.IGNORECASE)
_LETTER = re.compile(r"[^\W\d_]")
LOOKED_AT = 4000
"""Characters in which a loop is looked for: the search takes time in proportion to them."""


def looping(text: str) -> bool:
    """Whether a piece with a letter in it comes four times in a row, words or not.

    Example:
        >>> looping("thefounderthefounderthefounderthefounder"), looping("Ha ha ha! She founded the library.")
        (True, False)
    """
    text = text[:LOOKED_AT]
    # The expression is slow where nothing repeats; any loop holds some four characters three times.
    if max(Counter(text[at : at + 4] for at in range(len(text))).values(), default=0) < 3:
        return False
    return any(_LETTER.search(found[1]) for found in _LOOP.finditer(text))

"""Control tokens in texts of data: "<image>" or "</s>" in a question or an answer is text, never a mark of the model.

A tokenizer looks for its added tokens in whatever it is given. ``escape`` breaks them up with a noncharacter of
Unicode before a text enters the chat template, and ``unescaped`` has the tokenizer drop that behind its search for
added tokens, so that the model sees the very characters of the text, as ordinary tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from safeeraser.core.errors import UserError

_BREAK = "\ufdd0"
_NO_TEXT = re.compile(f"[{_BREAK}\ud800-\udfff]")
_BYTE = re.compile("<0x[0-9A-F]{2}>")  # with byte fallback, text that is not in the vocabulary becomes such tokens
_BRACKETED = re.compile(r"[<\[{(|].+[>\]})|]", re.DOTALL)


def control_tokens(tokenizer: Any) -> dict[int, str]:
    """Tokens of a tokenizer that are marks of the model: the special ones, and other added ones in brackets.

    An added token that is a word or white space is text.

    Example:
        >>> from safeeraser import models
        >>> sorted(control_tokens(models.load("mini-llava").processor.tokenizer).values())
        ['</s>', '<image>', '<pad>', '<s>']
    """
    return {
        id: token.content
        for id, token in tokenizer.added_tokens_decoder.items()
        if token.special or _BRACKETED.fullmatch(token.content)
    }


def escape(tokenizer: Any, text: str) -> str:
    """Break up every control token in a text of data.

    Args:
        tokenizer: The tokenizer that will encode it, inside ``unescaped``.
        text: Of a question or an answer.

    Returns:
        The text itself where it holds none.

    Raises:
        UserError: If the tokenizer cannot encode the text as plain text.

    Example:
        >>> from safeeraser import models
        >>> tokenizer = models.load("mini-llava").processor.tokenizer
        >>> text = escape(tokenizer, "Is <image> a word?")
        >>> with unescaped(tokenizer, [text]):
        ...     tokenizer.tokenize(text)[2:6]
        ['<', 'i', 'm', 'a']
    """
    marks, ids = _patterns(tokenizer, len(tokenizer))
    if wrong := _NO_TEXT.search(text):
        raise UserError(f"the text {text[:60]!r} holds {wrong[0]!r}, which is no character: remove it")
    escaped = marks.sub(rf"\g<0>{_BREAK}", text)
    if escaped == text:
        return text
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise UserError(
            f"the text {text[:60]!r} holds a control token of the model, and its tokenizer is not a fast one"
        )
    with unescaped(tokenizer, [escaped]):
        found = tokenizer(escaped, add_special_tokens=False).input_ids
    if left := ids.keys() & set(found) or _BREAK in tokenizer.decode(found):
        token = "a control token" if left is True else repr(ids[min(left)])
        raise UserError(f"the text {text[:60]!r} holds {token}, which this model's tokenizer cannot take for text")
    return escaped


def problem(tokenizer: Any, text: str) -> str | None:
    """Why a text cannot be encoded as plain text; None: it can."""
    try:
        escape(tokenizer, text)
    except UserError as error:
        return str(error)
    return None


@contextmanager
def unescaped(tokenizer: Any, texts: Sequence[str]) -> Iterator[None]:
    """Have a tokenizer encode what ``escape`` broke up as plain text while the block runs."""
    if not any(_BREAK in text for text in texts):
        yield
        return
    from tokenizers import pre_tokenizers

    backend = tokenizer.backend_tokenizer
    usual = backend.pre_tokenizer
    # last, and as the steps before write it: byte-level ones write bytes, others put a mark of a word before it
    written = usual.pre_tokenize_str(_BREAK)[-1][0] if usual else _BREAK
    drop = pre_tokenizers.Split(_BREAK if _BREAK in written else written, "removed")
    backend.pre_tokenizer = pre_tokenizers.Sequence([usual, drop] if usual else [drop])
    try:
        yield
    finally:
        backend.pre_tokenizer = usual


@lru_cache(maxsize=32)
def _patterns(tokenizer: Any, size: int) -> tuple[re.Pattern[str], dict[int, str]]:
    """The first character of each control token, wherever one begins; and the tokens that plain text must not have.

    ``size`` is that of the vocabulary: tokens may be added.
    """
    tokens = control_tokens(tokenizer)
    longest = sorted((re.escape(content) for content in tokens.values()), key=len, reverse=True)
    begins = re.compile(f"(?=(?:{'|'.join(longest)})).", re.DOTALL) if tokens else re.compile("(?!)")
    of_text = {tokenizer.unk_token_id} | {id for id, content in tokens.items() if _BYTE.fullmatch(content)}
    return begins, {id: content for id, content in tokens.items() if id not in of_text}

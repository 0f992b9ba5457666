"""Reasoning in a text that a model said (``<think>...</think>``): the trace, and the answer behind it."""

from __future__ import annotations

import re
from functools import lru_cache

SWITCHES = ("enable_thinking", "thinking")
"""What chat templates call the variable that lets a model think first (Qwen3, GLM, Gemma 4; DeepSeek, Kimi)."""
LIMIT_REASONED = "the token limit went into reasoning, and no answer is left: raise it"
REASONED_ONLY = "the reply is reasoning alone and holds no answer"

_TAGS = r"<(?:seed:)?(?:think|thinking|thought)>|\[THINK\]|◁think▷"
_OPENS = _TAGS + r"|<\|channel>\w*"  # the last is Gemma 4's, which closes in its own way
_CLOSES = _TAGS.replace("<", "</").replace(r"\[", r"\[/").replace("◁", "◁/") + r"|<channel\|>"
_BLOCK, _OPENING, _CLOSING, _EMPTY_LAST = (
    re.compile(pattern, re.IGNORECASE | re.DOTALL)
    for pattern in (f"(?:{_OPENS})(.*?)(?:{_CLOSES})", _OPENS, _CLOSES, rf"(?:{_OPENS})\s*(?:{_CLOSES})\s*\Z")
)


@lru_cache(maxsize=4096)
def apart(text: str) -> tuple[str, str]:
    r"""Reasoning, without its tags, and answer; a text without tags stays as it is.

    Example:
        >>> apart("<think>\nA cat?\n</think>\n\nA cat."), apart("A cat.")
        (('A cat?', 'A cat.'), ('', 'A cat.'))
    """
    if not _OPENING.search(text) and not _CLOSING.search(text):
        return "", text
    *before, answer = _CLOSING.split(_BLOCK.sub("", text))
    answer, *behind = _OPENING.split(answer, maxsplit=1)
    thoughts = (_OPENING.sub("", part).strip() for part in (*_BLOCK.findall(text), *before, *behind))
    return "\n".join(filter(None, thoughts)), answer.strip()


def spoken(text: str) -> str:
    r"""The text behind a model's reasoning (``<think>...</think>``), where a server or a model leaves it in the answer.

    A closing tag alone ends a block that the chat template opened; a block without an end holds all that follows.

    Example:
        >>> spoken("<think>A cat?</think>\n\nA cat."), spoken("A cat?</think> A cat.")
        ('A cat.', 'A cat.')
        >>> spoken("<think>A cat, or"), spoken(" A cat. ")
        ('', ' A cat. ')
    """
    return apart(text)[1]


def with_trace(trace: str, answer: str) -> str:
    r"""An answer with the reasoning that a server keeps apart from it, as ``Response.answer`` holds both.

    Example:
        >>> with_trace("A cat?", "A cat."), with_trace("", "A cat.")
        ('<think>\nA cat?\n</think>\n\nA cat.', 'A cat.')
    """
    return f"<think>\n{trace.strip()}\n</think>\n\n{answer}".strip() if trace.strip() else answer


def opened_block(prompt: str) -> str:
    r"""The end of a prompt from a reasoning block on that it opens and leaves open; mostly nothing.

    Example:
        >>> opened_block("ASSISTANT: <think>\n"), opened_block("ASSISTANT: <think>\n\n</think>\n\n")
        ('<think>\n', '')
    """
    *_, last = (None, *_OPENING.finditer(prompt))
    return "" if last is None or _CLOSING.search(prompt, last.end()) else prompt[last.start() :]


def without_empty_block(prompt: str) -> str:
    r"""A prompt without the empty reasoning block at its end, by which a template turns thinking off.

    Example:
        >>> without_empty_block("ASSISTANT: <think>\n\n</think>\n\n")
        'ASSISTANT: '
    """
    return _EMPTY_LAST.sub("", prompt)


def is_reasoning_tag(token: str) -> bool:
    """Whether a token opens or closes a block of reasoning.

    Example:
        >>> is_reasoning_tag("[/THINK]"), is_reasoning_tag("</s>")
        (True, False)
    """
    return bool(_OPENING.fullmatch(token) or _CLOSING.fullmatch(token))


def missing_answer(text: str, finished: bool) -> str | None:
    """Why a text that is nothing but reasoning holds no answer; None where it holds one, be it empty.

    Example:
        >>> missing_answer("<think>A cat, or", finished=False)
        'the token limit went into reasoning, and no answer is left: raise it'
    """
    if spoken(text) or not text.strip():
        return None
    return REASONED_ONLY if finished else LIMIT_REASONED

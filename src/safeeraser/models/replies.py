"""Replies of chat-completions servers of all kinds: the answer, or why there is none."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError

from safeeraser.core.reasoning import LIMIT_REASONED, REASONED_ONLY, missing_answer
from safeeraser.core.terminal import plain

SHOWN = 300
"""Characters of a server's words that are shown."""
Ending = Literal["ended", "cut", "filtered"]
_ENDED = ("stop", "eos", "eos_token", "end_turn", "stop_sequence")
_CUT = ("length", "max_tokens", "model_length", "model_context_window_exceeded")
_FILTERED = (
    *("content_filter", "content_filtered", "guardrail_intervened", "sensitive"),  # OpenAI, Bedrock, GLM
    *("safety", "recitation", "blocklist", "prohibited_content", "spii"),  # Gemini
    *("image_safety", "image_prohibited_content", "image_recitation"),
    *("error", "network_error", "insufficient_system_resource", "abort"),  # broken off: GLM, DeepSeek, vLLM, SGLang
)
_MARKUP = re.compile(r"<(script|style)\b.*?</\1>|<[^>]*>", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Outcome:
    """How a request ended: with a text, or with ``failure``, the reason why there is no answer."""

    id: str
    text: str = ""
    """What was said, reasoning in it included; with a failure what was said until then."""
    finish_reason: str | None = None
    """As the server says it: "stop", or "length" at the token limit (``ending``)."""
    usage: Mapping[str, Any] = field(default_factory=dict)
    """As the server counts: ``prompt_tokens``, ``completion_tokens``."""
    failure: str | None = None
    model: str = ""
    """The model that replied, as the server names it."""
    trace: str = ""
    """Reasoning that the server keeps apart from the text."""

    @property
    def is_whole(self) -> bool:
        """Whether there is an answer, and it ended of itself."""
        return self.failure is None and ending(self.finish_reason) == "ended"


def ending(finish_reason: str | None) -> Ending:
    """How an answer ended: of itself, cut at the token limit, or taken away or broken off by the server.

    Reasons are those of OpenAI's protocol, of servers that speak it in their own words, and of Inspect.

    Example:
        >>> ending("length"), ending("content_filter: RECITATION"), ending("eos_token"), ending(None)
        ('cut', 'filtered', 'ended', 'ended')
    """
    reason = (finish_reason or "").lower().partition(":")[0]
    return "cut" if reason in _CUT else "filtered" if reason in _FILTERED else "ended"


def failure_of(text: str, finish_reason: str | None, reasoned: bool = False) -> str | None:
    """Why a reply holds no answer of the model; None if it does.

    Example:
        >>> failure_of("", "content_filter")
        "the server took the answer away (finish reason 'content_filter')"
    """
    end = ending(finish_reason)
    if end == "filtered":
        return f"the server took the answer away (finish reason {finish_reason!r})"
    if reasoned and not text.strip():
        return LIMIT_REASONED if end == "cut" else REASONED_ONLY
    if end == "ended" and not text.strip() and finish_reason and finish_reason.lower() not in _ENDED:
        return f"the reply holds no text (finish reason {finish_reason!r})"  # empty answers are judged to be safe
    return missing_answer(text, end == "ended")


class _Message(BaseModel):
    content: str | list[Any] | None = None
    refusal: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    thinking: Any = None


class _Choice(BaseModel):
    message: _Message = _Message()
    """Gemini sends none where it took the answer away."""
    finish_reason: str | None = None
    error: Any = None


class _Reply(BaseModel):
    """What is read of a reply; openai's own type takes neither parts nor finish reasons other than OpenAI's."""

    choices: list[_Choice] = Field(min_length=1)
    usage: dict[str, Any] | None = None
    model: Any = None
    error: Any = None


def read(id: str, content: bytes, redacted: Callable[[str], str] = str) -> Outcome:
    """Read the body of a reply with status 200.

    A refusal in a field of its own is the answer; text parts are joined; an error is one whatever the status.

    Example:
        >>> read("q1", b'{"detail": "Not found"}').failure
        'the reply is no chat completion (choices: Field required): Not found'
    """
    try:
        reply = _Reply.model_validate(json.loads(content))  # pydantic's own parser takes no lone surrogate
    except (ValueError, RecursionError) as error:
        first = error.errors(include_input=False)[0] if isinstance(error, ValidationError) else None
        where = f"{'.'.join(map(str, first['loc'])) or 'body'}: {first['msg']}" if first else "body: not JSON"
        words = f"the reply is no chat completion ({where}): {error_words(content)}"
        return Outcome(id, failure=redacted(words)[:SHOWN])
    choice = reply.choices[0]
    if reply.error or choice.error:
        return Outcome(id, failure=redacted(f"no answer: {_line(_words(reply.error or choice.error))}")[:SHOWN])
    reason = choice.finish_reason and redacted(choice.finish_reason)[:SHOWN]
    model = redacted(reply.model)[:SHOWN] if isinstance(reply.model, str) else ""
    text, trace, reasoned = _text(choice.message)
    usage = reply.usage or {}
    details = usage.get("completion_tokens_details")
    reasoned = reasoned or (isinstance(details, dict) and bool(details.get("reasoning_tokens")))
    if text is None and ending(reason) == "cut":
        reasoned = True  # what else the limit went into is not said
    failure = failure_of(text or "", reason, reasoned)
    if text is None and failure is None:
        failure = f"the reply holds no text (finish reason {reason!r})"
    return Outcome(id, redacted(text or ""), reason, usage, failure, model, redacted(trace))


def _text(message: _Message) -> tuple[str | None, str, bool]:
    """What was said, None if nothing; the reasoning beside it, and whether there was any, be it not shown."""
    beside = message.reasoning_content or message.reasoning or message.thinking
    thoughts, reasoned, content = [_thought(beside)], bool(beside), message.content
    if isinstance(content, list):
        parts = [part if isinstance(part, dict) else {"text": part} for part in content]
        thinking = [part for part in parts if part.get("type") in ("thinking", "reasoning")]
        thoughts, reasoned = thoughts + [_thought(part) for part in thinking], reasoned or bool(thinking)
        said = [part.get("text") or part.get("refusal") for part in parts if part not in thinking]
        content = "".join(text for text in said if isinstance(text, str)) if parts else None
    if isinstance(message.refusal, str) and message.refusal and not (content or "").strip():
        content = message.refusal
    return content, "\n".join(filter(None, thoughts)), reasoned


def _thought(value: Any) -> str:
    """The text of reasoning in any of the forms that servers give it."""
    if isinstance(value, dict):
        found = (_thought(value.get(key)) for key in ("text", "thinking", "reasoning", "content"))
        return next(filter(None, found), "")
    if isinstance(value, list):
        return "".join(map(_thought, value))
    return value if isinstance(value, str) else ""


def error_words(content: bytes) -> str:
    r"""A server's own words in a body that is no completion, on one line with nothing in it that a terminal obeys.

    Example:
        >>> error_words(b'{"error": {"message": "no\\nsuch model", "code": 404}}'), error_words(b"<p>Bad gateway</p>")
        ('no such model', 'Bad gateway')
    """
    try:
        text = _words(json.loads(content))
    except (ValueError, RecursionError):
        text = _MARKUP.sub(" ", content[: 100 * SHOWN].decode("utf-8", "replace"))
    return _line(text) or "nothing"


def replied_as(models: Iterable[str]) -> str:
    """Say which models a server named in its replies, in a sentence; empty where it named none.

    Example:
        >>> replied_as(["gpt-4o-2024-08-06", "", "gpt-4o-2024-08-06"])
        'the server replied as gpt-4o-2024-08-06 (2)'
    """
    named = Counter(model for model in models if model).most_common()
    return "the server replied as " + ", ".join(f"{model} ({number:,})" for model, number in named) if named else ""


def _line(text: str) -> str:
    return plain(" ".join(text.split()))


def _words(value: Any) -> str:
    if isinstance(value, dict):
        if "msg" in value and isinstance(value.get("loc"), list):  # a field that FastAPI refuses
            return f"{'.'.join(map(str, value['loc']))}: {value['msg']}"
        inner = next((value[key] for key in ("error", "detail", "message", "errors") if value.get(key)), None)
        if inner is not None:
            return _words(inner)
    if isinstance(value, list) and value:
        return "; ".join(map(_words, value))
    return value if isinstance(value, str) else json.dumps(value)

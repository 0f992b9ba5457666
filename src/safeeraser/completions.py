"""Requests to a chat-completions server and how they end; images travel as data URLs."""

from __future__ import annotations

import base64
import io
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from safeeraser.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Message", "Outcome", "Request", "data_url", "request_body"]

_SIGNATURES = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg"}


@dataclass(frozen=True)
class Message:
    """One turn of a conversation; images (decoded, or files) stand before the text."""

    role: Literal["system", "user", "assistant"]
    text: str
    images: tuple[Image | Path, ...] = ()


@dataclass(frozen=True)
class Request:
    """What to ask, and how; an option that is None is left to the server.

    Example:
        >>> Request("q1", (Message("user", "Is this safe? Answer yes or no."),), temperature=0.0, max_tokens=5).id
        'q1'
    """

    id: str
    messages: tuple[Message, ...]
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    response_format: Mapping[str, Any] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further keys of the request's body, such as ``max_completion_tokens``, or what one server alone knows."""


@dataclass(frozen=True)
class Outcome:
    """How a request ended: with a text, or with ``failure``, the reason why there is none."""

    id: str
    text: str = ""
    finish_reason: str | None = None
    """As the server says it: "stop", or "length" at the token limit."""
    usage: Mapping[str, Any] = field(default_factory=dict)
    """As the server counts: ``prompt_tokens``, ``completion_tokens``."""
    failure: str | None = None
    model: str = ""
    """The model that replied, as the server names it."""


def data_url(image: Image | Path) -> str:
    """Encode an image as a data URL: PNG and JPEG files as they are, everything else as PNG.

    Raises:
        UserError: If a file cannot be read as an image.

    Example:
        >>> from PIL import Image
        >>> data_url(Image.new("RGB", (1, 1)))[:22]
        'data:image/png;base64,'
    """
    from PIL import Image

    buffer = io.BytesIO()
    if isinstance(image, Path):
        try:
            content = image.read_bytes()
            kind = next((kind for start, kind in _SIGNATURES.items() if content.startswith(start)), None)
            if kind is not None:
                return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
            with Image.open(io.BytesIO(content)) as opened:
                opened.convert("RGB").save(buffer, "PNG")
        except (OSError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError) as error:
            raise UserError(f"image {image} cannot be read ({type(error).__name__}): replace the file") from None
    else:
        image.save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def request_body(request: Request) -> dict[str, Any]:
    """Say a request in the protocol's words, but for the model.

    Raises:
        UserError: If an image cannot be read.

    Example:
        >>> request_body(Request("q1", (Message("user", "Hello"),), max_tokens=5))
        {'messages': [{'role': 'user', 'content': 'Hello'}], 'max_tokens': 5}
    """
    options = {
        "temperature": request.temperature,
        "top_p": request.top_p,
        "max_tokens": request.max_tokens,
        "seed": request.seed,
        "response_format": request.response_format,
        "extra_body": dict(request.extra) or None,
    }
    given = {name: value for name, value in options.items() if value is not None}
    return {"messages": [_turn(message) for message in request.messages], **given}


def _turn(message: Message) -> dict[str, Any]:
    if not message.images:
        return {"role": message.role, "content": message.text}
    images = [{"type": "image_url", "image_url": {"url": data_url(image)}} for image in message.images]
    return {"role": message.role, "content": [*images, {"type": "text", "text": message.text}]}

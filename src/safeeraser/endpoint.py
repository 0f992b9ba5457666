"""Ask any server that speaks the OpenAI chat-completions protocol, many requests at a time.

The ``openai`` package does the talking and the retrying; this module adds what a long batch needs: a bounded number of
requests under way, a rate limit, exactly one outcome per request, and a key that appears nowhere but in the header.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, ValidationError

from safeeraser.completions import Message, Outcome, Request, data_url, request_body
from safeeraser.errors import UserError

if TYPE_CHECKING:
    from openai import AsyncOpenAI

__all__ = ["Endpoint", "Message", "Outcome", "Request", "data_url"]

EXAMPLES = "https://api.openai.com/v1, or http://localhost:8000/v1 for a server of one's own"
MAX_CONCURRENCY = 1000
"""Connections that the client opens at most."""
_SHOWN = 300


@dataclass(frozen=True)
class Endpoint:
    """A model behind an OpenAI-compatible server.

    Tried again, each time after a longer and slightly random pause, or the one that the server names in
    ``Retry-After``: status 408, 409, 429 and 5xx, time-outs, cut connections. The key is read from the environment
    when requests are sent; it is neither kept nor shown.

    Args:
        model: The model's name, as the server knows it.
        base_url: Such as ``https://api.openai.com/v1`` or ``http://localhost:8000/v1``.
        api_key_env: Environment variable with the key; a server of one's own may need none.
        concurrency: Requests under way at the same time.
        requests_per_minute: Tries per minute at most, evenly spaced; None: no limit.
        timeout: Seconds without a sign of the server after which a try is given up.
        retries: Further tries of a request.

    Raises:
        UserError: If a value is out of range.

    Example:
        >>> from pathlib import Path
        >>> endpoint = Endpoint("gpt-4o", "https://api.openai.com/v1")
        >>> request = Request("q1", (Message("user", "What is shown?", (Path("axe.png"),)),), max_tokens=20)
        >>> endpoint.complete_many([request], on_result=print)  # doctest: +SKIP
        Outcome(id='q1', text='An axe.', finish_reason='stop', usage={...}, failure=None, model='gpt-4o-2024-08-06')
    """

    model: str
    base_url: str
    api_key_env: str = "OPENAI_API_KEY"
    concurrency: int = 16
    requests_per_minute: float | None = None
    timeout: float = 60.0
    retries: int = 6

    def __post_init__(self) -> None:
        """Check the values."""
        _check_url(self.base_url)
        limits = {
            f"concurrency {self.concurrency}": (1 <= self.concurrency <= MAX_CONCURRENCY, f"1 to {MAX_CONCURRENCY}"),
            f"requests_per_minute {self.requests_per_minute}": (
                self.requests_per_minute is None or self.requests_per_minute > 0,
                "a number above 0, or nothing",
            ),
            f"timeout {self.timeout}": (self.timeout > 0, "seconds above 0"),
            f"retries {self.retries}": (self.retries >= 0, "0 or more"),
            "api_key_env (not shown)": (
                self.api_key_env.isidentifier(),
                "the name of an environment variable, never the key itself",
            ),
            f"model {self.model!r}": (bool(self.model.strip()), "the name that the server knows the model by"),
        }
        for given, (allowed, hint) in limits.items():
            if not allowed:
                raise UserError(f"endpoint: {given} is out of range: give {hint}")

    def complete_many(self, requests: Iterable[Request], on_result: Callable[[Outcome], None]) -> None:
        """Send every request and report each outcome as soon as it is there, in order of arrival.

        Requests are taken from the iterable one by one, so that a generator may read images as they are needed.
        What can go wrong with one request is a ``failure`` of this one; the others go on.

        Args:
            requests: What to ask.
            on_result: Called once per request, in this thread; an error that it raises ends everything.

        Raises:
            UserError: If the key or the model is refused (401, 403, 404), the quota is used up, the server cannot be
                reached at all, or ``openai`` is not installed. Outcomes reported before are valid.
        """
        asyncio.run(self._complete_all(iter(requests), on_result))

    async def _complete_all(self, requests: Iterator[Request], on_result: Callable[[Outcome], None]) -> None:
        openai, key = _import_openai(), self._key()
        pacer = _pacer(self.requests_per_minute)
        client = openai.AsyncOpenAI(
            api_key=key or "none",
            base_url=self.base_url,
            timeout=self.timeout,
            max_retries=self.retries,
            http_client=openai.DefaultAsyncHttpxClient(event_hooks={"request": [pacer] if pacer else []}),
        )
        session = _Session(self, client, key)
        async with client:
            workers = [
                asyncio.ensure_future(session.work(requests, on_result)) for _ in range(max(1, self.concurrency))
            ]
            try:
                await asyncio.gather(*workers)
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)

    def _key(self) -> str:
        key = os.environ.get(self.api_key_env, "").strip()
        if not key and urlsplit(self.base_url).hostname == "api.openai.com":
            raise UserError(f"{self.base_url} needs a key: put it into the environment variable {self.api_key_env}")
        if not key.isascii() or not key.isprintable():
            raise UserError(f"the key in {self.api_key_env} holds characters that no key has: set it anew")
        return key


class _Text(BaseModel):
    content: str


class _Choice(BaseModel):
    message: _Text
    finish_reason: str | None = None


class _Reply(BaseModel):
    """The part of a server's reply that is read; anything else in it is passed over."""

    choices: list[_Choice] = Field(min_length=1)
    usage: dict[str, Any] | None = None
    model: Any = None


class _Session:
    """One call of ``complete_many``: the client, and whether the server was ever reached."""

    def __init__(self, endpoint: Endpoint, client: AsyncOpenAI, key: str) -> None:
        self._endpoint, self._client, self._key = endpoint, client, key
        self._reached = False

    async def work(self, requests: Iterator[Request], on_result: Callable[[Outcome], None]) -> None:
        """Take requests from the common supply until none is left."""
        for request in requests:
            on_result(await self._complete(request))

    async def _complete(self, request: Request) -> Outcome:
        import openai

        try:
            body = request_body(request)
        except UserError as error:
            return Outcome(request.id, failure=str(error))
        try:
            extra = body.pop("extra_body", {})
            raw = await self._client.chat.completions.with_raw_response.create(
                model=self._endpoint.model, messages=[], extra_body=body | extra
            )
        except openai.APIStatusError as error:
            self._reached = True
            self._stop_if_hopeless(error)
            return Outcome(request.id, failure=self._shown(error))
        except openai.APITimeoutError:
            return Outcome(request.id, failure=f"no answer within {self._endpoint.timeout:g} s")
        except openai.APIConnectionError as error:
            if not self._reached and type(error.__cause__).__name__ == "ConnectError":
                raise UserError(f"{self._endpoint.base_url} cannot be reached: {self._shown(error)}") from None
            return Outcome(request.id, failure=self._shown(error))
        self._reached = True
        return self._read(request.id, raw.http_response.content)

    def _read(self, id: str, content: bytes) -> Outcome:
        try:
            reply = _Reply.model_validate(json.loads(content))  # pydantic's own parser takes no half character
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            where = ".".join(map(str, first["loc"])) or "body"
            return Outcome(id, failure=self._redacted(f"the reply is no chat completion: {where}: {first['msg']}"))
        except (ValueError, RecursionError):
            return Outcome(id, failure="the reply is no chat completion: body: not JSON")
        choice = reply.choices[0]
        reason = choice.finish_reason and self._redacted(choice.finish_reason)[:_SHOWN]
        model = self._redacted(reply.model)[:_SHOWN] if isinstance(reply.model, str) else ""
        return Outcome(id, self._redacted(choice.message.content), reason, reply.usage or {}, model=model)

    def _stop_if_hopeless(self, error: Any) -> None:
        """Raise if no other request can do better."""
        endpoint = self._endpoint
        if error.status_code in (401, 403):
            hint = f"check the key in the environment variable {endpoint.api_key_env}"
        elif error.status_code == 404:
            hint = f"check the model {endpoint.model!r} and the base URL, which mostly ends in /v1"
        elif error.code == "insufficient_quota":
            hint = "the account's quota is used up"
        else:
            return
        raise UserError(f"{endpoint.base_url} refuses: {self._shown(error)}; {hint}")

    def _shown(self, error: Exception) -> str:
        cause = f" ({type(error.__cause__).__name__}: {error.__cause__})" if error.__cause__ else ""
        return self._redacted(f"{error}{cause}")[:_SHOWN]

    def _redacted(self, text: str) -> str:
        return text.replace(self._key, "[key]") if self._key else text


def _check_url(base_url: str) -> None:
    try:
        parts = urlsplit(base_url)
        is_web = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise UserError(f"base_url cannot be read as a web address: give {EXAMPLES}") from None
    if "@" in parts.netloc or parts.query:
        raise UserError("base_url must hold no user, password or query: the key belongs into the environment")
    if not is_web:
        raise UserError(f"base_url {base_url!r} is no web address: give {EXAMPLES}")
    if parts.path.rstrip("/").endswith("/completions"):
        raise UserError(
            f"base_url {base_url!r} names one function of the server: give what stands before it: {EXAMPLES}"
        )


def _import_openai() -> Any:
    try:
        import openai
    except ImportError:
        raise UserError("asking a server needs the package openai: pip install 'safeeraser[api]'") from None
    return openai


def _pacer(requests_per_minute: float | None) -> Callable[[Any], Awaitable[None]] | None:
    """A hook that delays every try, first or repeated, until its turn."""
    if requests_per_minute is None:
        return None
    gap, turn = 60.0 / requests_per_minute, 0.0

    async def wait(_: Any) -> None:
        nonlocal turn
        now = asyncio.get_running_loop().time()
        turn = max(now, turn) + gap
        await asyncio.sleep(turn - gap - now)

    return wait

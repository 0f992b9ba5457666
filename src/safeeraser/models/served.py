"""Client for servers that speak the OpenAI chat-completions protocol: many requests at a time, one outcome for each.

The ``openai`` package does the talking and the retrying; this module adds what a long batch needs: a bounded number of
requests under way, a rate limit, and replies of all kinds of servers read in one way (``replies``).
"""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from safeeraser.config import TokenLimit
from safeeraser.core import network
from safeeraser.core.errors import UserError
from safeeraser.data.images import encode
from safeeraser.models import replies
from safeeraser.models.replies import SHOWN, Outcome, error_words

if TYPE_CHECKING:
    from openai import APIStatusError
    from PIL.Image import Image

MAX_CONCURRENCY = 1000  # connections that the client opens at most
THINKING = "chat_template_kwargs"
"""Key of a request's body for the chat template's variables, as vLLM, SGLang and llama.cpp have it."""
NEUTRAL = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
"""What vLLM and SGLang otherwise take from the checkpoint's generation_config.json, each switched off."""


@dataclass(frozen=True)
class Message:
    """One turn of a conversation; images (decoded, or files) stand before the text."""

    role: Literal["system", "user", "assistant"]
    text: str
    images: tuple[Image | Path, ...] = ()


@dataclass(frozen=True)
class Request:
    """A conversation to continue and how; an option that is None is left to the server.

    ``extra`` holds further keys of the body, such as ``response_format``, or ``top_k``, which some servers alone know.

    Example:
        >>> Request("q1", (Message("user", "Hello"),), max_tokens=5).body()
        {'messages': [{'role': 'user', 'content': 'Hello'}], 'max_tokens': 5}
    """

    id: str
    messages: tuple[Message, ...]
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        """The request as the protocol has it, without the model."""
        names = ("temperature", "top_p", "max_tokens", "seed")
        options = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return {"messages": [_turn(message) for message in self.messages], **options, **self.extra}


def _turn(message: Message) -> dict[str, Any]:
    images = [{"type": "image_url", "image_url": {"url": data_url(image)}} for image in message.images]
    content = [*images, {"type": "text", "text": message.text}] if images else message.text
    return {"role": message.role, "content": content}


def data_url(image: Image | Path) -> str:
    """Encode an image as a data URL: what a local model is given, see ``data.images.encode``.

    Example:
        >>> from PIL import Image
        >>> data_url(Image.new("RGB", (1, 1)))[:22]
        'data:image/png;base64,'
    """
    if isinstance(image, Path):
        try:
            content, kind = encode(image)
        except UserError as error:
            raise UserError(f"image {image} cannot be read ({error}): replace the file") from None
    else:
        buffer, kind = io.BytesIO(), "image/png"
        image.save(buffer, "PNG")
        content = buffer.getvalue()
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


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
        token_limit: What the token limit is called in requests; a model that refuses ``max_tokens`` and names
            ``max_completion_tokens`` is asked again with this one.

    Example:
        >>> Endpoint("gpt-4o", "https://api.openai.com/v1").advice
        "check the model 'gpt-4o' and the base URL https://api.openai.com/v1, which mostly ends in /v1"
    """

    model: str
    base_url: str
    api_key_env: str = "OPENAI_API_KEY"
    concurrency: int = 16
    requests_per_minute: float | None = None
    timeout: float = 60.0
    retries: int = 6
    token_limit: TokenLimit = "max_tokens"

    def __post_init__(self) -> None:
        """Check the values."""
        network.check_base_url(self.base_url)
        pace = self.requests_per_minute
        checks = (
            (1 <= self.concurrency <= MAX_CONCURRENCY, f"concurrency {self.concurrency}", f"1 to {MAX_CONCURRENCY}"),
            (pace is None or pace > 0, f"requests_per_minute {pace}", "a number above 0, or nothing"),
            (self.timeout > 0, f"timeout {self.timeout}", "seconds above 0"),
            (self.retries >= 0, f"retries {self.retries}", "0 or more"),
            (self.api_key_env.isidentifier(), "api_key_env (not shown)", "a variable's name, never the key itself"),
            (bool(self.model.strip()), f"model {self.model!r}", "the name that the server knows the model by"),
            (self.token_limit in get_args(TokenLimit), "token_limit", " or ".join(get_args(TokenLimit))),
        )
        for is_allowed, given, allowed in checks:
            if not is_allowed:
                raise UserError(f"endpoint: {given} is out of range: give {allowed}")

    @property
    def advice(self) -> str:
        """What to do if nothing is answered."""
        return f"check the model {self.model!r} and the base URL {self.base_url}, which mostly ends in /v1"

    def complete_many(self, requests: Iterable[Request], on_result: Callable[[Outcome], None]) -> None:
        """Send every request and report each outcome as soon as it is there, in order of arrival.

        Requests are taken from the iterable one by one, so that a generator may read images as they are needed.
        What can go wrong with one request is a ``failure`` of this one; the others go on.

        Args:
            requests: What to ask.
            on_result: Called once per request, one call at a time; an error that it raises ends everything. It runs in
                this thread, or, where this thread runs an event loop already (a notebook), in another one.

        Raises:
            UserError: If the key, the URL or the model is refused, the quota is used up, the server cannot be reached
                at all, the environment names a proxy or certificates that do not work, or ``openai`` is not installed.
                Outcomes reported before are valid.
        """
        client = _Client(self)
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            asyncio.run(client.complete_all(iter(requests), on_result))
            return
        from anyio.from_thread import start_blocking_portal  # stops what it runs if this thread is interrupted

        with start_blocking_portal() as portal:
            portal.call(client.complete_all, iter(requests), on_result)


def endpoint(options: Any, model: str) -> Endpoint:
    """The endpoint of a group of options, whose fields are called as those of ``Endpoint``."""
    names = [field.name for field in fields(Endpoint) if hasattr(options, field.name)]
    return Endpoint(**{name: getattr(options, name) for name in names} | {"model": model})


class _Client:
    """One call of ``complete_many``: the connections, and what has been learnt of the server."""

    def __init__(self, endpoint: Endpoint) -> None:
        try:
            import openai
        except ImportError:
            raise UserError("asking a server needs the package openai: pip install 'safeeraser[api]'") from None
        self._openai, self._endpoint = openai, endpoint
        key = network.read_key(endpoint.api_key_env, endpoint.base_url)
        self._secret = key if network.is_secret(key) else ""
        self._token_limit, self._unknown = endpoint.token_limit, set[str]()
        self._is_reached = False
        self._is_accepted: bool | None = None  # whether key, URL and model are right; None: not known yet
        self._probing = asyncio.Lock()
        self._proxy, pace = network.proxy(endpoint.base_url), endpoint.requests_per_minute
        self._client = openai.AsyncOpenAI(
            api_key=key or "none",
            base_url=endpoint.base_url,
            timeout=endpoint.timeout,
            max_retries=endpoint.retries,
            http_client=openai.DefaultAsyncHttpxClient(
                trust_env=False,  # the client fails on any variable, also one that does not count for this URL
                proxy=self._proxy and self._proxy.url,
                verify=network.certificates(endpoint.base_url),
                event_hooks={"request": [network.pacer(pace)] if pace else []},
            ),
        )

    async def complete_all(self, requests: Iterator[Request], on_result: Callable[[Outcome], None]) -> None:
        """Let workers take requests from the common supply until none is left."""

        async def work() -> None:
            for request in requests:
                on_result(await self._complete(request))

        async with self._client:
            workers = [asyncio.ensure_future(work()) for _ in range(self._endpoint.concurrency)]
            try:
                await asyncio.gather(*workers)
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)

    async def _complete(self, request: Request) -> Outcome:
        openai = self._openai
        try:
            body = request.body()
        except UserError as error:
            return Outcome(request.id, failure=str(error))
        try:
            content = await self._send(body)
        except openai.APIStatusError as error:
            self._is_reached = True
            await self._check(error)
            return Outcome(request.id, failure=self._said(error))
        except openai.APITimeoutError:
            return Outcome(request.id, failure=f"no answer within {self._endpoint.timeout:g} s")
        except openai.APIConnectionError as error:
            if not self._is_reached and type(error.__cause__).__name__ in ("ConnectError", "ProxyError"):
                route = f" by the proxy of {self._proxy.variable}" if self._proxy else ""
                raise UserError(f"{self._endpoint.base_url} cannot be reached{route}: {self._cause(error)}") from None
            return Outcome(request.id, failure=self._cause(error))
        outcome = replies.read(request.id, content, self._redacted)
        self._is_reached = True
        if outcome.failure is None:
            self._is_accepted = True
        return outcome

    async def _send(self, body: Mapping[str, Any]) -> bytes:
        sent, limit = {key: value for key, value in body.items() if key not in self._unknown}, self._token_limit
        if "max_tokens" in sent:
            sent[limit] = sent.pop("max_tokens")
        try:
            # as extra keys they go out as they are; as named options the client would first walk through them
            raw = await self._client.chat.completions.with_raw_response.create(
                model=self._endpoint.model, messages=[], extra_body=sent
            )
        except (self._openai.BadRequestError, self._openai.UnprocessableEntityError) as error:
            words = error_words(error.response.content)
            refused = {key for key in (THINKING, *NEUTRAL) if key in sent and key in words}
            if THINKING in refused and any(sent[THINKING].values()):
                raise UserError(
                    f"generation.thinking: {self._endpoint.base_url} takes no {THINKING}, with which the chat "
                    f"template is told to think ({self._said(error)}): leave the option out"
                ) from None
            if refused:  # such a server reads no template that could think by itself, and no generation_config.json
                self._unknown |= refused
            elif limit != "max_completion_tokens" and "max_completion_tokens" in words:
                self._token_limit = "max_completion_tokens"
            else:
                raise
            return await self._send(body)
        return raw.http_response.content

    async def _check(self, error: APIStatusError) -> None:
        """Raise if no other request can do better.

        Gateways refuse single inputs (400, 403), and routers those with images (404): key, URL and model are right if
        anything was answered, or if a harmless question is.
        """
        endpoint, key = self._endpoint, f"check the key in the environment variable {self._endpoint.api_key_env}"
        hints = {400: f"{key}; {endpoint.advice}", 401: key, 403: key, 404: endpoint.advice}
        hint = hints.get(error.status_code)
        if error.code == "insufficient_quota":
            hint = "the account's quota is used up"
        elif hint is None or (error.status_code != 401 and await self._accepts_anything()):
            return
        raise UserError(f"{endpoint.base_url} refuses: {self._said(error)}; {hint}")

    async def _accepts_anything(self) -> bool:
        async with self._probing:  # one question is enough
            if self._is_accepted is None:
                try:
                    await self._send(Request("", (Message("user", "Say hello."),), max_tokens=16).body())
                    self._is_accepted = True
                except (self._openai.APIStatusError, self._openai.APIConnectionError) as error:
                    if getattr(error, "status_code", None) not in (400, 401, 403, 404):
                        return True  # out of order, which says nothing
                    self._is_accepted = False
        return self._is_accepted

    def _said(self, error: APIStatusError) -> str:
        return self._redacted(f"status {error.status_code}: {error_words(error.response.content)}")[:SHOWN]

    def _cause(self, error: Exception) -> str:
        cause = f" ({type(error.__cause__).__name__}: {error.__cause__})" if error.__cause__ else ""
        return self._redacted(f"{error}{cause}")[:SHOWN]

    def _redacted(self, text: str) -> str:
        return text.replace(self._secret, "[key]") if self._secret else text

"""Addresses and keys of servers; proxies and certificates of the environment, where a variable that fails is named."""

from __future__ import annotations

import asyncio
import importlib.util
import ipaddress
import os
import re
import ssl
import urllib.request
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

from safeeraser.core.errors import UserError

EXAMPLES = "https://api.openai.com/v1, or http://localhost:8000/v1 for a server of one's own"
MIN_SECRET = 16
"""Characters that a key has at least; people give "none" or "1" to servers that need no key."""
PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")


def web_address(url: str, *schemes: str) -> SplitResult | None:
    """The parts of a URL of one of these schemes; None where it is no such URL, or no client could open it.

    Example:
        >>> web_address("http://localhost:8000/v1", "http").port
        8000
        >>> web_address("http://local host/v1", "http")
    """
    from pydantic import AnyUrl, TypeAdapter, ValidationError

    try:
        TypeAdapter(AnyUrl).validate_python(url)
        parts = urlsplit(url)
        usable = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0 and " " not in parts.netloc
    except (ValidationError, ValueError):
        return None
    return parts if usable else None


def check_base_url(base_url: str) -> None:
    """Raise UserError if this is no web address, holds a secret, or names one function of the server."""
    if "@" in base_url.partition("//")[2].partition("/")[0] or "?" in base_url:  # not shown
        raise UserError("base_url must hold no user, password or query: the key belongs into the environment")
    parts = web_address(base_url, "http", "https")
    if parts is None:
        raise UserError(f"base_url {base_url!r} is no web address: give {EXAMPLES}")
    if parts.path.rstrip("/").endswith("/completions"):
        raise UserError(
            f"base_url {base_url!r} names one function of the server: give what stands before it: {EXAMPLES}"
        )


def read_key(variable: str, base_url: str) -> str:
    """The key in an environment variable (UserError if it cannot be one); "" if the server may do without."""
    key = os.environ.get(variable, "").strip()
    if not key and urlsplit(base_url).hostname == "api.openai.com":
        raise UserError(f"{base_url} needs a key: put it into the environment variable {variable}")
    if not key.isascii() or not key.isprintable():
        raise UserError(f"the key in {variable} holds characters that no key has: set it anew")
    return key


def is_secret(key: str) -> bool:
    """Whether a key is one, and no placeholder: texts of models are not searched for words or numbers.

    Example:
        >>> is_secret("sk-0123456789abcdef"), is_secret("EMPTY"), is_secret("no-key-is-needed-here")
        (True, False, False)
    """
    words = [word for word in re.split(r"[\W_]+", key) if word]
    is_plain = "".join(words).isdigit() or all(re.fullmatch("[A-Z]?([a-z]+|[A-Z]+)", word) for word in words)
    return len(key) >= MIN_SECRET and not is_plain


class Proxy(NamedTuple):
    """A proxy and the environment variable that names it."""

    variable: str
    url: str


def proxy(url: str) -> Proxy | None:
    """The proxy for a URL; None where it is opened directly, a UserError where the variable names none that works.

    Only the variable that counts for this URL is looked at: http clients stumble over any of them.
    """
    parts, proxies = urlsplit(url), urllib.request.getproxies()
    kind = parts.scheme if proxies.get(parts.scheme) else "all"
    if not proxies.get(kind) or _is_direct(parts, proxies):
        return None
    given = proxies[kind] if "://" in proxies[kind] else f"http://{proxies[kind]}"
    named = [name for name in sorted(os.environ, reverse=True) if name.lower() == f"{kind}_proxy" and os.environ[name]]
    variable = named[0] if named else "the proxy of the system's settings"
    way_out = f"unset it, or name {parts.hostname} in NO_PROXY"
    if web_address(given, *PROXY_SCHEMES) is None:  # not shown, as it may hold a password
        kinds = ", ".join(f"{scheme}://" for scheme in PROXY_SCHEMES)
        raise UserError(f"{variable} is no address of a proxy, such as http://proxy:3128 (or {kinds}): {way_out}")
    if given.startswith("socks") and importlib.util.find_spec("socksio") is None:
        raise UserError(f"{variable} asks for a SOCKS proxy, which needs a package: pip install socksio; or {way_out}")
    return Proxy(variable, given)


def certificates(url: str) -> ssl.SSLContext | bool:
    """The certificates to trust that SSL_CERT_FILE or SSL_CERT_DIR names; True: those that the client knows."""
    variable = next((name for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if os.environ.get(name)), None)
    if variable is None:
        return True
    path = os.environ[variable]
    try:
        os.stat(path)  # a folder that is missing is no error to ssl
        is_file = variable == "SSL_CERT_FILE"
        return ssl.create_default_context(cafile=path) if is_file else ssl.create_default_context(capath=path)
    except OSError as error:
        if urlsplit(url).scheme == "http":  # none are needed; should the server lead to https, none are trusted
            return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        reason = error.strerror or str(error)
        raise UserError(f"{variable} names no certificates: {path}: {reason}; unset it, or correct it") from None


def _is_direct(parts: SplitResult, proxies: dict[str, str]) -> bool:
    """Whether NO_PROXY covers an address: by name, or by a network such as 10.0.0.0/8, which urllib leaves out."""
    host = parts.hostname or ""
    if urllib.request.proxy_bypass(host if parts.port is None else f"{host}:{parts.port}"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return any(_holds(network.strip(" []"), address) for network in proxies.get("no", "").split(","))


def _holds(network: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    try:
        return address in ipaddress.ip_network(network, strict=False)
    except ValueError:  # a name
        return False


def pacer(requests_per_minute: float) -> Callable[[Any], Awaitable[None]]:
    """Make a hook that delays every try of a request, first or repeated, until its turn."""
    gap, turn = 60.0 / requests_per_minute, 0.0

    async def wait(_: Any) -> None:
        nonlocal turn
        now = asyncio.get_running_loop().time()
        turn = max(now, turn) + gap
        await asyncio.sleep(turn - gap - now)

    return wait

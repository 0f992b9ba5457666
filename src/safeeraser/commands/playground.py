"""``safeeraser playground``."""

from __future__ import annotations

import socket

from safeeraser import config
from safeeraser.errors import UserError
from safeeraser.terminal import say


def playground(options: config.PlaygroundConfig) -> int:
    """``safeeraser playground``: until interrupted."""
    from safeeraser import playground
    from safeeraser.playground import page

    app = page.app(playground.create(options))
    import uvicorn

    listening = _listen(page.LOOPBACK, options.port)
    port = listening.getsockname()[1]
    say(f"http://{page.LOOPBACK}:{port}/ is the playground; stop with Ctrl-C")
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listening])
    return 0


def _listen(host: str, port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except (OSError, OverflowError) as error:
        listening.close()
        raise UserError(f"port {port} cannot be used ({error}): give another --port, or 0 for any free one") from None
    return listening

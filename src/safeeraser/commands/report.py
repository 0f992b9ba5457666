"""Subcommands that show a run: report, view."""

from __future__ import annotations

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from safeeraser import config
from safeeraser.errors import UserError
from safeeraser.terminal import say

LOOPBACK = "127.0.0.1"


def report(options: config.ReportConfig) -> int:
    """``safeeraser report``."""
    from safeeraser import results, run_report

    run = Path(options.run)
    run_report.write(run, results.find(run))
    say(f"written: {run / 'report'}\nnext: safeeraser view {run}")
    return 0


def view(options: config.ViewConfig) -> int:
    """``safeeraser view``: until interrupted."""
    server = serve(Path(options.run) / "report", options.port)
    say(f"http://{LOOPBACK}:{server.server_port}/ shows {options.run}; stop with Ctrl-C")
    with server:
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            say()
    return 0


class _Quiet(SimpleHTTPRequestHandler):
    """Serves the folder's files and nothing else; only what breaks is said."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing."""


def serve(folder: Path, port: int) -> ThreadingHTTPServer:
    """Open a server for a folder on the loopback address; ``serve_forever`` starts it.

    Raises:
        UserError: If there is no report in the folder, or the port is taken.

    Example:
        >>> serve(Path("nowhere"), 0)
        Traceback (most recent call last):
        safeeraser.errors.UserError: nowhere: no index.html; write it with 'safeeraser report RUN'
    """
    if not (folder / "index.html").is_file():
        raise UserError(f"{folder}: no index.html; write it with 'safeeraser report RUN'")
    try:
        return ThreadingHTTPServer((LOOPBACK, port), partial(_Quiet, directory=str(folder)))
    except (OSError, OverflowError) as error:
        raise UserError(f"port {port} cannot be used ({error}): give another --port, or 0 for any free one") from None

"""Subcommands that show a run: report, view."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from safeeraser.cli.parser import Positional
from safeeraser.config import FilePath
from safeeraser.core.errors import UserError
from safeeraser.core.terminal import say

if TYPE_CHECKING:
    from http.server import ThreadingHTTPServer

    from safeeraser.report.watch import Watched

LOOPBACK = "127.0.0.1"


@dataclass
class ReportConfig:
    """Write the report of a finished run again: tables, figures and one HTML page that needs no network.

    Example:
        safeeraser report runs/demo
    """

    run: Positional[FilePath[str]]
    """Run folder written by 'safeeraser bench'; the report goes into its folder report/."""


@dataclass
class ViewConfig:
    """Show the report of a run in a browser, served on this machine alone unless --host says otherwise.

    While the bench runs, the page shows the cells that have finished and renews itself. Several runs over the same data
    come on one page, side by side. From another machine: ssh -L 8321:localhost:8321 THIS-MACHINE, and
    http://localhost:8321/ there.

    Example:
        safeeraser view runs/demo
        safeeraser view runs/lr-low runs/lr-high
        safeeraser view runs/demo --port 0 --open
    """

    runs: Positional[FilePath[list[str]]]
    """Run folders written by 'safeeraser bench', finished or not."""
    port: int = 8321
    """Port; 0: any free one."""
    host: str = LOOPBACK
    """Address to serve on; 0.0.0.0: to whoever reaches this machine, unsafe answers and images included."""
    open: bool = False
    """Open the page in this machine's browser."""


def report(options: ReportConfig) -> int:
    """``safeeraser report``."""
    from safeeraser.bench import runs
    from safeeraser.report.run import write

    run = Path(options.run)
    found = runs.find(run)
    runs.check_folder(run)
    write(run, found)
    say(f"written: {run / 'report'}\nnext: safeeraser view {run}")
    return 0


def view(options: ViewConfig) -> int:
    """``safeeraser view``: until interrupted."""
    from safeeraser.bench import runs
    from safeeraser.report.watch import Watched, is_current

    with tempfile.TemporaryDirectory(prefix="safeeraser-view-") as temporary:
        named = {name: path for path, name in runs.short_names(options.runs).items()}
        watched, folder = None, next(iter(named.values())) / "report"
        if len(named) > 1 or not is_current(folder.parent):
            folder = Path(temporary)
            watched = Watched(named, folder)
        server = serve(folder, options.port, options.host, watched)
        address = f"http://{options.host}:{server.server_port}/"
        say(f"{address} shows {', '.join(options.runs)}; stop with Ctrl-C")
        if options.open:
            import webbrowser

            if not webbrowser.open(address):
                say("no browser was found: open the address yourself")
        with server:
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                say()
    return 0


def serve(folder: Path, port: int, host: str = LOOPBACK, watched: Watched | None = None) -> ThreadingHTTPServer:
    """Open a server for a folder with ``index.html``; ``serve_forever`` starts it.

    Of the runs ``watched``, whose report the folder keeps, the page is brought up to date when it is asked for, and
    ``/state`` says how far they are.

    Raises:
        UserError: If there is no report in the folder, or host or port cannot be used.

    Example:
        >>> serve(Path("nowhere"), 0)
        Traceback (most recent call last):
        safeeraser.core.errors.UserError: nowhere: no index.html; write it with 'safeeraser report RUN'
    """
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            """Answer from the folder, after the runs that it is about."""
            if watched is not None and self.path == "/state":
                body = json.dumps(watched.state()).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                return
            if watched is not None and self.path in ("/", "/index.html"):
                watched.refresh()
            super().do_GET()

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """Log errors alone."""

    if not (folder / "index.html").is_file():
        raise UserError(f"{folder}: no index.html; write it with 'safeeraser report RUN'")
    try:
        return ThreadingHTTPServer((host, port), partial(Handler, directory=str(folder)))
    except (OSError, OverflowError) as error:
        raise UserError(
            f"{host}, port {port} cannot be used ({error}): give another --port, or 0 for any free one"
        ) from None

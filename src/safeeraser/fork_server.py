"""A process that imports once what every cell needs, and forks a cell of itself whenever it is told to.

torch, transformers, peft and the trainer take seconds to import, for a cell as for all of them. ``python -m
safeeraser.fork_server`` imports them, says so, and then reads folders of cells, one a line of JSON; it answers with a
line for each cell that has ended. When its input ends, it asks the cells that still run to stop, and ends.

The standard library's fork server would run the caller's main script once more in every cell, and does not let
standard output of each go to a file of its own.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, cast

from safeeraser import collection
from safeeraser.clock import StageTime
from safeeraser.terminal import say

__all__ = ["ForkServer", "has_gpu"]

LOST = 1
"""Exit status of a cell whose fork server is gone."""


def has_gpu() -> bool:
    """Whether torch sees a GPU; one that a process has used is of no use to its forks.

    Example:
        >>> has_gpu()  # doctest: +SKIP
        False
    """
    with collection.paused(for_good=True):
        import torch

    return bool(torch.accelerator.is_available())


class ForkServer:
    """The caller's end: starts the server and asks it for cells.

    Args:
        environment: The server's environment, which the cells inherit.

    Example:
        server = ForkServer(os.environ)
        if server.start(folder):
            while server.poll(folder) is None:
                time.sleep(0.2)
        server.close()
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Start it; what it imports is there a few seconds later."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "safeeraser.fork_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        self._requests, self._replies = cast(IO[bytes], self._process.stdin), cast(IO[bytes], self._process.stdout)
        self._unread = b""
        self._running: set[str] = set()
        self._ended: dict[str, int] = {}
        self.imports: StageTime | None = None
        """What importing took, once the server has said so."""

    def start(self, folder: Path) -> bool:
        """Ask for the cell in ``folder``; False if there is no server any more."""
        is_there = self._ask({"start": str(folder)})
        if is_there:
            self._running.add(str(folder))
        return is_there

    def stop(self, folder: Path) -> None:
        """Ask the cell in ``folder`` to stop."""
        self._ask({"stop": str(folder)})

    def poll(self, folder: Path) -> int | None:
        """The exit status of a cell that was started, or None while it is running."""
        self._read()
        if str(folder) not in self._ended and self._process.poll() is not None:
            self._read()  # what it said last
            self._ended.setdefault(str(folder), LOST)
        return self._ended.pop(str(folder), None)

    def close(self) -> None:
        """End the server, and with it what still runs."""
        if not self._running:  # it may be importing still, for nothing
            self._process.kill()
        with suppress(BrokenPipeError):
            self._requests.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._replies.close()

    def _ask(self, request: dict[str, str]) -> bool:
        try:
            self._requests.write(json.dumps(request).encode() + b"\n")
            self._requests.flush()
        except BrokenPipeError:
            return False
        return True

    def _read(self) -> None:
        while select.select([self._replies], [], [], 0)[0]:
            read = os.read(self._replies.fileno(), 65536)
            if not read:
                return
            *lines, self._unread = (self._unread + read).split(b"\n")
            for line in lines:
                said = json.loads(line)
                if "imports" in said:
                    self.imports = StageTime(stage="imports", wall=said["imports"][0], processor=said["imports"][1])
                else:
                    self._ended[said["ended"]] = said["status"]
                    self._running.discard(said["ended"])


def _import() -> None:
    """Import what a cell imports, and leave it to no garbage collection."""
    from safeeraser import cell

    cell.import_engine(training=True)
    with collection.paused(for_good=True):
        from rouge_score import rouge_scorer  # noqa: F401
        from transformers import LlavaForConditionalGeneration  # noqa: F401

        from safeeraser import judges, metrics  # noqa: F401


def _serve(requests: int, replies: IO[bytes]) -> None:
    """Fork a cell for each request, say when it has ended, until the requests end."""
    running: dict[int, str] = {}
    unread = b""
    while True:
        if select.select([requests], [], [], 0.05 if running else None)[0]:
            read = os.read(requests, 65536)
            if not read:
                break
            *lines, unread = (unread + read).split(b"\n")
            for line in lines:
                _obey(json.loads(line), running, requests, replies)
        while running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            _say(replies, {"ended": running.pop(pid), "status": os.waitstatus_to_exitcode(status)})
    for pid in running:
        os.kill(pid, signal.SIGTERM)


def _obey(request: dict[str, str], running: dict[int, str], requests: int, replies: IO[bytes]) -> None:
    if "stop" in request:
        for pid in [pid for pid, folder in running.items() if folder == request["stop"]]:
            os.kill(pid, signal.SIGTERM)
        return
    pid = os.fork()
    if pid:
        running[pid] = request["start"]
        return
    os.close(requests)
    replies.close()
    _become_cell(Path(request["start"]))


def _become_cell(folder: Path) -> None:
    """Run the cell as a process of its own would, and end as it would; never returns."""
    from safeeraser import cell

    status: Any = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with open(folder / "log.txt", "ab") as log, open(os.devnull, "rb") as nothing:
            os.dup2(nothing.fileno(), 0)
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        status = cell.main([str(folder)])
    except SystemExit as end:
        status = end.code
        if isinstance(status, str):
            say(status, file=sys.stderr)
            status = 1
    except BaseException:  # the interpreter's own way to end, which a fork does not have
        traceback.print_exc()
    finally:
        with suppress(OSError):  # the log may lie on a full disk; what was a cell must not serve
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status or 0)


def _say(replies: IO[bytes], said: dict[str, Any]) -> None:
    with suppress(BrokenPipeError):  # nobody listens any more: the requests will end next
        replies.write(json.dumps(said).encode() + b"\n")
        replies.flush()


def main() -> None:
    """Import, say so, serve."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller is interrupted too, and ends this by its input
    begun = time.monotonic()
    requests = os.dup(0)
    replies = os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "r+b") as nothing:  # what libraries print is no reply
        os.dup2(nothing.fileno(), 0)
        os.dup2(nothing.fileno(), 1)
    _import()
    _say(replies, {"imports": [round(time.monotonic() - begun, 3), round(time.process_time(), 3)]})
    _serve(requests, replies)


if __name__ == "__main__":
    main()

"""How far a cell is: ``progress.json``, which the cell writes while it runs and the bench reads for its live table."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

from safeeraser.core import locks, terminal
from safeeraser.records import Frozen

STAGES = {"unlearn": "training", "respond": "generation", "judge": "judging", "score": "scoring"}
"""Stages in order, and what ``times.jsonl`` calls them."""
FILE = "progress.json"


class Progress(Frozen):
    """How far a cell is; what ``progress.json`` holds."""

    text: str = "starting"
    stage: str = ""
    done: int = 0
    total: int = 1
    before: int = 0
    """Of ``total``, what was done when this process began the stage: by one that was killed."""
    seconds: float = 0.0
    """That the stage has taken since."""
    request: int = 1
    requests: int = 1
    """Of a sequence, each of which goes through all stages."""

    @property
    def share(self) -> float:
        """Of the stage that is done."""
        return self.done / self.total if self.total else 1.0

    @property
    def whole(self) -> float | None:
        """Seconds that the whole stage takes at this pace; None before anything of it was seen.

        Example:
            >>> Progress(done=6, total=12, before=3, seconds=30).whole
            120.0
        """
        return self.seconds * self.total / (self.done - self.before) if self.done > self.before else None

    @property
    def left(self) -> float:
        """Seconds that the rest of the stage takes at this pace; 0 where it is not known."""
        return (self.whole or 0.0) * (1 - self.share)


class Reporter:
    """Says how far a cell is, and ends it when its parent has ended.

    ``progress.json`` is written at most four times a second within a stage; a line is printed, into the cell's log,
    once a minute, and where a stage begins or ends.
    """

    def __init__(self, folder: Path, held: locks.Hold | None = None) -> None:
        self._path, self._held, self._parent = folder / FILE, held, os.getppid()
        self._last = self._printed = self._begun = 0.0
        self._stage, self._before = "", 0
        self.request, self.requests = 1, 1
        """Of a sequence of requests, each of which goes through all stages."""

    def report(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Say where the cell is."""
        if self._held is not None:
            self._held.check()
        if not self._has_parent():
            raise SystemExit("the process that started this cell is gone; run the same command again")
        now = time.monotonic()
        stage_said = stage if self.requests == 1 else f"request {self.request}/{self.requests}: {stage}"
        is_new = stage_said != self._stage
        if is_new:
            self._stage, self._begun, self._before = stage_said, now, done
        progress = Progress(
            text=f"{stage_said} {done}/{total} {note}".strip(),
            stage=stage,
            done=done,
            total=total,
            before=self._before,
            seconds=now - self._begun,
            request=self.request,
            requests=self.requests,
        )
        if is_new or now - self._printed > terminal.LINE_SECONDS or done >= total:
            self._printed = now
            terminal.say(progress.text + (f", {progress.left / 60:.1f} min left" if progress.left > 1 else ""))
        if is_new or now - self._last > 0.25 or done >= total:
            self._last = now
            temporary = self._path.with_suffix(".tmp")
            temporary.write_text(progress.model_dump_json(), encoding="utf-8")
            temporary.replace(self._path)

    def _has_parent(self) -> bool:
        # a forked cell is a child of the fork server, which outlives the bench for as long as its cells run
        bench = multiprocessing.parent_process()
        return os.getppid() == self._parent and (bench is None or bench.is_alive())


def read(folder: Path) -> Progress:
    """What the cell in a folder is doing, as it said last."""
    try:
        return Progress.model_validate_json((folder / FILE).read_bytes())
    except (FileNotFoundError, ValueError):
        return Progress()

"""How far a cell is: ``progress.json``, which the cell writes while it runs and the bench reads for its live table."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from pathlib import Path

from safeeraser.core import locks, terminal

STAGES: dict[str, float] = {"unlearn": 0.5, "respond": 0.45, "judge": 0.03, "score": 0.02}
"""Stages in order, each with its usual share of a cell's time."""
FILE = "progress.json"
LINE_SECONDS = 60.0
"""A cell's log gets a line at the begin and end of a stage, and about this often in between."""


class Reporter:
    """Says how far a cell is, and ends it when its parent has ended.

    ``progress.json`` is written at most four times a second within a stage; a line is printed, into the cell's log,
    once a minute, and where a stage begins or ends.
    """

    def __init__(self, folder: Path, held: locks.Hold | None = None) -> None:
        self._path, self._held, self._parent = folder / FILE, held, os.getppid()
        self._last = self._printed = self._begun = 0.0
        self._stage = ""
        self.request, self.requests = 1, 1
        """Of a sequence of requests, each of which goes through all stages."""

    def report(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Say where the cell is."""
        if self._held is not None:
            self._held.check()
        if not self._has_parent():
            raise SystemExit("the process that started this cell is gone; run the same command again")
        now = time.monotonic()
        is_new = stage != self._stage
        stage_said = stage if self.requests == 1 else f"request {self.request}/{self.requests}: {stage}"
        self._begun = now if is_new else self._begun
        if is_new or now - self._printed > LINE_SECONDS or done >= total:
            self._printed = now
            left = (now - self._begun) * (total - done) / done if done else 0.0
            terminal.say(
                f"{stage_said} {done}/{total} {note}".rstrip() + (f", {left / 60:.1f} min left" if left > 1 else "")
            )
        if is_new or now - self._last > 0.25 or done >= total:
            self._stage, self._last = stage, now
            names = list(STAGES)
            before = sum(STAGES[name] for name in names[: names.index(stage)])
            of_request = before + STAGES[stage] * (done / total if total else 1.0)
            fraction = (self.request - 1 + of_request) / self.requests
            progress = {"text": f"{stage_said} {done}/{total} {note}".strip(), "fraction": fraction}
            temporary = self._path.with_suffix(".tmp")
            temporary.write_text(json.dumps(progress), encoding="utf-8")
            temporary.replace(self._path)

    def _has_parent(self) -> bool:
        # a forked cell is a child of the fork server, which outlives the bench for as long as its cells run
        bench = multiprocessing.parent_process()
        return os.getppid() == self._parent and (bench is None or bench.is_alive())


def read(folder: Path) -> tuple[str, float]:
    """What the cell in a folder is doing, and its share of the whole that is done; ("starting", 0) if unknown."""
    try:
        progress = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return str(progress["text"]), float(progress["fraction"])
    except (FileNotFoundError, json.JSONDecodeError):
        return "starting", 0.0

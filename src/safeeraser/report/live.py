"""The live table of a running bench: one line per cell, a bar, the time left."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol

from rich.live import Live
from rich.table import Table

from safeeraser import terminal


class LiveJob(Protocol):
    """What the table reads of a job."""

    folder: Path
    label: str
    status: str
    started: float
    seconds: float


class LiveTable:
    """Shows the jobs while the block runs; without a terminal, prints a line whenever a cell ends.

    Example:
        >>> with LiveTable([]) as live:
        ...     live.update()
    """

    def __init__(self, jobs: Sequence[LiveJob]) -> None:
        """Show nothing yet."""
        self._jobs = jobs
        self._begun = time.monotonic()
        self._told: dict[str, str] = {job.label: job.status for job in jobs}
        self._console = terminal.console(stderr=True)
        self._live = Live(console=self._console, refresh_per_second=4) if sys.stderr.isatty() else None

    def __enter__(self) -> LiveTable:
        """Begin to draw."""
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Draw the last state and stop."""
        self.update()
        if self._live:
            self._live.stop()

    def update(self) -> None:
        """Draw the present state."""
        if self._live:
            self._live.update(self._draw())
            return
        for job in self._jobs:
            if job.status != self._told[job.label]:
                self._told[job.label] = job.status
                took = f" in {job.seconds:.0f} s" if job.seconds else ""
                terminal.say(f"{job.label}: {job.status}{took}; {self.remaining()}", file=sys.stderr)

    def remaining(self) -> str:
        """Say how far the run is and about how long it will take still."""
        states = [self._fraction(job) for job in self._jobs]
        before = sum(job.status == "done before" for job in self._jobs)
        todo, done = len(states) - before, sum(states) - before
        finished = f"{sum(job.status.startswith('done') for job in self._jobs)} of {len(states)} cells"
        if done <= 0.02 or not todo:
            return finished
        left = (time.monotonic() - self._begun) * (todo - done) / done
        return f"{finished}, about {left / 60:.1f} min left" if left > 1 else finished

    def _draw(self) -> Table:
        table = Table(title=self.remaining(), title_justify="left")
        for title in ("cell", "stage", "done", "time"):
            table.add_column(title)
        for job in self._jobs:
            seconds = time.monotonic() - job.started if job.status == "running" else job.seconds
            bar = "━" * round(20 * self._fraction(job))
            table.add_row(job.label, self._stage(job), f"{bar:<20}", f"{seconds:.0f} s" if seconds else "")
        return table

    def _stage(self, job: LiveJob) -> str:
        if job.status != "running":
            return job.status
        progress = _progress(job.folder)
        return str(progress["text"]) if progress else "starting"

    def _fraction(self, job: LiveJob) -> float:
        if job.status in ("done", "done before", "failed"):
            return 1.0
        progress = _progress(job.folder) if job.status == "running" else None
        return float(str(progress["fraction"])) if progress else 0.0


def _progress(folder: Path) -> dict[str, object] | None:
    try:
        loaded: dict[str, object] = json.loads((folder / "progress.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return loaded

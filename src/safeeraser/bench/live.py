"""Cells while they run, as jobs, and their live table: one line per cell, a bar, the time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.live import Live
from rich.table import Table

from safeeraser.bench import progress
from safeeraser.bench.launch import Handle, Launcher
from safeeraser.bench.runs import Cell
from safeeraser.core import terminal

LINE_SECONDS = 60.0
"""Without a terminal, a running cell gets a line about this often."""


@dataclass
class Job:
    """A cell of the matrix to run, and how it fares."""

    cell: Cell
    label: str
    status: Literal["waiting", "running", "done", "done before", "failed"] = "waiting"
    seconds: float = 0.0
    exit_status: int | None = None
    handle: Handle | None = None
    started: float = 0.0

    def start(self, launcher: Launcher) -> None:
        """Start the cell."""
        (self.cell.folder / "progress.json").unlink(missing_ok=True)
        self.handle = launcher.start(self.cell.folder)
        self.status, self.started = "running", time.monotonic()

    def poll(self) -> bool:
        """Whether the cell is still running; takes note of its end."""
        self.exit_status = self.handle.poll() if self.handle is not None else None
        if self.status == "running":
            self.seconds = time.monotonic() - self.started
            if self.exit_status is not None:
                self.status = "done" if self.cell.is_done else "failed"
        return self.status == "running"

    def stop(self) -> None:
        """Ask the cell to stop, if it is running."""
        if self.status == "running" and self.handle is not None:
            self.handle.terminate()


class LiveTable:
    """Shows the jobs while the block runs; without a terminal, prints a line when a cell starts, ends, each minute."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._jobs = jobs
        self._begun = time.monotonic()
        self._printed: dict[str, str] = {job.label: job.status for job in jobs}
        self._said = dict.fromkeys(self._printed, self._begun)
        self._console = terminal.console(stderr=True)
        self._live = Live(console=self._console, refresh_per_second=4) if sys.stderr.isatty() else None

    def __enter__(self) -> LiveTable:
        """Begin to draw."""
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
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
            if job.status != self._printed[job.label]:
                self._printed[job.label], self._said[job.label] = job.status, time.monotonic()
                duration = f" in {job.seconds:.0f} s" if job.status != "running" and job.seconds else ""
                terminal.say(f"{job.label}: {job.status}{duration}; {self.remaining()}", file=sys.stderr)
            elif job.status == "running" and time.monotonic() - self._said[job.label] >= LINE_SECONDS:
                self._said[job.label] = time.monotonic()
                stage, share = progress.read(job.cell.folder)
                left = f"{job.seconds * (1 - share) / share / 60:.1f} min left in this cell; " if share > 0.02 else ""
                terminal.say(f"{job.label}: {stage}; {left}{self.remaining()}", file=sys.stderr)

    def remaining(self) -> str:
        """Say how far the run is and about how long it will take still."""
        shares = [_share(job) for job in self._jobs]
        before = sum(job.status == "done before" for job in self._jobs)
        todo, done = len(shares) - before, sum(shares) - before
        finished = f"{sum(job.status.startswith('done') for job in self._jobs)} of {len(shares)} cells"
        if done <= 0.02 or not todo:
            return finished
        left = (time.monotonic() - self._begun) * (todo - done) / done
        return f"{finished}, about {left / 60:.1f} min left" if left > 1 else finished

    def _draw(self) -> Table:
        table = Table(title=self.remaining(), title_justify="left")
        for title in ("cell", "stage", "done", "time"):
            table.add_column(title)
        for job in self._jobs:
            stage = progress.read(job.cell.folder)[0] if job.status == "running" else job.status
            bar = "━" * round(20 * _share(job))
            table.add_row(job.label, stage, f"{bar:<20}", f"{job.seconds:.0f} s" if job.seconds else "")
        return table


def _share(job: Job) -> float:
    """How much of a job is done; one that failed is over."""
    if job.status == "running":
        return progress.read(job.cell.folder)[1]
    return 0.0 if job.status == "waiting" else 1.0

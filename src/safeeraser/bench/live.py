"""Cells while they run, as jobs, and their live table: one line per cell, a bar, the time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Literal

from rich.live import Live
from rich.table import Table

from safeeraser.bench import clock, progress
from safeeraser.bench.launch import Handle, Launcher
from safeeraser.bench.runs import Cell
from safeeraser.core import files, terminal
from safeeraser.core.errors import UserError


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

    @cached_property
    def trains(self) -> bool:
        """Whether its first stage is training."""
        return self.cell.spec.parsed_method() is not None

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
                # one that had scores before, of answers to judge anew, has them still where that fails
                fails = self.exit_status or not self.cell.is_done
                self.status = "failed" if fails and self.cell.is_due else "done"
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
        self._times: dict[str, dict[str, float]] = {}
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
            elif job.status == "running" and time.monotonic() - self._said[job.label] >= terminal.LINE_SECONDS:
                self._said[job.label] = time.monotonic()
                at = progress.read(job.cell.folder)
                left = f"{at.left / 60:.1f} min left of this stage; " if at.left > 1 else ""
                terminal.say(f"{job.label}: {at.text}; {left}{self.remaining()}", file=sys.stderr)

    def remaining(self) -> str:
        """Say how far the run is, and how long it will take still; "at least", if a stage has not been timed yet."""
        finished = f"{sum(job.status.startswith('done') for job in self._jobs)} of {len(self._jobs)} cells"
        seconds, is_whole = self._left()
        said = "about" if is_whole else "at least"
        return f"{finished}, {said} {seconds / 60:.1f} min left" if seconds > 1 else finished

    def _left(self) -> tuple[float, bool]:
        """Seconds that what is still to do takes, as many cells at once as now, and whether all of it has been timed.

        What a stage takes is what it took, or is taking, in this run: how training and answering compare depends on
        model, data and method. A cell's own pace goes before the mean of all.
        """
        now = {job.label: progress.read(job.cell.folder) for job in self._jobs if job.status == "running"}
        timed: dict[str, list[float]] = {}
        for stage, seconds in chain(
            *(self._took(job).items() for job in self._jobs if job.status in ("running", "done", "done before")),
            ((at.stage, at.whole) for at in now.values() if at.whole is not None),
        ):
            timed.setdefault(stage, []).append(seconds)
        mean = {stage: sum(seconds) / len(seconds) for stage, seconds in timed.items()}
        total, is_whole, names = 0.0, True, list(progress.STAGES)
        for job in self._jobs:
            if job.status not in ("waiting", "running"):
                continue
            at = now.get(job.label, progress.Progress(requests=job.cell.spec.sequence or 1))
            for stage in names if job.trains else names[1:]:
                times = at.requests - at.request + 1.0
                if at.stage:
                    times -= at.share if stage == at.stage else names.index(stage) < names.index(at.stage)
                whole = at.whole if stage == at.stage and at.whole is not None else mean.get(stage)
                is_whole = is_whole and (whole is not None or not times)
                total += (whole or 0.0) * times
        return total / max(1, len(now)), is_whole

    def _took(self, job: Job) -> dict[str, float]:
        """Seconds of each stage that a cell has behind it, in the mean over its requests."""
        if job.label in self._times:
            return self._times[job.label]
        try:
            laps = files.read_jsonl(job.cell.folder / clock.FILE, clock.StageTime)
        except UserError:  # the report says what is wrong with the file; what only shows the time left ends no run
            laps = []
        walls = {stage: [lap.wall for lap in laps if lap.stage == name] for stage, name in progress.STAGES.items()}
        took = {stage: sum(seconds) / len(seconds) for stage, seconds in walls.items() if seconds}
        if job.status != "running":
            self._times[job.label] = took
        return took

    def _draw(self) -> Table:
        table = Table(title=self.remaining(), title_justify="left")
        for title in ("cell", "stage", "of the stage", "time"):
            table.add_column(title)
        for job in self._jobs:
            at = progress.read(job.cell.folder) if job.status == "running" else progress.Progress(text=job.status)
            bar = "━" * round(20 * (at.share if job.status in ("waiting", "running") else 1.0))
            table.add_row(job.label, at.text, f"{bar:<20}", f"{job.seconds:.0f} s" if job.seconds else "")
        return table

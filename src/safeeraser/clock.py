"""Where the time goes: what each stage took, by the clock and of the processor, in a file beside what it made."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from safeeraser import store
from safeeraser.records import Frozen

__all__ = ["Clock", "StageTime", "total"]

FILE = "times.jsonl"


class StageTime(Frozen):
    """What one stage took: ``wall`` seconds by the clock, ``processor`` seconds of all threads of its process."""

    stage: str
    wall: float
    processor: float


class Clock:
    """Appends a line to ``times.jsonl`` at the end of every stage; all that the process does belongs to some stage.

    The first stage has the processor time since the process began, of which the clock saw only the end. A process that
    goes on where another was killed appends to its lines; the stage that was cut short has none.

    Args:
        folder: Where ``times.jsonl`` is made, or continued.

    Example:
        >>> import tempfile
        >>> clock = Clock(Path(tempfile.mkdtemp()))
        >>> clock.lap("imports")
        >>> clock.lap("training")
        >>> list(total([clock.folder]))
        ['imports', 'training']
    """

    def __init__(self, folder: Path) -> None:
        """Start."""
        self.folder = Path(folder)
        self._wall, self._processor = time.monotonic(), 0.0

    def lap(self, stage: str) -> None:
        """Say that what was done since the last lap was this stage."""
        wall, processor = time.monotonic(), time.process_time()
        self.note(
            StageTime(stage=stage, wall=round(wall - self._wall, 3), processor=round(processor - self._processor, 3))
        )
        self._wall, self._processor = wall, processor

    def note(self, took: StageTime) -> None:
        """Write down what a stage took in a process that has no such file."""
        store.append_jsonl(self.folder / FILE, [took])


def total(folders: Iterable[Path]) -> dict[str, StageTime]:
    """Add up the stages of several folders, in the order in which they first come; a folder without a file has none.

    Raises:
        UserError: If a line is not what it should be.

    Example:
        >>> total([Path("nowhere")])
        {}
    """
    added: dict[str, StageTime] = {}
    for folder in folders:
        for one in store.read_jsonl(Path(folder) / FILE, StageTime):
            before = added.get(one.stage, StageTime(stage=one.stage, wall=0.0, processor=0.0))
            added[one.stage] = StageTime(
                stage=one.stage, wall=before.wall + one.wall, processor=before.processor + one.processor
            )
    return added

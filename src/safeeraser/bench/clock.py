"""Where the time goes: what each stage took, by the clock and of the processor, in a file beside what it made."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from safeeraser.core import files
from safeeraser.records import Frozen

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
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._wall, self._processor = time.monotonic(), 0.0

    def lap(self, stage: str) -> None:
        """Say that what was done since the last lap was this stage."""
        wall, processor = time.monotonic(), time.process_time()
        took = round(wall - self._wall, 3), round(processor - self._processor, 3)
        files.append_jsonl(self.folder / FILE, [StageTime(stage=stage, wall=took[0], processor=took[1])])
        self._wall, self._processor = wall, processor


def total(folders: Iterable[Path]) -> dict[str, StageTime]:
    """Add up the stages of several folders, in the order in which they first come; a folder without a file has none."""
    laps: dict[str, list[StageTime]] = {}
    for folder in folders:
        for lap in files.read_jsonl(Path(folder) / FILE, StageTime):
            laps.setdefault(lap.stage, []).append(lap)
    return {
        stage: StageTime(stage=stage, wall=sum(lap.wall for lap in of), processor=sum(lap.processor for lap in of))
        for stage, of in laps.items()
    }

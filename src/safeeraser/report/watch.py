"""Runs that are looked at while they go on: how far they are, and a report of what is there already."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

from safeeraser.bench import progress, runs
from safeeraser.core import files


def is_current(run: Path) -> bool:
    """Whether a report holds all that the cells of its run have found; one whose cells are gone is taken as it is."""
    page = run / "report" / "index.html"
    if not page.is_file():
        return False
    cells = runs.planned(run) if (run / "cells").is_dir() else []
    written = page.stat().st_mtime_ns
    return all(cell.is_done and (cell.folder / "scores.json").stat().st_mtime_ns <= written for cell in cells)


class Watched:
    """Runs, by the name that stands before their methods, and the folder in which their common report is kept.

    Raises:
        UserError: If one of them is no run folder.
    """

    def __init__(self, outs: Mapping[str, Path], folder: Path) -> None:
        for out in outs.values():
            runs.check_folder(out)
        self._outs, self._folder = outs, folder
        self._lock = threading.Lock()  # a browser asks for several things at once
        self._version = ""
        self.refresh()

    def state(self) -> dict[str, str]:
        """How far the runs are: ``said`` to people, and the ``version`` of what they have found."""
        cells = [cell for out in self._outs.values() for cell in runs.planned(out)]
        done = [cell for cell in cells if cell.is_done]
        found = [(str(cell.folder), (cell.folder / "scores.json").stat().st_mtime_ns) for cell in done]
        begun = [cell for cell in cells if not cell.is_done and (cell.folder / progress.FILE).exists()]
        said = [f"{cell.label} ({progress.read(cell.folder).text})" for cell in begun]
        text = f"{len(done)} of {len(cells)} cells have finished" + (f"; begun: {', '.join(said)}" if said else "")
        return {"version": files.stable_hash(found, len(cells)), "said": f"{text}. This page renews itself."}

    def refresh(self) -> None:
        """Write the report anew if a cell has finished since."""
        from safeeraser.report import run

        with self._lock:
            state = self.state()
            if state["version"] != self._version:
                going_on = any(not cell.is_done for out in self._outs.values() for cell in runs.planned(out))
                run.write_together(self._outs, self._folder, state if going_on else None)
                self._version = state["version"]

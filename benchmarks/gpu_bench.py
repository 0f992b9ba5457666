"""Rows of ``gpu.py`` about the embedded model's bench: on the card and on the CPU, side by side."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from measure import ONE_THREAD

from safeeraser import data
from safeeraser.bench import clock
from safeeraser.core.files import read_jsonl
from safeeraser.records import Response

SHORT = ("--methods", "vanilla,po,po+pd", "--limit", "40", "--questions", "1", "--training.steps", "40")
TINY = ("--methods", "vanilla,po", "--limit", "2", "--questions", "1", "--training.steps", "2")
Row = tuple[str, Callable[[], dict[str, float]]]


class Side:
    """A bench in a process of its own."""

    def __init__(self, folder: Path, options: tuple[str, ...], on_card: bool) -> None:
        self.folder = folder
        hidden = {} if on_card else ONE_THREAD | {"CUDA_VISIBLE_DEVICES": ""}
        command = [sys.executable, "-m", "safeeraser", "bench", *options, "--out", str(folder)]
        self._log = open(folder.with_suffix(".log"), "w+")  # noqa: SIM115
        self.process = subprocess.Popen(command, env=os.environ | hidden, stdout=self._log, stderr=subprocess.STDOUT)

    def done(self, seconds: float) -> None:
        """Wait for its end.

        Raises:
            RuntimeError: If it failed or took too long; the message is the end of what it said.
        """
        try:
            self.process.wait(max(1.0, seconds))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.returncode:
            self._log.seek(0)
            raise RuntimeError(f"status {self.process.returncode}: {self._log.read()[-400:]}")

    def rows(self) -> dict[str, dict[str, float]]:
        """By method: the scores, and what training and generation took."""
        with open(self.folder / "report" / "table.csv", encoding="utf-8") as file:
            scores = {row["method"]: row for row in csv.DictReader(file)}
        found = {}
        for method, row in scores.items():
            (cell,) = (self.folder / "cells" / "mini-llava" / method).glob("seed-*")
            stages = clock.total([cell])
            said = {name: float(row[key]) for name, key in NAMES.items() if row.get(key)}
            times = {f"{label}, s": stages[name].wall for name, label in STAGES.items() if name in stages}
            found[method] = said | times
        return found

    def answers(self, method: str) -> dict[str, str]:
        """Answers by query."""
        (cell,) = (self.folder / "cells" / "mini-llava" / method).glob("seed-*")
        return {response.query_id: response.answer for response in read_jsonl(cell / "responses.jsonl", Response)}


NAMES = {"ASR": "asr_efficacy", "RR": "rr_efficacy", "SARR": "sarr", "SARR+": "sarr_plus", "ROUGE-L": "rouge_l"}
STAGES = {"training": "trained", "generation": "answered"}


def bench_rows(device: str, is_tiny: bool, seconds: Callable[[], float]) -> Iterator[Row]:
    """Start the bench on the card and on the CPU at once, then give a row of each method and side.

    Args:
        device: The card's.
        is_tiny: Whether there is the CPU alone, and little of it.
        seconds: That are left.
    """
    options = TINY if is_tiny else SHORT
    data.load("pictogram", 1)  # it is built when it is first used
    with tempfile.TemporaryDirectory() as folder:
        places = ("CPU",) if device == "cpu" else ("card", "CPU")
        sides = {place: Side(Path(folder) / place, options, place == "card") for place in places}
        try:
            for place, side in sides.items():
                found: dict[str, dict[str, float]] = {}

                def ended(side: Side = side, found: dict[str, dict[str, float]] = found) -> dict[str, float]:
                    side.done(seconds() - 5)
                    found |= side.rows()
                    return {"s": sum(lap.wall for lap in clock.total([side.folder]).values())}

                yield f"{place}, the whole run", ended
                for method in found:
                    yield f"{place}, {method}", lambda m=method, f=found: f[m]
            if len(sides) == 2:

                def differing() -> dict[str, float]:
                    card, cpu = (side.answers("vanilla") for side in sides.values())
                    return {"differ, %": 100 * sum(cpu[id] != text for id, text in card.items()) / len(cpu)}

                yield "vanilla on both", differing
        finally:
            for side in sides.values():
                if side.process.poll() is None:
                    side.process.kill()

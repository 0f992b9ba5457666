"""Scores and the final table in the tracker that training logs to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from safeeraser.bench.runs import Cell
from safeeraser.config import Tracker
from safeeraser.records import Score


def log_scores(tracker: Tracker, folder: Path, scores: Sequence[Score]) -> None:
    """Log a cell's scores, in percent, as a run beside that of its training."""
    _log(tracker, folder, {_key("scores", score): 100 * score.value for score in scores if score.value is not None})


def log_table(tracker: Tracker, out: Path, cells: Mapping[str, Cell]) -> None:
    """Log the final table, in percent: a value for each metric and cell, by what the bench calls the cell."""
    rows = (
        (label, score) for label, cell in cells.items() for score in cell.scores().scores if score.category == "all"
    )
    _log(
        tracker,
        out,
        {_key(f"table/{label}", score): 100 * score.value for label, score in rows if score.value is not None},
    )


def _key(group: str, score: Score) -> str:
    return "/".join([group, score.metric, *([score.category] if score.category != "all" else [])]).replace(" ", "-")


def _log(tracker: Tracker, folder: Path, values: dict[str, float]) -> None:
    if tracker == "none":
        return
    from accelerate import PartialState
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    PartialState()
    kind = LOGGER_TYPE_TO_CLASS[tracker]
    place = {"logging_dir": str(folder / "runs")} if kind.requires_logging_directory else {}
    run = kind("scores" if place else folder.name, **place)
    run.start()
    run.log(values, step=0)
    run.finish()

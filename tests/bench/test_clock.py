"""What each stage of a run took: written beside it, added up over kills and cells, shown by the report."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from safeeraser.bench.clock import FILE, Clock, total
from safeeraser.core.errors import UserError


def busy(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_a_lap_has_what_was_done_since_the_last_one(tmp_path: Path) -> None:
    clock = Clock(tmp_path)
    clock.lap("imports")
    busy(0.05)
    clock.lap("data")
    time.sleep(0.05)
    clock.lap("training")
    took = total([tmp_path])
    assert took["imports"].processor > 0.05  # all that this process did before
    assert 0.045 < took["data"].processor < 0.5
    assert took["training"].processor < 0.04 < took["training"].wall


def test_a_process_that_goes_on_adds_its_own_and_a_line_cut_short_is_none(tmp_path: Path) -> None:
    first = '{"stage": "data", "wall": 1.5, "processor": 1.0}\n'
    (tmp_path / FILE).write_text(first + '{"stage": "training", "wal')
    Clock(tmp_path).lap("data")
    took = total([tmp_path, tmp_path, tmp_path / "nowhere"])
    assert list(took) == ["data"]
    assert took["data"].wall >= 3.0 and took["data"].processor > 2.0


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"stage": "data"}\n')
    with pytest.raises(UserError, match=r"times.jsonl, line 1, wall"):
        total([tmp_path])

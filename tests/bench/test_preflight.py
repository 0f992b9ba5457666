"""What a bench finds out before its first cell; while it runs without a terminal it says how far each cell is."""

import sys
import time
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest
from chat_server import ChatServer, error_reply

from safeeraser import bench, config
from safeeraser.bench import live, matrix, preflight
from safeeraser.bench.live import Job, LiveTable
from safeeraser.bench.progress import Reporter
from safeeraser.core import locks
from safeeraser.core.errors import UserError


@pytest.fixture
def small(small_release: Path) -> config.BenchConfig:
    return config.BenchConfig(data=str(small_release), methods="vanilla,po", questions=1)


def test_a_tracker_that_is_not_installed_ends_the_bench_before_its_first_cell(small, tmp_path: Path) -> None:
    training = config.UnlearnOptions(tracker="trackio")
    with pytest.raises(UserError, match="'trackio' is not installed: run 'pip install trackio'"):
        bench.run(replace(small, training=training, out=str(tmp_path / "run")))
    assert not (tmp_path / "run").exists()


def test_a_model_that_cannot_be_told_to_think_ends_the_bench_before_its_first_cell(small, tmp_path: Path) -> None:
    thinking = config.GenerationOptions(thinking=True)
    with pytest.raises(UserError, match="the chat template of model 'mini-llava' has no switch for thinking"):
        bench.run(replace(small, generation=thinking, out=str(tmp_path / "run")))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("status, said", [(401, "no such key"), (404, "no such model")])
def test_a_judge_that_does_not_answer_ends_the_bench_with_the_servers_words(
    small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, said: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret-0123456789")
    with ChatServer(lambda body, number: error_reply(status, said)) as server:
        judging = config.JudgeOptions(base_url=server.url, max_cost=1)
        with pytest.raises(UserError, match=f"the judge cannot be asked, so no cell is started: .*{said}"):
            bench.run(replace(small, judge="api", judging=judging, out=str(tmp_path / "run")))
        assert len(server.bodies) <= 2  # the verdict, and whether the server answers at all
    assert not (tmp_path / "run").exists()


def test_a_disk_too_full_for_the_checkpoints_is_found_first(
    small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = [cell.spec for cell in matrix.cells(replace(small, methods="vanilla,po,po+pd", out=str(tmp_path)))]
    preflight.check_disk(specs, tmp_path / "not" / "yet", parallel=2)
    usage = namedtuple("usage", "free")
    trained = 4 * (8 * 10**5)  # MiniLLaVA trains less than a million weights
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage(trained))
    with pytest.raises(UserError, match="2 adapters and the checkpoints of 2 cells take about .* --checkpoint_steps 0"):
        preflight.check_disk(specs, tmp_path / "not" / "yet", parallel=2)
    preflight.check_disk(specs[:1], tmp_path, parallel=2)  # vanilla trains nothing


def test_a_cells_log_says_how_far_it_is_when_a_stage_begins_and_ends(tmp_path: Path, capsys, monkeypatch) -> None:
    with locks.hold(tmp_path) as held:
        reporter = Reporter(tmp_path, held)
        for step in range(5):
            reporter.report("unlearn", step, 4, "po 1.25")
        monkeypatch.setattr("safeeraser.bench.progress.LINE_SECONDS", 0.0)
        reporter.report("respond", 0, 4)
        later = time.monotonic() + 120
        monkeypatch.setattr(time, "monotonic", lambda: later)
        reporter.report("respond", 1, 4)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["unlearn 0/4 po 1.25", "unlearn 4/4 po 1.25", "respond 0/4"]
    assert lines[3].startswith("respond 1/4, 6.") and lines[3].endswith(" min left")  # three times two minutes


def test_without_a_terminal_a_running_cell_gets_a_line_now_and_then(small, tmp_path, capsys, monkeypatch) -> None:
    (job,) = (Job(cell, "po seed 0") for cell in matrix.cells(replace(small, methods="po", out=str(tmp_path))))
    job.cell.folder.mkdir(parents=True)
    (job.cell.folder / "progress.json").write_text('{"text": "unlearn 30/120 po 0.50", "fraction": 0.125}')
    job.status, job.seconds = "running", 60.0
    assert not sys.stderr.isatty()
    with LiveTable([job]) as table:
        monkeypatch.setattr(live, "LINE_SECONDS", 0.0)
        table.update()
    said = capsys.readouterr().err
    assert "po seed 0: unlearn 30/120 po 0.50; 7.0 min left in this cell; 0 of 1 cells" in said


def test_the_tracker_gets_scores_and_the_final_table(small, tiny_model: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    training = config.UnlearnOptions(tracker="tensorboard")
    generation = config.GenerationOptions(max_new_tokens=4)
    options = {"training": training, "generation": generation, "jobs": 1, "out": str(tmp_path)}
    given = replace(small, model=str(tiny_model), methods="vanilla", **options)
    assert bench.run(given) == 0
    (cell,) = (cell for cell in matrix.cells(given) if cell.is_done)
    by_name = {score.metric: score for score in cell.scores().scores if score.category == "all"}
    for folder, key in ((cell.folder, "scores/rouge_l"), (tmp_path, f"table/{cell.label}/rouge_l".replace(" ", "-"))):
        events = EventAccumulator(str(folder / "runs" / "scores")).Reload()
        assert events.Scalars(key)[0].value == pytest.approx(100 * by_name["rouge_l"].value)

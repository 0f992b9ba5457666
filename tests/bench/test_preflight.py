"""What a bench finds out before its first cell; while it runs without a terminal it says how far each cell is."""

import re
import sys
import time
from collections import namedtuple
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from chat_server import ChatServer, error_reply
from fake_run import fake_cell

from safeeraser import bench, config
from safeeraser.bench import clock, matrix, preflight, progress, runs, tracking
from safeeraser.bench.live import Job, LiveTable
from safeeraser.bench.progress import Reporter
from safeeraser.config import GenerationOptions, LoraOptions, UnlearnOptions
from safeeraser.core import files, locks, terminal
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
        monkeypatch.setattr("safeeraser.core.terminal.LINE_SECONDS", 0.0)
        reporter.report("respond", 0, 4)
        later = time.monotonic() + 120
        monkeypatch.setattr(time, "monotonic", lambda: later)
        reporter.report("respond", 1, 4)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["unlearn 0/4 po 1.25", "unlearn 4/4 po 1.25", "respond 0/4"]
    assert lines[3].startswith("respond 1/4, 6.") and lines[3].endswith(" min left")  # three times two minutes


def test_after_a_kill_the_pace_is_that_of_what_was_done_since(tmp_path: Path, monkeypatch) -> None:
    with locks.hold(tmp_path) as held:
        reporter = Reporter(tmp_path, held)
        reporter.report("unlearn", 90, 100)  # 90 of them by the process before
        later = time.monotonic() + 50
        monkeypatch.setattr(time, "monotonic", lambda: later)
        reporter.report("unlearn", 95, 100)
    assert progress.read(tmp_path).left == pytest.approx(50, abs=1)  # and not 2.6


def test_without_a_terminal_a_running_cell_gets_a_line_now_and_then(small, tmp_path, capsys, monkeypatch) -> None:
    (job,) = jobs(small, tmp_path, "po")
    at(job, "unlearn 30/120 po 0.50", "unlearn", 30, 60)
    assert not sys.stderr.isatty()
    with LiveTable([job]) as table:
        monkeypatch.setattr(terminal, "LINE_SECONDS", 0.0)
        table.update()
    said = capsys.readouterr().err
    assert ": unlearn 30/120 po 0.50; 3.0 min left of this stage; 0 of 1 cells, at least 3.0 min left" in said


def test_the_time_left_is_that_of_stages_as_this_run_has_timed_them(small, tmp_path) -> None:
    """By hand: answering took vanilla 100 s and its judging and scoring 20; po trains 25 of 100 steps in 50 s."""
    vanilla, po, pd = jobs(small, tmp_path, "vanilla,po,po+pd")
    table = LiveTable([vanilla, po, pd])
    assert table.remaining() == "0 of 3 cells"
    vanilla.cell.folder.mkdir(parents=True)
    laps = {"imports": 9, "generation": 100, "judging": 15, "scoring": 5}
    times = [clock.StageTime(stage=stage, wall=seconds, processor=1) for stage, seconds in laps.items()]
    files.append_jsonl(vanilla.cell.folder / clock.FILE, times)
    (po.cell.folder / clock.FILE).parent.mkdir(parents=True)
    (po.cell.folder / clock.FILE).write_text("damaged\n")
    vanilla.status = "done"
    assert table.remaining() == "1 of 3 cells, at least 4.0 min left"  # two cells to answer; training is not known
    at(po, "unlearn", "unlearn", 25, 50)
    # po: 150 s of training and 120 s of the rest; po+pd: 200 and 120
    assert table.remaining() == f"1 of 3 cells, about {590 / 60:.1f} min left"
    at(pd, "respond", "respond", 50, 10)
    # po+pd: half of 20 s at its own pace, and 20 s of the rest; po answers in the mean of 100 and 20 s; both at once
    assert table.remaining() == f"1 of 3 cells, about {(150 + 60 + 20 + 10 + 20) / 2 / 60:.1f} min left"


def jobs(small, folder: Path, methods: str) -> list[Job]:
    """Waiting cells."""
    return [Job(cell, cell.label) for cell in matrix.cells(replace(small, methods=methods, out=str(folder)))]


def at(job: Job, text: str, stage: str, done: int, seconds: float) -> None:
    """A cell is in the midst of a stage of 100 or 120 parts."""
    job.cell.folder.mkdir(parents=True, exist_ok=True)
    made = progress.Progress(text=text, stage=stage, done=done, total=120 if "120" in text else 100, seconds=seconds)
    files.write_json(job.cell.folder / progress.FILE, made.model_dump())
    job.status = "running"


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


def test_the_final_table_of_budgets_keeps_their_cells_apart(tmp_path: Path, monkeypatch) -> None:
    logged: dict[str, float] = {}
    monkeypatch.setattr(tracking, "_log", lambda tracker, folder, values: logged.update(values))
    done = {f"po seed 0 steps {n}": runs.read(fake_cell(tmp_path / str(n), "po", 0)) for n in (5, 9)}
    tracking.log_table("tensorboard", tmp_path, done)
    assert {f"table/po-seed-0-steps-{n}/sarr" for n in (5, 9)} <= logged.keys()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"questions": 0}, "--questions 0 is too small"),
        ({"jobs": -1}, "--jobs -1 is too small"),
        ({"generation": GenerationOptions(batch_size=0)}, "generation.batch_size 0 is too small"),
        ({"generation": GenerationOptions(max_new_tokens=0)}, "generation.max_new_tokens 0 is too small"),
        ({"training": UnlearnOptions(warmup_ratio=2)}, "training.warmup_ratio: 2 was given"),
        ({"training": UnlearnOptions(lora=LoraOptions(rank=0))}, "lora rank 0"),
        ({"budgets": "5,0"}, "training.steps: 0 was given"),
        ({"seeds": "-1"}, "training.seed: -1 was given; give a whole number from 0 to 4294967295"),
        ({"methods": "vanilla", "budgets": "5"}, "--methods vanilla names no trained method"),
        ({"methods": ","}, "--methods , names no method"),
    ],
)
def test_what_is_out_of_range_is_said_before_a_cell_is_trained_that_could_not_answer(small, given, said) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        matrix.cells(replace(small, **given))


def test_a_cell_that_fails_as_it_is_judged_anew_is_said_to_fail_though_it_has_scores(tmp_path: Path) -> None:
    folder = fake_cell(tmp_path, "po", 0)
    scores = files.read_json(folder / "scores.json")
    statuses = []
    for failed, exit_status in ((1, 2), (1, 0), (0, -9)):
        files.write_json(folder / "scores.json", scores | {"failed": failed})
        handle = SimpleNamespace(poll=lambda status=exit_status: status)
        job = Job(runs.read(folder), "po seed 0", "running", handle=handle)
        assert not job.poll()
        statuses.append(job.status)
    assert statuses == ["failed", "done", "done"]

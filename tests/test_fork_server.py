"""Cells as forks of one process: they do what processes of their own do, and a lost server loses nothing."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from safeeraser import bench, cell, config, fork_server, launchers, store
from safeeraser.config import GenerationOptions, LoraOptions, UnlearnOptions


def planned(out: Path, release: Path, model: Path, steps: int = 2) -> Path:
    options = config.BenchConfig(
        model=str(model),
        data=str(release),
        methods="po+pd",
        out=str(out),
        training=UnlearnOptions(steps=steps, batch_size=4, lora=LoraOptions(rank=4)),
        generation=GenerationOptions(max_new_tokens=4, batch_size=8),
    )
    (job,) = bench.plan(options)
    cell.prepare(job.folder, job.spec)
    return job.folder


def ended(handle: launchers.Handle, seconds: float = 120) -> int:
    deadline = time.monotonic() + seconds
    while (status := handle.poll()) is None:
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.02)
    return status


def wait_for(path: Path, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not come"
        time.sleep(0.02)


@pytest.fixture
def launcher() -> Iterator[launchers.LocalLauncher]:
    made = launchers.LocalLauncher(config.BenchConfig())
    yield made
    made.close()


def test_a_fork_leaves_what_a_process_of_its_own_does(
    launcher: launchers.LocalLauncher, small_release: Path, tiny_model: Path, tmp_path: Path
) -> None:
    forked, alone = (planned(tmp_path / name, small_release, tiny_model) for name in ("forked", "alone"))
    handle = launcher.start(forked)
    assert isinstance(handle, launchers.ForkedHandle)
    assert ended(handle) == 0 and launcher.imports is not None and launcher.imports.processor > 0.5
    subprocess.run([sys.executable, "-m", "safeeraser.cell", str(alone)], check=True, capture_output=True)
    names = ("queries.jsonl", "train.jsonl", "responses.jsonl", "verdicts.jsonl", "adapter/adapter_model.safetensors")
    for name in names:
        assert (forked / name).read_bytes() == (alone / name).read_bytes(), name
    assert cell.scores_of(forked).scores == cell.scores_of(alone).scores
    assert "Loading weights" in (forked / "log.txt").read_text()  # what it printed is in its own log


def test_an_error_in_a_fork_is_its_exit_status_and_in_its_log(
    launcher: launchers.LocalLauncher, small_release: Path, tiny_model: Path, tmp_path: Path
) -> None:
    folder, other = (planned(tmp_path / name, small_release, tiny_model) for name in "ab")
    store.write_json(folder / "cell.json", {"nonsense": 1})
    (other / "queries.jsonl").mkdir()
    handle, second = launcher.start(folder), launcher.start(other)
    assert ended(handle) == 2
    said = (folder / "log.txt").read_text()
    assert "model: Field required" in said and "Traceback" not in said
    assert ended(second) not in (0, None)
    assert "queries.jsonl" in (other / "log.txt").read_text()


def test_a_cell_is_stopped_when_it_is_told_to_and_when_the_launcher_is_closed(
    launcher: launchers.LocalLauncher, small_release: Path, tiny_model: Path, tmp_path: Path
) -> None:
    first, second = (planned(tmp_path / name, small_release, tiny_model, steps=10_000) for name in "ab")
    handle, _ = launcher.start(first), launcher.start(second)
    for folder in (first, second):
        wait_for(folder / "train.jsonl")
    handle.terminate()
    assert ended(handle, 20) == -signal.SIGTERM
    launcher.close()
    time.sleep(0.5)
    size = (second / "train.jsonl").stat().st_size
    time.sleep(0.5)
    assert (second / "train.jsonl").stat().st_size == size and not cell.is_done(second)


def test_without_its_server_a_cell_is_lost_and_the_next_is_a_process_of_its_own(
    launcher: launchers.LocalLauncher, small_release: Path, tiny_model: Path, tmp_path: Path
) -> None:
    folder = planned(tmp_path / "run", small_release, tiny_model, steps=60)
    handle = launcher.start(folder)
    wait_for(folder / "train.jsonl")
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    (server,) = [int(pid) for pid in children if "fork_server" in Path(f"/proc/{pid}/cmdline").read_text()]
    os.kill(server, signal.SIGKILL)
    assert ended(handle, 20) == fork_server.LOST
    again = launcher.start(folder)  # waits until the lost one has noticed, and goes on
    assert not isinstance(again, launchers.ForkedHandle)
    assert ended(again) == 0 and cell.is_done(folder)


def test_a_script_without_a_main_guard_runs_once(small_release: Path, tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    script = tmp_path / "script.py"
    options = {"model": str(tiny_model), "data": str(small_release), "methods": "vanilla", "out": str(out)}
    script.write_text(
        f"""
print("once")
from safeeraser import bench, config

few = config.GenerationOptions(max_new_tokens=2)
raise SystemExit(bench.run(config.BenchConfig(**{options!r}, generation=few)))
"""
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("once") == 1
    assert "once" not in next(out.glob("cells/*/*/*/log.txt")).read_text()

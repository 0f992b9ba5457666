"""Cells as forks of one process: they do what processes of their own do, and a lost fork server loses nothing."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing import forkserver
from pathlib import Path

import pytest

from safeeraser import config
from safeeraser.bench import devices, launch, matrix, runs
from safeeraser.bench.runs import Cell
from safeeraser.config import GenerationOptions, LoraOptions, UnlearnOptions
from safeeraser.core import files, registry


def prepared(out: Path, release: Path, model: Path, steps: int = 2) -> Cell:
    options = config.BenchConfig(
        model=str(model),
        data=str(release),
        methods="po+pd",
        out=str(out),
        training=UnlearnOptions(steps=steps, batch_size=4, lora=LoraOptions(rank=4)),
        generation=GenerationOptions(max_new_tokens=4, batch_size=8),
    )
    (cell,) = matrix.cells(options)
    cell.prepare()
    return cell


def ended(handle: launch.Handle, seconds: float = 120) -> int:
    deadline = time.monotonic() + seconds
    while (status := handle.poll()) is None:
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.02)
    return status


def wait_for(path: Path, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not come"
        time.sleep(0.02)


def server_of(process: int) -> int:
    """The fork server that a process has started."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    (server,) = [int(pid) for pid in children if "forkserver import main" in Path(f"/proc/{pid}/cmdline").read_text()]
    return server


@pytest.fixture(scope="module")
def launcher() -> Iterator[launch.LocalLauncher]:
    made = launch.LocalLauncher(config.BenchConfig())
    yield made
    forkserver._forkserver._stop()


def test_a_fork_leaves_what_a_process_of_its_own_does(
    launcher: launch.LocalLauncher, small_release: Path, tiny_model: Path, tmp_path: Path
) -> None:
    forked, alone = (prepared(tmp_path / name, small_release, tiny_model) for name in ("forked", "alone"))
    assert ended(launcher.start(forked.folder)) == 0
    command = [sys.executable, "-m", "safeeraser.bench.cell", str(alone.folder)]
    subprocess.run(command, check=True, capture_output=True, env=os.environ | launch.ONE_THREAD)
    names = ("queries.jsonl", "train.jsonl", "responses.jsonl", "verdicts.jsonl", "adapter/adapter_model.safetensors")
    for name in names:
        assert (forked.folder / name).read_bytes() == (alone.folder / name).read_bytes(), name
    assert forked.scores().scores == alone.scores().scores
    assert "score 1/1" in (forked.folder / "log.txt").read_text()  # what it printed is in its own log


def test_the_fork_server_has_imported_what_takes_long_and_started_no_threads_for_arithmetic(
    launcher: launch.LocalLauncher, small_release: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """Threads of OpenMP have the name of their process; a fork of a process that has some may wait for them forever."""
    cell = prepared(tmp_path, small_release, tiny_model)
    handle = launcher.start(cell.folder)
    server = Path(f"/proc/{server_of(os.getpid())}")
    assert "libtorch_cpu.so" in (server / "maps").read_text()
    threads = [(task / "comm").read_text() for task in (server / "task").iterdir()]
    assert threads.count((server / "comm").read_text()) == 1
    environment = (server / "environ").read_bytes().split(b"\0")
    assert {b"OMP_NUM_THREADS=1", b"MALLOC_TRIM_THRESHOLD_=1073741824"} <= {*environment}
    assert ended(handle) == 0


def test_a_cell_has_the_environment_of_the_moment_it_is_started_in(
    launcher: launch.LocalLauncher,
    small_release: Path,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In a notebook the fork server is older than what the user sets; no launch that he is in is the cell's."""
    (tmp_path / "told.py").write_text(
        "import os\nprint(*[os.environ.get(name) for name in ('SAID', 'OMP_NUM_THREADS', 'LOCAL_RANK')])\n"
    )
    monkeypatch.setenv("SAID", "later")
    monkeypatch.setenv("LOCAL_RANK", "0")
    cell = prepared(tmp_path / "run", small_release, tiny_model)
    plugin = str(tmp_path / "told.py")
    spec = cell.spec.model_copy(update={"plugins": {plugin: files.hash_files([Path(plugin)])}})
    files.write_json(cell.folder / "cell.json", spec.model_dump())
    assert ended(launcher.start(cell.folder)) == 0
    assert (cell.folder / "log.txt").read_text().startswith("later 1 None\n")
    assert plugin not in registry.loaded_plugins()


def test_an_error_in_a_fork_is_its_exit_status_and_in_its_log(
    launcher: launch.LocalLauncher, small_release: Path, tiny_model: Path, tmp_path: Path
) -> None:
    broken, blocked = (prepared(tmp_path / name, small_release, tiny_model).folder for name in "ab")
    files.write_json(broken / "cell.json", {"nonsense": 1})
    (blocked / "queries.jsonl").mkdir()
    handle, second = launcher.start(broken), launcher.start(blocked)
    assert ended(handle) == 2
    log = (broken / "log.txt").read_text()
    assert "model: Field required" in log and "Traceback" not in log
    assert ended(second) not in (0, None)
    assert "queries.jsonl" in (blocked / "log.txt").read_text()


def test_a_cell_is_stopped_when_it_is_told_to(
    launcher: launch.LocalLauncher, small_release: Path, tiny_model: Path, tmp_path: Path
) -> None:
    cell = prepared(tmp_path, small_release, tiny_model, steps=10_000)
    handle = launcher.start(cell.folder)
    wait_for(cell.folder / "train.jsonl")
    handle.terminate()
    assert ended(handle, 20) == -signal.SIGTERM


def test_cells_end_when_their_bench_is_killed(small_release: Path, tiny_model: Path, tmp_path: Path) -> None:
    """The fork server does not: it lives as long as any cell does."""
    command = [sys.executable, "-m", "safeeraser", "bench", "--model", str(tiny_model), "--data", str(small_release)]
    command += ["--methods", "po", "--steps", "10000", "--training.batch_size", "4", "--out", str(tmp_path)]
    bench = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (lines := list(tmp_path.rglob("train.jsonl"))):
        assert time.monotonic() < deadline and bench.poll() is None
        time.sleep(0.05)
    bench.kill()
    bench.wait()
    log = lines[0].with_name("log.txt")
    while "the process that started this cell is gone" not in log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_without_its_server_a_cell_is_lost_and_started_again_it_goes_on(
    launcher: launch.LocalLauncher, small_release: Path, tiny_model: Path, tmp_path: Path
) -> None:
    cell = prepared(tmp_path / "run", small_release, tiny_model, steps=60)
    handle = launcher.start(cell.folder)
    wait_for(cell.folder / "train.jsonl")
    os.kill(server_of(os.getpid()), signal.SIGKILL)
    assert ended(handle, 20) not in (0, None)
    assert ended(launcher.start(cell.folder)) == 0  # waits until the lost one has noticed
    assert runs.read(cell.folder).is_done


def test_where_there_is_a_gpu_no_fork_server_is_started(
    small_release: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "visible", lambda device: [devices.Gpu(None)])
    monkeypatch.setattr(forkserver, "ensure_running", lambda: pytest.fail("a fork server"))
    launcher = launch.LocalLauncher(config.BenchConfig())
    cell = prepared(tmp_path, small_release, tiny_model)
    handle = launcher.start(cell.folder)
    assert isinstance(handle, subprocess.Popen) and ended(handle) == 0 and cell.is_done
    launcher.close()


@pytest.mark.parametrize("is_file", [True, False], ids=["file", "standard input"])
def test_a_script_without_a_main_guard_runs_once(
    is_file: bool, small_release: Path, tiny_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    options = {"model": str(tiny_model), "data": str(small_release), "methods": "vanilla", "out": str(out)}
    script = f"""
print("once")
from safeeraser import bench, config

few = config.GenerationOptions(max_new_tokens=2)
raise SystemExit(bench.run(config.BenchConfig(**{options!r}, generation=few)))
"""
    (tmp_path / "script.py").write_text(script)
    command = [sys.executable, str(tmp_path / "script.py")] if is_file else [sys.executable, "-"]
    done = subprocess.run(command, input=script, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("once") == 1
    assert "once" not in next(out.glob("cells/*/*/*/log.txt")).read_text()

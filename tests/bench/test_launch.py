"""Cells on a Ray cluster of two workers on this machine, one of them lost half-way; and cells for job arrays."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from safeeraser import bench, cli, config
from safeeraser.bench import launch
from safeeraser.core.errors import UserError

SMALL = ["--dev", "--questions", "1", "--training.batch_size", "4", "--generation.max_new_tokens", "4"]


@pytest.fixture
def cluster() -> Iterator[object]:
    """A head without CPUs and two workers of one each."""
    from ray.cluster_utils import Cluster

    quick = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 3}
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": quick}
    made = Cluster(initialize_head=True, head_node_args=head)
    workers = [made.add_node(num_cpus=1) for _ in range(2)]
    made.wait_for_nodes()
    made.workers = workers
    yield made
    made.shutdown()


def wait_for(condition: object, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes to stop at the end, however the test ends."""
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        process.kill()
        process.wait()


def test_ray_spreads_cells_and_survives_a_lost_worker(
    cluster, started, tiny_model: Path, small_release: Path, tmp_path: Path
) -> None:
    """Two cells start on two workers; one worker is killed in the middle of both; both cells end, on the other one."""
    out = tmp_path / "run"
    flags = ["--model", str(tiny_model), "--data", str(small_release), "--launcher", "ray", *SMALL]
    flags += ["--methods", "po,po+pd", "--steps", "40"]
    environment = os.environ | {"RAY_ADDRESS": cluster.address}
    with open(tmp_path / "bench.log", "w") as log:
        command = [sys.executable, "-m", "safeeraser", "bench", "--out", str(out), *flags]
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    started.append(process)

    def trained() -> list[Path]:
        return [path.parent for path in out.glob("cells/*/*/*/train.jsonl")]

    wait_for(lambda: len(trained()) == 2, 400)
    cells = trained()
    assert not any((folder / "scores.json").exists() for folder in cells)
    cluster.remove_node(cluster.workers[0], allow_graceful=False)
    assert process.wait(timeout=300) == 0, (tmp_path / "bench.log").read_text()
    assert all((folder / "scores.json").exists() for folder in cells)
    assert "| po+pd | 40 |" in (out / "report" / "budgets.md").read_text()


def plan(tmp_path: Path, **options: object) -> config.BenchConfig:
    return config.BenchConfig(methods="vanilla,po", limit=12, seeds="0,1", out=str(tmp_path / "run"), **options)


def test_cells_are_listed_by_folder_and_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.run(plan(tmp_path, list_cells=True)) == 0
    model = "cells/mini-llava"
    listed = f"{model}/vanilla/seed-0\n{model}/po/seed-0\n{model}/po/seed-1\n"
    assert capsys.readouterr().out == listed
    assert not (tmp_path / "run").exists()
    assert bench.run(plan(tmp_path, list_cells=True, budgets="3,5")) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"budgets/5/{model}/po/seed-1"


def test_the_job_array_of_the_recipe_runs_cell_by_cell_and_the_last_command_prints_the_table(
    tiny_model: Path, small_release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = (Path(__file__).parents[2] / "docs" / "recipes" / "slurm.md").read_text()
    (tmp_path / "cells.sbatch").write_text(re.search(r"```bash\n(#!/bin/bash.*?)```", recipe, re.S)[1])
    out, model = tmp_path / "run", ["--model", str(tiny_model), "--data", str(small_release)]
    flags = [*model, "--methods", "po,po+pd", "--steps", "2", *SMALL]
    assert cli.main(["bench", "--out", str(out), *flags, "--list-cells"]) == 0
    ids = capsys.readouterr().out
    (tmp_path / "cells.txt").write_text(ids)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    first, second = (out / wanted for wanted in ids.split())
    done = subprocess.run(
        ["bash", "cells.sbatch", "--out", str(out), *flags],
        env=os.environ | {"SLURM_ARRAY_TASK_ID": "1", "PATH": path},
        cwd=tmp_path, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (second / "scores.json").exists() and not first.exists() and not (out / "report").exists()
    before = (second / "scores.json").stat().st_mtime_ns
    assert cli.main(["bench", "--out", str(out), *flags]) == 0
    table = capsys.readouterr().out
    assert "| po | 2 |" in table and "| po+pd | 2 |" in table
    assert (first / "scores.json").exists() and (second / "scores.json").stat().st_mtime_ns == before


def test_a_cell_that_is_not_in_the_matrix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'cells/mini-llava/po/seed-1'.*prints its 3 cells"):
        bench.run(plan(tmp_path, cell="cells/mini-llava/po/seed-7"))


def test_gpus_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--gpus-per-cell 1: 0 GPUs are visible here .* or --launcher ray"):
        launch.create(plan(tmp_path, gpus_per_cell=1.0))
    with pytest.raises(UserError, match="--gpus-per-cell -1: give a number from 0"):
        launch.create(plan(tmp_path, launcher="ray", gpus_per_cell=-1.0))


def test_without_ray_the_launcher_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'safeeraser\[ray\]'"):
        launch.create(plan(tmp_path, launcher="ray"))

"""Several processes over gloo do what one does with the same global batch: plain data parallel, and FSDP."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from safetensors.torch import load_file
from tiny_benchmark import tiny_benchmark

from safeeraser import data
from safeeraser.config import RECIPES, LoraOptions, UnlearnOptions
from safeeraser.core.errors import UserError
from safeeraser.data.release import write_release
from safeeraser.objectives import parse_method
from safeeraser.unlearn import checkpoints
from safeeraser.unlearn.arguments import check_launch
from safeeraser.unlearn.order import EpochSampler
from safeeraser.unlearn.stage import run

HELPERS = Path(__file__).parents[1] / "helpers"
METHOD = "ga+nll+kl+pd"
ONE = UnlearnOptions(
    epochs=2,
    learning_rate=2e-3,
    batch_size=16,
    lora=LoraOptions(rank=4, alpha=8.0, dropout=0.0),
    checkpoint_steps=1,
    pack=False,
)
"""24 triples at 16 a step, row by row: the second step of each epoch is filled up from its beginning."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The benchmark in the release layout, for other processes."""
    folder = tmp_path_factory.mktemp("benchmark")
    (folder / "dataset").mkdir()
    benchmark = tiny_benchmark(folder / "dataset")
    write_release(folder, benchmark.records, benchmark.refusals)
    return folder


@pytest.fixture(scope="module")
def alone(tiny_model: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process makes of it."""
    out = tmp_path_factory.mktemp("alone")
    run(str(tiny_model), data.load(str(folder)), parse_method(METHOD), ONE, out, lambda *_: None)
    return out


PARTS = ("--batch_size", "4", "--accumulation", "2")


def launch(engine: str, program: list[str], model: Path, folder: Path, out: Path, **environment: str) -> str:
    """Two processes, of 4 triples x accumulation 2; returns what they say."""
    command = ["-m", "accelerate.commands.accelerate_cli", "launch", "--main_process_port", "0"]
    command += ["--config_file", str(RECIPES / "accelerate" / f"{engine}.yaml"), *program]
    return said([*command, *unlearn(model, folder, out), *PARTS], **environment)


def unlearn(model: Path, folder: Path, out: Path) -> list[str]:
    """The command that every process runs, but for the batch."""
    command = ["unlearn", "--model", str(model), "--data", str(folder), "--method", METHOD, "--out", str(out)]
    command += ["--rank", "4", "--alpha", "8", "--dropout", "0", "--epochs", "2", "--learning_rate", "0.002"]
    return [*command, "--checkpoint_steps", "1"]


def said(command: list[str], **environment: str) -> str:
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, env=environment, timeout=300)
    return done.stdout + done.stderr


def assert_equal(out: Path, alone: Path) -> None:
    """Within what sums in another order differ by: 1e-6 of weights around 0.1, 1e-4 of losses around 7."""
    lines, expected = (
        [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()] for folder in (out, alone)
    )
    assert len(lines) == len(expected) == 4
    for line, wanted in zip(lines, expected, strict=True):
        assert line == pytest.approx(wanted, rel=1e-4, abs=1e-6)
    ours, theirs = (load_file(folder / "adapter" / "adapter_model.safetensors") for folder in (out, alone))
    assert ours.keys() == theirs.keys()
    for name, weight in ours.items():
        torch.testing.assert_close(weight, theirs[name], rtol=0, atol=1e-6, msg=name)


def test_two_processes_equal_one(tiny_model: Path, folder: Path, alone: Path, tmp_path: Path) -> None:
    spoken = launch("ddp", ["-m", "safeeraser"], tiny_model, folder, tmp_path)
    assert_equal(tmp_path, alone)
    assert spoken.count("adapter:") == 1  # the first process speaks
    assert origin(tmp_path)["processes"] == 2


DRAWING = """
import os, sys
from pathlib import Path
import forked, torch
from safeeraser.models import lean_lora

def draw(values, p):
    dropped = drawn(values, p)
    with open(Path(os.environ["DRAWN_TO"]) / os.environ["RANK"], "a") as file:
        print(*dropped[:20].tolist(), file=file)
    return dropped

torch.set_num_threads(1)
drawn, lean_lora.draw_dropped = lean_lora.draw_dropped, draw
raise SystemExit(forked.team(2, sys.argv[1:]))
"""


def test_dropout_differs_between_processes(tiny_model: Path, folder: Path, tmp_path: Path) -> None:
    command = ["unlearn", "--model", str(tiny_model), "--data", str(folder), "--out", str(tmp_path / "out")]
    command += ["--steps", "1", "--rank", "4", "--dropout", "0.2", *PARTS]
    paths = os.pathsep.join(filter(None, [str(HELPERS), os.environ.get("PYTHONPATH")]))
    spoken = said(["-c", DRAWING, *command], DRAWN_TO=str(tmp_path), PYTHONPATH=paths)
    assert "adapter:" in spoken, spoken
    first, second = ((tmp_path / rank).read_text().splitlines() for rank in "01")
    assert len(first) == len(second) > 1
    assert all(one != other for one, other in zip(first, second, strict=True))


def origin(out: Path) -> dict[str, Any]:
    return json.loads((out / "adapter" / "origin.json").read_text())["info"]


def test_the_same_global_batch_gives_the_same_steps_on_one_two_and_eight_processes(tiny_model, folder, alone, tmp_path):
    """16 triples a step: one process takes four passes of 4, or one of 16 (``alone``); two and eight their shares."""
    options = replace(ONE, batch_size=4, global_batch=16, pack=True)
    run(str(tiny_model), data.load(str(folder)), parse_method(METHOD), options, tmp_path / "1", lambda *_: None)
    two, eight = ([n, *unlearn(tiny_model, folder, tmp_path / n), "--global_batch", "16"] for n in ("2", "8"))
    said([str(HELPERS / "forked.py"), *two, "--batch_size", "4", "--", *eight, "--batch_size", "1"])
    for processes, batch, accumulation in ((1, 4, 4), (2, 4, 2), (8, 1, 2)):
        assert_equal(tmp_path / str(processes), alone)
        made, spread = origin(tmp_path / str(processes)), {"batch_size": batch, "accumulation": accumulation}
        assert made["step"] == {"global_batch": 16, **spread, "processes": processes, "pack": True}
        assert made["options"] == origin(tmp_path / "1")["options"] | {"batch_size": batch}
        assert made["options"]["global_batch"] == 16
    parts = origin(alone)["options"]
    assert (parts["batch_size"], parts["accumulation"]) == (16, 1) and "global_batch" not in parts  # as ever


def test_fsdp_with_packed_rows_killed_and_resumed_equals_one_process_row_by_row(tiny_model, folder, alone, tmp_path):
    """The reference of KL runs through the sharded model too; the checkpoint's shards come together again."""
    program = [str(HELPERS / "fsdp_on_cpu.py")]
    killed, finished = tmp_path / "killed", tmp_path / "finished"
    killed.mkdir()
    finished.mkdir()
    launch("fsdp", program, tiny_model, folder, tmp_path, STOP_AT="3", PACKED_TO=str(killed))
    assert (tmp_path / "checkpoint-2" / "pytorch_model_fsdp.bin").exists() and not (tmp_path / "adapter").exists()
    launch("fsdp", program, tiny_model, folder, tmp_path, PACKED_TO=str(finished))
    assert_equal(tmp_path, alone)
    for rank in (0, 1):
        packed = [json.loads(sizes) for sizes in (finished / f"packed-{rank}.jsonl").read_text().splitlines()]
        # each asks the model once, and makes two steps of two passes: of the policy's rows, 12, and the reference's
        assert len(packed) == 1 + 2 * 2 * 2
        assert [sum(sizes) > len(sizes) for sizes in packed if sum(sizes) == 12] == [True] * 2 * 2


@pytest.mark.parametrize("engine", ["ddp", "fsdp", "zero2", "zero3"])
def test_accelerate_reads_every_launch_file(engine: str) -> None:
    read = load_config_from_file(str(RECIPES / "accelerate" / f"{engine}.yaml"))
    assert read.num_processes == 2
    if engine.startswith("zero"):
        assert read.deepspeed_config["zero_stage"] == int(engine[-1])


def test_an_engine_that_is_left_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(UserError, match="asks for FSDP, which accelerate leaves out without GPUs"):
        check_launch(world_size=1, is_fsdp=False, is_deepspeed=False)
    monkeypatch.delenv("ACCELERATE_USE_FSDP")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="2 processes were started, but they do not work together"):
        check_launch(world_size=1, is_fsdp=False, is_deepspeed=False)


def test_processes_that_see_other_checkpoints_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without the shared folder would begin anew while the other goes on."""
    monkeypatch.setattr(checkpoints, "processes", lambda: 2)
    monkeypatch.setattr("accelerate.utils.gather_object", lambda mine: [*mine, "checkpoint-2"])
    checkpoints.check_shared(tmp_path / "checkpoint-2", tmp_path)
    with pytest.raises(UserError, match=r"do not see the same checkpoint there \(checkpoint-2, none\)"):
        checkpoints.check_shared(None, tmp_path)


@pytest.mark.parametrize(("batch", "accumulation", "processes"), [(16, 1, 1), (4, 4, 1), (4, 2, 2), (1, 4, 4)])
def test_the_same_triples_make_a_step_however_they_are_spread(batch: int, accumulation: int, processes: int) -> None:
    sampler = EpochSampler(24, batch * accumulation * processes, seed=3)
    whole = EpochSampler(24, 16, seed=3)
    assert list(sampler) == list(whole) and len(sampler) == 32
    sampler.set_epoch(1)
    assert list(sampler) != list(whole) and set(sampler) == set(range(24))


def test_deepspeed_that_is_not_installed_is_said(tiny_model, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(UserError, match="DeepSpeed, which is not installed: run 'pip install deepspeed'"):
        run(str(tiny_model), data.load(str(folder)), parse_method("po"), replace(ONE, steps=1), tmp_path)

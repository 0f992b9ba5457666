"""GPUs of a machine as ``nvidia-smi`` lists them, which cells start on which, and what does not fit is refused.

``nvidia-smi`` is a script that prints what NVIDIA's own prints; cells are real processes, asked for their environment.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig

from safeeraser import bench, config
from safeeraser.bench import devices, estimate, launch, matrix
from safeeraser.bench.devices import Gpu
from safeeraser.core.errors import UserError

GIB = 2**30
MIG = """  MIG 3g.40gb     Device  0: (UUID: MIG-aaaa-0)
  MIG 1g.10gb     Device  1: (UUID: MIG-bbbb-1)
"""
Machine = Callable[..., None]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Make this a machine with cards of so many MiB, one of them cut up."""

    def make(*memories: int, mig: int | None = None, visible: str | None = None) -> None:
        lines = [f"GPU {n}: NVIDIA A100-SXM4-80GB (UUID: GPU-{n}c1d-22)\n" for n in range(len(memories))]
        listing = "".join(line + (MIG if n == mig else "") for n, line in enumerate(lines))
        table = "".join(f"GPU-{n}c1d-22, {memory}\n" for n, memory in enumerate(memories))
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        (folder / "listing").write_text(listing)
        (folder / "table").write_text(table)
        script = folder / "nvidia-smi"
        script.write_text(f'#!/bin/sh\n[ "$1" = -L ] && exec cat {folder}/listing\nexec cat {folder}/table\n')
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setattr(devices, "_built_for_gpus", lambda: True)  # torch's build here may be for CPUs
        if visible is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    return make


def names(device: str = "auto") -> list[str | None]:
    return [gpu.visible for gpu in devices.visible(device)]


@pytest.mark.parametrize("count", [1, 2, 8])
def test_every_card_is_listed_by_its_uuid(count: int, machine: Machine) -> None:
    machine(*[81920] * count)
    assert names() == [f"GPU-{n}c1d-22" for n in range(count)]
    assert {gpu.memory for gpu in devices.visible()} == {80 * GIB}
    assert devices.visible()[0].title == "GPU 0 (NVIDIA A100-SXM4-80GB)"


def test_a_card_that_is_cut_up_counts_as_its_slices(machine: Machine) -> None:
    machine(81920, 81920, mig=0)
    assert names() == ["MIG-aaaa-0", "MIG-bbbb-1", "GPU-1c1d-22"]
    assert [gpu.memory for gpu in devices.visible()] == [40 * 10**9, 10 * 10**9, 80 * GIB]


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        ("1,3", ["1", "3"]),
        ("3", ["3"]),
        ("0,9,1", ["0"]),  # CUDA looks no further than the first that is not there
        ("0,-1,1", ["0"]),
        ("GPU-2c1d", ["GPU-2c1d"]),
        ("MIG-bbbb-1", ["MIG-bbbb-1"]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
    ],
)
def test_a_restricted_list_is_kept_to(visible: str, expected: list[str], machine: Machine) -> None:
    machine(*[81920] * 4, mig=0, visible=visible)
    assert names() == expected


def test_memory_of_numbered_cards_is_the_least_where_they_differ_and_the_order_is_unknown(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(81920, 24576, visible="0")
    assert [gpu.memory for gpu in devices.visible()] == [24 * GIB]
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    assert [gpu.memory for gpu in devices.visible()] == [80 * GIB]


def test_the_option_device_decides(machine: Machine) -> None:
    machine(81920, 24576)
    assert names("cpu") == []
    assert names("cuda") == ["GPU-0c1d-22", "GPU-1c1d-22"]
    (chosen,) = devices.visible("cuda:1")
    assert (chosen.visible, chosen.memory) == (None, 24 * GIB)


def test_a_build_of_torch_for_cpus_sees_none(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(81920)
    monkeypatch.undo()
    monkeypatch.setattr(devices.metadata, "version", lambda name: "2.8.0+cpu")
    assert devices.visible() == []


@pytest.fixture
def started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[launch.LocalLauncher], subprocess.Popen[bytes]]]:
    """Start a cell whose Python does nothing for a while, so that it is there to be asked."""
    processes: list[subprocess.Popen[bytes]] = []
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexec sleep 120\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))

    def start(launcher: launch.LocalLauncher) -> subprocess.Popen[bytes]:
        folder = tmp_path / f"cell-{len(processes)}"
        folder.mkdir()
        processes.append(launcher.start(folder))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()


def seen_by(process: subprocess.Popen[bytes]) -> str:
    """CUDA_VISIBLE_DEVICES of a running process, as the kernel keeps it."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:  # until the fork has become the new program
        found = re.search(rb"\0CUDA_VISIBLE_DEVICES=([^\0]*)", Path(f"/proc/{process.pid}/environ").read_bytes())
        if found:
            return found[1].decode()
    raise AssertionError("it has no CUDA_VISIBLE_DEVICES")


@pytest.mark.parametrize(
    ("cards", "visible", "expected"),
    [
        (1, None, ["GPU-0c1d-22"]),
        (2, None, ["GPU-0c1d-22", "GPU-1c1d-22"]),
        (8, None, [f"GPU-{n}c1d-22" for n in range(8)]),
        (4, "3,1", ["3", "1"]),
    ],
)
def test_each_cell_sees_a_gpu_of_its_own(
    cards: int, visible: str | None, expected: list[str], machine: Machine, started: Callable
) -> None:
    machine(*[81920] * cards, visible=visible)
    launcher = launch.LocalLauncher(config.BenchConfig())
    assert launcher.parallel == len(expected)
    assert [seen_by(started(launcher)) for _ in expected] == expected


def test_a_gpu_whose_cell_has_ended_is_the_next_and_a_second_round_shares(machine: Machine, started: Callable) -> None:
    machine(81920, 81920, mig=0)
    launcher = launch.LocalLauncher(config.BenchConfig(jobs=4))
    first, second, third = (started(launcher) for _ in range(3))
    assert [seen_by(process) for process in (first, second, third)] == ["MIG-aaaa-0", "MIG-bbbb-1", "GPU-1c1d-22"]
    second.kill()
    second.wait()
    assert seen_by(started(launcher)) == "MIG-bbbb-1"
    fifth = started(launcher)
    assert seen_by(fifth) == "MIG-aaaa-0"


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A configuration of about 1.1 billion weights; there are no weights."""
    text = LlamaConfig(
        hidden_size=2048, intermediate_size=5632, num_hidden_layers=22, num_attention_heads=32, vocab_size=32064
    )
    folder = tmp_path / "large"
    shape = LlavaConfig(text_config=text, vision_config=CLIPVisionConfig(image_size=336, patch_size=14))
    shape.dtype = "bfloat16"
    shape.save_pretrained(folder)
    return folder


@pytest.fixture
def specs(large: Path, small_release: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list]:
    """Make specs of its cells with options of training."""
    monkeypatch.setattr("safeeraser.models.fingerprint", lambda name: "0")  # there are no weights to hash
    small = {"model": str(large), "data": str(small_release), "methods": "po,kl+pd", "out": "unused"}

    def made(**options: object) -> list:
        few = config.BenchConfig(**small, training=config.UnlearnOptions(**options))
        return [cell.spec for cell in matrix.cells(few)]

    return made


def test_what_does_not_fit_is_refused_with_what_would_and_that_does(specs: Callable[..., list]) -> None:
    card = Gpu("0", 10 * GIB, "GPU 0 (a card)")
    refusal = r"a cell of kl\+pd of model .* takes about .* GiB, and GPU 0 \(a card\)"
    with pytest.raises(UserError, match=refusal) as said:
        estimate.check_fit(specs(batch_size=16), [card], 1)
    batch = re.search(r"What would fit: --training.batch_size (\d+);", str(said.value))
    assert batch and "--gradient_checkpointing true" in str(said.value)
    estimate.check_fit(specs(batch_size=int(batch[1]), accumulation=2), [card], 1)
    with pytest.raises(UserError):
        estimate.check_fit(specs(batch_size=2 * int(batch[1]), accumulation=2), [card], 1)


def test_cells_that_do_not_fit_side_by_side_are_refused_with_the_number_that_does(specs: Callable[..., list]) -> None:
    cells, cards = specs(batch_size=1) * 10, [Gpu("0", 24 * GIB), Gpu("1", 24 * GIB)]
    with pytest.raises(UserError, match="--jobs 20 puts 10 cells on one GPU") as said:
        estimate.check_fit(cells, cards, 20)
    fits = int(re.search(r"--jobs (\d+) fits", str(said.value))[1])
    estimate.check_fit(cells, cards, fits)
    with pytest.raises(UserError):
        estimate.check_fit(cells, cards, fits + 2)
    estimate.check_fit(cells, [replace(card, memory=None) for card in cards], 20)  # nothing is known, nothing refused


def test_a_bench_starts_no_cell_that_does_not_fit(tiny_model: Path, machine: Machine, tmp_path: Path) -> None:
    machine(1100, 1100)
    out = tmp_path / "run"
    few = {"model": str(tiny_model), "methods": "po", "limit": 12, "out": str(out)}
    with pytest.raises(UserError, match=r"GPU 0 \(NVIDIA A100-SXM4-80GB\) has 1\.1"):
        bench.run(config.BenchConfig(**few, training=config.UnlearnOptions(batch_size=4096)))
    assert not out.exists()


def test_a_batch_that_is_not_given_is_what_fits_on_the_card(
    large: Path, machine: Machine, specs: Callable[..., list]
) -> None:
    """The same formula as the refusal's: what it says fits is not refused, and a triple more is."""
    (cell, _) = specs()
    method, options, loading = cell.parsed_method(), cell.training_options(), cell.loading_options()
    machine(24 * 1024)
    fits = estimate.batch_that_fits(str(large), cell.benchmark(), method, options, loading)
    assert fits is not None and 1 < fits < 32
    for batch, outcome in ((fits, nullcontext()), (fits + 1, pytest.raises(UserError))):
        (one, _) = specs(batch_size=batch, accumulation=2)
        with outcome:
            estimate.check_fit([one], devices.visible(), 1)
    machine(4 * 1024)
    for device, expected in (("auto", 1), ("cpu", None)):
        on_it = replace(loading, device=device)
        assert estimate.batch_that_fits(str(large), cell.benchmark(), method, options, on_it) == expected


def test_cells_of_several_gpus_see_theirs_and_no_other(machine: Machine, started: Callable) -> None:
    machine(*[81920] * 5)
    launcher = launch.LocalLauncher(config.BenchConfig(gpus_per_cell=2))
    assert launcher.parallel == 2
    assert [len(seen_by(started(launcher)).split(",")) for _ in range(2)] == [2, 2]
    first, second = launcher._on_gpus
    assert not {gpu.visible for gpu in first[0]} & {gpu.visible for gpu in second[0]}
    with pytest.raises(UserError, match="--gpus-per-cell 6: 5 GPUs are visible here"):
        launch.LocalLauncher(config.BenchConfig(gpus_per_cell=6))
    with pytest.raises(UserError, match="--gpus-per-cell 0.5: without --launcher ray give a whole number"):
        launch.LocalLauncher(config.BenchConfig(gpus_per_cell=0.5))


def test_a_cell_of_two_gpus_is_trained_by_two_processes(
    tiny_model: Path, small_release: Path, machine: Machine, tmp_path: Path
) -> None:
    """The list of GPUs is made up, so that the processes meet over gloo; the steps are those of one process."""
    machine(81920, 81920)
    training = config.UnlearnOptions(steps=2, global_batch=4, lora=config.LoraOptions(dropout=0.0))
    few = {"model": str(tiny_model), "data": str(small_release), "methods": "po", "questions": 1, "training": training}
    generation = config.GenerationOptions(max_new_tokens=2)
    losses = {}
    for gpus in (2, 1):
        out = tmp_path / str(gpus)
        assert bench.run(config.BenchConfig(**few, generation=generation, gpus_per_cell=gpus, out=str(out))) == 0
        (log,) = out.glob("cells/*/po/*/train.jsonl")
        losses[gpus] = [json.loads(line)["loss"] for line in log.read_text().splitlines()]
        made_of = json.loads((log.parent / "adapter" / "origin.json").read_text())["info"]
        assert made_of["processes"] == gpus and made_of["step"]["global_batch"] == 4
    assert len(losses[1]) == 2 and losses[2] == pytest.approx(losses[1], rel=1e-4)


def test_a_bench_says_how_its_cells_are_spread(
    tiny_model: Path, small_release: Path, machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine(81920, 81920)
    small = {"model": str(tiny_model), "data": str(small_release), "out": str(tmp_path / "run")}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(matrix, "_run_jobs", lambda jobs, launcher, parallel, held: [])  # none is started
        assert bench.run(config.BenchConfig(**small, methods="vanilla,po")) == 0
    assert "up to 2 of 2 cells at once on GPU 0 (NVIDIA A100-SXM4-80GB), GPU 1" in capsys.readouterr().err

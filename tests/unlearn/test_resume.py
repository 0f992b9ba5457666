"""SIGKILL at any moment, and the same command again ends with the same bits."""

import multiprocessing
import random
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from safeeraser import models
from safeeraser.bench.runs import train_log
from safeeraser.config import LoraOptions, UnlearnOptions
from safeeraser.core import registry
from safeeraser.core.errors import UserError
from safeeraser.data import Benchmark
from safeeraser.models import hash_adapter
from safeeraser.objectives import parse_method
from safeeraser.unlearn.checkpoints import last_checkpoint
from safeeraser.unlearn.stage import run

OPTIONS = UnlearnOptions(
    steps=20, learning_rate=2e-3, batch_size=2, accumulation=2, lora=LoraOptions(rank=4, alpha=8.0), checkpoint_steps=1
)
"""Six steps an epoch, so that kills fall into the midst of epochs and between them; dropout is on."""


def unlearn(model: Path, benchmark: Benchmark, out: Path, method: str = "po+pd", **changes: Any) -> Path:
    return run(str(model), benchmark, parse_method(method), replace(OPTIONS, **changes), out, lambda *_: None)


@pytest.fixture(scope="module")
def whole(tiny_model: Path, benchmark: Benchmark, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without an interruption."""
    out = tmp_path_factory.mktemp("whole")
    unlearn(tiny_model, benchmark, out, checkpoint_steps=0)
    return out


class Stop(Exception):
    """Ends a run."""


def stop_after(model: Path, benchmark: Benchmark, out: Path, step: int, **changes: Any) -> None:
    def report(now: int, total: int, components: dict[str, float]) -> None:
        if now == step:
            raise Stop

    with pytest.raises(Stop):
        run(str(model), benchmark, parse_method("po+pd"), replace(OPTIONS, **changes), out, report)


def test_killed_at_random_moments_the_same_command_ends_with_the_same_bits(tiny_model, benchmark, tmp_path):
    """A checkpoint after every step, so that many kills fall into its writing; the cached reference resumes too."""
    draw, out, kills = random.Random(time.time_ns()), tmp_path / "killed", list[int]()
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["safeeraser.unlearn.stage"])
    for _ in range(20):
        # the stage itself: a function of this file has no module that another process could import
        given = (str(tiny_model), benchmark, parse_method("npo+pd"), replace(OPTIONS, cache_reference=True), out)
        work = processes.Process(target=run, args=given)
        work.start()
        wanted = draw.randint(3, 8) + max(kills, default=0)  # so that it gets on, however busy the machine is
        while work.is_alive() and _saved_step(out) < wanted:
            time.sleep(0.002)
        time.sleep(draw.uniform(0, 0.05))
        work.kill()
        work.join()
        if work.exitcode == 0:
            break
        kills.append(_saved_step(out))
    assert work.exitcode == 0 and len(kills) >= 2 and sorted(kills) == kills
    whole = unlearn(tiny_model, benchmark, tmp_path / "whole", "npo+pd", cache_reference=True)
    assert hash_adapter(out / "adapter") == hash_adapter(whole)
    assert train_log(out) == train_log(tmp_path / "whole")
    assert sorted(file.name for file in out.iterdir()) == ["adapter", "train.jsonl"]


def _saved_step(out: Path) -> int:
    latest = last_checkpoint(out)
    return int(latest.name.split("-")[1]) if latest else 0


@pytest.mark.parametrize("step", [5, 7, 13, 19])
def test_a_run_goes_on_from_its_last_checkpoint(step, tiny_model, benchmark, whole, tmp_path):
    """In the midst of an epoch, after its end, and before the last step; every second step is saved."""
    options, heard = replace(OPTIONS, checkpoint_steps=2), list[int]()
    stop_after(tiny_model, benchmark, tmp_path, step, checkpoint_steps=2)
    method = parse_method("po+pd")
    run(str(tiny_model), benchmark, method, options, tmp_path, lambda now, total, components: heard.append(now))
    assert heard == list(range((step - 1) // 2 * 2, 21))
    assert hash_adapter(tmp_path / "adapter") == hash_adapter(whole / "adapter")
    assert train_log(tmp_path) == train_log(whole)


def test_a_checkpoint_is_an_adapter_and_holds_no_other_weights(tiny_model, benchmark, tmp_path):
    stop_after(tiny_model, benchmark, tmp_path / "a", 4, checkpoint_steps=3)
    checkpoint = last_checkpoint(tmp_path / "a")
    assert checkpoint == tmp_path / "a" / "checkpoint-3"
    assert [folder.name for folder in (tmp_path / "a").glob("checkpoint-*")] == ["checkpoint-3"]
    assert models.load(str(tiny_model), checkpoint).model.training is False
    trained = load_file(checkpoint / "adapter_model.safetensors")
    assert all("lora" in name or "projector" in name for name in trained)
    state = torch.load(checkpoint / "optimizer.pt", weights_only=True)["state"]
    assert len(state) == len(trained)


def test_going_on_with_other_options_is_refused(tiny_model: Path, benchmark: Benchmark, tmp_path: Path) -> None:
    stop_after(tiny_model, benchmark, tmp_path / "a", 4)
    with pytest.raises(
        UserError, match=r"checkpoint-3 was made of something else \(options.learning_rate: 0.002 there"
    ):
        unlearn(tiny_model, benchmark, tmp_path / "a", learning_rate=1e-3)
    assert unlearn(tiny_model, benchmark, tmp_path / "a", checkpoint_steps=5).exists()  # does not change the adapter


def test_going_on_with_another_chat_template_is_refused_and_so_is_answering(tiny_model, benchmark, tmp_path):
    """It lies beside the weights, which stay as they are; on the hub, it may be another one tomorrow."""
    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    template = model / "chat_template.jinja"
    before = template.read_text()
    stop_after(model, benchmark, tmp_path / "a", 4)
    checkpoint = last_checkpoint(tmp_path / "a")
    assert checkpoint is not None
    template.write_text("Be kind. " + before)
    said = "checkpoint-3 was trained on other prompts than model .* makes now: its chat template, tokenizer"
    with pytest.raises(UserError, match=said):
        unlearn(model, benchmark, tmp_path / "a")
    with pytest.raises(UserError, match=said):
        models.load(str(model), checkpoint)
    template.write_text(before + "{# the same #}")
    assert models.load(str(model), checkpoint).method == "po+pd"
    assert models.load(str(model), unlearn(model, benchmark, tmp_path / "a")).method == "po+pd"


def test_going_on_with_a_plugin_that_has_changed_is_refused(tiny_model, benchmark, tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "_LOADED", {"mine.py": "0" * 16})
    stop_after(tiny_model, benchmark, tmp_path / "a", 4)
    monkeypatch.setattr(registry, "_LOADED", {"./mine.py": "1" * 16})
    with pytest.raises(UserError, match="checkpoint-3 was made of something else .plugins: '0{16}' there, '1{16}' now"):
        unlearn(tiny_model, benchmark, tmp_path / "a")
    monkeypatch.setattr(registry, "_LOADED", {"./mine.py": "0" * 16})  # it is what it says, not where it lies
    assert unlearn(tiny_model, benchmark, tmp_path / "a").exists()


def test_a_run_that_overflows_keeps_the_last_good_checkpoint(tiny_model, benchmark, tmp_path):
    """The weights are spoilt after step 5, as a hardware fault or an overflow would; steps 2 and 4 were saved."""
    out = tmp_path / "a"

    def report(step: int, total: int, components: dict[str, float]) -> None:
        if step == 5:
            spoilt = [p for p in _trained if p.dim() == 2][0]
            spoilt.data[0, 0] = float("nan")

    _trained: list[torch.nn.Parameter] = []
    attach = models.adapters.attach

    with pytest.MonkeyPatch.context() as patch:

        def remember(vlm: models.VisionLanguageModel, options: LoraOptions) -> models.VisionLanguageModel:
            attached = attach(vlm, options)
            _trained.extend(p for p in attached.model.parameters() if p.requires_grad)
            return attached

        patch.setattr(models.adapters, "attach", remember)
        with pytest.raises(
            UserError, match=r"po became nan at step 6: the last good checkpoint is .*checkpoint-4.*Lower"
        ):
            run(str(tiny_model), benchmark, parse_method("po+pd"), replace(OPTIONS, checkpoint_steps=2), out, report)
    kept = load_file(out / "checkpoint-4" / "adapter_model.safetensors")
    assert all(weight.isfinite().all() for weight in kept.values())

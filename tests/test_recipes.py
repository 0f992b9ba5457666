"""The recipes that ship: the paper's values, found by recipe, model and --config."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from safeeraser import cli, config
from safeeraser.config import RECIPES, LoraOptions, UnlearnOptions, recipe_defaults, recipe_model

PAPER = {
    "learning_rate": 1e-4,
    "warmup_ratio": 0.06,
    "epochs": 10,
    "weight_decay": 0.01,
    "max_grad_norm": 1.0,
    "max_length": 512,
    "seed": 233,
}
"""The setting of arXiv 2502.12520 beside LoRA and batch."""
NAMES = sorted(path.stem for path in RECIPES.glob("*.yaml"))


def parse(command: str, *arguments: str) -> Any:
    return cli._parse(command, cli.COMMANDS[command], list(arguments))


@pytest.mark.parametrize("name", NAMES)
def test_every_key_of_a_recipe_is_an_option(name: str) -> None:
    recipe = yaml.safe_load((RECIPES / f"{name}.yaml").read_text(encoding="utf-8"))
    groups = {field.name for field in fields(config.BenchConfig)}
    assert recipe["model"] and "training" in recipe
    training = dict(recipe["training"])
    UnlearnOptions(**{**training, "lora": LoraOptions(**training["lora"])})
    options = parse("bench", "--config", name)
    for group in groups & recipe.keys() - {"model", "training"}:
        for key, value in recipe[group].items():
            assert getattr(getattr(options, group), key) == value


@pytest.mark.parametrize("model", ["llava-hf/llava-1.5-7b-hf", "llava-hf/llava-1.5-13b-hf"])
def test_llava_by_its_hub_name_gets_every_value_of_the_papers_setting(model: str) -> None:
    """Batch 1 x accumulation 16 on each of two processes, LoRA r 32, alpha 256, dropout 0.05."""
    training = parse("unlearn", "--model", model, "--out", "x").training
    assert {name: getattr(training, name) for name in PAPER} == PAPER
    assert training.lora == LoraOptions(rank=32, alpha=256.0, dropout=0.05)
    assert (training.batch_size, training.accumulation, training.steps) == (1, 16, None)
    for launch in ("ddp", "zero2"):
        assert yaml.safe_load((RECIPES / "accelerate" / f"{launch}.yaml").read_text())["num_processes"] == 2


def test_a_recipe_is_chosen_by_name_and_flags_go_before_it() -> None:
    options = parse("unlearn", "--config", "llava-1.5-7b-24gb", "--out", "x", "--steps", "3")
    assert options.model == "llava-hf/llava-1.5-7b-hf" and options.training.gradient_checkpointing
    assert options.training.batch_size * options.training.accumulation == 32 and options.training.steps == 3
    assert parse("unlearn", "--config=llava-1.5-7b", "--out", "x", "--model", "other/model").model == "other/model"


def test_the_default_recipe_of_a_model_is_not_the_special_one() -> None:
    assert recipe_defaults("llava-hf/llava-1.5-7b-hf") == recipe_defaults("llava-1.5-7b")
    assert recipe_defaults("llava-1.5-7b") != recipe_defaults("llava-1.5-7b-24gb")
    assert recipe_defaults("some/model") == {} and recipe_model("some/model") is None


def test_a_file_goes_before_a_recipe_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("llava-1.5-7b").write_text("training: {steps: 7}\n")
    options = parse("unlearn", "--config", "llava-1.5-7b", "--out", "x")
    assert options.training.steps == 7 and options.model == "mini-llava"


def test_a_recipe_that_does_not_exist_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["unlearn", "--config", "llava-1.5-7", "--out", "x"]) == 2
    assert "llava-1.5-7: no such file, and no recipe that ships: llama-3.2" in capsys.readouterr().err

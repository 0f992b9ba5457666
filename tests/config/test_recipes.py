"""The recipes that ship: the paper's values, found by recipe, model and --config."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from safeeraser import cli, config
from safeeraser.cli import parser
from safeeraser.config import RECIPES, LoraOptions, UnlearnOptions, recipe_defaults, recipe_model
from safeeraser.objectives import term_options

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
    return parser.parse(parser.load(command), list(arguments))


@pytest.mark.parametrize("name", NAMES)
def test_every_key_of_a_recipe_is_an_option(name: str) -> None:
    recipe = yaml.safe_load((RECIPES / f"{name}.yaml").read_text(encoding="utf-8"))
    groups = {field.name for field in fields(config.BenchConfig)}
    assert recipe["model"] and "training" in recipe
    training = dict(recipe["training"])
    terms = {key: training.pop(key) for key in list(training) if key in term_options()}
    UnlearnOptions(**{**training, "lora": LoraOptions(**training["lora"]), "terms": terms})
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
    assert (training.global_batch, training.batch_size, training.accumulation, training.steps) == (32, 1, None, None)
    assert config.step_batch(training, processes=2) == config.StepBatch(1, 16, 2)
    assert config.step_batch(training) == config.StepBatch(1, 32, 1)
    for launch in ("ddp", "zero2"):
        assert yaml.safe_load((RECIPES / "accelerate" / f"{launch}.yaml").read_text())["num_processes"] == 2


def test_a_recipe_is_chosen_by_name_and_flags_go_before_it() -> None:
    options = parse("unlearn", "--config", "llava-1.5-7b-24gb", "--out", "x", "--steps", "3")
    assert options.model == "llava-hf/llava-1.5-7b-hf" and options.training.gradient_checkpointing
    assert config.step_batch(options.training) == config.StepBatch(1, 32, 1) and options.training.steps == 3
    assert parse("unlearn", "--config=llava-1.5-7b", "--out", "x", "--model", "other/model").model == "other/model"


def test_the_default_recipe_of_a_model_is_not_the_special_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # the hub is not asked, again and again
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
    assert "llava-1.5-7: no such file, and no recipe that ships: gemma-3-12b" in capsys.readouterr().err


LLAVA = {"model_type": "llava", "text_config": {"model_type": "llama", "vocab_size": 32064}}
"""What the hub's config.json of LLaVA-1.5-7B says: widths and depth are Llama's defaults, and left out."""
LLAVA_13B = LLAVA | {
    "text_config": {"model_type": "llama", "hidden_size": 5120, "intermediate_size": 13824, "num_hidden_layers": 40}
}
QWEN = {"model_type": "qwen2_5_vl", "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28}


@pytest.mark.parametrize(
    ("content", "recipe"),
    [
        (LLAVA, "llava-1.5-7b"),
        (LLAVA_13B, "llava-1.5-13b"),
        (QWEN, "qwen2.5-vl-7b"),  # as in the hub, the language model's numbers at the top
        ({"model_type": "qwen2_5_vl", "text_config": QWEN | {"model_type": "qwen2_5_vl_text"}}, "qwen2.5-vl-7b"),
        (LLAVA | {"text_config": {"model_type": "mistral"}}, None),
        (LLAVA | {"model_type": "llava_next"}, None),
        (LLAVA | {"text_config": {"model_type": "llama", "num_hidden_layers": 2}}, None),
        ([], None),
    ],
)
def test_a_folder_gets_the_recipe_of_its_architecture(content: Any, recipe: str | None, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(content))
    assert recipe_defaults(str(tmp_path)) == (recipe_defaults(recipe) if recipe else {})
    training = parse("bench", "--model", str(tmp_path), "--seeds", "0").training
    assert training.global_batch == (32 if recipe else None)


def test_shapes_of_recipes_are_those_that_plan_knows() -> None:
    from safeeraser.bench.estimate import PRESETS

    for name, made in PRESETS.items():
        written = yaml.safe_load((RECIPES / f"{name}.yaml").read_text(encoding="utf-8"))["architecture"]
        shape = made()
        text = shape.get_text_config()
        assert written == {"model_type": shape.model_type} | {key: getattr(text, key) for key in list(written)[1:]}


def test_the_embedded_models_files_elsewhere_get_its_budget() -> None:
    from safeeraser.models import BUILT_IN

    assert recipe_defaults(str(BUILT_IN["mini-llava"])) == recipe_defaults("mini-llava") != {}


def test_a_checkpoint_of_the_hub_gets_the_recipe_of_its_architecture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that lies in the hub's cache, as it does after a first download."""
    from huggingface_hub import constants

    folder, commit = tmp_path / "models--somebody--llava-7b-tuned", "0" * 40
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit)
    (folder / "snapshots" / commit).mkdir(parents=True)
    (folder / "snapshots" / commit / "config.json").write_text(json.dumps(LLAVA))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert recipe_defaults("somebody/llava-7b-tuned") == recipe_defaults("llava-1.5-7b")
    assert recipe_defaults("somebody/other") == {}


def test_bench_and_plan_know_a_recipe_by_its_name() -> None:
    named, hub = (parse("bench", "--model", name) for name in ("llava-1.5-7b", "llava-hf/llava-1.5-7b-hf"))
    assert named.model == hub.model == "llava-hf/llava-1.5-7b-hf" and named.training == hub.training
    assert parse("plan", "--model", "llava-1.5-7b").training == hub.training

import re
import subprocess
import sys
import time
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

import safeeraser
from safeeraser import cli, config

SOURCE = Path(safeeraser.__file__).parent


def test_help_is_quick_and_imports_no_torch():
    took = []
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "safeeraser", "--help"], capture_output=True, text=True, check=True
        )
        took.append(time.perf_counter() - start)
    assert min(took) < 0.5
    assert "bench" in done.stdout and "Content warning" in done.stdout
    loaded = "import sys; from safeeraser import cli; cli.main(['--help']); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True).stdout.endswith("False\n")


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_each_help_teaches_with_an_example(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main([*name.split(), "--help"])
    text = capsys.readouterr().out
    assert stopped.value.code == 0
    assert f"example:\n    safeeraser {name}" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["benhc"], "unknown command 'benhc': did you mean 'bench'?"),
        (["data", "biuld"], "did you mean 'data build'?"),
        (["bench", "--methods", "po,popd"], "popd"),
        (["bench", "--data", "pictogramm"], "pictogram"),
        (["bench", "--judge", "rule"], "did you mean 'rules'?"),
        (["bench", "--seeds", "0,x"], "whole numbers separated by commas"),
    ],
)
def test_wrong_input_is_answered_in_one_message_with_status_2(arguments, message, capsys):
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


@pytest.mark.parametrize("arguments", [["bench", "--stesp", "3"], ["bench", "--limit", "many"], ["unlearn"]])
def test_wrong_flags_stop_with_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2 and "Traceback" not in capsys.readouterr().err


def test_an_unknown_key_in_a_config_file_is_an_error(tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text("methods: po\ntraining: {stepz: 3}\n")
    with pytest.raises(SystemExit) as stopped:
        cli.main(["bench", "--config", str(path)])
    assert stopped.value.code == 2 and "stepz" in capsys.readouterr().err


def test_flags_override_the_config_file_which_overrides_the_recipe(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("methods: [po, {po: 1, nll: 1, pd: 0.5}]\ntraining: {steps: 7, learning_rate: 0.1}\n")
    command = cli.COMMANDS["bench"]
    options = cli._parse("bench", command, ["--config", str(path), "--training.steps", "9", "--quick"])
    assert isinstance(options, config.BenchConfig) and options.quick
    assert (options.training.steps, options.training.learning_rate) == (9, 0.1)
    assert options.training.lora.rank == config.recipe_defaults("mini-llava")["training"]["lora"]["rank"]
    assert options.methods == ["po", {"po": 1, "nll": 1, "pd": 0.5}]


def test_the_name_of_a_group_may_be_left_out_where_it_is_not_needed():
    flags = ["--protocol", "official", "--steps=5", "--rank", "4", "--training.batch-size", "3", "--max-length=9"]
    options = cli._parse("bench", cli.COMMANDS["bench"], flags)
    assert (options.generation.protocol, options.training.steps, options.training.lora.rank) == ("official", 5, 4)
    assert (options.training.batch_size, options.generation.batch_size) == (3, 256)
    assert options.training.max_length == 9
    assert cli._parse("bench", cli.COMMANDS["bench"], ["--list-cells", "--gpus-per-cell", "0.5"]).list_cells


def test_another_model_starts_from_the_papers_options():
    options = cli._parse("bench", cli.COMMANDS["bench"], ["--model", "llava-hf/llava-1.5-7b-hf"])
    training = options.training
    assert (training.lora.rank, training.lora.alpha, training.learning_rate) == (32, 256, 1e-4)
    assert (training.epochs, training.steps, training.seed, training.warmup_ratio) == (10, None, 233, 0.06)


def _option_classes():
    return [c for c in vars(config).values() if is_dataclass(c) and isinstance(c, type)]


@pytest.mark.parametrize("options", _option_classes(), ids=lambda c: c.__name__)
def test_every_option_is_read_somewhere_and_explained(options):
    code = "\n".join(p.read_text() for p in SOURCE.rglob("*.py") if p.parent.name != "config")
    declared = "\n".join(p.read_text() for p in (SOURCE / "config").glob("*.py"))
    for field in fields(options):
        assert re.search(rf"\.{field.name}\b", code), f"{options.__name__}.{field.name} is never read"
        assert re.search(rf"^    {field.name}: .*\n    \"\"\"", declared, re.M), f"{field.name} has no help"


def test_answers_of_two_models_never_share_a_file(tmp_path, capsys):
    out = tmp_path / "responses.jsonl"
    respond = ["respond", "--out", str(out), "--limit", "6"]
    assert cli.main([*respond, "--generation.max_new_tokens", "3"]) == 0
    assert cli.main([*respond, "--generation.max_new_tokens", "4"]) == 2
    assert "max_new_tokens: 3 there, 4 now" in capsys.readouterr().err

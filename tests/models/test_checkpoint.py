"""A checkpoint is loaded whole or refused with what is wrong; what its files lack is taken from where it stands."""

import json
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_families import TINY_BUILDERS
from tiny_guard import build_guard_3
from transformers import SiglipVisionConfig

from safeeraser import cli, models
from safeeraser.bench.matrix import cells
from safeeraser.config import BenchConfig
from safeeraser.core.errors import UserError
from safeeraser.models import chat, checkpoint, loading
from safeeraser.models.text import load_text

Tensors = dict[str, torch.Tensor]
PICTURE = [Image.new("RGB", (48, 40), "red")]


def changed(source: Path, folder: Path, change: Callable[[Tensors], Tensors]) -> str:
    """A copy of a checkpoint with other weights."""
    shutil.copytree(source, folder)
    path = folder / "model.safetensors"
    save_file({name: value.contiguous() for name, value in change(load_file(path)).items()}, path, {"format": "pt"})
    return str(folder)


def without(part: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name: value for name, value in tensors.items() if part not in name}


def answers(name: str) -> list[chat.Generation]:
    return chat.generate(models.load(name), PICTURE, ["What is shown?"], 12)


@pytest.fixture(params=sorted(TINY_BUILDERS))
def source(request: pytest.FixtureRequest, tiny_folders: dict[str, Path]) -> Path:
    return tiny_folders[request.param]


def test_every_family_is_saved_and_loaded_without_complaint(source, tmp_path):
    vlm = models.load(str(source))
    models.save(vlm, tmp_path / "again")
    before, after = vlm.model.state_dict(), models.load(str(tmp_path / "again")).model.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def test_names_that_peft_left_in_a_merged_checkpoint_are_refused(source, tmp_path):
    """Every weight but tied ones would be drawn at random."""
    number = len(load_file(source / "model.safetensors"))
    folder = changed(source, tmp_path / "m", lambda tensors: {f"base_model.model.{k}": v for k, v in tensors.items()})
    with pytest.raises(UserError) as error:
        models.load(folder)
    assert f"{number} are missing (" in str(error.value)
    assert f"{number} are no part of the model (base_model.model." in str(error.value)


def test_weights_that_are_missing_left_over_or_misshapen_are_refused_with_number_and_names(source, tmp_path):
    name = next(name for name in load_file(source / "model.safetensors") if "q_proj" in name and "vision" not in name)
    wrong = {
        "missing": (without(name), r"of its \d+ 1 are missing \("),
        "left": (lambda t: t | {"one.more": torch.zeros(2), "two.more": torch.zeros(2)},
                 r"of its \d+ 2 are no part of the model \(one.more, two.more\)"),
        "shape": (lambda t: t | {name: t[name][:-1]}, r"of its \d+ 1 have another shape \(.*q_proj.*is \(.*\)"),
    }  # fmt: skip
    for kind, (change, said) in wrong.items():
        with pytest.raises(UserError, match=said):
            models.load(changed(source, tmp_path / kind, change))


@pytest.mark.parametrize("command", [["respond"], ["unlearn", "--method", "ga"]], ids=lambda command: command[0])
def test_a_projector_that_is_not_there_is_refused_before_anything_is_run(command, tiny_llava, tmp_path, capsys):
    folder, out = changed(tiny_llava, tmp_path / "m", without("multi_modal_projector")), tmp_path / "out.jsonl"
    assert cli.main([*command, "--model", folder, "--limit", "6", "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert "4 are missing (model.multi_modal_projector.linear_1.bias" in error and "Traceback" not in error
    assert "LOAD REPORT" not in error and not out.is_file()


def test_a_guard_s_weights_are_checked_too(tmp_path):
    source = build_guard_3(tmp_path / "guard", steps=0)
    with pytest.raises(UserError, match=r"LlamaForCausalLM: of its 21 1 are missing \(model.norm.weight\)"):
        load_text(changed(source, tmp_path / "other", without("model.norm")))


def test_what_published_checkpoints_have_besides_is_no_fault(tiny_folders, tmp_path):
    """LLaVA's own layout: the tower one level deeper, buffers of old versions, and a head that is tied."""
    for name in ("llava", "llava_next"):
        folder = changed(
            tiny_folders[name],
            tmp_path / name,
            lambda tensors: (
                {k.replace("vision_tower.", "vision_tower.vision_model."): v for k, v in tensors.items()}
                | {"language_model.model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
                | {"vision_tower.vision_model.embeddings.position_ids": torch.arange(5)[None]}
            ),
        )
        assert answers(folder) == answers(str(tiny_folders[name]))
    tied = changed(
        models.BUILT_IN["mini-llava"],
        tmp_path / "tied",
        lambda t: t | {"language_model.lm_head.weight": t["language_model.model.embed_tokens.weight"].clone()},
    )
    assert answers(tied) == answers("mini-llava")


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_git_lfs_pointer_is_named_as_one(name, tiny_llava, tmp_path, capsys):
    shutil.copytree(tiny_llava, tmp_path / "m")
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 14\n"
    (tmp_path / "m" / name).write_text(pointer)
    assert (
        cli.main(["respond", "--model", str(tmp_path / "m"), "--limit", "6", "--out", str(tmp_path / "r.jsonl")]) == 2
    )
    error = capsys.readouterr().err
    assert f"{name} is a Git LFS pointer" in error and "git lfs pull" in error and "Traceback" not in error


def test_weights_that_cannot_be_read_are_refused(tiny_llava, tmp_path):
    shutil.copytree(tiny_llava, tmp_path / "m")
    path = tmp_path / "m" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError, match="is incomplete"):
        models.load(str(tmp_path / "m"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[1]", "is no JSON object"),
        ("{", "not valid JSON"),
        ('{"eos_token_id": "</s>"}', "a token id or a list of them"),
    ],
)
def test_generation_settings_that_cannot_be_read_are_refused(content, said, tiny_llava, tmp_path):
    shutil.copytree(tiny_llava, tmp_path / "m")
    (tmp_path / "m" / "generation_config.json").write_text(content)
    with pytest.raises(UserError, match=said):
        models.load(str(tmp_path / "m"))


def test_a_folder_is_found_below_home_and_in_either_form_of_its_letters(tiny_llava, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    decomposed, composed = (unicodedata.normalize(form, "modèle/é") for form in ("NFD", "NFC"))
    assert decomposed != composed
    shutil.copytree(tiny_llava, tmp_path / decomposed)
    expected = models.fingerprint(str(tiny_llava))
    for name in (f"~/{decomposed}", f"~/{composed}", str(tmp_path / composed)):
        assert models.fingerprint(name) == expected
    monkeypatch.chdir(tmp_path)
    assert checkpoint.find_folder(composed) == Path(decomposed)
    with pytest.raises(UserError, match="unknown model '~/nowhere'"):
        models.load("~/nowhere")


def strip(folder: Path, keys: set[str]) -> None:
    """Take settings out of every file of a processor."""
    for path in folder.glob("*processor_config.json"):
        value = json.loads(path.read_text())
        for level in (value, value.get("image_processor", {})):
            for key in keys & level.keys():
                del level[key]
        path.write_text(json.dumps(value))


def test_settings_that_a_processor_lacks_come_from_the_configuration(source, tmp_path):
    """The same answers, and saved the settings are there."""
    folder = tmp_path / "m"
    shutil.copytree(source, folder)
    keys = loading.processor_settings(models.read_config(str(source)))
    strip(folder, {key.rpartition(".")[2] for key in keys})
    assert keys and answers(str(folder)) == answers(str(source))
    processors = [models.load(str(name)).processor for name in (source, folder)]
    assert processors[0].to_dict() == processors[1].to_dict()


def test_a_setting_that_cannot_be_told_is_refused_with_key_and_file(tiny_llava, tmp_path):
    folder = tmp_path / "m"
    shutil.copytree(tiny_llava, folder)
    strip(folder, {"num_additional_image_tokens"})
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"]["model_type"] = "dinov2"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="processor_config.json has no 'num_additional_image_tokens'"):
        models.load(str(folder))


def test_a_tower_without_a_class_token_adds_none():
    config = models.read_config("mini-llava")
    assert loading.processor_settings(config)["num_additional_image_tokens"] == 1
    config.vision_config = SiglipVisionConfig()
    assert loading.processor_settings(config)["num_additional_image_tokens"] == 0


def test_a_checkpoint_that_is_not_whole_is_refused_before_it_is_loaded(tmp_path: Path, tiny_model: Path) -> None:
    broken = shutil.copytree(tiny_model, tmp_path / "cut")
    (weights,) = broken.glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(UserError, match=f"is incomplete: {weights.name}: "):
        models.check_whole(str(broken))
    lacking = shutil.copytree(tiny_model, tmp_path / "lacking")
    index = {"weight_map": {"a.weight": "model-00002-of-00002.safetensors"}}
    (lacking / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="1 of 1 weights .* are missing .in model-00002-of-00002.safetensors.: fetch"):
        cells(BenchConfig(model=str(lacking), data="pictogram", methods="vanilla,po", out=str(tmp_path / "run")))
    assert not (tmp_path / "run").exists()

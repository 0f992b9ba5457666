import shutil
from pathlib import Path

import pytest
import torch

from safeeraser import models
from safeeraser.core import files
from safeeraser.core.errors import UserError
from safeeraser.models import checkpoint


@pytest.fixture
def copy(tiny_llava: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_llava, tmp_path / "copy"))


def test_a_folder_loads_ready_to_answer(tiny_llava):
    vlm = models.load(str(tiny_llava))
    assert vlm.name == str(tiny_llava)
    assert not vlm.model.training
    assert vlm.processor.tokenizer.padding_side == "left"
    assert vlm.fingerprint == models.fingerprint(str(tiny_llava))


def test_dtype_is_the_checkpoint_s_or_the_one_given(tiny_llava):
    assert models.load(str(tiny_llava)).model.dtype == torch.float32
    assert models.load(str(tiny_llava), dtype="bfloat16").model.dtype == torch.bfloat16
    with pytest.raises(UserError, match="dtype 'float33' is unknown"):
        models.load(str(tiny_llava), dtype="float33")


@pytest.mark.parametrize("name", ["mini-lava", "./nowhere", "/nowhere/at/all", "a/b/c"])
def test_an_unknown_model_is_refused_with_what_is_allowed(name):
    with pytest.raises(
        UserError, match="unknown model .*give mini-llava, smol-llava, an existing folder, or a hub name"
    ):
        models.load(name)


def test_a_hub_name_that_cannot_be_fetched_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    ways = "HF_HUB_OFFLINE is set: run 'hf download nobody/nothing' where there is a network and copy the folder here"
    with pytest.raises(UserError, match=ways):
        models.load("nobody/nothing")


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(UserError, match="no config.json"):
        models.load(str(tmp_path))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("bert", "of the type 'bert', which this version of transformers does not list"),
        ("no-such-thing", "its config.json cannot be used"),
        (None, "has no chat template"),
    ],
)
def test_a_model_of_an_unknown_type_or_without_chat_template_is_refused(kind, message, copy):
    if kind is None:
        (copy / "chat_template.jinja").unlink()
    else:
        files.write_json(copy / "config.json", {"model_type": kind})
    with pytest.raises(UserError, match=message):
        models.load(str(copy))


def test_an_adapter_beside_the_weights_is_refused(copy):
    """``from_pretrained`` would put it on them, though a checkpoint that was merged may still lie beside it."""
    files.write_json(copy / "adapter_config.json", {"peft_type": "LORA", "r": 4})
    for read in (models.load, models.read_config, models.fingerprint):
        with pytest.raises(UserError, match=r"holds an adapter beside the weights \(adapter_config.json\)"):
            read(str(copy))


def test_parts_of_a_processor_that_are_not_loaded_here_are_saved_with_a_model(tiny_folders, tmp_path):
    """Newer versions of the library write all parts into one file."""
    folder = shutil.copytree(tiny_folders["qwen2_5_vl"], tmp_path / "base")
    whole = files.read_json(folder / "processor_config.json")
    videos = {"video_processor_type": "Qwen2VLVideoProcessor", "merge_size": 2}
    files.write_json(folder / "processor_config.json", whole | {"video_processor": videos})
    models.save(models.load(str(folder)), tmp_path / "saved")
    saved = files.read_json(tmp_path / "saved" / "processor_config.json")
    assert saved["video_processor"] == videos and saved["image_processor"] == whole["image_processor"]


def test_a_model_without_weights_is_refused(copy):
    (copy / "model.safetensors").unlink()
    with pytest.raises(UserError, match="is incomplete"):
        models.load(str(copy))
    with pytest.raises(UserError, match=r"no \*.safetensors"):
        models.fingerprint(str(copy))


def test_the_fingerprint_tells_weights_apart_and_not_places(tiny_llava, copy):
    assert models.fingerprint(str(copy)) == models.fingerprint(str(tiny_llava))
    _change_byte(copy / "model.safetensors", -5)
    assert models.fingerprint(str(copy)) != models.fingerprint(str(tiny_llava))


def test_of_large_weight_files_samples_are_hashed(copy, monkeypatch):
    monkeypatch.setattr(checkpoint, "_WHOLE_FILE", 1000)
    monkeypatch.setattr(checkpoint, "_SAMPLE_BYTES", 100)
    before = models.fingerprint(str(copy))
    _change_byte(copy / "model.safetensors", -5)
    after = models.fingerprint(str(copy))
    assert before != after
    with open(copy / "model.safetensors", "ab") as file:
        file.write(b"\0")
    assert models.fingerprint(str(copy)) not in (before, after)


def _change_byte(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(bytes(content))

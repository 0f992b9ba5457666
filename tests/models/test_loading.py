"""Options that a machine cannot have are refused with the reason; what can be had reaches the model."""

import importlib.util
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from transformers import LlamaConfig, LlavaConfig

from safeeraser import cli, models
from safeeraser.config import LoraOptions, ModelOptions
from safeeraser.core import files
from safeeraser.core.errors import UserError
from safeeraser.models import VisionLanguageModel, adapters, chat, checkpoint, loading

without_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens where there is no CUDA GPU")


without_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is not None, reason="says what happens where bitsandbytes is missing"
)


@without_bitsandbytes
@pytest.mark.parametrize("quantization", ["8bit", "4bit"])
def test_quantisation_says_what_it_lacks(quantization, tiny_llava):
    message = rf"'{quantization}' needs the package bitsandbytes \(pip install bitsandbytes\); or leave the option out"
    with pytest.raises(UserError, match=message):
        models.load(str(tiny_llava), quantization=quantization)


@without_bitsandbytes
def test_weights_that_are_stored_quantised_name_the_package_that_they_need(tiny_llava, tmp_path):
    folder = shutil.copytree(tiny_llava, tmp_path / "quantised")
    stored = {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}
    files.write_json(folder / "config.json", files.read_json(folder / "config.json") | stored)
    with pytest.raises(UserError, match="needs a package: .*bitsandbytes"):
        models.load(str(folder))


def test_quantisation_on_a_device_that_cannot_is_refused(tiny_llava):
    with pytest.raises(UserError, match="'8bit' needs .*a device of the kind .*cuda"):
        models.load(str(tiny_llava), quantization="8bit", device="meta")


@without_cuda
def test_flash_attention_says_what_it_lacks(tiny_llava):
    with pytest.raises(UserError, match=r"'flash_attention_2' needs .*pip install flash-attn.* a CUDA GPU"):
        models.load(str(tiny_llava), attention="flash_attention_2")
    with pytest.raises(UserError, match="'flex_attention' needs a CUDA GPU"):
        models.load(str(tiny_llava), attention="flex_attention")


def test_a_process_of_several_may_load_on_the_cpu_what_its_gpu_is_to_attend_with(monkeypatch):
    monkeypatch.setattr(loading, "processes", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert loading.check(ModelOptions(device="cpu", attention="flex_attention")) == "cpu"


@without_cuda
@pytest.mark.parametrize("device", ["cuda", "cuda:3"])
def test_a_gpu_that_is_not_there_is_refused(device, tiny_llava):
    with pytest.raises(UserError, match=f"'{device}': there are 0 CUDA GPUs here; give 'auto' or 'cpu'"):
        models.load(str(tiny_llava), device=device)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"dtype": "float33"}, "dtype 'float33' is unknown: give 'auto', 'float32'"),
        ({"dtype": "int8"}, "dtype 'int8' is unknown"),
        ({"device": "gpu"}, "device 'gpu' is unknown: give 'auto', 'cpu'"),
        ({"quantization": "3bit"}, "quantization '3bit' is unknown: give 'none', '8bit', '4bit'"),
        ({"attention": "quick"}, "attention 'quick' is unknown: give 'auto', 'eager'"),
    ],
)
def test_an_unknown_value_is_refused_with_the_known_ones(option, message, tiny_llava):
    with pytest.raises(UserError, match=message):
        models.load(str(tiny_llava), **option)


@without_bitsandbytes
def test_the_command_line_says_it_in_one_line_before_anything_is_run(tmp_path, capsys):
    arguments = ["bench", "--quick", "--quantization", "4bit", "--limit", "6", "--out", str(tmp_path / "run")]
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert "loading.quantization '4bit' needs" in error and "Traceback" not in error
    assert not (tmp_path / "run").exists()


def test_the_options_reach_the_model(tiny_llava):
    vlm = models.load(str(tiny_llava), dtype="bfloat16", device="cpu", attention="eager")
    assert (vlm.model.dtype, vlm.model.device.type) == (torch.bfloat16, "cpu")
    assert vlm.model.config._attn_implementation == "eager"
    assert loading.check(ModelOptions(device="cpu")) == "cpu"


@pytest.mark.parametrize(
    ("dtype", "has", "says"), [("bfloat16", False, True), ("bfloat16", True, False), ("float32", False, False)]
)
def test_numbers_that_the_processor_has_no_instructions_for_are_said_to_be_slow(
    dtype, has, says, tiny_llava, monkeypatch, capsys
):
    checkpoint._say_once.cache_clear()
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: has)
    models.load(str(tiny_llava), dtype=dtype, device="cpu")
    assert ("no instructions: --loading.dtype float32" in capsys.readouterr().err) is says


def test_a_build_that_cannot_say_what_the_processor_has_says_nothing(tiny_llava, monkeypatch, capsys):
    checkpoint._say_once.cache_clear()
    monkeypatch.setattr(torch.ops, "mkldnn", SimpleNamespace())
    models.load(str(tiny_llava), dtype="bfloat16", device="cpu")
    assert "no instructions" not in capsys.readouterr().err


def test_what_is_trained_is_float32_and_a_saved_adapter_takes_the_model_s_dtype(tiny_llava, tmp_path):
    vlm = adapters.attach(models.load(str(tiny_llava), dtype="bfloat16"), LoraOptions(rank=4))
    assert {p.dtype for p in vlm.model.parameters() if p.requires_grad} == {torch.float32}
    adapters.save(vlm, tmp_path, {})
    loaded = models.load(str(tiny_llava), tmp_path, dtype="bfloat16")
    assert len(chat.generate(models.merge(loaded), [Image.new("RGB", (32, 32))], ["What?"], 3)) == 1
    assert len(chat.generate(loaded, [Image.new("RGB", (32, 32))], ["What?"], 3)) == 1


def test_float16_is_refused_for_training_alone(tiny_llava):
    vlm = models.load(str(tiny_llava), dtype="float16")
    with pytest.raises(UserError, match="float16, which overflows in training: give --dtype bfloat16"):
        adapters.attach(vlm, LoraOptions())


@pytest.mark.parametrize(
    ("sizes", "linears", "trainable"),
    [
        ({}, 224, 100_933_632),
        (
            {"hidden_size": 5120, "intermediate_size": 13824, "num_hidden_layers": 40, "num_attention_heads": 40,
             "num_key_value_heads": 40},
            280,
            156_641_280,
        ),
    ],
    ids=["llava-1.5-7b", "llava-1.5-13b"],
)  # fmt: skip
def test_llava_1_5_as_published(sizes, linears, trainable):
    """The configurations of llava-hf/llava-1.5-7b-hf and 13b-hf on the meta device, with the paper's rank 32.

    By hand, 7B: each of 32 layers has 4 projections 4096 -> 4096 and 3 between 4096 and 11008, so that rank 32 takes
    32 * (4 * 8192 + 3 * 15104) = 2,498,560 weights a layer; the projector 1024 -> 4096 -> 4096 has 20,979,712.
    """
    config = LlavaConfig(text_config=LlamaConfig(vocab_size=32064, **sizes))
    model = models.on_meta(config)
    vlm = adapters.attach(VisionLanguageModel("meta", model, None), LoraOptions())
    names = [name.removeprefix("base_model.model.") for name, p in vlm.model.named_parameters() if p.requires_grad]
    layers = config.text_config.num_hidden_layers
    with_lora = {name.split(".lora_")[0] for name in names if ".lora_" in name}
    assert with_lora == {
        f"model.language_model.layers.{layer}.{part}"
        for layer in range(layers)
        for part in (*(f"self_attn.{x}_proj" for x in "qkvo"), *(f"mlp.{x}_proj" for x in ("gate", "up", "down")))
    }
    assert len(with_lora) == linears
    assert {name for name in names if ".lora_" not in name} == {
        f"model.multi_modal_projector.modules_to_save.default.linear_{n}.{kind}"
        for n in (1, 2)
        for kind in ("weight", "bias")
    }
    assert sum(p.numel() for p in vlm.model.parameters() if p.requires_grad) == trainable
    assert not any("vision_tower" in name for name in names)


def test_a_package_that_a_processor_needs_is_named(tiny_folders: dict[str, Path], monkeypatch):
    monkeypatch.setattr("transformers.models.smolvlm.processing_smolvlm.is_num2words_available", lambda: False)
    monkeypatch.setattr("transformers.models.smolvlm.processing_smolvlm.num2words", None)
    with pytest.raises(UserError, match=r"'mine': its processor needs a package: .*pip install num2words"):
        loading.load_processor("mine", tiny_folders["smolvlm"])

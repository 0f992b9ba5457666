"""Every type of the image-text-to-text mapping: parts are found and LoRA attaches, or the reason is known."""

import json
import re

import pytest
import torch
from any_model import LEVELS, RESULT, TYPES, built, contract
from tiny_config import shrunk
from tiny_processor import NEEDS_TORCHVISION
from transformers import AutoConfig, AutoModelForImageTextToText

from safeeraser import models
from safeeraser.config import LoraOptions
from safeeraser.core.errors import UserError
from safeeraser.models import adapters

LEAST_TRAINED, LEAST_WHOLE = 90, 71
TABLE = json.loads(RESULT.read_text(encoding="utf-8"))


def test_the_table_has_every_type_of_this_version_and_most_of_them_can_be_trained():
    assert sorted(TABLE) == TYPES, "a new version of transformers: python tests/helpers/any_model.py"
    for levels, least in ((LEVELS[:3], LEAST_TRAINED), (LEVELS, LEAST_WHOLE)):
        passed = [kind for kind in TYPES if all(TABLE[kind].get(level, "").startswith("ok") for level in levels)]
        assert len(passed) >= least


@pytest.mark.parametrize("kind", TYPES)
def test_a_type_passes_what_the_table_says(kind):
    found, said = contract(kind), TABLE[kind]
    if found.get("forward") == NEEDS_TORCHVISION:  # make test-torchvision runs the rest
        said = {key: value for key, value in said.items() if key not in LEVELS[3:]} | {"forward": NEEDS_TORCHVISION}
    if "timm library" in found["built"]:
        said = found  # likewise
    # what transformers raises itself depends on whether torchvision is there, that it does not
    assert _plain(found) == _plain(said), "stale: make contract, then make cog"


def _plain(levels):
    own = "in transformers:"  # by how much rows differ depends on the random weights, that they do not
    plain = {level: own if said.startswith(own) else said for level, said in levels.items()}
    return {level: re.sub(r"differ by [\d.e-]+", "differ", said) for level, said in plain.items()}


@pytest.mark.parametrize(
    ("kind", "language_model", "projector", "tower"),
    [  # as LLaMA-Factory's table of multimodal models has them, written by hand there
        ("llava", "model.language_model", ("model.multi_modal_projector",), "model.vision_tower"),
        ("qwen3_vl", "model.language_model", ("model.visual.merger",), "model.visual"),
        ("internvl", "model.language_model", ("model.multi_modal_projector",), "model.vision_tower"),
        ("gemma3", "model.language_model", ("model.multi_modal_projector",), "model.vision_tower"),
        ("glm4v", "model.language_model", ("model.visual.merger",), "model.visual"),
        ("mistral3", "model.language_model", ("model.multi_modal_projector",), "model.vision_tower"),
        ("mllama", "model.language_model", ("model.multi_modal_projector",), "model.vision_model"),
    ],
)
def test_parts_are_those_that_others_wrote_down(kind, language_model, projector, tower):
    found = models.parts(built(kind))
    assert (found.language_model, found.tower) == (language_model, tower)
    assert set(projector) <= set(found.projector)


def test_routers_and_heads_get_no_lora_and_fused_experts_do():
    found = models.parts(built("qwen3_vl_moe"))
    assert not any(name.endswith((".gate", "lm_head")) for name in found.lora)
    assert {name.rpartition(".")[2] for name in found.experts} == {"gate_up_proj", "down_proj"}
    model = built("qwen3_vl_moe")
    assert all(model.get_parameter(name).dim() == 3 for name in found.experts)


def test_linear_attention_gets_lora():
    """The name of a layer does not matter: Qwen3.5's in_proj_* are in no list of names of ours."""
    found = models.parts(built("qwen3_5"))
    model = built("qwen3_5")
    assert any(".in_proj_" in name for name in found.lora)
    assert all(isinstance(model.get_submodule(name), torch.nn.Linear) for name in found.lora)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("instructblipvideo", "'instructblipvideo' has no input for images .video only., so it cannot be used here"),
        ("florence2", "'florence2', an encoder-decoder, which is not supported: an answer has to follow its prompt"),
    ],
)
def test_a_type_that_cannot_be_asked_is_refused_before_anything_is_fetched(kind, reason):
    with pytest.raises(UserError, match=reason):
        models.check_type("m", AutoConfig.for_model(kind))


@pytest.mark.parametrize(
    ("kind", "tower", "projector"),
    [
        ("t5gemma2", "model.encoder.vision_tower", ("model.encoder.multi_modal_projector",)),
        ("pix2struct", "encoder", ()),  # the decoder's cross-attention reads the encoder
        ("chameleon", "model.vqmodel", ()),  # an image is words of the vocabulary
    ],
)
def test_parts_are_found_where_the_tower_is_an_encoder_or_makes_words(kind, tower, projector):
    found = models.parts(built(kind))
    assert (found.tower, found.projector) == (tower, projector)
    assert not any(name.startswith(tower + ".") for name in found.lora)


def test_a_model_without_a_tower_is_refused_with_the_reason():
    with pytest.raises(UserError, match="'mistral4' has no vision tower of its own"):
        models.parts(built("mistral4"))


def test_an_adapter_on_a_mixtures_experts_is_read_back_whole(tmp_path):
    """PEFT takes names of this type for those of an older transformers, and leaves out what it then does not find."""
    model = AutoModelForImageTextToText.from_config(shrunk("mistral_large4", {}))
    vlm = adapters.attach(models.VisionLanguageModel("tiny", model, None), LoraOptions(rank=2, dropout=0.0))
    adapters.save(vlm, tmp_path, {})
    trained = {name: p for name, p in vlm.model.named_parameters() if p.requires_grad}
    before = {name: p.detach().clone() for name, p in trained.items()}
    for parameter in trained.values():
        torch.nn.init.ones_(parameter)
    adapters.restore(vlm.model, tmp_path)
    assert [name for name, p in trained.items() if not torch.equal(p, before[name])] == []

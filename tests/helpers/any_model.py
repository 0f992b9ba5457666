"""The contract of any type of the image-text-to-text mapping: which levels a type passes, or why not.

Parts and LoRA are found on the meta device, in the default configuration; what follows (``levels``) has tiny weights.
``make contract`` (torchvision, which some processors need, and this file) writes ``tests/models/contract.json``, from
which docs/models.md has its tables; ``--continue`` keeps what is in there.
"""

import json
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import levels
import torchvision_here
from transformers import AutoConfig, PreTrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as CLASSES

from safeeraser import models
from safeeraser.config import LoraOptions
from safeeraser.core.errors import UserError
from safeeraser.models import adapters

TYPES = sorted(CLASSES)
RESULT = Path(__file__).parents[1] / "models" / "contract.json"
LEVELS = ("built", "parts", "LoRA", *levels.LEVELS)
LAYERS = 2
LETTERS = ["".join(chr(ord("A") + int(digit)) for digit in str(code)) for code in range(16)]
NEEDED: dict[str, dict[str, Any]] = {
    # their own default for the tower is none, or one that cannot be built
    "aya_vision": {"vision_config": {"model_type": "siglip_vision_model"}},
    "gemma4": {"vision_config": {"model_type": "gemma4_vision"}},
    "gemma4_unified": {"vision_config": {"model_type": "gemma4_unified_vision"}},
    "fast_vlm": {"vision_config": {"model_type": "siglip_vision_model"}},
    "hunyuan_vl": {"text_config": {"head_dim": 128}},
    "granite4_vision": {"deepstack_layer_map": [[-1, 0]], "downsample_rate": "1/2"},
    "cohere_compass": {
        "text_config": {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 10000.0}}}
    },
    "deepseek_ocr2": {"text_config": {"num_hidden_layers": 2, "mlp_layer_types": ["dense", "sparse"]}},
    # as published
    "perception_lm": {
        "vision_config": {
            "model_type": "timm_wrapper",
            "architecture": "vit_pe_core_large_patch14_336",
            "model_args": {"embed_dim": 1024, "img_size": [448, 448], "depth": 2, "global_pool": ""},
        }
    },
    "qwen2_5_omni_thinker": {"vision_start_token_id": 151652},
    "qwen3_omni_moe_thinker": {"vision_start_token_id": 151652},
    "idefics": {"use_resampler": True},
    # names and numbers of image tokens: sixteen codes
    "chameleon": {"vocabulary_map": {"<image>": 8711} | {f"IMGIMG{LETTERS[code]}Z": 100 + code for code in range(16)}},
    "emu3": {
        "vocabulary_map": {"<image>": 8711, "<|extra_200|>": 99}
        | {f"<|visual token {code:06}|>": 100 + code for code in range(16)}
    },
}
"""What a type's default configuration lacks."""


def shrunk(kind: str) -> PreTrainedConfig:
    """The default configuration of a type with a few layers in each part."""
    small = AutoConfig.for_model(kind, **NEEDED.get(kind, {}))
    levels = [small, *(value for name in small.sub_configs if (value := getattr(small, name, None)) is not None)]
    for level in levels:
        count = getattr(level, "num_hidden_layers", None)
        if isinstance(count, int) and count > LAYERS:
            for name, value in list(vars(level).items()):
                if isinstance(value, list) and len(value) == count:
                    setattr(level, name, value[:LAYERS])
            level.num_hidden_layers = LAYERS
    return small


def built(kind: str) -> Any:
    """A model of a type on the meta device."""
    try:
        return models.on_meta(shrunk(kind))
    except Exception:  # whatever the library raises where the number of layers matters
        return models.on_meta(AutoConfig.for_model(kind, **NEEDED.get(kind, {})))


def contract(kind: str) -> dict[str, str]:
    """Levels in order, each "ok" or the reason why not; after the first reason there is none."""
    found: dict[str, str] = {}
    try:
        model = built(kind)
    except Exception as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())
        return {"built": f"transformers: {text[:110]}"}
    found["built"] = "ok"
    try:
        parts = models.parts(model)
    except UserError as error:
        return found | {"parts": str(error).partition(" has ")[2] or str(error)}
    named = ", ".join(parts.projector)
    found |= {"parts": "ok", "language model": parts.language_model, "tower": parts.tower, "projector": named}
    try:
        found["LoRA"] = _lora(kind, model, parts)
    except NotImplementedError as error:  # of PEFT's questions to a model of the library
        found["LoRA"] = f"in transformers: {' '.join(str(error).split())[:110]}"
    return found | (levels.levels(kind, NEEDED.get(kind, {})) if found["LoRA"] == "ok" else {})


def _lora(kind: str, model: Any, parts: models.Parts) -> str:
    """LoRA on every layer of ``parts.lora`` and every fused expert, the projector whole, and nothing else."""
    vlm = adapters.attach(models.VisionLanguageModel(kind, model, None), LoraOptions(rank=4, dropout=0.0))
    trained = [n.removeprefix("base_model.model.") for n, p in vlm.model.named_parameters() if p.requires_grad]
    with_lora = {name.split(".lora_")[0].replace(".base_layer", "") for name in trained if ".lora_" in name}
    whole = {name.split(".modules_to_save.")[0] for name in trained if ".modules_to_save." in name}
    wanted = {*parts.lora, *(name.rpartition(".")[0] for name in parts.experts)}
    if adapters.projector(vlm) == "lora":
        with_lora = {name for name in with_lora if not name.startswith(parts.projector)}
        whole = set(parts.projector)
    differing = sorted(wanted ^ with_lora) + sorted(set(parts.projector) ^ whole)
    return f"not as wanted: {differing[:3]}" if differing else "ok"


def main() -> None:
    """Write the table's data and print the counts."""
    warnings.simplefilter("ignore")
    logging.disable()
    if not torchvision_here.AVAILABLE:
        sys.exit("torchvision is needed, or the table would lack the types whose processors need it: make contract")
    goes_on = "--continue" in sys.argv and RESULT.exists()
    table = json.loads(RESULT.read_text(encoding="utf-8")) if goes_on else {}
    for kind in TYPES:
        if kind not in table:
            table[kind] = contract(kind)
        RESULT.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    for level in LEVELS:
        print(level, sum(row.get(level, "").startswith("ok") for row in table.values()), "of", len(table))


if __name__ == "__main__":
    sys.exit(main())

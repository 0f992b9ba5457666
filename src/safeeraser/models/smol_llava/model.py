"""SmolLLaVA, a checkpoint in the cache: base language model, MiniLLaVA's tower, and what was trained."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from safeeraser.core import files, locks, terminal
from safeeraser.data import cache_folder
from safeeraser.models import checkpoint
from safeeraser.models.smol_llava import base

NAME = "smol-llava"
TRAINED = Path(__file__).with_name("trained.safetensors")
"""What pre-training made: the projector, and for each linear layer of the language model the factors of its change."""
PROJECTOR, A, B = "model.multi_modal_projector.", ".lora_A", ".lora_B"
LAYOUT = 1
"""Number of the way in which the parts are put together; another number is another folder in the cache."""
CHAT_TEMPLATE = Path(__file__).with_name("chat_template.jinja").read_text(encoding="utf-8")
"""The base model's, without the system message that it puts first where there is none."""


def find_folder() -> Path:
    """Find the checkpoint in the cache; where it is not there yet, it is put together, once, in half a minute.

    Raises:
        UserError: If the base model is not installed.
    """
    file = base.find_file()
    mini = checkpoint.find_folder("mini-llava")
    out = cache_folder() / f"{NAME}-{_hash(file, TRAINED, mini / 'config.json', mini / 'model.safetensors')}"
    if not out.is_dir():
        out.parent.mkdir(parents=True, exist_ok=True)
        with locks.hold(out.parent):
            if not out.is_dir():  # nobody else made it in the meantime
                terminal.say(f"model {NAME!r} is put together, once, in {out}", file=sys.stderr)
                write(base.load(file), TRAINED, out)
    return out


def write(language: tuple[Any, Any], trained: Path, out: Path) -> None:
    """Write the checkpoint, whole or not at all.

    Args:
        language: Base language model and its tokenizer.
        trained: File of what was trained.
        out: Folder to write; it must not exist, or be empty.
    """
    from safetensors.torch import load_file

    model, processor = build(*language)
    add_trained(model, load_file(trained))
    with files.atomic_folder(out) as folder, checkpoint.quiet():
        model.save_pretrained(folder)
        processor.save_pretrained(folder)


def build(language: Any, tokenizer: Any) -> tuple[Any, Any]:
    """Make the model with an untrained projector, which comes from torch's generator, and its processor.

    The weights of ``language``, a ``LlamaForCausalLM``, are shared, not copied; ``tokenizer`` is of
    ``base.build_tokenizer``.

    Returns ``LlavaForConditionalGeneration`` and ``LlavaProcessor``.
    """
    import torch
    from transformers import GenerationConfig, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor
    from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

    from safeeraser.models import load

    mini = load("mini-llava", device="cpu")
    seen = mini.model.config
    config = LlavaConfig(
        vision_config=seen.vision_config,
        text_config=language.config,
        image_token_index=tokenizer.image_token_id,
        image_seq_length=seen.image_seq_length,
        vision_feature_layer=seen.vision_feature_layer,
        vision_feature_select_strategy=seen.vision_feature_select_strategy,
        tie_word_embeddings=True,
    )
    with torch.device("meta"):
        model = LlavaForConditionalGeneration(config)
    model.model.language_model, model.model.vision_tower = language.model, mini.model.model.vision_tower
    model.model.multi_modal_projector = LlavaMultiModalProjector(config)
    model.lm_head.weight = language.model.embed_tokens.weight
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    processor = LlavaProcessor(
        image_processor=mini.processor.image_processor,
        tokenizer=tokenizer,
        patch_size=mini.processor.patch_size,
        vision_feature_select_strategy=seen.vision_feature_select_strategy,
        num_additional_image_tokens=mini.processor.num_additional_image_tokens,
        chat_template=CHAT_TEMPLATE,
    )
    return model.eval(), processor


def trained_tensors(model: Any) -> dict[str, Any]:
    """What was trained of a model with LoRA layers, in bfloat16; the scale of a LoRA is in its B."""
    import torch

    tensors = {name: value for name, value in model.state_dict().items() if name.startswith(PROJECTOR)}
    for name, module in model.named_modules():
        if hasattr(module, "lora_A") and hasattr(module, "base_layer"):
            tensors[name + A] = module.lora_A["default"].weight
            tensors[name + B] = module.lora_B["default"].weight * module.scaling["default"]
    return {name: value.detach().to("cpu", torch.bfloat16).contiguous() for name, value in tensors.items()}


def add_trained(model: Any, tensors: Mapping[str, Any]) -> None:
    """Add what ``trained_tensors`` took from a model to one that ``build`` made."""
    import torch

    with torch.no_grad():
        for name, value in tensors.items():
            if name.startswith(PROJECTOR):
                model.get_parameter(name).copy_(value)
            elif name.endswith(A):
                layer = name.removesuffix(A)
                model.get_submodule(layer).weight.add_(tensors[layer + B].float() @ value.float())


@cache
def _hash(*made_of: Path) -> str:
    return files.stable_hash(LAYOUT, CHAT_TEMPLATE, files.hash_files(made_of))

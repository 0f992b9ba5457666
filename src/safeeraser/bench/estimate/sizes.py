"""Sizes of a model, from its configuration alone: it is built on the meta device, where weights take no memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safeeraser.config import LoraOptions
from safeeraser.core.errors import UserError


@dataclass(frozen=True)
class Sizes:
    """What memory and cost depend on; counts are of weights, widths of features, as the language model has them."""

    family: str
    parts: dict[str, int]
    """Weights of the tower, the projector, the language model, and the rest (head, embeddings of their own)."""
    names: dict[str, str]
    """What the model calls its tower, projector and language model."""
    quantised: int
    """Weights that 8 or 4 bits are for: those of linear layers but for projector and head."""
    lora: int
    projector: int
    """Weights of the projector that are trained as a whole."""
    tuned: str
    """How the projector is tuned."""
    lora_layers: int
    """Linear layers that get a LoRA."""
    layers: int
    hidden: int
    intermediate: int
    heads: int
    attention: int
    """Width of all queries of a layer together."""
    keys: int
    """Width of all keys of a layer together."""
    vocabulary: int
    rank: int
    dropout: float
    image_tokens: int
    """Tokens of the sequence that an image takes."""
    attended_tokens: int
    """Image tokens beside the sequence that cross-attention reads."""
    cross_layers: int

    @property
    def parameters(self) -> int:
        """Weights of the model, without adapter."""
        return sum(self.parts.values())

    @property
    def trainable(self) -> int:
        """Weights that unlearning changes: LoRA and the copy of the projector."""
        return self.lora + self.projector


def _llava_1_5(**sizes: int) -> Any:
    """As in llava-hf/llava-1.5-7b-hf: CLIP ViT-L/14 at 336 pixels, Vicuna with 32,064 tokens."""
    from transformers import LlamaConfig, LlavaConfig

    return LlavaConfig(text_config=LlamaConfig(vocab_size=32064, **sizes))


PRESETS: dict[str, Callable[[], Any]] = {
    "llava-1.5-7b": _llava_1_5,
    "llava-1.5-13b": lambda: _llava_1_5(
        hidden_size=5120,
        intermediate_size=13824,
        num_hidden_layers=40,
        num_attention_heads=40,
        num_key_value_heads=40,
    ),
}
"""The paper's models, for planning without network; their hub names (llava-hf/llava-1.5-7b-hf) mean the same."""


def measure(model: str, lora: LoraOptions, height: int, width: int) -> Sizes:
    """Measure a model with the adapter it would get.

    Args:
        model: A name in ``PRESETS``, or what ``models.load`` takes; of a hub name only the configuration and the
            processor's files are fetched.
        lora: Rank and dropout.
        height: Height of the images in pixels.
        width: Their width.

    Raises:
        UserError: If there is no such model, or it lacks a part or a processor.

    Example:
        >>> measure("llava-1.5-7b", LoraOptions(), 336, 336).trainable
        100933632
    """
    from torch import nn

    from safeeraser import models
    from safeeraser.models import adapters

    preset = PRESETS.get(model.removeprefix("llava-hf/").removesuffix("-hf"))
    if preset is None and model not in models.BUILT_IN and "/" not in model and not Path(model).is_dir():
        known = ", ".join((*PRESETS, *models.BUILT_IN))
        raise UserError(f"unknown model {model!r}: give {known}, an existing folder, or a hub name (OWNER/NAME)")
    config = preset() if preset else models.read_config(model)
    models.check_type(model, config)
    built = models.on_meta(config)
    found = models.parts(built)
    counted = _parts(built, found)
    skipped = (*found.projector, "lm_head")
    quantised = sum(
        module.weight.numel()
        for name, module in built.named_modules()
        if isinstance(module, nn.Linear) and not name.startswith(skipped)
    )
    vlm = adapters.attach(models.VisionLanguageModel(model, built, None), lora)
    trained = {name: p.numel() for name, p in vlm.model.named_parameters() if p.requires_grad}
    in_lora = sum(count for name, count in trained.items() if ".lora_" in name)
    text = config.get_text_config()
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    image_tokens, attended_tokens = _image_tokens(None if preset else model, config, height, width)
    return Sizes(
        family=config.model_type,
        parts=counted,
        names={
            "vision tower": found.tower,
            "projector": ", ".join(found.projector),
            "language model": found.language_model,
        },
        quantised=quantised,
        lora=in_lora,
        projector=sum(trained.values()) - in_lora,
        tuned=adapters.projector(vlm),
        lora_layers=sum(".lora_A." in name for name in trained),
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        intermediate=text.intermediate_size,
        heads=text.num_attention_heads,
        attention=text.num_attention_heads * head,
        keys=(getattr(text, "num_key_value_heads", None) or text.num_attention_heads) * head,
        vocabulary=text.vocab_size,
        rank=lora.rank,
        dropout=lora.dropout,
        image_tokens=image_tokens,
        attended_tokens=attended_tokens,
        cross_layers=len(getattr(text, "cross_attention_layers", None) or ()),
    )


def _image_tokens(model: str | None, config: Any, height: int, width: int) -> tuple[int, int]:
    """Tokens of an image in the sequence, and beside it: those that the processor makes of one of this size.

    Without a processor, that is for presets and bare configurations, the number that the configuration names.
    """
    from PIL import Image

    from safeeraser import models
    from safeeraser.models import loading, prompts
    from safeeraser.models.checkpoint import PROCESSOR_FILES, find_folder

    folder = find_folder(model, PROCESSOR_FILES) if model is not None else None
    if model is None or folder is None or not any(folder.glob("*processor_config.json")):
        if hasattr(config, "image_seq_length"):
            return config.image_seq_length, 0
        raise UserError(f"model {model!r}: {folder} holds no processor, which says how many tokens an image takes")
    vlm = models.VisionLanguageModel(model, None, loading.load_processor(model, folder))
    question = "What is shown?"
    prompt = prompts.encode_prompts(vlm, [Image.new("RGB", (width, height))], [question])
    in_sequence = prompt["input_ids"].shape[1] - prompts.text_lengths(vlm, [question])[0]
    tiles = prompt["cross_attention_mask"].shape[-1] if "cross_attention_mask" in prompt else 0
    vision = config.vision_config
    return in_sequence, tiles * ((vision.image_size // vision.patch_size) ** 2 + 1) if tiles else 0


def _parts(model: Any, found: Any) -> dict[str, int]:
    """Weights by part; one that two parts share is counted once."""
    parts = dict.fromkeys(("vision tower", "projector", "language model", "rest"), 0)
    for name, parameter in model.named_parameters():
        if name.startswith(tuple(f"{projector}." for projector in found.projector)):
            part = "projector"
        elif name.startswith(found.tower + "."):
            part = "vision tower"
        else:
            part = "language model" if name.startswith(found.language_model + ".") else "rest"
        parts[part] += parameter.numel()
    return parts

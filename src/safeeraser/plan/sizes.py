"""Sizes of a model, from its configuration alone: it is built on the meta device, where weights take no memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safeeraser.config import LoraOptions
from safeeraser.errors import UserError


@dataclass(frozen=True)
class Sizes:
    """What memory and cost depend on; counts are of weights, widths of features, as the language model has them."""

    family: str
    parts: dict[str, int]
    """Weights of the tower, the projector, the language model, and the rest (head, embeddings of their own)."""
    quantised: int
    """Weights that 8 or 4 bits are for: those of linear layers but for projector and head."""
    lora: int
    projector: int
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
        model: A name in ``PRESETS``, or what ``models.load`` takes; of a hub name only the configuration is fetched.
        lora: Rank and dropout.
        height: Height of the images in pixels.
        width: Their width.

    Raises:
        UserError: If there is no such model, or its family is unknown.

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
    family = models.FAMILIES.get(config.model_type)
    built = models.on_meta(config)
    counted = _parts(built, family)
    skipped = (family.projector, "lm_head")
    linears = {
        name: m for name, m in built.named_modules() if isinstance(m, nn.Linear) and not name.startswith(skipped)
    }
    quantised = sum(module.weight.numel() for module in linears.values())
    targets = [name for name in linears if name.startswith(family.language_model + ".")]
    vlm = adapters.attach(models.VisionLanguageModel(model, built, None, family), lora)
    text = config.get_text_config()
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return Sizes(
        family=config.model_type,
        parts=counted,
        quantised=quantised,
        lora=sum(p.numel() for name, p in vlm.model.named_parameters() if ".lora_" in name),
        projector=counted["projector"],
        lora_layers=len(targets),
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        intermediate=text.intermediate_size,
        heads=text.num_attention_heads,
        attention=text.num_attention_heads * head,
        keys=(text.num_key_value_heads or text.num_attention_heads) * head,
        vocabulary=text.vocab_size,
        rank=lora.rank,
        dropout=lora.dropout,
        image_tokens=family.image_tokens(config, height, width),
        attended_tokens=family.attended_tokens(config),
        cross_layers=len(getattr(text, "cross_attention_layers", None) or ()),
    )


def _parts(model: Any, family: Any) -> dict[str, int]:
    """Weights by part; one that two parts share is counted once."""
    parts = dict.fromkeys(("vision tower", "projector", "language model", "rest"), 0)
    for name, parameter in model.named_parameters():
        if name.startswith(family.projector + "."):
            part = "projector"
        elif name.startswith(family.tower + "."):
            part = "vision tower"
        else:
            part = "language model" if name.startswith(family.language_model + ".") else "rest"
        parts[part] += parameter.numel()
    return parts

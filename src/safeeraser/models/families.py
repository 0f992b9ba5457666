"""The only place that knows an architecture: which modules are the language model, the projector and the tower."""

from __future__ import annotations

from dataclasses import dataclass

from safeeraser.registry import Registry


@dataclass(frozen=True)
class Family:
    """Where the parts of one architecture are.

    Names are those of ``model.named_modules()`` of what ``AutoModelForImageTextToText`` returns.
    """

    lora_targets: str
    """Regular expression that a module's full name must match to get a LoRA: linear layers of the language model."""
    projector: str
    """Full name of the module that maps image features into the language model; it is tuned as a whole."""
    tower: str
    """Full name of the vision tower; it stays frozen."""


FAMILIES: Registry[Family] = Registry("model family")
"""Families by ``config.model_type``."""

FAMILIES.add(
    "llava",
    Family(
        lora_targets=r"model\.language_model\..*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)",
        projector="model.multi_modal_projector",
        tower="model.vision_tower",
    ),
)

"""The only place that knows an architecture: where its parts are, and what is peculiar about its inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from safeeraser.registry import Registry

_LINEARS = "(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"


@dataclass(frozen=True)
class Family:
    """What is peculiar about one architecture.

    Names are those of ``model.named_modules()`` of what ``AutoModelForImageTextToText`` returns.
    """

    language_model: str
    """Full name of the language model, without its head; each of its linear layers gets a LoRA."""
    projector: str
    """Full name of the module that maps image features into the language model; it is tuned as a whole."""
    tower: str
    """Full name of the vision tower; it stays frozen, but for the projector where that is a part of it."""
    image_tokens: Callable[[Any, int, int], int]
    """Tokens that the language model gets for one image, from the model's configuration and the image's height and
    width in pixels; what ``safeeraser plan`` reckons with."""
    token_inputs: tuple[str, ...] = ()
    """Inputs with an entry per token, ``(B, L, ...)``, besides ``input_ids`` and ``attention_mask``; an answer's tokens
    get the entry of the last token of the prompt, as in generation."""
    image_processor: str | None = None
    """Processor class to load without its part for videos, which would need torchvision; None: ``AutoProcessor``."""
    packages: tuple[str, ...] = ()
    """Python packages that the processor needs and that this package does not bring."""
    attended_tokens: Callable[[Any], int] = lambda config: 0
    """Image tokens per image that cross-attention layers read beside the sequence, from the configuration."""

    @property
    def lora_targets(self) -> str:
        """Regular expression that a module's full name must match to get a LoRA.

        It is bound to the language model: the vision tower's layers often have the same names.
        """
        return self.language_model.replace(".", r"\.") + r"\..*\." + _LINEARS


FAMILIES: Registry[Family] = Registry("model family")
"""Families by ``config.model_type``."""


def _one_grid(config: Any, height: int, width: int) -> int:
    """LLaVA-1.5: every image becomes one square of patches."""
    vision = config.vision_config
    return int((vision.image_size // vision.patch_size) ** 2)


def _grid_and_tiles(config: Any, height: int, width: int) -> int:
    """LLaVA-NeXT: one square, then tiles of the best resolution without their padding, with an end token per line."""
    from transformers.image_processing_utils import select_best_resolution

    vision = config.vision_config
    side = vision.image_size // vision.patch_size
    best_height, best_width = select_best_resolution((height, width), config.image_grid_pinpoints)
    lines, columns = best_height // vision.image_size * side, best_width // vision.image_size * side
    if width / height > columns / lines:
        lines -= 2 * ((lines - round(height * columns / width)) // 2)
    else:
        columns -= 2 * ((columns - round(width * lines / height)) // 2)
    return int(side**2 + lines * columns + lines)


def _merged_patches(config: Any, height: int, width: int) -> int:
    """Qwen2.5-VL: an image keeps its size; each square of merged patches is a token (at most the library's 1,280)."""
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

    vision = config.vision_config
    side = vision.patch_size * vision.spatial_merge_size
    lines, columns = (length // side for length in smart_resize(height, width, side, 4 * side**2, 1280 * side**2))
    return int(lines * columns)


def _one_token(config: Any, height: int, width: int) -> int:
    """Mllama: the image is read by cross-attention, the sequence has a mark only."""
    return 1


def _mllama_tiles(config: Any) -> int:
    """Patches of all tiles and a class token for each; what an image does not fill is padded."""
    vision = config.vision_config
    return int(vision.max_num_tiles * ((vision.image_size // vision.patch_size) ** 2 + 1))


def _split_image(config: Any, height: int, width: int) -> int:
    """Idefics3: the image at four times the tower's side, cut into tiles, each behind two marks, and the whole."""
    vision = config.vision_config
    tile = int((vision.image_size // vision.patch_size) ** 2 / config.scale_factor**2)
    longest = 4 * vision.image_size
    lines, columns = (
        -(-round(longest * length / max(height, width)) // vision.image_size) for length in (height, width)
    )
    return int(lines * columns * (tile + 2) + lines + tile + 4)


FAMILIES.add(
    "llava",
    Family(
        language_model="model.language_model",
        projector="model.multi_modal_projector",
        tower="model.vision_tower",
        image_tokens=_one_grid,
    ),
)
FAMILIES.add(
    "llava_next",
    Family(
        language_model="model.language_model",
        projector="model.multi_modal_projector",
        tower="model.vision_tower",
        image_tokens=_grid_and_tiles,
    ),
)
FAMILIES.add(
    "qwen2_5_vl",
    Family(
        language_model="model.language_model",
        projector="model.visual.merger",
        tower="model.visual",
        image_tokens=_merged_patches,
        token_inputs=("mm_token_type_ids",),
        image_processor="Qwen2_5_VLProcessor",
    ),
)
FAMILIES.add(
    "mllama",
    Family(
        language_model="model.language_model",
        projector="model.multi_modal_projector",
        tower="model.vision_model",
        image_tokens=_one_token,
        token_inputs=("cross_attention_mask",),
        attended_tokens=_mllama_tiles,
    ),
)
FAMILIES.add(
    "idefics3",
    Family(
        language_model="model.text_model",
        projector="model.connector",
        tower="model.vision_model",
        image_tokens=_split_image,
    ),
)
FAMILIES.add(
    "smolvlm",
    Family(
        language_model="model.text_model",
        projector="model.connector",
        tower="model.vision_model",
        image_tokens=_split_image,
        image_processor="SmolVLMProcessor",
        packages=("num2words",),
    ),
)

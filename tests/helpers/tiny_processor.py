"""A type's real processor, built without files: its tokens are those that its own code asks for."""

import inspect
import re
import sys
from typing import Any

import torchvision_here
import transformers
from tiny_config import IMAGE, PATCH
from tiny_families import byte_tokenizer
from transformers import PreTrainedConfig, PreTrainedTokenizerFast
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES
from transformers.models.auto.video_processing_auto import VIDEO_PROCESSOR_MAPPING_NAMES

from safeeraser.models.loading import images_only, processor_settings

TEMPLATE = (
    "{{ '<s>' }}{% for m in messages %}{{ '<turn>' + m['role'] + '\n' }}"
    "{% for c in m['content'] %}{{ IMAGE if c['type'] == 'image' else c['text'] }}{% endfor %}"
    "{{ '</turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<turn>assistant\n' }}{% endif %}"
)
ROOM = 24
"""Tokens without a meaning, for what else a configuration names."""
PLACES: dict[str, str] = {
    "aya_vision": "<image>",
    "blip-2": "",
    "fuyu": "",
    "hunyuan_vl": "<image_start_token><image_token><image_end_token>",
    "instructblip": "",
    "qianfan_ocr": "<image>",
    "internvl": "<context_image_token>",
}
"""What stands in the chat template for an image where it is not the processor's ``image_token``, by type."""
LIKE: dict[str, str] = {
    "qwen3_vl_moe": "qwen3_vl",
    "cosmos3_omni": "qwen3_vl",
    "glm4v_moe": "glm4v",
    "glm_ocr": "glm46v",
    "glmga": "glm46v",
    "fast_vlm": "llava",
    "qwen2_5_omni_thinker": "qwen2_5_omni",
    "qwen3_omni_moe_thinker": "qwen3_omni_moe",
}
"""Types to which transformers maps no processor, and whose checkpoints name another type's."""
TOKENS = (IMAGE // PATCH) ** 2
SETTINGS: dict[str, dict[str, Any]] = {
    "cohere2_vision": {"patch_size": 2},
    "emu3": {"min_pixels": IMAGE * IMAGE, "max_pixels": 4 * IMAGE * IMAGE},
    "lfm2_vl": {
        "encoder_patch_size": PATCH,
        "tile_size": IMAGE,
        "do_image_splitting": False,
        "min_image_tokens": 4,
        "max_image_tokens": 16,
    },
    "molmo2": {"overlap_margins": [1, 1], "max_crops": 2},
    "deepseek_vl_hybrid": {"high_res_size": {"height": 64, "width": 64}},
    "fuyu": {"patch_size": {"height": PATCH, "width": PATCH}},
    "nemotron_h_omni": {"min_num_patches": TOKENS, "max_num_patches": 4 * TOKENS},
    "paligemma": {"image_seq_length": TOKENS},
    "step3p7": {"patch_size": IMAGE, "vision_patch_size": PATCH, "max_image_size": 2 * IMAGE},
}
"""Of a type's image processor, beside its size."""
ARGUMENTS: dict[str, dict[str, Any]] = {
    "aya_vision": {"img_size": IMAGE, "patch_size": PATCH},
    "chameleon": {"image_seq_length": TOKENS},
    "aria": {"size_conversion": {490: 4, 980: 4}},
    "deepseek_vl": {"num_image_tokens": TOKENS},
    "deepseek_vl_hybrid": {"num_image_tokens": TOKENS},
    "gemma3": {"image_seq_length": TOKENS // 4},
    "granite_docling": {"image_seq_len": 1},
    "got_ocr2": {"num_image_tokens": 1},
    "idefics2": {"image_seq_len": 4},
    "internvl": {"image_seq_length": TOKENS // 4},
    "janus": {"num_image_tokens": TOKENS},
    "lighton_ocr": {"patch_size": PATCH},
    "llava_onevision": {"num_image_tokens": TOKENS, "vision_feature_select_strategy": "full"},
    "llama4": {"patch_size": PATCH},
    "mistral3": {"patch_size": PATCH, "spatial_merge_size": 2},
    "mistral_large4": {"patch_size": PATCH, "spatial_merge_size": 2},
    "ovis2": {"image_seq_length": TOKENS},
    "qianfan_ocr": {"image_seq_length": TOKENS // 4},
    "vipllava": {"patch_size": PATCH, "num_additional_image_tokens": 1, "vision_feature_select_strategy": "default"},
}
"""Of a type's processor."""
IMAGE_TOKENS = {"llama4": "<|patch|>", "molmo2": "<im_patch>", "ovis2": "<IMG_ATOM>"}
"""Token of an image's place in the language model, where it is not the processor's ``image_token_id``."""
UNNAMED = (
    *("Blip2Processor", "InstructBlipProcessor", "CohereCompassProcessor", "Step3p7Processor"),
    *("MiniMaxM3VLProcessor", "NemotronH_Omni_Reasoning_V3Processor"),
)
"""Processors that give a tokenizer its image token themselves."""


PIL_BROKEN = ("fuyu",)
"""Types whose image processor without torchvision fails in transformers itself."""


class NoProcessor(Exception):
    """A processor that cannot be built without files."""


NEEDS_TORCHVISION = "its processor needs torchvision"
"""Reason of a type that passes no level without it."""


def processor_for(kind: str, config: PreTrainedConfig) -> Any:
    """Build the processor of a type for a tiny configuration.

    Raises:
        NoProcessor: With the reason.
    """
    kind_of = LIKE.get(kind, kind)
    name, images = PROCESSOR_MAPPING_NAMES.get(kind_of), IMAGE_PROCESSOR_MAPPING_NAMES.get(kind_of) or {}
    if name is None or not images:
        what = "image processor" if name else "processor"
        raise NoProcessor(f"processor needs files: transformers maps no {what} to this type")
    if "pil" not in images and not torchvision_here.AVAILABLE:
        raise NoProcessor(NEEDS_TORCHVISION)
    made = getattr(transformers, name)
    try:
        attributes = made.get_attributes()
    except ImportError:
        raise NoProcessor(NEEDS_TORCHVISION) from None
    videos = VIDEO_PROCESSOR_MAPPING_NAMES.get(kind_of) if torchvision_here.AVAILABLE else None
    videos = videos["torchvision"] if isinstance(videos, dict) else videos
    if "video_processor" in attributes and (attributes[-1] == "video_processor" or not videos):
        made, videos = images_only(made), None
    tokenizer = tokenizer_for(made)
    if kind in PIL_BROKEN and torchvision_here.AVAILABLE:
        images = {"torchvision": images["torchvision"]}
    arguments = {
        "image_processor": image_processor(kind, images.get("pil") or images["torchvision"], config),
        "tokenizer": tokenizer,
    }
    if videos:
        arguments["video_processor"] = getattr(transformers, videos)()
    if "qformer_tokenizer" in attributes:
        arguments["qformer_tokenizer"] = tokenizer_for(made)
    if "feature_extractor" in attributes:
        own = getattr(transformers, name.replace("Processor", "AudioFeatureExtractor"), None)
        arguments["feature_extractor"] = (own or transformers.WhisperFeatureExtractor)()
    settings = processor_settings(config)
    for parameter in inspect.signature(made.__init__).parameters:
        value = settings.get(parameter, getattr(config, parameter, None))
        if parameter not in arguments and value is not None and parameter not in ("self", "kwargs"):
            arguments[parameter] = value
    try:
        processor = made(**{**arguments, **ARGUMENTS.get(kind, {})})
    except AttributeError:
        if torchvision_here.AVAILABLE or "video_processor" not in attributes:
            raise
        raise NoProcessor(NEEDS_TORCHVISION) from None  # its code reads the part for videos
    place = PLACES.get(kind, str(getattr(processor, "image_token", "<image>")))
    processor.chat_template = TEMPLATE.replace("IMAGE", repr(place.replace("\n", "\\n")))
    tokenizer.padding_side = "left"
    return processor


def tokenizer_for(made: Any) -> PreTrainedTokenizerFast:
    """A tokenizer with every token that the code of a processor names, or asks its tokenizer for."""
    own = next(base for base in made.__mro__ if base.__module__.startswith("transformers.models"))
    source = inspect.getsource(sys.modules[own.__module__])
    # in its code a token is a text in brackets
    literal = re.findall(r"""(<[A-Za-z_|][^"'<>\s{}*]*>|\|[A-Z]+\||(?<=")\[[A-Z_]+\](?="))""", source)
    found = re.findall(r"tokenizer\.(\w+_token)(?:_id)?\b", source)
    asked = dict.fromkeys(found + re.findall(r'getattr\(tokenizer, "(\w+_token)", None\)', source))
    usual = ("bos_token", "eos_token", "pad_token", "unk_token")
    named = {name: f"<{name}>" for name in asked if name not in usual and not name.startswith("add_")}
    if made.__name__ in UNNAMED:
        named.pop("image_token", None)
    room = [f"<room_{number}>" for number in range(ROOM)]
    own_marks = [value for name, value in vars(own).items() if name.endswith("_TOKEN") and isinstance(value, str)]
    marks = ["</s>", "<turn>", "</turn>", *room, *named.values(), *literal, *own_marks]
    marks = [mark for mark in dict.fromkeys(marks) if mark not in ("<s>", "<pad>", "<image>")]
    return byte_tokenizer(marks, last="<image>", eos="</s>", bos="<s>", named=named)


def image_processor(kind: str, name: str, config: PreTrainedConfig) -> Any:
    """An image processor with small sizes, and those that follow from the configuration."""
    made = getattr(transformers, name)
    given = SETTINGS.get(kind, {})
    first = made()
    settings: dict[str, Any] = {}
    for field in ("size", "crop_size"):
        size = dict(getattr(first, field, None) or {})
        if {"shortest_edge", "longest_edge"} <= size.keys() and size["longest_edge"] > 4000:  # numbers of pixels
            settings[field] = {"shortest_edge": 16 * 16, "longest_edge": 40 * 40}
        elif size:
            settings[field] = dict.fromkeys(size, IMAGE)
    of_images = {k.removeprefix("image_processor."): v for k, v in processor_settings(config).items() if "." in k}
    vision = getattr(config, "vision_config", None)
    own = {k: getattr(vision, k) for k in ("patch_size", "temporal_patch_size") if hasattr(vision, k)}
    known = {k: v for k, v in (own | of_images).items() if hasattr(first, k) and v is not None}
    return made(**{**settings, **known, **given})


def with_ids(config: PreTrainedConfig, processor: Any) -> dict[str, Any]:
    """Values of a configuration whose token ids are those of a processor."""
    tokenizer = processor.tokenizer
    room = iter(range(ROOM))
    image = getattr(processor, "image_token_id", None) or tokenizer.convert_tokens_to_ids("<image>")
    if hasattr(tokenizer, "image_token_id"):
        image = tokenizer.image_token_id
    if config.model_type in IMAGE_TOKENS:
        image = tokenizer.convert_tokens_to_ids(IMAGE_TOKENS[config.model_type])

    def found(name: str) -> int:
        name = re.sub(r"_(id|index)$", "", name)
        if name in ("image_token", "media_token", "image_patch", "img_context_token"):
            return int(image)
        known = getattr(tokenizer, f"{name}_id", None)
        if known is None:
            known = getattr(processor, f"{name}_id", None)
        if known is None and (text := getattr(processor, name, None)) is not None:
            known = tokenizer.convert_tokens_to_ids(text)
        if known is None and (short := name.removesuffix("_token")) in ("boi", "eoi"):
            known = getattr(tokenizer, f"{short}_token_id", None)
        if known is None and f"<|{name.removesuffix('_token')}|>" in tokenizer.get_vocab():
            known = tokenizer.convert_tokens_to_ids(f"<|{name.removesuffix('_token')}|>")
        return int(known) if known is not None else tokenizer.convert_tokens_to_ids(f"<room_{next(room)}>")

    def walk(values: dict[str, Any]) -> dict[str, Any]:
        return {
            name: value | {"<image>": int(image)} if name == "vocabulary_map"
            else walk(value) if isinstance(value, dict) and name not in ("id2label", "label2id")
            else found(name) if re.search(r"_(token|patch)_(id|index)$|_patch_id$", str(name)) and type(value) is int
            else value
            for name, value in values.items()
        }  # fmt: skip

    values = walk(config.to_dict())
    lacking = {name: int(image) for name in ("image_token_id", "image_token_index") if values.get(name, 0) is None}
    return values | lacking

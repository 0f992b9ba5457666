"""One shrinking function for every type of the mapping: its configuration with tiny widths, sizes that fit together."""

import re
from typing import Any

from transformers import AutoConfig, PreTrainedConfig

WIDTH, HEADS, KEY_HEADS, HEAD, INNER, LAYERS = 32, 4, 2, 8, 48, 2
IMAGE, PATCH = 32, 8

RULES: tuple[tuple[str, int], ...] = (
    (r"temporal|num_position_embeddings|max_position|num_query_tokens$|window|channels$|_pool|ngram_size|kernel", -1),
    (r"(^|_)image_size$|^resolution$", IMAGE),
    (r"^patch_size$", PATCH),
    (r"^(\w+_)?(num_hidden_layers|num_layers|n_layers|layers|depth)$", LAYERS),
    (r"^image_seq_length$|^num_image_tokens$", (IMAGE // PATCH) ** 2),
    (r"mm_tokens_per_image$", (IMAGE // PATCH) ** 2 // 4),
    (r"key_value_heads|kv_heads|num_key_heads", KEY_HEADS),
    (r"(^|_)(num_)?(attention_|value_|n_)?heads$|n_heads$", HEADS),
    (r"(^|_)(head_dim|d_kv|nope_head_dim|rope_head_dim|v_head_dim|mamba_head_dim|dim_head|rotary_dim)$", HEAD),
    (r"qk_head_dim$", 2 * HEAD),
    (r"lora_rank$|lowrank$", HEAD),
    (r"merged_hidden_size", 4 * WIDTH),
    (r"intermediate_size|ffn_dim|mlp_dim|d_ff|ff_dim|expert_dim|projector_hidden_size|intermediate_size_mlp", INNER),
    (
        r"hidden_size$|d_model|embed_dim|output_dim|_hidden_dim|projection_dim|proj_dim|input_dim|input_size|_out_dim|_in_dim",
        WIDTH,
    ),
    (r"^(moe_)?(num|n)_(local_|routed_)?experts$", 4),
    (r"num_experts_per_tok|moe_topk|moe_k$", 2),
    (r"^n_group$|^topk_group$|^first_k_dense_replace$|shared_experts$", 1),
    (r"n_latents$|query_tokens$|latent_query_num", 4),
)
"""Size of an integer by its name, the first that matches; -1: as it is."""

PLACEHOLDERS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
"""Ids of tokens before there is a tokenizer."""

MROPE = (
    "qwen2_vl",
    "qwen2_5_vl",
    "glm4v",
    "glm46v",
    "glmga",
    "glm4v_moe",
    "glm_ocr",
    "paddleocr_vl",
    "qwen2_5_omni_thinker",
)
"""Types whose code has sections of rotary embeddings that their configuration does not name."""

_VQ = {"base_channels": 32, "channel_multiplier": [1, 1], "num_res_blocks": 1, "latent_channels": 32}
_CODES = _VQ | {"channel_multiplier": [1, 1, 1, 1]}
OVERRIDES: dict[str, dict[str, Any]] = {
    **{kind: {"text_config.rope_parameters.mrope_section": [2, 1, 1]} for kind in MROPE},
    # its processor knows two sizes of image, 490 and 980
    "aria": {
        "projector_patch_to_query_dict": {49: 4},
        "vision_config.image_size": 980,
        "vision_config.patch_size": 140,
    },
    "dots3_note": {"text_config.per_layer_config.1.head_dim": 2 * HEAD},
    "hunyuan_vl": {"text_config.rope_parameters.mrope_section": [1, 1, 1, 1]},
    "ernie4_5_vl_moe": {"text_config.rope_parameters.mrope_section": [1, 1, 2]},
    "deepseek_vl_hybrid": {
        "high_res_vision_config.image_size": 64,
        "high_res_vision_config.patch_size": 4,
        "high_res_vision_config.output_channels": 8,
    },
    # heads of its projector: one for 64
    "granite4_vision": {"vision_config.hidden_size": 64},
    **{kind: {"out_hidden_size": 4 * WIDTH} for kind in ("muse_glimmer", "muse_spark")},
    "llama4": {"vision_config.intermediate_size": 4 * WIDTH},
    "molmo2": {"vision_config.num_position_embeddings": (IMAGE // PATCH) ** 2},
    **{
        kind: {"vision_config.sam_config.downsample_channels": [WIDTH, WIDTH]}
        for kind in ("deepseek_ocr2", "unlimited_ocr")
    },
    # trained ones are not closed
    "idefics": {"additional_vocab_size": 0, "alpha_initializer": "ones"},
    "nemotron_h_omni": {"text_config.n_groups": 2},
    "step3p7": {"text_config.sliding_window": 512},
    "qwen4_exp": {
        f"text_config.indexer_{name}": value
        for name, value in (("n_heads", 4), ("kv_heads", 1), ("head_dim", HEAD), ("budget", 64), ("compress_ratio", 4))
    },
    "chameleon": {f"vq_config.{name}": value for name, value in (_CODES | {"num_embeddings": 16}).items()},
    "emu3": {
        f"vq_config.{name}": value
        for name, value in (_CODES | {"codebook_size": 16, "latent_channels": 4, "embed_dim": 4}).items()
    },
    "janus": {f"vq_config.{name}": value for name, value in _VQ.items()},
}
"""What the rules do not make fit, by type: dotted names and values."""


def shrunk(kind: str, needed: dict[str, Any], vocab: int = 512) -> PreTrainedConfig:
    """Configuration of a type with tiny widths.

    Args:
        kind: ``model_type``.
        needed: What its default configuration lacks.
        vocab: Tokens.
    """
    config = AutoConfig.for_model(kind, **needed)
    values = small(config.to_dict(), vocab)
    for name, value in OVERRIDES.get(kind, {}).items():
        *parts, last = name.split(".")
        owner = values
        for part in parts:
            owner = owner.setdefault(int(part) if part.isdigit() else part, {})
        owner[last] = value
    return remade(config, values)


def remade(config: PreTrainedConfig, values: dict[str, Any]) -> PreTrainedConfig:
    """A configuration of the same class, with other values."""
    for name in ("model_type", "transformers_version", "architectures"):
        values.pop(name, None)
    return type(config)(**values)


def small(values: dict[str, Any], vocab: int) -> dict[str, Any]:
    """Values of a configuration made small, those of its parts as well."""
    heads, keys = values.get("num_attention_heads"), values.get("num_key_value_heads")
    count = next((v for n in ("num_hidden_layers", "depth", "layers") if isinstance(v := values.get(n), int)), None)
    made = {name: _small(str(name), value, count, vocab) for name, value in values.items()}
    if heads == keys is not None:
        made["num_key_value_heads"] = made["num_attention_heads"]
    return made


def _small(name: str, value: Any, layers: int | None, vocab: int) -> Any:
    if name == "per_layer_config":  # of two layers the second is of another kind
        return {LAYERS - 1: small(next(iter(value.values())), vocab)} if value else value
    if isinstance(value, dict):
        return value if name in ("id2label", "label2id", "vocabulary_map") else small(value, vocab)
    if isinstance(value, list | tuple):
        return _list(name, list(value), layers)
    if name == "partial_rotary_factor":
        return 1.0
    if name in ("initializer_range", "initializer_std"):
        return 0.2
    if isinstance(value, bool) or not isinstance(value, int):
        return value
    if re.search(r"_(token|patch)_(id|index)$", name) or name == "image_patch_id":
        return min(value, PLACEHOLDERS.get(name, 5))
    if name.endswith(("vocab_size", "vocab_size_per_layer_input")) and name != "type_vocab_size":
        return vocab
    found = next((size for pattern, size in RULES if re.search(pattern, name)), -1)
    return value if found < 0 or value == 0 else found


def _list(name: str, value: list[Any], layers: int | None) -> Any:
    if name == "mrope_section":
        return [2, 1, 1]
    if name == "image_grid_pinpoints":
        return [[IMAGE, 2 * IMAGE], [2 * IMAGE, IMAGE], [2 * IMAGE, 2 * IMAGE]]
    if (
        layers is not None and len(value) == layers and layers > LAYERS
    ):  # an entry per layer: of as many kinds as can be
        kinds = [value[0], next((entry for entry in value if entry != value[0]), value[0])]
        return kinds
    if name in ("image_size", "patch_size") and len(value) == 2:
        return [IMAGE if name == "image_size" else PATCH] * 2
    if name == "vision_feature_layer":
        return [max(-LAYERS, min(entry, LAYERS - 1)) for entry in value]
    if re.search(r"index|_layers$|indices|idxs|layer_ids", name) and all(isinstance(v, int) for v in value):
        return sorted({max(0, min(v, LAYERS - 1)) if v >= 0 else v for v in value})[: LAYERS - 1] if value else value
    return value

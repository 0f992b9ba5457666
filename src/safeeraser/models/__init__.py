"""Models: any Hugging Face model that reads images and writes text, by name or folder, with or without an adapter."""

from safeeraser.models.checkpoint import BUILT_IN, check_whole, find_folder, fingerprint, read_config
from safeeraser.models.families import FAMILIES, Family, Parts, parts
from safeeraser.models.vlm import (
    Gate,
    Preamble,
    VisionLanguageModel,
    check,
    check_type,
    hash_adapter,
    load,
    load_merged,
    merge,
    on_meta,
    save,
)

__all__ = [
    "BUILT_IN", "FAMILIES", "Family", "Gate", "Parts", "Preamble", "VisionLanguageModel", "check", "check_type",
    "check_whole", "find_folder", "fingerprint", "hash_adapter", "load", "load_merged", "merge", "on_meta", "parts",
    "read_config", "save",
]  # fmt: skip

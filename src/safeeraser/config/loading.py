"""How models are loaded: the option group ``loading`` of bench, unlearn and respond."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Quantization = Literal["none", "8bit", "4bit"]
Attention = Literal["auto", "eager", "sdpa", "flash_attention_2"]


@dataclass
class ModelOptions:
    """How a model is loaded; what hardware or packages do not allow is refused, never replaced by something else."""

    dtype: str = "auto"
    """'auto' (the checkpoint's own), 'float32', 'bfloat16' or 'float16'."""
    device: str = "auto"
    """'auto' (the GPU if there is one), 'cpu', 'cuda', 'cuda:1', ..."""
    quantization: Quantization = "none"
    """'8bit' or '4bit': the frozen weights but for projector and head, with bitsandbytes; meant for a CUDA GPU."""
    attention: Attention = "auto"
    """Attention implementation: 'auto' (the library's choice), 'eager', 'sdpa' or 'flash_attention_2'."""

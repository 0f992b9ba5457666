"""Text models such as guards: any causal or multimodal LLM with a chat template, without images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from safeeraser.core.errors import UserError
from safeeraser.models.control_tokens import escape, unescaped
from safeeraser.models.template import render

_PROBES = ("what is asked", "what is answered")


@dataclass(frozen=True)
class TextModel:
    """A language model with its tokenizer."""

    name: str
    model: Any
    tokenizer: Any
    parts: bool
    """Whether the chat template wants a turn as a list of parts, as those of multimodal models do."""

    def prompt(self, question: str, answer: str | None = None) -> str:
        """Put a question, with its answer or alone, into the chat template, ready for the model's own words.

        Raises:
            UserError: If a text holds a control token that the tokenizer cannot take for text.
        """
        texts = [escape(self.tokenizer, text) for text in (question, answer) if text is not None]
        return _render(self.tokenizer, texts, self.parts)

    def replies(self, prompts: Sequence[str], max_new_tokens: int = 20) -> list[str]:
        """Continue prompts greedily; special tokens are left out of the replies.

        Args:
            prompts: As ``prompt`` makes them.
            max_new_tokens: Longest reply.
        """
        import torch

        from safeeraser.models.decode import settings

        with unescaped(self.tokenizer, prompts):
            inputs = self.tokenizer(list(prompts), return_tensors="pt", padding=True, add_special_tokens=False)
        inputs = {name: value.to(self.model.device) for name, value in inputs.items() if name != "token_type_ids"}
        ends = self.model.generation_config.eos_token_id or [self.tokenizer.eos_token_id]
        config = settings(ends, self.tokenizer.pad_token_id, max_new_tokens=max_new_tokens)
        with torch.inference_mode():
            made = self.model.generate(**inputs, generation_config=config)
        own = made[:, inputs["input_ids"].shape[1] :]
        return [str(text) for text in self.tokenizer.batch_decode(own, skip_special_tokens=True)]


def load_text(name_or_path: str, dtype: str = "auto", device: str = "auto") -> TextModel:
    """Load a model for text: a causal LLM (Llama-Guard-3), or a multimodal one (Llama-Guard-4) without its images.

    Args:
        name_or_path: A local folder in the Hugging Face layout, or a hub name.
        dtype: A torch dtype such as "bfloat16", or "auto": the checkpoint's own.
        device: A torch device, or "auto": the GPU if there is one.

    Raises:
        UserError: If there is no such model, it is incomplete, or it has no chat template that takes a question and
            its answer.

    Example:
        >>> load_text("mini-llava").parts
        True
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    from safeeraser.models.checkpoint import find_folder, load_weights, read_config

    folder = find_folder(name_or_path)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        multimodal = read_config(name_or_path).model_type in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
        auto = AutoModelForImageTextToText if multimodal else AutoModelForCausalLM
        model = load_weights(auto, name_or_path, folder, dtype=dtype).to(device).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except UserError:
        raise
    except (OSError, ValueError) as error:
        raise UserError(f"model {name_or_path!r} cannot be loaded for text: {error}") from None
    if not tokenizer.chat_template:
        raise UserError(f"model {name_or_path!r} has no chat template: add chat_template.jinja to {folder}")
    tokenizer.padding_side = "left"
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    for parts in (False, True):
        text = _tried(tokenizer, parts)
        if text is not None and all(probe in text for probe in _PROBES) and "'text'" not in text:
            return TextModel(name_or_path, model, tokenizer, parts)
    raise UserError(f"model {name_or_path!r}: its chat template does not take a question and its answer")


def _tried(tokenizer: Any, parts: bool) -> str | None:
    from jinja2 import TemplateError

    try:
        return _render(tokenizer, _PROBES, parts)
    except (TemplateError, TypeError):
        return None


def _render(tokenizer: Any, texts: Sequence[str], parts: bool) -> str:
    """A question, and its answer where there is one, in the chat template."""
    turns = [
        {"role": role, "content": [{"type": "text", "text": text}] if parts else text}
        for role, text in zip(("user", "assistant"), texts, strict=False)
    ]
    return render(tokenizer, turns, add_generation_prompt=True)

"""Models that read text alone, such as a guard: any causal or multimodal LLM with a chat template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from safeeraser.errors import UserError

__all__ = ["TextModel", "load_text"]

_PROBES = ("what is asked", "what is answered")


@dataclass(frozen=True)
class TextModel:
    """A model that continues conversations of text."""

    name: str
    model: Any
    tokenizer: Any
    parts: bool
    """Whether the chat template wants a turn as a list of parts, as those of multimodal models do."""

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """Texts that the tokenizer takes for markup, the longest first."""
        added = {token.content for token in self.tokenizer.added_tokens_decoder.values() if token.special}
        return tuple(sorted(added | set(self.tokenizer.all_special_tokens), key=lambda token: (-len(token), token)))

    def prompt(self, question: str, answer: str) -> str:
        """Put a question and its answer into the chat template, ready for the model's own words."""
        return _render(self.tokenizer, question, answer, self.parts)

    def replies(self, prompts: Sequence[str], max_new_tokens: int = 20) -> list[str]:
        """Continue prompts greedily; special tokens are left out of the replies.

        Args:
            prompts: As ``prompt`` makes them.
            max_new_tokens: Longest reply.
        """
        import torch

        inputs = self.tokenizer(list(prompts), return_tensors="pt", padding=True, add_special_tokens=False)
        inputs = {name: value.to(self.model.device) for name, value in inputs.items() if name != "token_type_ids"}
        with torch.inference_mode():
            made = self.model.generate(
                **inputs,
                do_sample=False,
                temperature=None,
                top_p=None,
                max_new_tokens=max_new_tokens,
                pad_token_id=self.tokenizer.pad_token_id,
            )
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
        >>> load_text("meta-llama/Llama-Guard-3-8B").parts  # doctest: +SKIP
        False
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    from safeeraser.models import _folder

    folder = _folder(name_or_path)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        model_type = AutoConfig.from_pretrained(folder).model_type
        multimodal = model_type in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
        auto = AutoModelForImageTextToText if multimodal else AutoModelForCausalLM
        model = auto.from_pretrained(folder, dtype=dtype).to(device).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder)
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
        return _render(tokenizer, *_PROBES, parts)
    except (TemplateError, TypeError):
        return None


def _render(tokenizer: Any, question: str, answer: str, parts: bool) -> str:
    turns = [
        {"role": role, "content": [{"type": "text", "text": text}] if parts else text}
        for role, text in (("user", question), ("assistant", answer))
    ]
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))

"""Prompts: the processor's own chat template, encoded with the image; what of the inputs has an entry per token."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from jinja2 import TemplateError
from PIL import Image
from torch import Tensor

from safeeraser.core.errors import UserError
from safeeraser.core.reasoning import SWITCHES, is_reasoning_tag, opened_block, without_empty_block
from safeeraser.core.terminal import say
from safeeraser.models import Preamble, VisionLanguageModel
from safeeraser.models.control_tokens import escape, unescaped
from safeeraser.models.template import render

_QUESTION, _ANSWER = "QUESTION", "ANSWER"
_NOTHING = Preamble()


@dataclass(frozen=True)
class Turn:
    """Form of an answer in a chat template, behind the generation prompt."""

    opening: str
    """What stands between the question and the answer ("ASSISTANT:"); tokenised before an answer, then cut off."""
    lead: str
    """What stands right before the answer's text (often a space)."""
    end: int
    """Token that ends the answer."""


def turn(vlm: VisionLanguageModel) -> Turn:
    """Form of an answer in the model's chat template.

    The end is the special token that the template puts after an answer, or else the tokenizer's end of sequence.

    Raises:
        UserError: If an answer does not directly follow the generation prompt in this template.

    Example:
        >>> from safeeraser import models
        >>> turn(models.load("mini-llava")).opening
        ' ASSISTANT:'
    """
    return _turn(vlm.processor, vlm.name)


@lru_cache(maxsize=32)
def _turn(processor: Any, name: str) -> Turn:
    tokenizer = processor.tokenizer
    prompt = opening = _render(processor, _QUESTION)
    answered = render(processor, _conversation(_QUESTION, _ANSWER), **dict.fromkeys(_switches(processor), False))
    if not answered.startswith(prompt):  # Gemma 4 closes a block that the answers of a conversation lack
        prompt = without_empty_block(prompt)
    if not answered.startswith(prompt) or _ANSWER not in answered[len(prompt) :]:
        raise UserError(
            f"model {name!r}: its chat template does not put the answer right after the generation prompt "
            f"({prompt!r} is no beginning of {answered!r}); training and inference prompts would differ"
        )
    lead, rest = answered[len(prompt) :].split(_ANSWER, 1)
    special = {id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
    ends = [id for id in tokenizer(rest, add_special_tokens=False).input_ids if id in special]
    return Turn(opening.split(_QUESTION)[-1], lead, ends[0] if ends else tokenizer.eos_token_id)


def with_thinking(vlm: VisionLanguageModel, thinking: bool) -> VisionLanguageModel:
    """The model with its chat template's switch for thinking set; off is said to the template as well as on.

    A template that opens a block of reasoning in every prompt and has no switch cannot be told: a line says so.

    Raises:
        UserError: If thinking is wanted and the template neither has a switch nor opens a block of its own.

    Example:
        >>> from safeeraser import models
        >>> with_thinking(models.load("mini-llava"), False).thinking
        False
    """
    always = not _switches(vlm.processor) and opened_block(_render(vlm.processor, _QUESTION).split(_QUESTION)[-1])
    if thinking and not always and not _switches(vlm.processor):
        raise UserError(
            f"generation.thinking: the chat template of model {vlm.name!r} has no switch for thinking "
            f"({' or '.join(SWITCHES)}): leave the option out"
        )
    if always and not thinking:
        say(
            f"model {vlm.name!r} thinks before every answer: its chat template opens {always.strip()} and has no "
            "switch; the traces are judged apart from the answers",
            file=sys.stderr,
        )
    return replace(vlm, thinking=thinking)


def reasoning_begun(vlm: VisionLanguageModel) -> str:
    """The reasoning block that the generation prompt opens itself, which the model then only closes; mostly nothing.

    Example:
        >>> from safeeraser import models
        >>> reasoning_begun(models.load("mini-llava"))
        ''
    """
    return opened_block(_render(vlm.processor, _QUESTION, True, vlm.thinking).split(_QUESTION)[-1])


@lru_cache(maxsize=32)
def _takes_lists(processor: Any) -> bool:
    """Whether a batch's images may be a list for each text, as most processors want them; GOT-OCR 2 takes one each."""
    image, text = Image.new("RGB", (224, 224)), _render(processor, _QUESTION)
    try:
        processor(images=[[image]], text=[text], return_tensors="pt")
    except (TypeError, ValueError):
        return False
    return True


@lru_cache(maxsize=32)
def reasoning_tags(processor: Any) -> frozenset[int]:
    """Ids of special tokens that stand around reasoning (Mistral's, Gemma 4's); others have them as plain tokens.

    Example:
        >>> from safeeraser import models
        >>> reasoning_tags(models.load("mini-llava").processor)
        frozenset()
    """
    added = processor.tokenizer.added_tokens_decoder.items()
    return frozenset(id for id, token in added if token.special and is_reasoning_tag(token.content))


@lru_cache(maxsize=32)
def _switches(processor: Any) -> tuple[str, ...]:
    """Variables of the chat template that turn thinking on and off: those that change what it makes of a question."""
    template = str(getattr(processor, "chat_template", ""))
    named = [name for name in SWITCHES if re.search(rf"(?<![.\w]){name}\b", template)]

    def made(name: str, thinking: bool) -> str:
        return render(processor, _conversation(_QUESTION), add_generation_prompt=True, **{name: thinking})

    return tuple(name for name in named if made(name, True) != made(name, False))


def encode_prompts(
    vlm: VisionLanguageModel, images: Sequence[Image.Image | None], questions: Sequence[str]
) -> dict[str, Tensor]:
    """Encode questions about images, ready for ``generate``.

    Args:
        vlm: The model.
        images: One image per question, RGB; None, for all of them alike: questions without an image.
        questions: What to ask; the model's preamble stands before each.

    Returns:
        The model's inputs, padded on the left; ``input_ids`` and ``attention_mask`` are (B, L).

    Raises:
        UserError: If a question holds a control token that the tokenizer cannot take for text.

    Example:
        >>> from safeeraser import models
        >>> vlm = models.load("mini-llava")
        >>> inputs = encode_prompts(vlm, [Image.new("RGB", (64, 64))] * 2, ["What is shown in this picture?", "What?"])
        >>> inputs["attention_mask"][:, 0].tolist()
        [1, 0]
    """
    shown = [image for image in images if image is not None]
    if shown and len(shown) < len(questions):
        raise ValueError("questions with and without an image are no batch")
    texts, in_lists = _prompts(vlm, questions, bool(shown)), not shown or _takes_lists(vlm.processor)
    with unescaped(vlm.processor.tokenizer, texts):
        inputs = dict(
            vlm.processor(
                images=[[image] if in_lists else image for image in shown] or None,
                text=texts,
                padding=True,
                add_special_tokens=_adds_special_tokens(vlm, texts),
                return_tensors="pt",
            )
        )
    # of the prompt, as PaliGemma's processor makes them: with them the model would compute a loss of its own
    inputs.pop("labels", None)
    # Llama 4's images are in bfloat16, whatever the model is in
    low = [key for key, value in inputs.items() if getattr(value, "dtype", None) == torch.bfloat16]
    return inputs if vlm.model is None else inputs | {key: inputs[key].to(vlm.model.dtype) for key in low}


def token_inputs(vlm: VisionLanguageModel) -> tuple[str, ...]:
    """Inputs with an entry per token, (B, L, ...), that the processor makes beside ids and attention mask.

    They are those whose length follows a longer question's; that of ``position_ids`` may be its last dimension.

    Example:
        >>> from safeeraser import models
        >>> token_inputs(models.load("mini-llava"))
        ()
    """
    return _token_inputs(vlm.processor, vlm.name)


@lru_cache(maxsize=32)
def _token_inputs(processor: Any, name: str) -> tuple[str, ...]:
    image = Image.new("RGB", (224, 224))
    short, long = (
        encode_prompts(VisionLanguageModel(name, None, processor), [image], [question])
        for question in ("What is it?", "What is it? " * 8)
    )

    def follows(key: str) -> bool:
        return all(by_token(key, made).shape[:2] == made["input_ids"].shape for made in (short, long))

    return tuple(key for key in short if key not in ("input_ids", "attention_mask") and follows(key))


def by_token(key: str, inputs: Mapping[str, Any]) -> Tensor:
    """An input with the batch first and tokens second: position ids of three dimensions are (3, B, L)."""
    value = torch.as_tensor(inputs[key])
    of_axes = key == "position_ids" and value.dim() == 3 and value.shape[1:] == inputs["input_ids"].shape
    return value.movedim(0, -1) if of_axes else value


def next_entries(vlm: VisionLanguageModel, prompts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What the model's own generation gives the token behind a prompt, (B, 1, ...) for each of the token inputs."""
    given = {key: prompts[key] for key in ("attention_mask", *token_inputs(vlm)) if key in prompts}
    if given.keys() == {"attention_mask"}:
        return {}
    made = vlm.model._update_model_kwargs_for_generation(_NoOutput(), dict(given), False)
    del given["attention_mask"]
    return {key: by_token(key, {**made, "input_ids": made["attention_mask"]})[:, -1:] for key in given}


class _NoOutput(dict[str, Any]):
    """Output of a forward pass that was not made, as generation reads it."""

    image_hidden_states = None


def text_ids(vlm: VisionLanguageModel, questions: Sequence[str]) -> list[list[int]]:
    """Token ids of each prompt with one placeholder for its image, as the template has it."""
    texts, tokenizer = _prompts(vlm, questions), vlm.processor.tokenizer
    with unescaped(tokenizer, texts):
        return list(tokenizer(texts, add_special_tokens=_adds_special_tokens(vlm, texts)).input_ids)


def text_lengths(vlm: VisionLanguageModel, questions: Sequence[str]) -> list[int]:
    """Tokens of each prompt without its image."""
    return [len(row) - 1 for row in text_ids(vlm, questions)]


def _prompts(vlm: VisionLanguageModel, questions: Sequence[str], shown: bool = True) -> list[str]:
    """Questions in the chat template, ready for the answer; to be encoded inside ``unescaped``."""
    tokenizer, thinking = vlm.processor.tokenizer, vlm.thinking
    turns = tuple((escape(tokenizer, asked), escape(tokenizer, answer)) for asked, answer in vlm.preamble.turns)
    before = Preamble(escape(tokenizer, vlm.preamble.system), turns)
    return [_render(vlm.processor, escape(tokenizer, question), shown, thinking, before) for question in questions]


def _adds_special_tokens(vlm: VisionLanguageModel, texts: Sequence[str]) -> bool:
    """Whether the tokenizer has to put the beginning of sequence: some templates write it themselves."""
    return not texts[0].startswith(vlm.processor.tokenizer.bos_token or "\0")


@lru_cache(maxsize=4096)
def _render(
    processor: Any, question: str, shown: bool = True, thinking: bool = False, before: Preamble = _NOTHING
) -> str:
    switches = dict.fromkeys(_switches(processor), thinking)

    def rendered(*first: dict[str, Any]) -> str:
        earlier = [message for pair in before.turns for message in _conversation(*pair, shown=False)]
        turns = [*first, *earlier, *_conversation(question, shown=shown)]
        return render(processor, turns, add_generation_prompt=True, **switches)

    system = before.system.strip()
    if not system:
        return rendered()
    try:
        text = rendered({"role": "system", "content": [{"type": "text", "text": system}]})
    except TemplateError:  # a template that knows no system turn may raise
        text = ""
    if system in text and "'text'" not in text:  # or leave it out, or print its parts as they are
        return text
    if before.turns:
        (asked, answer), *others = before.turns
        turns = ((f"{system}\n\n{asked}", answer), *others)
        return _render(processor, question, shown, thinking, Preamble("", turns))
    return _render(processor, f"{system}\n\n{question}", shown, thinking)


def _conversation(question: str, *answers: str, shown: bool = True) -> list[dict[str, Any]]:
    content = [*([{"type": "image"}] if shown else []), {"type": "text", "text": question}]
    asked = {"role": "user", "content": content}
    return [asked, *({"role": "assistant", "content": [{"type": "text", "text": answer}]} for answer in answers)]

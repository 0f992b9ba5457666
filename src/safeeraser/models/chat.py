"""Talk to a model: prompts and answers to token ids and labels, log-probabilities of answers, batched generation.

The prompt is the processor's own chat template, for training and inference; answer tokens are appended to the very
token ids that inference sees, and end with the token that ends a turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from safeeraser.errors import UserError
from safeeraser.models import VisionLanguageModel, rounds

IGNORED = -100
"""Label of a token that is not learnt."""
_QUESTION, _ANSWER = "QUESTION", "ANSWER"


@dataclass(frozen=True)
class Turn:
    """How a chat template writes an answer after the generation prompt."""

    opening: str
    """What stands between the question and the answer ("ASSISTANT:"); tokenised before an answer, then cut off."""
    lead: str
    """What stands right before the answer's text (often a space)."""
    end: int
    """Token that ends the answer."""


@dataclass(frozen=True)
class AnswerLogProbs:
    """Log-probabilities at answer positions; every row starts at its first answer token."""

    answer: Tensor
    """(B, T) log-probability of the answer's token; 0 after the end."""
    mask: Tensor
    """(B, T) True where there is an answer token (its end token included)."""
    distribution: Tensor | None = None
    """(B, T, V) log-softmax in fp32 at each answer position; after a row's end its values mean nothing."""
    hidden: Tensor | None = None
    """(B, T, H) in fp32: states after the layer asked for, where each answer token is predicted."""


@dataclass(frozen=True)
class Generation:
    """What a model answered; ``finished`` is False where it ran into the token limit."""

    answer: str
    finished: bool


def turn(vlm: VisionLanguageModel) -> Turn:
    """Find out how the model's chat template writes answers.

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
    prompt = _render(processor, _QUESTION)
    answered = processor.apply_chat_template([_question(_QUESTION), _text("assistant", _ANSWER)], tokenize=False)
    if not answered.startswith(prompt) or _ANSWER not in answered[len(prompt) :]:
        raise UserError(
            f"model {name!r}: its chat template does not put the answer right after the generation prompt "
            f"({prompt!r} is no beginning of {answered!r}); training and inference prompts would differ"
        )
    lead, rest = answered[len(prompt) :].split(_ANSWER, 1)
    special = {id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
    ends = [id for id in tokenizer(rest, add_special_tokens=False).input_ids if id in special]
    return Turn(prompt.split(_QUESTION)[-1], lead, ends[0] if ends else tokenizer.eos_token_id)


def encode_prompts(
    vlm: VisionLanguageModel, images: Sequence[Image.Image], questions: Sequence[str]
) -> dict[str, Tensor]:
    """Encode questions about images, ready for ``generate``.

    Args:
        vlm: The model.
        images: One image per question, RGB.
        questions: What to ask.

    Returns:
        The model's inputs, padded on the left; ``input_ids`` and ``attention_mask`` are (B, L).

    Example:
        >>> from safeeraser import models
        >>> vlm = models.load("mini-llava")
        >>> inputs = encode_prompts(vlm, [Image.new("RGB", (64, 64))] * 2, ["What is shown in this picture?", "What?"])
        >>> inputs["attention_mask"][:, 0].tolist()
        [1, 0]
    """
    texts = [_render(vlm.processor, question) for question in questions]
    return dict(
        vlm.processor(
            images=[[image] for image in images],
            text=texts,
            padding=True,
            add_special_tokens=_adds_special_tokens(vlm, texts),
            return_tensors="pt",
        )
    )


def encode_samples(
    vlm: VisionLanguageModel,
    images: Sequence[Image.Image],
    questions: Sequence[str],
    answers: Sequence[str],
    max_length: int,
) -> tuple[dict[str, Tensor], Tensor]:
    """Encode questions with their answers for training.

    Args:
        vlm: The model.
        images: One image per question, RGB.
        questions: What is asked.
        answers: What is to be answered.
        max_length: Longest row in tokens, image tokens not counted; an answer that does not fit is cut and then has no
            end token, so that nobody learns to stop in mid-sentence.

    Returns:
        The model's inputs, padded on the right, and labels (B, L): -100 but for the tokens of the answer and its end.

    Raises:
        UserError: If a question alone takes up ``max_length``.

    Example:
        >>> from safeeraser import models
        >>> vlm = models.load("mini-llava")
        >>> _, labels = encode_samples(vlm, [Image.new("RGB", (64, 64))], ["What?"], ["A bee."], max_length=64)
        >>> vlm.processor.tokenizer.decode(labels[labels != IGNORED])
        ' A bee.</s>'
    """
    prompts = encode_prompts(vlm, images, questions)
    heads: list[int] = prompts["attention_mask"].sum(1).tolist()
    tails = _answer_ids(vlm, answers)
    if max(head + len(tail) for head, tail in zip(heads, tails, strict=True)) > max_length:
        for index, used in enumerate(_text_lengths(vlm, questions)):
            if used >= max_length:
                raise UserError(
                    f"max_length {max_length} leaves no room for an answer: question {questions[index]!r} takes "
                    f"{used} tokens; raise --training.max_length"
                )
            tails[index] = tails[index][: max_length - used]
    length = max(head + len(tail) for head, tail in zip(heads, tails, strict=True))
    labels = torch.full((len(heads), length), IGNORED)
    aligned = {
        key: prompts[key].new_zeros(len(heads), length, *prompts[key].shape[2:])
        for key in ("input_ids", "attention_mask", *vlm.family.token_inputs)
    }
    aligned["input_ids"].fill_(vlm.processor.tokenizer.pad_token_id)
    for row, (head, tail) in enumerate(zip(heads, tails, strict=True)):
        end = head + len(tail)
        for key, value in aligned.items():
            value[row, :head] = prompts[key][row, -head:]
            value[row, head:end] = prompts[key][row, -1]
        aligned["input_ids"][row, head:end] = labels[row, head:end] = torch.tensor(tail)
    return {**prompts, **aligned}, labels


def answer_log_probs(
    model: Any, inputs: Mapping[str, Tensor], labels: Tensor, layer: int | None = None, distribution: bool = False
) -> AnswerLogProbs:
    """Run a batch of ``encode_samples`` and read off the log-probabilities of the answers.

    Logits are made only at positions where some row has an answer token, never over image or padding.

    Args:
        model: The model (plain, PEFT, or wrapped for several processes).
        inputs: The model's inputs.
        labels: (B, L), -100 but for answer tokens.
        layer: Number of the language model's layer, from 1, after which hidden states are wanted too; None: they are
            not.
        distribution: Whether the log-probabilities of the whole vocabulary are wanted too.

    Example:
        >>> from safeeraser import models
        >>> vlm = models.load("mini-llava")
        >>> batch = encode_samples(vlm, [Image.new("RGB", (64, 64))], ["What?"], ["A bee."], max_length=64)
        >>> answer_log_probs(vlm.model, *batch).mask.tolist()
        [[True, True, True, True]]
    """
    labelled = labels != IGNORED
    positions = labelled.any(0).nonzero()[:, 0]
    wanted = {} if layer is None else {"output_hidden_states": True}
    output = model(**inputs, logits_to_keep=positions - 1, use_cache=False, **wanted)
    kept = labelled[:, positions]
    lengths = kept.sum(1)
    first = kept.int().argmax(1)
    steps = torch.arange(int(lengths.max()), device=labels.device)
    mask = steps < lengths[:, None]
    index = (first[:, None] + steps).clamp(max=len(positions) - 1)
    rows = torch.arange(len(labels), device=labels.device)[:, None]
    log_probs = output.logits[rows, index].float().log_softmax(-1)
    tokens = labels[:, positions].gather(1, index).masked_fill(~mask, 0)
    answer = log_probs.gather(-1, tokens[..., None])[..., 0].masked_fill(~mask, 0.0)
    hidden = None if layer is None else output.hidden_states[layer][rows, positions[index] - 1].float()
    return AnswerLogProbs(answer, mask, log_probs if distribution else None, hidden)


def generate(
    vlm: VisionLanguageModel,
    images: Sequence[Image.Image],
    questions: Sequence[str],
    max_new_tokens: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int | None = None,
) -> list[Generation]:
    """Answer one batch of questions.

    Args:
        vlm: The model.
        images: One image per question, RGB.
        questions: What to ask.
        max_new_tokens: Longest answer in tokens, its end included.
        temperature: 0: greedy; else sampling at this temperature.
        top_p: Sample from the most probable tokens that together have this probability.
        seed: Seed of the sampling; the state of torch's generator stays as it was. None: unseeded.

    Example:
        >>> from safeeraser import models
        >>> generate(models.load("mini-llava"), [Image.new("RGB", (64, 64))], ["What is shown?"], 4)[0].finished
        False
    """
    if not questions:
        return []
    tokenizer = vlm.processor.tokenizer
    inputs = {key: value.to(vlm.model.device) for key, value in encode_prompts(vlm, images, questions).items()}
    configured = vlm.model.generation_config.eos_token_id
    ends = {turn(vlm).end, *(configured if isinstance(configured, list) else [configured])} - {None}
    sampling = {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0} if temperature > 0 else {}
    options = {
        **({"do_sample": False, "temperature": None, "top_p": None, "top_k": None} | sampling),
        "num_beams": 1,
        "repetition_penalty": 1.0,
        "eos_token_id": sorted(ends),
        "pad_token_id": tokenizer.pad_token_id,
    }
    # what is sampled depends on who is in the batch, and tokens with inputs of their own cannot be gone on from
    at_once = max_new_tokens if sampling or vlm.family.token_inputs else rounds.ROUND
    with torch.random.fork_rng(enabled=seed is not None), torch.inference_mode():
        if seed is not None:
            torch.manual_seed(seed)
        new = rounds.generate(vlm.model, inputs, max_new_tokens, at_once, options)
    finished = torch.isin(new, torch.tensor(sorted(ends), device=new.device)).any(1).tolist()
    texts = tokenizer.batch_decode(new, skip_special_tokens=True)
    return [Generation(text.strip(), end) for text, end in zip(texts, finished, strict=True)]


def _answer_ids(vlm: VisionLanguageModel, answers: Sequence[str]) -> list[list[int]]:
    """Token ids of answers as they would follow the generation prompt, each with its end token."""
    form, tokenizer = turn(vlm), vlm.processor.tokenizer
    opening = tokenizer(form.opening, add_special_tokens=False).input_ids
    texts = [form.opening + form.lead + answer.strip() for answer in answers]
    # tokenised behind the opening, as some tokenizers put a space before the first word of a text
    whole = tokenizer(texts, add_special_tokens=False).input_ids
    start = len(opening)
    if all(joined[:start] == opening for joined in whole):
        return [[*joined[start:], form.end] for joined in whole]
    # but where the tokenizer merges the last of the opening with the first of the answer, the answer stands alone
    alone = tokenizer([form.lead + answer.strip() for answer in answers], add_special_tokens=False).input_ids
    return [
        [*(joined[start:] if joined[:start] == opening else own), form.end]
        for joined, own in zip(whole, alone, strict=True)
    ]


def _text_lengths(vlm: VisionLanguageModel, questions: Sequence[str]) -> list[int]:
    """Tokens of each prompt without its image: the template has one placeholder for it."""
    texts = [_render(vlm.processor, question) for question in questions]
    ids = vlm.processor.tokenizer(texts, add_special_tokens=_adds_special_tokens(vlm, texts)).input_ids
    return [len(row) - 1 for row in ids]


def _adds_special_tokens(vlm: VisionLanguageModel, texts: Sequence[str]) -> bool:
    """Whether the tokenizer has to put the beginning of sequence: some templates write it themselves."""
    bos = vlm.processor.tokenizer.bos_token
    return not (bos and texts[0].startswith(bos))


@lru_cache(maxsize=4096)
def _render(processor: Any, question: str) -> str:
    rendered: str = processor.apply_chat_template([_question(question)], add_generation_prompt=True, tokenize=False)
    return rendered


def _question(question: str) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}


def _text(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "text": text}]}

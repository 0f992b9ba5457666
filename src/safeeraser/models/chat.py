"""Prompts and answers to token ids and labels, log-probabilities of answers, batched generation.

The prompt is the processor's own chat template, for training and inference; answer tokens are appended to the very
token ids that inference sees, and end with the token that ends a turn. Control tokens in texts of data are text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from safeeraser.core.errors import UserError
from safeeraser.core.files import stable_hash
from safeeraser.models import Preamble, VisionLanguageModel, decode, prefix
from safeeraser.models.control_tokens import escape, problem, unescaped
from safeeraser.models.packed_mask import PackedMask, block_mask
from safeeraser.models.prompts import Turn as Turn
from safeeraser.models.prompts import by_token, next_entries, reasoning_begun, reasoning_tags, text_lengths
from safeeraser.models.prompts import encode_prompts as encode_prompts
from safeeraser.models.prompts import token_inputs as token_inputs
from safeeraser.models.prompts import turn as turn
from safeeraser.objectives import by_position

IGNORED = -100
"""Label of a token that is not learnt."""


@dataclass(frozen=True)
class AnswerLogProbs:
    """Log-probabilities at answer positions; every row starts at its first answer token."""

    answer: Tensor
    """(B, T) log-probability of the answer's token; 0 after the end."""
    mask: Tensor
    """(B, T) True where there is an answer token (its end token included)."""
    logits: tuple[Tensor, ...] = ()
    """(t, V) of each row: what the whole vocabulary's probabilities at its t answer positions are made of."""
    hidden: Tensor | None = None
    """(B, T, H) in fp32: states after the layer asked for, where each answer token is predicted."""
    tokens: Tensor | None = None
    """(B, T) ids of the answer's tokens; 0 after the end."""


@dataclass(frozen=True)
class Generation:
    """Answer of a model; ``finished`` is False where it ran into the token limit."""

    answer: str
    finished: bool
    error: str | None = None
    """Why the question could not be asked."""


def encode_samples(
    vlm: VisionLanguageModel,
    images: Sequence[Image.Image | None],
    questions: Sequence[str],
    answers: Sequence[str],
    max_length: int,
) -> tuple[dict[str, Tensor], Tensor]:
    """Encode questions with their answers for training.

    Args:
        vlm: The model.
        images: One image per question, RGB; None, for all of them alike: questions without an image.
        questions: What is asked.
        answers: What is to be answered.
        max_length: Longest row in tokens, image tokens not counted; an answer that does not fit is cut and then has no
            end token, so that nobody learns to stop in mid-sentence.

    Returns:
        The model's inputs, padded on the right, and labels (B, L): -100 but for the tokens of the answer and its end.

    Raises:
        UserError: If a question alone takes up ``max_length``, or as ``encode_prompts``.

    Example:
        >>> from safeeraser import models
        >>> vlm = models.load("mini-llava")
        >>> _, labels = encode_samples(vlm, [Image.new("RGB", (64, 64))], ["What?"], ["A bee."], max_length=64)
        >>> vlm.processor.tokenizer.decode(labels[labels != IGNORED])
        ' A bee.</s>'
    """
    prompts = encode_prompts(vlm, images, questions)
    seen = prompts["attention_mask"].bool()
    heads: list[int] = seen.sum(1).tolist()
    tails = _answer_ids(vlm, answers)
    if max(head + len(tail) for head, tail in zip(heads, tails, strict=True)) > max_length:
        for index, used in enumerate(text_lengths(vlm, questions)):
            if used >= max_length:
                raise UserError(
                    f"max_length {max_length} leaves no room for an answer: question {questions[index]!r} takes "
                    f"{used} tokens; raise --training.max_length"
                )
            tails[index] = tails[index][: max_length - used]
    length = max(head + len(tail) for head, tail in zip(heads, tails, strict=True))
    labels = torch.full((len(heads), length), IGNORED)
    following = next_entries(vlm, prompts)
    given = {key: by_token(key, prompts) for key in ("input_ids", "attention_mask", *following)}
    aligned = {key: value.new_zeros(len(heads), length, *value.shape[2:]) for key, value in given.items()}
    aligned["input_ids"].fill_(vlm.processor.tokenizer.pad_token_id)
    for row, (head, tail) in enumerate(zip(heads, tails, strict=True)):
        end = head + len(tail)
        for key, value in aligned.items():
            value[row, :head] = given[key][row][seen[row]]  # BLIP-2 pads between image and text
            value[row, head:end] = following[key][row] if key in following else 1
        if "position_ids" in following:
            places = torch.arange(len(tail)).view(-1, *[1] * (aligned["position_ids"].dim() - 2))
            aligned["position_ids"][row, head:end] += places
        aligned["input_ids"][row, head:end] = labels[row, head:end] = torch.tensor(tail)
    if "position_ids" in aligned and prompts["position_ids"].shape[:2] != prompts["input_ids"].shape:
        aligned["position_ids"] = aligned["position_ids"].movedim(-1, 0)
    return {**prompts, **aligned}, labels


def fingerprint(vlm: VisionLanguageModel) -> str:
    """Hash of the tokens that a question with its answer becomes: of chat template, tokenizer and size of images.

    What it is a hash of lies beside the weights, and changes without them: on the hub, or by hand.

    Example:
        >>> from safeeraser import models
        >>> vlm = models.load("mini-llava")
        >>> fingerprint(vlm) == fingerprint(replace(vlm, thinking=True))
        True
    """
    plain, image = replace(vlm, preamble=Preamble(), thinking=False), Image.new("RGB", (336, 336), "red")
    inputs, labels = encode_samples(plain, [image], ["What is shown?"], ["One colour, and nothing else."], 10**6)
    return stable_hash(inputs["input_ids"].tolist(), labels.tolist())


def answer_log_probs(
    model: Any, inputs: Mapping[str, Tensor], labels: Tensor, layer: int | None = None
) -> AnswerLogProbs:
    """Run a batch of ``encode_samples``, packed or not, and read off the log-probabilities of the answers.

    Logits are made where a row has an answer token, never over image or padding, and are all of the vocabulary's size
    that is kept.

    Args:
        model: The model (plain, PEFT, or wrapped for several processes).
        inputs: The model's inputs.
        labels: (B, L), -100 but for answer tokens; a row of the result is a run of these.
        layer: Number of the language model's layer, from 1, after which hidden states are wanted too; None: they are
            not.

    Example:
        >>> from safeeraser import models
        >>> vlm = models.load("mini-llava")
        >>> batch = encode_samples(vlm, [Image.new("RGB", (64, 64))], ["What?"], ["A bee."], max_length=64)
        >>> answer_log_probs(vlm.model, *batch).mask.tolist()
        [[True, True, True, True]]
    """
    labelled = labels != IGNORED
    of, place = labelled.nonzero(as_tuple=True)
    # before each answer stands a prompt, also where several rows are packed into one sequence
    row = (labelled & ~labelled.roll(1, 1)).flatten().cumsum(0)[labelled.flatten()] - 1
    lengths = row.bincount()
    mask = torch.arange(int(lengths.max()), device=labels.device) < lengths[:, None]

    def by_row(values: Tensor) -> Tensor:
        padded = values.new_zeros(*mask.shape, *values.shape[1:])
        padded[mask] = values
        return padded

    said, states = _outputs(model, inputs, (of, place - 1), layer)
    tokens, logits = by_row(labels[labelled]), torch.split(said, lengths.tolist())
    hidden = None if states is None else by_row(states)
    return AnswerLogProbs(by_position(_of_token, mask, tokens, logits), mask, logits, hidden, tokens)


def _of_token(tokens: Tensor, said: Tensor) -> Tensor:
    return said.gather(-1, tokens[:, None])[:, 0]


def _outputs(
    model: Any, inputs: Mapping[str, Tensor], at: tuple[Tensor, Tensor], layer: int | None
) -> tuple[Tensor, Tensor | None]:
    """Logits (N, V), and states in fp32 (N, H) after ``layer``, at positions (sequences and places in these)."""
    places, column = torch.unique(at[1], return_inverse=True)

    def select(module: Any, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return given[0][at[0], column][None], *given[1:]

    # the library keeps the same places of every sequence; the head is to see those of answers alone
    bare = getattr(model, "module", model)
    head = bare.get_output_embeddings()
    hook = None if head is None else head.register_forward_pre_hook(select)
    try:
        wanted = {} if layer is None else {"output_hidden_states": True}
        output = model(**_with_mask(bare, inputs), logits_to_keep=places, use_cache=False, **wanted)
    finally:
        if hook is not None:
            hook.remove()
    # flattened, not indexed: the gradient of an index is made anew, and as large as all logits
    logits = output.logits.flatten(0, 1) if hook is not None else output.logits[at[0], column]
    return logits, None if layer is None else output.hidden_states[layer][at].float()


def _with_mask(model: Any, inputs: Mapping[str, Tensor]) -> dict[str, Any]:
    """Inputs with the mask of packed rows, (1, 1, L, L), in place of ``runs`` (see ``packing.pack``)."""
    made: dict[str, Any] = dict(inputs)
    if (runs := made.pop("runs", None)) is not None:
        is_flex = model.config.get_text_config()._attn_implementation == "flex_attention"
        made["attention_mask"] = block_mask(runs) if is_flex else PackedMask(runs)
    return made


def generate(
    vlm: VisionLanguageModel,
    images: Sequence[Image.Image | None],
    questions: Sequence[str],
    max_new_tokens: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int | None = None,
) -> list[Generation]:
    """Answer one batch of questions; those about one image (the same object) share what the model reads of it.

    Args:
        vlm: The model.
        images: One image per question, RGB; None, for all of them alike: questions without an image.
        questions: What to ask; one that cannot be encoded gets an error, and the others are asked without it.
        max_new_tokens: Longest answer in tokens, its end included.
        temperature: 0: greedy; else sampling at this temperature.
        top_p: Sample from the most probable tokens that together have this probability.
        seed: Seed of the sampling; the state of torch's generator stays as it was. None: unseeded.

    Example:
        >>> from safeeraser import models
        >>> generate(models.load("mini-llava"), [Image.new("RGB", (64, 64))], ["What is shown?"], 4)[0].finished
        False
    """
    problems = [problem(vlm.processor.tokenizer, question) for question in questions]
    settled = {row: Generation("", False, error) for row, error in enumerate(problems) if error is not None}
    if vlm.gate is not None:
        rows = [row for row in range(len(questions)) if row not in settled]
        given = zip(rows, vlm.gate([questions[row] for row in rows]), strict=True)
        settled |= {row: Generation(answer, True) for row, answer in given if answer is not None}
    if settled:
        rows, ungated = [row for row in range(len(questions)) if row not in settled], replace(vlm, gate=None)
        images, questions = [images[row] for row in rows], [questions[row] for row in rows]
        made = generate(ungated, images, questions, max_new_tokens, temperature, top_p, seed)
        settled |= dict(zip(rows, made, strict=True))
        return [settled[row] for row in range(len(problems))]
    if not questions:
        return []
    tokenizer = vlm.processor.tokenizer
    if (pictures := prefix.numbers(images)) is not None and (way := prefix.keeping(vlm)) is not None:
        inputs, cache = prefix.share(vlm, pictures, images, questions, way)
    else:
        inputs, cache = encode_prompts(vlm, images, questions), None
    inputs = {key: _on(vlm.model.device, value) for key, value in inputs.items()}
    configured = vlm.model.generation_config.eos_token_id
    ends = sorted({turn(vlm).end, *(configured if isinstance(configured, list) else [configured])} - {None})
    config = decode.settings(ends, tokenizer.pad_token_id, temperature, top_p)
    # what is sampled depends on who is in the batch, and tokens with inputs of their own cannot be gone on from
    in_rounds = not config.do_sample and not token_inputs(vlm) and decode.can_go_on(vlm.model)
    round_tokens = decode.ROUND if in_rounds else max_new_tokens
    with torch.random.fork_rng(enabled=seed is not None), torch.inference_mode():
        if seed is not None:
            torch.manual_seed(seed)
        new = decode.generate(vlm.model, inputs, max_new_tokens, config, round_tokens, cache)
    finished = torch.isin(new, torch.tensor(ends, device=new.device)).any(1).tolist()
    begun = reasoning_begun(vlm)
    texts = ((begun + text).strip() for text in _decoded(vlm.processor, new.tolist()))
    return list(map(Generation, texts, finished))


def _on(device: Any, value: Any) -> Any:
    """An input on the model's device: a tensor, or a list of them, of sizes that differ."""
    if isinstance(value, list):
        return [_on(device, member) for member in value]
    return value.to(device) if isinstance(value, Tensor) else value


def _decoded(processor: Any, rows: list[list[int]]) -> list[str]:
    """Texts of token ids without special tokens, those apart that stand around reasoning."""
    tags = reasoning_tags(processor)
    if tags.isdisjoint(token for row in rows for token in row):
        return list(processor.tokenizer.batch_decode(rows, skip_special_tokens=True))
    hidden = {id for id, token in processor.tokenizer.added_tokens_decoder.items() if token.special} - tags
    kept = [[token for token in row if token not in hidden] for row in rows]
    return list(processor.tokenizer.batch_decode(kept, skip_special_tokens=False))


def _answer_ids(vlm: VisionLanguageModel, answers: Sequence[str]) -> list[list[int]]:
    """Token ids of answers as they would follow the generation prompt, each with its end token."""
    form, tokenizer = turn(vlm), vlm.processor.tokenizer
    texts = [form.lead + escape(tokenizer, answer.strip()) for answer in answers]
    opening = tokenizer(form.opening, add_special_tokens=False).input_ids
    start = len(opening)
    with unescaped(tokenizer, texts):
        # tokenised behind the opening, as some tokenizers put a space before the first word of a text
        whole = tokenizer([form.opening + text for text in texts], add_special_tokens=False).input_ids
        if all(joined[:start] == opening for joined in whole):
            return [[*joined[start:], form.end] for joined in whole]
        # but where the tokenizer merges the last of the opening with the first of the answer, the answer stands alone
        alone = tokenizer(texts, add_special_tokens=False).input_ids
    rows = (joined[start:] if joined[:start] == opening else own for joined, own in zip(whole, alone, strict=True))
    return [[*row, form.end] for row in rows]

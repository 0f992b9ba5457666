"""Rows about one image behind the beginning that they share, image included; images behind one another.

An image is hundreds of tokens and a question with its answer a hundred or two, so that most of a batch is the same
image over and over. In ``[shared][rest of row 1][rest of row 2]...`` each rest has the position ids that it has in
its own row and sees the shared beginning and itself (``packed_mask``); log-probabilities, hidden states and gradients
are those of the rows one by one, but for rounding. All images stand in one sequence, so that nothing is padded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from safeeraser.core.errors import UserError
from safeeraser.models import VisionLanguageModel, chat, prefix
from safeeraser.models.prefix import common, of_first_rows, precision, rounding
from safeeraser.models.prompts import by_token, token_inputs

MOST_ROWS = 16
"""Rows about an image behind one beginning."""
LEAST_SAVED = 10**9
"""Tokens that rows about an image share, times the model's weights, from which packing pays however few they are: it
does for SmolLLaVA's 30 tokens and 135M weights, not for as many of MiniLLaVA's and 1.8M."""
_QUESTIONS = ["What is shown?", "Which colours does this picture have?", "Is this a picture?"]
_ANSWERS = ["Yes, it is.", "It shows one colour, and nothing else.", "No."]


def pays(vlm: VisionLanguageModel) -> bool:
    """Whether packed rows take less time in training than rows one by one, if the model can be packed.

    Example:
        >>> from safeeraser import models
        >>> pays(models.load("mini-llava"))
        False
    """
    shared, weights = prefix.tokens_shared(vlm), sum(parameter.numel() for parameter in vlm.model.parameters())
    return shared >= prefix.LEAST_SHARED or shared * weights >= LEAST_SAVED


def groups(pictures: Sequence[str], least: int = 1) -> list[list[int]]:
    """Rows that stand behind one beginning: those with one image, in as few and as equal parts as are allowed.

    Args:
        pictures: Of the rows.
        least: Number of parts in all that there are to be at least, of as many rows or more.

    Example:
        >>> groups(["cat", "dog", "cat"])
        [[0, 2], [1]]
    """
    of: dict[str, list[int]] = {}
    for row, picture in enumerate(pictures):
        of.setdefault(picture, []).append(row)
    found = []
    for rows in of.values():
        size = math.ceil(len(rows) / math.ceil(len(rows) / MOST_ROWS))
        found += [rows[start : start + size] for start in range(0, len(rows), size)]
    while len(found) < least:
        longest = found.pop(max(range(len(found)), key=lambda at: len(found[at])))
        found += [longest[::2], longest[1::2]]
    return found


def pack(
    vlm: VisionLanguageModel,
    images: Sequence[Image.Image],
    questions: Sequence[str],
    encoded: tuple[Mapping[str, Tensor], Tensor],
    sizes: Sequence[int],
) -> tuple[dict[str, Tensor], Tensor]:
    """Pack rows of ``chat.encode_samples`` into one sequence, for ``chat.answer_log_probs``.

    Args:
        vlm: The model, one that ``obstacle`` has nothing against.
        images: Of the rows.
        questions: Of the rows.
        encoded: What ``encode_samples`` made of the rows: inputs and labels.
        sizes: Number of rows about each image; they lie one behind the other.

    Returns:
        Inputs and labels of the sequence, (1, T). In place of ``attention_mask`` the inputs have ``runs``, (images, 1
        + rows): how many tokens the rows about an image share, then how many more each has; 0 where there is no row.
    """
    inputs, labels = encoded
    prompts = (labels != chat.IGNORED).int().argmax(1)
    lengths = inputs["attention_mask"].sum(1).tolist()
    firsts = [sum(sizes[:index]) for index in range(len(sizes))]
    runs, pieces = [], []
    for first, size in zip(firsts, sizes, strict=True):
        rows = range(first, first + size)
        # each row keeps the last token of its prompt, so that its first answer token is predicted in its own part
        most = int(prompts[first : first + size].min()) - 1
        shared = common(inputs["input_ids"][first : first + size, :most])
        runs.append(torch.tensor([shared, *(lengths[row] - shared for row in rows)]))
        pieces += [(first, 0, shared), *((row, shared, lengths[row]) for row in rows)]
    source = torch.cat([torch.full((end - start,), row) for row, start, end in pieces])[None]
    place = torch.cat([torch.arange(start, end) for _, start, end in pieces])[None]
    by_row = {"input_ids", "attention_mask", *token_inputs(vlm)}
    of_tokens = {key: by_token(key, inputs)[source, place] for key in by_row - {"attention_mask"}}
    positions = {"input_ids": inputs["input_ids"], "position_ids": _positions(vlm, inputs)}
    of_tokens["position_ids"] = by_token("position_ids", positions)[source, place]
    if of_tokens["position_ids"].dim() == 3:
        of_tokens["position_ids"] = of_tokens["position_ids"].movedim(-1, 0)
    of_images = of_first_rows(vlm, inputs, by_row | {"position_ids"}, firsts, images, questions)
    return {**of_images, **of_tokens, "runs": pad_sequence(runs, batch_first=True)}, labels[source, place]


def _positions(vlm: VisionLanguageModel, inputs: Mapping[str, Tensor]) -> Tensor:
    """Position ids of the rows, as the model makes them itself: (B, L) or (axes, B, L)."""
    if "position_ids" in inputs:
        return inputs["position_ids"]
    made: Tensor = _without_adapter(vlm)._prepare_position_ids_for_generation(inputs["input_ids"], dict(inputs))
    return made


def obstacle(vlm: VisionLanguageModel, max_length: int, compare: bool = True) -> str | None:
    """Why rows of this model cannot be packed; None: they can.

    The model is asked: what its layers keep, how it attends, which inputs it reads, and at last for the
    log-probabilities of a few rows, packed and one by one.

    Args:
        vlm: The model.
        max_length: Longest row in tokens, image tokens not counted.
        compare: Whether to run the model for the last question.

    Example:
        >>> from safeeraser import models
        >>> obstacle(models.load("mini-llava", attention="eager"), 512)
        'its attention is eager, and only sdpa and flex_attention take the mask'
    """
    config = vlm.model.config
    text = config.get_text_config()
    if config.is_encoder_decoder:
        return "it is an encoder-decoder"
    if text._attn_implementation not in ("sdpa", "flex_attention"):
        return f"its attention is {text._attn_implementation}, and only sdpa and flex_attention take the mask"
    layers = DynamicCache(config=config).layers
    if not all(isinstance(layer, DynamicLayer) for layer in layers):
        return "layers of its language model keep a state of all that came before"
    # of what is made for every token, a model that makes positions of its own reads the type for these alone
    makes_positions = hasattr(_without_adapter(vlm).base_model, "get_rope_index")
    known = {"position_ids"} | ({"mm_token_type_ids"} if makes_positions else set())
    unknown = sorted({*token_inputs(vlm)} - known)
    if unknown:
        return f"it reads {', '.join(unknown)} beside the attention mask"
    images = [Image.new("RGB", (336, 336), colour) for colour in ("red", "red", "blue")]
    try:
        encoded = chat.encode_samples(vlm, images, _QUESTIONS, _ANSWERS, max_length)
        of_question = sorted(
            key
            for key, value in encoded[0].items()
            if key not in ("input_ids", "attention_mask", *token_inputs(vlm))
            and len(value) == len(images)
            and not torch.equal(value[0], value[1])
        )
        if of_question:  # InstructBLIP's Q-Former reads the question beside the image
            return f"its {', '.join(of_question)} depend on the question"
        window = min((getattr(layer, "sliding_window", None) or math.inf for layer in layers), default=math.inf)
        if encoded[1].shape[1] + max_length > window:
            return f"some of its layers see no more than the last {window} tokens"
        packed = pack(vlm, images, _QUESTIONS, encoded, [2, 1])
        if not compare:
            return None
        apart, together = (_asked(vlm, *batch) for batch in (encoded, packed))
    except UserError:
        raise
    except Exception as error:  # whatever a model of another kind raises of a mask of four dimensions
        return f"{type(error).__name__}: {error}".split("\n")[0]
    difference = float((apart - together).abs().mean())
    if not difference < rounding(vlm):
        return f"log-probabilities of packed rows differ by {difference:.2g} a token from those of rows one by one"
    return None


def _asked(vlm: VisionLanguageModel, inputs: Mapping[str, Tensor], labels: Tensor) -> Tensor:
    """Log-probabilities of all answer tokens, without dropout."""
    was_training, device = vlm.model.training, vlm.model.device
    vlm.model.eval()
    moved = {key: value.to(device) for key, value in inputs.items()}
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=precision(vlm) == torch.bfloat16)  # as in training
    try:
        with torch.no_grad(), autocast:
            found = chat.answer_log_probs(vlm.model, moved, labels.to(device))
    finally:
        vlm.model.train(was_training)
    return found.answer[found.mask]


def _without_adapter(vlm: VisionLanguageModel) -> Any:
    return vlm.model.get_base_model() if hasattr(vlm.model, "get_base_model") else vlm.model

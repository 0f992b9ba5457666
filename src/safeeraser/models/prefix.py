"""Prompts that begin alike: the model reads the beginning once, and its keys and values serve all of them.

Questions about one image share the image, hundreds of tokens, and little else is as long. Each row of a batch is
laid out as ``[beginning][padding][rest]``; the mask hides the padding, so that positions, and with them the logits, are
those of the row by itself, but for rounding. Keys and values of a beginning are kept once (``SharedCache``) where the
model's attention is sdpa's, else once for every row.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
from PIL import Image
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache

from safeeraser.core.errors import UserError
from safeeraser.models import VisionLanguageModel, decode
from safeeraser.models.prompts import encode_prompts, text_ids, token_inputs
from safeeraser.models.shared_cache import SharedCache

LEAST_SHARED = 64
"""Tokens that prompts have to share: with fewer, as of MiniLLaVA's 16 per image, a mask costs more than it saves. In
training a large model's may be fewer (``packing.LEAST_SAVED``)."""
_QUESTIONS = ["What is shown?", "Which colours does this picture have?", "Is this a picture?"]
Keeping = Literal["once", "by row"]
"""How keys and values of a beginning are kept."""
_KNOWN: WeakKeyDictionary[Any, Keeping | None] = WeakKeyDictionary()


def pays(vlm: VisionLanguageModel) -> bool:
    """Whether a model can share what prompts have in common, and an image is enough tokens for it; asked once a model.

    Example:
        >>> from safeeraser import models
        >>> pays(models.load("mini-llava"))
        False
    """
    return keeping(vlm) is not None


def keeping(vlm: VisionLanguageModel) -> Keeping | None:
    """How a model keeps what prompts have in common; None: it shares nothing. It is tried, once a model.

    Example:
        >>> from safeeraser import models
        >>> keeping(models.load("mini-llava")) is None
        True
    """
    if vlm.model not in _KNOWN:
        ways: tuple[Keeping, ...] = ("once", "by row") if tokens_shared(vlm) >= LEAST_SHARED else ()
        _KNOWN[vlm.model] = next((way for way in ways if obstacle(vlm, way) is None), None)
    return _KNOWN[vlm.model]


def tokens_shared(vlm: VisionLanguageModel) -> int:
    """About how many tokens prompts about one image have in common: those of a short one, image included.

    Example:
        >>> from safeeraser import models
        >>> 16 <= tokens_shared(models.load("mini-llava")) < LEAST_SHARED
        True
    """
    image = Image.new("RGB", (336, 336), "red")
    return int(encode_prompts(vlm, [image], _QUESTIONS[:1])["input_ids"].shape[1])


def obstacle(vlm: VisionLanguageModel, way: Keeping = "by row") -> str | None:
    """Why a model cannot go on from the keys and values of a shared beginning, kept in some way; None: it can.

    Example:
        >>> from safeeraser import models
        >>> obstacle(models.load("mini-llava")) is None
        True
    """
    if vlm.model.config.is_encoder_decoder:
        return "it is an encoder-decoder"
    if unknown := sorted(token_inputs(vlm)):
        return f"it reads {', '.join(unknown)} beside the attention mask"
    if not decode.can_go_on(vlm.model):
        return "its cache cannot be gone on from with ids and mask alone"
    if any(getattr(layer, "is_sliding", False) for layer in DynamicCache(config=vlm.model.config).layers):
        return "some of its layers see the last tokens only"
    images = [Image.new("RGB", (336, 336), colour) for colour in ("red", "red", "blue")]
    try:
        inputs = encode_prompts(vlm, images, _QUESTIONS)
        apart = _first_logits(vlm, inputs, None)
        laid, cache = share(vlm, [0, 0, 1], images, _QUESTIONS, way)
        if _tokens(inputs) != _tokens(laid):
            return "its prompts cannot be put together of what they have in common and what not"
        together = _first_logits(vlm, laid, cache)
    except UserError:
        raise
    except Exception as error:  # whatever a model of another kind raises of such a mask
        return f"{type(error).__name__}: {error}".split("\n")[0]
    difference = float((apart - together).abs().mean())
    if not difference < rounding(vlm):
        return (
            f"log-probabilities behind a shared beginning differ by {difference:.2g} from those of rows by themselves"
        )
    return None


def share(
    vlm: VisionLanguageModel,
    pictures: Sequence[int],
    images: Sequence[Image.Image | None],
    questions: Sequence[str],
    way: Keeping = "by row",
) -> tuple[dict[str, Tensor], DynamicCache]:
    """Run the model on what the prompts about each image have in common.

    Args:
        vlm: The model, one that ``obstacle`` has nothing against.
        pictures: Of each row, the number of its image, from 0 in the order of their first rows.
        images: Of the rows.
        questions: Of the rows.
        way: How the cache is to keep the beginnings, see ``keeping``.

    Returns:
        Ids and mask of the rows, and the cache in which their beginnings are: what ``generate`` goes on from.
    """
    firsts = [pictures.index(number) for number in range(max(pictures) + 1)]
    of_images, prompts = _encode(vlm, pictures, firsts, images, questions)
    shared = []
    for number in range(len(firsts)):
        about_one = [prompt for prompt, of in zip(prompts, pictures, strict=True) if of == number]
        most = min(map(len, about_one)) - 1  # the last token of a prompt says what comes next
        shared.append(common(torch.stack([prompt[:most] for prompt in about_one])))
    pad, device = vlm.processor.tokenizer.pad_token_id, vlm.model.device
    beginnings = pad_sequence([prompts[f][:n] for f, n in zip(firsts, shared, strict=True)], True, pad)
    seen = (torch.arange(beginnings.shape[1]) < torch.tensor(shared)[:, None]).long()
    once = {**of_images, "input_ids": beginnings, "attention_mask": seen}
    cache = decode.preallocated_cache(vlm.model.config)
    of_row = torch.tensor(pictures)
    with torch.inference_mode():
        vlm.model(**{k: v.to(device) for k, v in once.items()}, past_key_values=cache, use_cache=True, logits_to_keep=1)
        if way == "once":
            cache = SharedCache(cache, of_row.to(device), seen.bool())
        else:
            cache.batch_select_indices(of_row.to(device))
    rests = [prompt[shared[number] :] for prompt, number in zip(prompts, pictures, strict=True)]
    rest = pad_sequence(rests, True, pad, padding_side="left")
    lengths = torch.tensor([len(row) for row in rests])
    shown = (torch.arange(rest.shape[1]) >= rest.shape[1] - lengths[:, None]).long()
    rows, shown = torch.cat([beginnings[of_row], rest], 1), torch.cat([seen[of_row], shown], 1)
    return {"input_ids": rows.to(device), "attention_mask": shown.to(device)}, cache


def _encode(
    vlm: VisionLanguageModel,
    pictures: Sequence[int],
    firsts: Sequence[int],
    images: Sequence[Image.Image | None],
    questions: Sequence[str],
) -> tuple[dict[str, Tensor], list[Tensor]]:
    """What the model reads of each image, and the token ids of every row; each image is processed once."""
    once = encode_prompts(vlm, [images[first] for first in firsts], [questions[first] for first in firsts])
    ids, mask = once.pop("input_ids"), once.pop("attention_mask").bool()
    with_image = [row[kept] for row, kept in zip(ids, mask, strict=True)]
    plain = text_ids(vlm, questions)
    prompts = [with_rest(with_image[of], plain[firsts[of]], row) for of, row in zip(pictures, plain, strict=True)]
    if any(prompt is None for prompt in prompts):
        inputs = encode_prompts(vlm, images, questions)
        prompts = [row[kept] for row, kept in zip(inputs["input_ids"], inputs["attention_mask"].bool(), strict=True)]
    return once, [prompt for prompt in prompts if prompt is not None]


def with_rest(prompt: Tensor, plain: Sequence[int], other: Sequence[int]) -> Tensor | None:
    """Another prompt about the image of a prompt, whose tokens stay; None: they cannot be told from the texts.

    Args:
        prompt: (L,) ids, those of the image included.
        plain: The prompt's ids with a placeholder for the image.
        other: Those of the other prompt.

    Example:
        >>> with_rest(torch.tensor([1, 9, 9, 9, 5, 6]), [1, 9, 5, 6], [1, 9, 7]).tolist()
        [1, 9, 9, 9, 7]
        >>> with_rest(torch.tensor([1, 5, 9, 9, 6]), [1, 5, 9, 6], [1, 7, 9, 6]) is None
        True
    """
    whole = prompt.tolist()
    same = _alike(plain, other)
    grown = _alike(plain, whole)  # the image is here, or its first token has already been passed
    placeholder = grown - 1 if 0 < grown < len(whole) and whole[grown] == plain[grown - 1] else grown
    end = len(whole) - (len(plain) - same)
    if placeholder >= same or whole[end:] != list(plain[same:]):
        return None
    return torch.tensor([*whole[:end], *other[same:]])


def _alike(first: Sequence[int], second: Sequence[int]) -> int:
    pairs = zip(first, second, strict=False)
    return next((at for at, (one, other) in enumerate(pairs) if one != other), min(len(first), len(second)))


def numbers(images: Sequence[Image.Image | None]) -> list[int] | None:
    """Number of each row's image, for ``share``; None where none has more than one row.

    Example:
        >>> cat, dog = Image.new("RGB", (1, 1)), Image.new("RGB", (1, 1))
        >>> numbers([cat, dog, cat]), numbers([cat, dog]), numbers([None, None])
        ([0, 1, 0], None, None)
    """
    if any(image is None for image in images):
        return None
    of: dict[int, int] = {}
    found = [of.setdefault(id(image), len(of)) for image in images]
    return found if len(of) < len(found) else None


def _tokens(inputs: Mapping[str, Tensor]) -> list[list[int]]:
    rows = zip(inputs["input_ids"].cpu(), inputs["attention_mask"].bool().cpu(), strict=True)
    return [row[kept].tolist() for row, kept in rows]


def _first_logits(vlm: VisionLanguageModel, inputs: Mapping[str, Tensor], cache: DynamicCache | None) -> Tensor:
    """Log-probabilities of the token behind each prompt."""
    config = decode.settings([vlm.processor.tokenizer.eos_token_id], vlm.processor.tokenizer.pad_token_id)
    config.update(max_new_tokens=1, output_logits=True, return_dict_in_generate=True)
    moved = {key: value.to(vlm.model.device) for key, value in inputs.items()}
    cache = decode.preallocated_cache(vlm.model.config) if cache is None else cache
    with torch.inference_mode():
        (logits,) = vlm.model.generate(**moved, generation_config=config, past_key_values=cache).logits
    return torch.as_tensor(logits).float().log_softmax(-1)


def common(ids: Tensor) -> int:
    """Tokens that rows (B, L) have in common from their beginning.

    Example:
        >>> common(torch.tensor([[1, 2, 3, 4], [1, 2, 5, 4]]))
        2
    """
    return int((ids == ids[0]).all(0).int().cumprod(0).sum())


def of_first_rows(
    vlm: VisionLanguageModel,
    inputs: Mapping[str, Tensor],
    by_token: Collection[str],
    firsts: Sequence[int],
    images: Sequence[Image.Image | None],
    questions: Sequence[str],
) -> dict[str, Tensor]:
    """What the model reads of images (all inputs but those of tokens), for some of the rows."""
    found = {key: value for key, value in inputs.items() if key not in by_token}
    if all(len(value) == len(images) for value in found.values()):
        return {key: value[list(firsts)] for key, value in found.items()}
    # patches or tiles of all images in a row: let the processor say which are whose
    once = encode_prompts(vlm, [images[first] for first in firsts], [questions[first] for first in firsts])
    return {key: once[key] for key in found}


def rounding(vlm: VisionLanguageModel) -> float:
    """Largest mean difference of a token's log-probability that is put down to rounding."""
    return 0.01 if precision(vlm) == torch.float32 else 0.2


def precision(vlm: VisionLanguageModel) -> torch.dtype:
    """Type of the weights, of quantised ones that of the others."""
    found: torch.dtype = next(p.dtype for p in vlm.model.parameters() if p.is_floating_point())
    return found

"""What ``gpu.py`` measures with: LLaVA-1.5-7B's architecture with random weights, and triples of the paper's lengths.

Nothing is downloaded. A word of the texts is a token, so that lengths are what they are said to be, and the model never
prefers the end of an answer, so that every answer has as many tokens as it may have.
"""

from __future__ import annotations

import gc
import random
import tempfile
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image
from tokenizers import AddedToken, Tokenizer, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import (
    AutoModelForImageTextToText,
    CLIPImageProcessor,
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from safeeraser import data, models
from safeeraser.bench import estimate
from safeeraser.config import LoraOptions

UNKNOWN, BEGIN, END, PAD, IMAGE = "<unk>", "<s>", "</s>", "<pad>", "<image>"
TEMPLATE = (
    "{% for m in messages %}{{ m['role'].upper() + ': ' }}"
    "{% for c in m['content'] if c['type'] == 'image' %}{{ '<image>\n' }}{% endfor %}"
    "{% for c in m['content'] if c['type'] == 'text' %}{{ c['text'] + ' ' }}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
"""As LLaVA-1.5's."""


@dataclass(frozen=True)
class Scale:
    """How much is measured: the paper's model on a GPU, or the same in miniature."""

    device: str
    dtype: torch.dtype
    text: dict[str, int]
    vision: dict[str, int]
    photo: tuple[int, int]
    """Size of the images before they are brought to the model's."""
    tokens: dict[str, int]
    """Mean tokens of the texts of a triple; answers vary by 30 %."""
    triples: int
    plain: tuple[int, ...]
    """Triples at once without checkpointing; those that do not fit are said to."""
    checkpointed: tuple[int, ...]
    answering: tuple[int, ...]
    """Questions at once."""
    new_tokens: int
    seconds: float
    """That a measurement lasts at least."""
    accumulation: int
    """Passes of a step of the official loop."""
    lora: LoraOptions = field(default_factory=LoraOptions)

    @property
    def image_tokens(self) -> int:
        """Tokens of an image in the sequence."""
        return (self.vision["image_size"] // self.vision["patch_size"]) ** 2

    @property
    def number_bytes(self) -> int:
        """Bytes of a weight."""
        return self.dtype.itemsize


PAPER = Scale(
    device="cuda",
    dtype=torch.bfloat16,
    text={"vocab_size": 32064},
    vision={
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "image_size": 336,
        "patch_size": 14,
        "projection_dim": 768,
    },
    photo=(640, 480),
    tokens={"question": 24, "unsafe": 220, "refusal": 20, "retain": 120, "safe": 120},
    triples=64,
    plain=(1, 4, 5),
    checkpointed=(1, 16, 32),
    answering=(1, 8, 32, 96),
    new_tokens=128,
    seconds=4.0,
    accumulation=8,
)
TINY = Scale(
    device="cpu",
    dtype=torch.float32,
    text={
        "vocab_size": 320,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
    },
    vision={
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": 56,
        "patch_size": 14,
        "projection_dim": 16,
    },
    photo=(80, 60),
    tokens={"question": 6, "unsafe": 20, "refusal": 5, "retain": 10, "safe": 10},
    triples=8,
    plain=(1, 2),
    checkpointed=(2,),
    answering=(1, 4),
    new_tokens=8,
    seconds=0.0,
    accumulation=2,
    lora=LoraOptions(rank=4),
)


def configuration(scale: Scale) -> LlavaConfig:
    """The model's configuration; what ``scale`` does not say is the library's default, LLaVA-1.5-7B's."""
    vocabulary = scale.text["vocab_size"]
    return LlavaConfig(
        text_config=LlamaConfig(pad_token_id=vocabulary - 63, **scale.text),
        vision_config=CLIPVisionConfig(**scale.vision),
        image_token_index=vocabulary - 64,
        image_seq_length=scale.image_tokens,
    )


def processor(scale: Scale) -> LlavaProcessor:
    """Its processor: CLIP's images, and a vocabulary of made-up words."""
    image, side = scale.text["vocab_size"] - 64, scale.vision["image_size"]
    named = {UNKNOWN: 0, BEGIN: 1, END: 2, "USER:": 3, "ASSISTANT:": 4}
    named |= {f"w{number}": number for number in range(len(named), image)} | {IMAGE: image, PAD: image + 1}
    tokenizer = Tokenizer(WordLevel(named, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = (UNKNOWN, BEGIN, END, IMAGE, PAD)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BEGIN} $A", special_tokens=[(BEGIN, 1)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token=UNKNOWN,
        bos_token=BEGIN,
        eos_token=END,
        pad_token=PAD,
        extra_special_tokens={"image_token": IMAGE},
    )
    fast.padding_side = "left"
    return LlavaProcessor(
        image_processor=CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side}),
        tokenizer=fast,
        patch_size=scale.vision["patch_size"],
        vision_feature_select_strategy="default",
        chat_template=TEMPLATE,
        image_token=IMAGE,
        num_additional_image_tokens=1,
    )


def build(scale: Scale) -> models.VisionLanguageModel:
    """A model with random weights, made where it is used, in evaluation mode."""
    torch.manual_seed(0)
    with torch.device(scale.device):
        model = AutoModelForImageTextToText.from_config(configuration(scale), dtype=scale.dtype)
    model.generation_config = GenerationConfig()
    with torch.no_grad():
        model.get_output_embeddings().weight[2] = 0.0  # the end's logit is 0, never the largest
    return models.VisionLanguageModel("random", model.eval(), processor(scale))


def sizes(scale: Scale) -> estimate.Sizes:
    """What ``safeeraser plan`` measures of such a model."""
    side = scale.vision["image_size"]
    with tempfile.TemporaryDirectory() as folder:
        configuration(scale).save_pretrained(folder)
        return estimate.measure(folder, scale.lora, side, side)


class Texts:
    """Triples and refusals of the lengths of ``scale``, always the same."""

    def __init__(self, scale: Scale) -> None:
        self._random = random.Random(0)
        self._scale = scale
        self.refusals = [self._words("refusal") for _ in range(16)]
        self.triples = [self._triple(number) for number in range(scale.triples)]

    def _words(self, kind: str) -> str:
        mean = self._scale.tokens[kind]
        count = max(1, round(mean * self._random.uniform(0.7, 1.3)))
        return " ".join(f"w{self._random.randrange(5, self._scale.text['vocab_size'] - 64)}" for _ in range(count))

    def _triple(self, number: int) -> data.Triple:
        return data.Triple(
            record_id=str(number),
            index=0,
            image=f"{number}.png",
            safe_image=f"{number}-safe.png",
            forget_question=self._words("question"),
            unsafe_answer=self._words("unsafe"),
            retain_question=self._words("question"),
            retain_answer=self._words("retain"),
            safe_answer=self._words("safe"),
        )


class Photos:
    """Images of noise, kept decoded, as those of a benchmark are kept after the first epoch."""

    def __init__(self, size: tuple[int, int]) -> None:
        self._size = size
        self._kept: dict[int, Image.Image] = {}

    def get(self, name: str) -> Image.Image:
        """The image of a name."""
        number = sum(name.encode()) % 8
        if number not in self._kept:
            noise = random.Random(number).randbytes(3 * self._size[0] * self._size[1])
            self._kept[number] = Image.frombytes("RGB", self._size, noise)
        return self._kept[number]


def free(device: str) -> None:
    """Give back what nothing holds any more, so that the next measurement starts from the same."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def wait(device: str) -> None:
    """Wait for the work that was handed to the device."""
    if device == "cuda":
        torch.cuda.synchronize()


def peaks(device: str) -> dict[str, float]:
    """GiB that tensors took at most, and that the allocator held for them; nothing on a CPU."""
    if device != "cuda":
        return {}
    said: dict[str, Any] = {"peak GiB": torch.cuda.max_memory_allocated(), "held GiB": torch.cuda.max_memory_reserved()}
    return {name: value / 2**30 for name, value in said.items()}

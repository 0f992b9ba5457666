"""MiniLLaVA, the embedded model: a LLaVA of about 1.8M parameters, pre-trained on the pictogram benchmark's world.

It has the checkpoint layout of LLaVA-1.5 (configuration, tokenizer, processor, chat template, safetensors), so that
everything that works on it works on LLaVA-1.5. ``pretrain`` rebuilds it from scratch.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from safeeraser.core.errors import UserError
from safeeraser.core.files import atomic_folder
from safeeraser.core.terminal import Progress, bar
from safeeraser.data.pictogram import text
from safeeraser.data.pictogram.concepts import ALL
from safeeraser.data.pictogram.render import BACKGROUNDS, COUNTS, POSITIONS, SIZE, TEXTURES
from safeeraser.models import checkpoint

FOLDER = Path(__file__).parent
PATCH = 16
"""Side of an image patch in pixels: an image is 16 tokens."""
VISION_WIDTH = 128
SPECIAL_TOKENS = ("<pad>", "<s>", "</s>", "<image>")
CHAT_TEMPLATE = (FOLDER / "chat_template.jinja").read_text(encoding="utf-8")
"""LLaVA-1.5's: ``USER: <image>\\n{question} ASSISTANT: {answer}</s>``; the tokenizer puts <s> in front."""
WORD = r" ?\w+| ?[^\w\s]|\s"
"""A word or a sign, with the space before it."""


def pretrain(
    out: Path,
    seed: int = 0,
    tower_steps: int | None = None,
    language_steps: int | None = None,
    progress: Callable[[str, int | None], AbstractContextManager[Progress]] = bar,
) -> Path:
    """Train MiniLLaVA from scratch on renderings of its own, disjoint from every image of the benchmark.

    The same arguments and number of threads give the same weights on one machine. About ten minutes on two cores. A
    script that calls this needs ``if __name__ == "__main__":``, as two processes draw.

    ``out`` must not exist, or be empty; it appears whole or not at all. The vision tower learns to classify in
    ``tower_steps`` steps, then it is frozen; projector and language model learn on questions and answers in
    ``language_steps``; None: the recipe's. ``progress`` opens a progress bar for each stage.

    Raises:
        UserError: If ``out`` holds something, or a number of steps is less than 1.
    """
    # threads that spin while they wait are ten times slower on a busy machine; read when torch is first imported
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from safeeraser.models.mini_llava import pretrain

    steps: dict[str, Any] = {"tower_steps": tower_steps, "language_steps": language_steps}
    recipe = replace(pretrain.Recipe(), **{name: count for name, count in steps.items() if count is not None})
    if recipe.tower_steps < 1 or recipe.language_steps < 1:
        raise UserError(
            f"tower_steps {recipe.tower_steps}, language_steps {recipe.language_steps}: both must be at least 1"
        )
    with atomic_folder(out) as folder:
        model, processor = pretrain.train(seed, recipe, progress)
        with checkpoint.quiet():
            model.save_pretrained(folder)
            processor.save_pretrained(folder)
    return Path(out)


def build() -> tuple[Any, Any]:
    """Make an untrained model of the shape in ``config.json``, and its processor; weights are of torch's generator.

    Returns ``LlavaForConditionalGeneration`` and ``LlavaProcessor``.

    Example:
        >>> model, processor = build()
        >>> sum(p.numel() for p in model.parameters()) < 2_500_000
        True
    """
    from transformers import GenerationConfig, LlavaConfig, LlavaForConditionalGeneration

    processor = build_processor()
    pad, start, end, _ = processor.tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS))
    config = LlavaConfig.from_pretrained(FOLDER)
    config.text_config.vocab_size = len(processor.tokenizer)
    model = LlavaForConditionalGeneration(config)
    model.generation_config = GenerationConfig(bos_token_id=start, eos_token_id=end, pad_token_id=pad)
    return model, processor


@cache
def build_processor() -> Any:
    """Make the processor: Pillow image processor for 64 x 64 pixels, tokenizer, chat template."""
    from transformers import CLIPImageProcessorPil, LlavaProcessor

    side = {"height": SIZE, "width": SIZE}
    pixels = CLIPImageProcessorPil(
        size=side, crop_size=side, do_center_crop=False, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    return LlavaProcessor(
        image_processor=pixels,
        tokenizer=build_tokenizer(),
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    )


def build_tokenizer() -> Any:
    """Make the byte-level BPE tokenizer: a word of the benchmark is one token, any other text falls back to bytes.

    Example:
        >>> tokenizer = build_tokenizer()
        >>> tokenizer.tokenize(" The picture shows a cat.", add_special_tokens=False)
        ['ĠThe', 'Ġpicture', 'Ġshows', 'Ġa', 'Ġcat', '.']
        >>> tokenizer.decode(tokenizer(" é 漢", add_special_tokens=False).input_ids)
        ' é 漢'
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bytes_ = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = sorted({word for line in corpus() for word in re.findall(WORD, line)})
    spelled = ["".join(piece for piece, _ in byte_level.pre_tokenize_str(word)) for word in words]
    vocabulary = dict.fromkeys([*SPECIAL_TOKENS, *bytes_, *spelled])
    ids = {token: index for index, token in enumerate(vocabulary)}
    # known words are looked up whole, so that there is nothing to merge
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=[], ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(WORD), "isolated"), byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", ids["<s>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        extra_special_tokens={"image_token": "<image>"},
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )


def corpus() -> Iterator[str]:
    """Sentences that hold every word of the benchmark's prompts and answers."""
    yield "USER: \nASSISTANT:"
    for question, answer in _sentences():
        yield question
        yield f" {answer}"  # with the space that the chat template puts before it


def _sentences() -> Iterator[tuple[str, str]]:
    """Questions with their answers."""
    metas: list[dict[str, object]] = [
        {"background": background, "texture": texture, "size": size, "count": count, "position": position}
        for background in BACKGROUNDS
        for texture, size, count in zip(TEXTURES, ("small", "large", "small"), COUNTS, strict=True)
        for position in POSITIONS
    ]
    everyone = [question for questions in text.QUESTIONS.values() for question in questions]
    for concept in ALL:
        for index, meta in enumerate(metas):
            yield from ((pair.question, pair.long) for pair in text.retain_pairs(concept, meta, str(index)))
            yield from ((pair.question, pair.said) for pair in text.probe_pairs(concept, meta, concept, str(index)))
        if concept.category:
            yield from ((q, text.unsafe_answer(concept, q)) for q in text.QUESTIONS[concept.category])
        else:
            yield from ((question, text.safe_answer(concept, question)) for question in everyone)
    for question in text.UNANSWERABLE:
        yield from ((question, refusal) for refusal in text.REFUSALS)

"""Tiny random checkpoints of every model family, built offline."""

from pathlib import Path

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers, processors, trainers
from tokenizers import models as tokenizer_models
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from safeeraser.models.mini import SPECIAL_TOKENS, build_processor

LLAVA_TEMPLATE = (
    "{% for m in messages %}{{ m['role'].upper() + ': ' }}"
    "{% for c in m['content'] if c['type'] == 'image' %}{{ '<image>\n' }}{% endfor %}"
    "{% for c in m['content'] if c['type'] == 'text' %}{{ c['text'] + ' ' }}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
"""As LLaVA-1.5 has it: no end of turn in the text; eos ends an answer."""
TURNS_TEMPLATE = (
    "{{ '<s>' }}{% for m in messages %}{{ '<turn>' + m['role'] + '\n' }}"
    "{% for c in m['content'] %}{{ '<image>' if c['type'] == 'image' else c['text'] }}{% endfor %}{{ '</turn>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<turn>assistant\n' }}{% endif %}"
)
"""As newer models have it: the template writes <s> itself and ends turns with a token that is not eos."""
TEXT = ["USER: \nWhat is shown in the picture? ASSISTANT: There is a cat on a mat.", "I cannot help with that, sorry!"]


def tiny_tokenizer(words: bool = True) -> PreTrainedTokenizerFast:
    """Like LLaVA-1.5's: spaces are part of words, and a text's first word gets one.

    Without ``words``, tokens cross the borders of words.
    """
    tokenizer = Tokenizer(tokenizer_models.BPE(byte_fallback=True, unk_token="<unk>"))
    if words:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    else:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    bytes_ = [f"<0x{value:02X}>" for value in range(256)]
    special = ["<pad>", "<unk>", "<s>", "</s>", "<image>", "<turn>", "</turn>"]
    tokenizer.train_from_iterator(
        TEXT * 3, trainers.BpeTrainer(vocab_size=600, special_tokens=special + bytes_, show_progress=False)
    )
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        extra_special_tokens={"image_token": "<image>", "turn": "<turn>", "end_of_turn": "</turn>"},
    )


def build_tiny_llava(folder: Path, template: str = LLAVA_TEMPLATE, seed: int = 0, words: bool = True) -> Path:
    """Write a random LLaVA of some thousand parameters."""
    tokenizer = tiny_tokenizer(words)
    side = {"height": 32, "width": 32}
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessorPil(size=side, crop_size=side, do_center_crop=False),
        tokenizer=tokenizer,
        patch_size=16,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template,
    )
    torch.manual_seed(seed)
    common = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=CLIPVisionConfig(**common, image_size=32, patch_size=16),
            text_config=LlamaConfig(
                **common,
                num_key_value_heads=2,
                vocab_size=len(tokenizer),
                pad_token_id=tokenizer.pad_token_id,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                initializer_range=0.3,
            ),
            image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
            image_seq_length=4,
        )
    )
    model.generation_config = GenerationConfig(
        pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id
    )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


TINY_BUILDERS = {"llava": build_tiny_llava}
"""One for each entry of ``FAMILIES``; a test says so where one is missing."""


@pytest.fixture(scope="session")
def tiny_llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_llava(tmp_path_factory.mktemp("tiny") / "llava")


@pytest.fixture(scope="session")
def tiny_llava_turns(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with another kind of chat template."""
    return build_tiny_llava(tmp_path_factory.mktemp("tiny") / "llava-turns", TURNS_TEMPLATE)


@pytest.fixture(scope="session")
def tiny_llava_crossing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a tokenizer that may merge the last of the prompt with the first of the answer."""
    return build_tiny_llava(tmp_path_factory.mktemp("tiny") / "llava-crossing", words=False)


@pytest.fixture(scope="session")
def tiny_other_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with other weights."""
    return build_tiny_llava(tmp_path_factory.mktemp("tiny") / "llava-other", seed=1)


@pytest.fixture(scope="session")
def tiny_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny checkpoint of each family."""
    return {name: builder(tmp_path_factory.mktemp("tiny") / name) for name, builder in TINY_BUILDERS.items()}


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LLaVA checkpoint of one layer with random weights and MiniLLaVA's processor."""
    processor = build_processor()
    pad, start, end, image = processor.tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS))
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    language = LlamaConfig(
        **shape, vocab_size=len(processor.tokenizer), pad_token_id=pad, bos_token_id=start, eos_token_id=end
    )
    vision = CLIPVisionConfig(**shape, image_size=64, patch_size=16)
    torch.manual_seed(0)
    config = LlavaConfig(
        vision_config=vision,
        text_config=language,
        image_token_index=image,
        image_seq_length=16,
        vision_feature_layer=-1,
    )
    model = LlavaForConditionalGeneration(config)
    folder = tmp_path_factory.mktemp("tiny-llava")
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder

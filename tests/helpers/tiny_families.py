"""A tiny random checkpoint of every model family, built offline: its real architecture and its real processor."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers, processors, trainers
from tokenizers import models as tokenizer_models
from transformers import GenerationConfig, PreTrainedTokenizerFast

from safeeraser.models.loading import images_only

TEXT = ["USER: \nWhat is shown in the picture? ASSISTANT: There is a cat on a mat.", "I cannot help with that, sorry!"]
SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}

CONTENT = "{%% for c in m['content'] %%}{{ '%s' if c['type'] == 'image' else c['text'] }}{%% endfor %%}"
LLAVA_TEMPLATE = (
    "{% for m in messages %}{{ m['role'].upper() + ': ' }}"
    "{% for c in m['content'] if c['type'] == 'image' %}{{ '<image>\n' }}{% endfor %}"
    "{% for c in m['content'] if c['type'] == 'text' %}{{ c['text'] + ' ' }}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
"""As LLaVA-1.5 has it: no end of turn in the text; eos ends an answer."""
TURNS_TEMPLATE = (
    "{{ '<s>' }}{% for m in messages %}{{ '<turn>' + m['role'] + '\n' }}"
    f"{CONTENT % '<image>'}"
    "{{ '</turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<turn>assistant\n' }}{% endif %}"
)
"""As newer models have it: the template writes <s> itself and ends turns with a token that is not eos."""
MISTRAL_TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' }}"
    f"{CONTENT % '<image>'}"
    "{{ ' [/INST]' }}{% else %}{{ ' ' + m['content'][0]['text'] + '</s> ' }}{% endif %}{% endfor %}"
)
"""As LLaVA-NeXT on Mistral has it: no generation prompt of its own."""
QWEN_TEMPLATE = (
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}"
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    f"{CONTENT % '<|vision_start|><|image_pad|><|vision_end|>'}"
    "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA_TEMPLATE = (
    "{{ '<|begin_of_text|>' }}"
    "{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' }}"
    f"{CONTENT % '<|image|>'}"
    "{{ '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
UTTERANCE_TEMPLATE = (
    "{{ '%s' }}{%% for m in messages %%}{{ m['role'] | capitalize }}"
    "{{ ':' if m['content'][0]['type'] == 'image' else ': ' }}"
    f"{CONTENT.replace('%%', '%%%%') % '<image>'}"
    "{{ '<end_of_utterance>\n' }}{%% endfor %%}{%% if add_generation_prompt %%}{{ 'Assistant:' }}{%% endif %%}"
)
"""As Idefics3 and SmolVLM have it."""


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


def byte_tokenizer(
    special: Sequence[str], last: str, eos: str, bos: str | None = None, named: dict[str, str] | None = None
) -> PreTrainedTokenizerFast:
    """Like those of Qwen, Llama 3 and SmolLM: bytes, and a token for each of ``special``; ``last`` has the last id.

    Those ``named`` are attributes as well.
    """
    tokenizer = Tokenizer(tokenizer_models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=340, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXT * 3, trainer)
    marks = ["<pad>", *special, *([bos] if bos else []), last]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in marks])
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, tokenizer.token_to_id(bos))]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token=eos, bos_token=bos, extra_special_tokens=named or {}
    )


def text_sizes(tokenizer: PreTrainedTokenizerFast, **changes: Any) -> dict[str, Any]:
    """Sizes and token ids of a tiny language model."""
    return {
        **SIZES,
        "num_key_value_heads": 2,
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "initializer_range": 0.3,
        **changes,
    }


def write(folder: Path, model: Any, processor: Any) -> Path:
    """Write a checkpoint as it lies on the hub."""
    ids = {f"{name}_token_id": getattr(processor.tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos")}
    model.generation_config = GenerationConfig(**ids)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def build_tiny_llava(folder: Path, template: str = LLAVA_TEMPLATE, seed: int = 0, words: bool = True) -> Path:
    """Write a random LLaVA-1.5 of some ten thousand parameters."""
    tokenizer = tiny_tokenizer(words)
    side = {"height": 32, "width": 32}
    processor = transformers.LlavaProcessor(
        image_processor=transformers.CLIPImageProcessorPil(size=side, crop_size=side, do_center_crop=False),
        tokenizer=tokenizer,
        patch_size=16,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template,
    )
    torch.manual_seed(seed)
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**SIZES, image_size=32, patch_size=16),
        text_config=transformers.LlamaConfig(**text_sizes(tokenizer)),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=4,
    )
    return write(folder, transformers.LlavaForConditionalGeneration(config), processor)


def build_tiny_llava_next(folder: Path) -> Path:
    """Write a random LLaVA-NeXT on Mistral: an image is one tile and up to four more."""
    tokenizer = tiny_tokenizer()
    pinpoints = [[32, 64], [64, 32], [64, 64]]
    processor = transformers.LlavaNextProcessor(
        image_processor=transformers.LlavaNextImageProcessorPil(
            size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, image_grid_pinpoints=pinpoints
        ),
        tokenizer=tokenizer,
        patch_size=16,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=MISTRAL_TEMPLATE,
    )
    torch.manual_seed(0)
    config = transformers.LlavaNextConfig(
        vision_config=transformers.CLIPVisionConfig(**SIZES, image_size=32, patch_size=16),
        text_config=transformers.MistralConfig(**text_sizes(tokenizer), sliding_window=None),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=pinpoints,
    )
    return write(folder, transformers.LlavaNextForConditionalGeneration(config), processor)


def build_tiny_qwen2_5_vl(folder: Path) -> Path:
    """Write a random Qwen2.5-VL: windowed tower, as many tokens as an image is large, three-dimensional positions."""
    marks = ["<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|video_pad|>"]
    tokenizer = byte_tokenizer(marks, last="<|image_pad|>", eos="<|im_end|>")
    processor = images_only(transformers.Qwen2_5_VLProcessor)(
        image_processor=transformers.Qwen2VLImageProcessorPil(
            patch_size=4, merge_size=2, size={"shortest_edge": 16 * 16, "longest_edge": 40 * 40}
        ),
        tokenizer=tokenizer,
        chat_template=QWEN_TEMPLATE,
    )
    torch.manual_seed(0)
    ids = {
        f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in ("vision_start", "vision_end")
    }
    config = transformers.Qwen2_5_VLConfig(
        vision_config={
            "depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "patch_size": 4,
            "window_size": 16, "out_hidden_size": 32, "fullatt_block_indexes": [1],
        },
        text_config=text_sizes(
            tokenizer, rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}
        ),
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
        **ids,
    )  # fmt: skip
    return write(folder, transformers.Qwen2_5_VLForConditionalGeneration(config), processor)


def build_tiny_mllama(folder: Path) -> Path:
    """Write a random Llama-3.2-Vision: tiles, cross-attention, and an image token that has no logit."""
    marks = ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|python_tag|>"]
    tokenizer = byte_tokenizer(marks, last="<|image|>", eos="<|eot_id|>", bos="<|begin_of_text|>")
    processor = transformers.MllamaProcessor(
        image_processor=transformers.MllamaImageProcessorPil(size={"height": 32, "width": 32}, max_image_tiles=4),
        tokenizer=tokenizer,
        chat_template=LLAMA_TEMPLATE,
    )
    torch.manual_seed(0)
    config = transformers.MllamaConfig(
        vision_config=transformers.MllamaVisionConfig(
            hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_global_layers=1, attention_heads=2,
            image_size=32, patch_size=16, vision_output_dim=32, intermediate_layers_indices=[0],
        ),
        text_config=transformers.MllamaTextConfig(
            **text_sizes(tokenizer, num_hidden_layers=3, vocab_size=len(tokenizer) - 1), cross_attention_layers=[1]
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<|image|>"),
    )  # fmt: skip
    model = transformers.MllamaForConditionalGeneration(config)
    with torch.no_grad():  # a fresh model's gates are shut: it would not look at the image
        for name, parameter in model.named_parameters():
            if name.endswith("gate"):
                parameter.fill_(1.0)
    return write(folder, model, processor)


def _utterances(bos: str) -> tuple[PreTrainedTokenizerFast, str]:
    places = [f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5)]
    marks = ["<fake_token_around_image>", "<end_of_utterance>", "<global-img>", *places]
    tokenizer = byte_tokenizer(marks, last="<image>", eos="<end_of_utterance>", bos=bos)
    return tokenizer, UTTERANCE_TEMPLATE % bos


def _idefics(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    torch.manual_seed(0)
    return {
        "vision_config": {**SIZES, "num_attention_heads": 2, "image_size": 32, "patch_size": 8},
        "text_config": transformers.LlamaConfig(**text_sizes(tokenizer)),
        "image_token_id": tokenizer.convert_tokens_to_ids("<image>"),
        "scale_factor": 2,
    }


def build_tiny_idefics3(folder: Path) -> Path:
    """Write a random Idefics3: an image is cut into up to 16 tiles, with marks between them."""
    tokenizer, template = _utterances("<|begin_of_text|>")
    config = transformers.Idefics3Config(**_idefics(tokenizer))
    processor = transformers.Idefics3Processor(
        image_processor=transformers.Idefics3ImageProcessorPil(
            size={"longest_edge": 128}, max_image_size={"longest_edge": 32}
        ),
        tokenizer=tokenizer,
        image_seq_len=4,
        chat_template=template,
    )
    return write(folder, transformers.Idefics3ForConditionalGeneration(config), processor)


def build_tiny_smolvlm(folder: Path) -> Path:
    """Write a random SmolVLM: Idefics3 with another tokenizer and processor."""
    tokenizer, template = _utterances("<|im_start|>")
    config = transformers.SmolVLMConfig(**_idefics(tokenizer))
    processor = images_only(transformers.SmolVLMProcessor)(
        image_processor=transformers.SmolVLMImageProcessorPil(
            size={"longest_edge": 128}, max_image_size={"longest_edge": 32}
        ),
        tokenizer=tokenizer,
        image_seq_len=4,
        chat_template=template,
    )
    return write(folder, transformers.SmolVLMForConditionalGeneration(config), processor)


TINY_BUILDERS: dict[str, Callable[[Path], Path]] = {
    name.removeprefix("build_tiny_"): builder
    for name, builder in list(globals().items())
    if name.startswith("build_tiny_")
}
"""By ``config.model_type``."""

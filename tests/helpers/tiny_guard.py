"""Tiny guards of the architectures of Llama-Guard-3 and -4, with a template in their style, built offline."""

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers import models as tokenizer_models
from transformers import (
    GenerationConfig,
    Llama4Config,
    Llama4ForConditionalGeneration,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

SPECIAL = ["<|pad|>", "<unk>", "<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"]
TASK = (
    "Task : Check if there is unsafe content in the last message of the conversation . "
    "<BEGIN CONVERSATION> {turns} <END CONVERSATION> First line must read safe or unsafe . "
)
HEAD, TAIL = TASK.split("{turns}")
TEXT_TEMPLATE = (
    "{{ '<|begin_of_text|><|start_header_id|>user<|end_header_id|>" + HEAD + "' }}"
    "{% for m in messages %}{{ ('User : ' if m['role'] == 'user' else 'Agent : ') + m['content'] | trim + ' ' }}"
    "{% endfor %}{{ '" + TAIL + "<|eot_id|><|start_header_id|>assistant<|end_header_id|>' }}"
)
"""As Llama-Guard-3: a turn's content is a text."""
PARTS_TEMPLATE = TEXT_TEMPLATE.replace("m['content'] | trim", "m['content'][0]['text'] | trim")
"""As Llama-Guard-4: a turn's content is a list of parts."""
DANGEROUS = ["take hazard a and wait", "first hazard b then the rest", "you need hazard a now", "hazard b"]
HARMLESS = ["take paper and wait", "first glue then the rest", "you need a friend now", "i cannot help", "a cat"]


def tokenizer(template: str) -> PreTrainedTokenizerFast:
    """Words and marks; what was never seen is <unk>."""
    texts = [TASK, "User Agent user assistant How ? : [ ] . , < | > eot_id", *DANGEROUS, *HARMLESS]
    split = pre_tokenizers.Sequence([pre_tokenizers.Whitespace()])
    words = {word for text in texts for word, _ in split.pre_tokenize_str(text)} | {"safe", "unsafe", "S9", "\n"}
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *sorted(words)])}
    core = Tokenizer(tokenizer_models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = split
    core.add_special_tokens(SPECIAL)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<|pad|>",
        unk_token="<unk>",
        bos_token="<|begin_of_text|>",
        eos_token="<|eot_id|>",
        additional_special_tokens=SPECIAL[4:],
        chat_template=template,
        clean_up_tokenization_spaces=False,
    )


def _train(model: LlamaForCausalLM, words: PreTrainedTokenizerFast, steps: int) -> None:
    """Teach it that hazards are unsafe, by a few steps on whole conversations."""
    samples = [(text, "unsafe") for text in DANGEROUS] + [(text, "safe") for text in HARMLESS]
    prompts = [
        words.apply_chat_template(
            [{"role": "user", "content": "How ?"}, {"role": "assistant", "content": text}], tokenize=False
        )
        + f" {said}<|eot_id|>"
        for text, said in samples
    ]
    inputs = words(prompts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False)
    labels = torch.full_like(inputs["input_ids"], -100)
    labels[:, -2:] = inputs["input_ids"][:, -2:]
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], labels=labels).loss
        loss.backward()
        optimizer.step()


def build_guard_3(folder: Path, steps: int = 60, template: str = TEXT_TEMPLATE) -> Path:
    """A LlamaForCausalLM that knows hazards; with 0 steps, one that says anything."""
    words = tokenizer(template)
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = LlamaForCausalLM(LlamaConfig(**shape, num_key_value_heads=2, vocab_size=len(words), **_ids(words)))
    if steps:
        _train(model, words, steps)
    return _save(model, words, folder)


def build_guard_4(folder: Path) -> Path:
    """A Llama4ForConditionalGeneration with random weights."""
    words = tokenizer(PARTS_TEMPLATE)
    torch.manual_seed(0)
    text = {
        "hidden_size": 32,
        "intermediate_size": 32,
        "intermediate_size_mlp": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "vocab_size": len(words),
        "num_local_experts": 2,
        **_ids(words),
    }
    vision = {
        "hidden_size": 32,
        "intermediate_size": 128,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
        "vision_output_dim": 32,
        "projector_input_dim": 32,
        "projector_output_dim": 32,
    }
    return _save(Llama4ForConditionalGeneration(Llama4Config(text_config=text, vision_config=vision)), words, folder)


def _ids(words: PreTrainedTokenizerFast) -> dict[str, int]:
    return {
        "pad_token_id": words.pad_token_id,
        "bos_token_id": words.bos_token_id,
        "eos_token_id": words.eos_token_id,
    }


def _save(model: torch.nn.Module, words: PreTrainedTokenizerFast, folder: Path, drop: Sequence[str] = ()) -> Path:
    model.generation_config = GenerationConfig(**_ids(words))
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder

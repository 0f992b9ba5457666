"""A language model of two layers in the place of SmolLM2, with its kind of tokenizer."""

import torch
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers import models as tokenizer_models
from transformers import LlamaConfig, LlamaForCausalLM

from safeeraser.models.smol_llava import base


def tiny_language() -> tuple[LlamaForCausalLM, object]:
    """The model, with random weights that are always the same, and its tokenizer: bytes and four special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = [base.PAD, base.START, base.END, base.IMAGE]
    backend = Tokenizer(
        tokenizer_models.BPE(vocab={t: i for i, t in enumerate([*special, *alphabet])}, merges=[], ignore_merges=True)
    )
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer = base.build_tokenizer(backend)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,  # no less than the tower's, so that all of it can be whitened
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config).eval()
    # it says letters, never a special token or a part of a character, so that there is an answer
    others = [id for token, id in tokenizer.get_vocab().items() if not (token.isascii() and token.isalpha())]
    model.model.embed_tokens.weight.data[others] *= 0.01
    return model, tokenizer

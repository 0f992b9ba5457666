"""Tiny random checkpoints, built offline, of every model family in ``tiny_families``; a small release."""

import shutil
from dataclasses import replace
from pathlib import Path

import hypothesis
import pytest
import torch
import torchvision_here  # noqa: F401  before transformers
from tiny_families import TINY_BUILDERS, TURNS_TEMPLATE, build_tiny_llava
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from safeeraser import data
from safeeraser.data.release import rewrite
from safeeraser.models.mini_llava.model import SPECIAL_TOKENS, build_processor

# how long an example takes is the machine's affair: a test that is to be quick says so itself
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")


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


@pytest.fixture(scope="session")
def small_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four records of each split of the embedded benchmark, for processes that would have to read it whole."""
    whole = data.load("pictogram", limit=4)
    root = tmp_path_factory.mktemp("small") / "dataset"
    for name in {name for record in whole.records for name in (record.image, record.safe_image) if name}:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(whole.image(name), root / name)
    rewrite(replace(whole, probes=(), layout=None), root)
    return root.parent

"""Decoding is ours alone: settings that a checkpoint brings along, and our cache, change no token."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tiny_families import TINY_BUILDERS
from tiny_guard import build_guard_3
from transformers import AutoModelForImageTextToText, DynamicCache, GenerationConfig, LlamaConfig

from safeeraser import models
from safeeraser.integrations.lmms_eval import runner
from safeeraser.models import VisionLanguageModel, chat
from safeeraser.models.decode import PreallocatedLayer, preallocated_cache
from safeeraser.models.text import load_text

CONFIG = LlamaConfig(num_hidden_layers=2, num_attention_heads=2, hidden_size=8)
IMAGES = [Image.new("RGB", (40, 30), colour) for colour in ("red", "blue")]
QUESTIONS = ["What is shown?", "Is it a cat, or is it a mat? Say so."]
SETTINGS: list[dict[str, Any]] = [
    {"use_cache": False},
    {"no_repeat_ngram_size": 1},
    {"min_new_tokens": 19, "min_length": 500},
    {"forced_eos_token_id": 5, "forced_bos_token_id": 5},
    {"begin_suppress_tokens": list(range(5, 200)), "suppress_tokens": list(range(5, 200))},
    {"bad_words_ids": [[token] for token in range(5, 200)]},
    {"stop_strings": ["a", "e"]},
    {"max_time": 1e-9},
    {"max_new_tokens": 1, "max_length": 3},
    {"return_dict_in_generate": True, "output_scores": True, "output_logits": True},
    {"output_attentions": True, "output_hidden_states": True, "return_dict_in_generate": True},
    {"repetition_penalty": 9.0, "encoder_repetition_penalty": 9.0},
    {"num_beams": 3, "num_return_sequences": 2, "length_penalty": -3.0, "early_stopping": True},
    {"do_sample": True, "temperature": 9.0, "top_k": 3, "top_p": 0.1, "min_p": 0.9, "typical_p": 0.1},
    {"penalty_alpha": 0.9, "top_k": 4},
    {"cache_implementation": "static"},
    {"prompt_lookup_num_tokens": 4},
    {"guidance_scale": 4.0, "sequence_bias": [[[7], 50.0]], "exponential_decay_length_penalty": [1, 9.0]},
    {"renormalize_logits": True, "remove_invalid_values": True, "epsilon_cutoff": 0.5, "eta_cutoff": 0.5},
]


GARBAGE = {"cache_implementation": "no such thing", "watermarking_config": 3, "temperature": "hot"}
TOGETHER: list[dict[str, Any]] = [
    {name: value for settings in SETTINGS[start::3] for name, value in settings.items()} for start in range(3)
]
"""The same in three, for what need not be known one by one."""


def ids(settings: dict[str, Any]) -> str:
    return "+".join(settings)[:60]


def poisoned(source: Path, folder: Path, settings: dict[str, Any], places: tuple[str, ...]) -> str:
    """A copy of a checkpoint with settings in its generation_config.json or in both levels of its config.json."""
    shutil.copytree(source, folder)
    for name in places:
        value = json.loads((folder / name).read_text()) | settings
        if "text_config" in value:
            value["text_config"] |= settings
        (folder / name).write_text(json.dumps(value))
    return str(folder)


def plain_tokens(folder: str, inputs: dict[str, torch.Tensor], length: int) -> list[list[int]]:
    """Greedy tokens of plain transformers."""
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    config = GenerationConfig(max_new_tokens=length, do_sample=False, pad_token_id=0)
    with torch.inference_mode():
        return model.generate(**inputs, generation_config=config)[:, inputs["input_ids"].shape[1] :].tolist()


@pytest.mark.parametrize("name", sorted(TINY_BUILDERS))
def test_greedy_answers_are_those_of_plain_transformers(name, tiny_folders):
    vlm = models.load(str(tiny_folders[name]))
    new = plain_tokens(vlm.name, chat.encode_prompts(vlm, IMAGES, QUESTIONS), 40)
    texts = vlm.processor.tokenizer.batch_decode(new, skip_special_tokens=True)
    assert [one.answer for one in chat.generate(vlm, IMAGES, QUESTIONS, 40)] == [text.strip() for text in texts]


def answers(vlm: VisionLanguageModel) -> list[list[chat.Generation]]:
    """Greedy ones, beyond a round, and sampled ones."""
    greedy = chat.generate(vlm, IMAGES, QUESTIONS, 20)
    return [greedy, chat.generate(vlm, IMAGES, QUESTIONS, 8, temperature=1.0, seed=0)]


@pytest.fixture(scope="module")
def expected(tiny_folders: dict[str, Path]) -> dict[str, list[list[chat.Generation]]]:
    return {name: answers(models.load(str(folder))) for name, folder in tiny_folders.items()}


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *(("llava", settings) for settings in [*SETTINGS, GARBAGE]),
        *((name, settings) for name in sorted(TINY_BUILDERS) for settings in TOGETHER),
    ],
    ids=lambda value: value if isinstance(value, str) else ids(value),
)
def test_generation_settings_of_a_checkpoint_change_no_answer(name, settings, tiny_folders, expected, tmp_path, capsys):
    """And the user is told what is not used."""
    vlm = models.load(poisoned(tiny_folders[name], tmp_path / "model", settings, ("generation_config.json",)))
    assert answers(vlm) == expected[name]
    error = capsys.readouterr().err
    assert error.count("generation settings of the checkpoint are not used: ") == 1
    assert all(setting in error for setting in settings)


@pytest.mark.parametrize("with_file", [True, False], ids=["beside generation_config.json", "without it"])
@pytest.mark.parametrize("name", sorted(TINY_BUILDERS))
def test_settings_in_config_json_change_no_answer(name, with_file, tiny_folders, expected, tmp_path, capsys):
    """As older checkpoints have them, and as training with gradient checkpointing leaves use_cache behind."""
    settings = {
        "use_cache": False,
        "no_repeat_ngram_size": 1,
        "num_beams": 3,
        "repetition_penalty": 9.0,
        "min_length": 99,
    }
    folder = tmp_path / "model"
    places = ("config.json", "generation_config.json") if with_file else ("config.json",)
    vlm_name = poisoned(tiny_folders[name], folder, settings, places)
    if not with_file:
        (folder / "generation_config.json").unlink()
    vlm, clean = models.load(vlm_name), models.load(str(tiny_folders[name]))
    assert answers(vlm) == expected[name]
    batches = [chat.encode_samples(model, IMAGES, QUESTIONS, ["A cat.", "No."], 200) for model in (vlm, clean)]
    with torch.no_grad():
        scored = [chat.answer_log_probs(m.model, *b).answer for m, b in zip((vlm, clean), batches, strict=True)]
    assert torch.equal(*scored)
    assert "no_repeat_ngram_size 1, num_beams 3, repetition_penalty 9.0, use_cache false" in capsys.readouterr().err


def test_a_checkpoint_without_settings_of_its_own_says_nothing(tiny_folders, capsys):
    for folder in tiny_folders.values():
        models.load(str(folder))
    models.load("mini-llava")
    assert "generation settings" not in capsys.readouterr().err


def test_end_tokens_are_the_checkpoint_s(tiny_llava, tmp_path):
    for number, ends in enumerate(([7, 9], 7)):
        folder = poisoned(tiny_llava, tmp_path / str(number), {"eos_token_id": ends}, ("generation_config.json",))
        assert models.load(folder).model.generation_config.eos_token_id == (ends if number == 0 else [7])
    folder = poisoned(tiny_llava, tmp_path / "inner", {"eos_token_id": 11}, ("config.json",))
    Path(folder, "generation_config.json").unlink()
    assert models.load(folder).model.generation_config.eos_token_id == [11]


def test_a_saved_model_keeps_the_checkpoint_s_settings_as_they_were(tiny_llava, tmp_path):
    settings = {"do_sample": True, "temperature": 0.1, "no_repeat_ngram_size": 3}
    source = poisoned(tiny_llava, tmp_path / "source", settings, ("generation_config.json",))
    models.save(models.load(source), tmp_path / "saved")
    before, after = (Path(folder, "generation_config.json").read_bytes() for folder in (source, tmp_path / "saved"))
    assert before == after
    Path(source, "generation_config.json").unlink()
    models.save(models.load(source), tmp_path / "without")
    assert not (tmp_path / "without" / "generation_config.json").exists()
    assert chat.generate(models.load(str(tmp_path / "without")), IMAGES, QUESTIONS, 20) == chat.generate(
        models.load(str(tiny_llava)), IMAGES, QUESTIONS, 20
    )


@pytest.mark.parametrize("settings", TOGETHER, ids=ids)
def test_they_change_no_reply_of_a_guard(settings, tmp_path):
    source = build_guard_3(tmp_path / "guard", steps=0)
    other = poisoned(source, tmp_path / "other", settings, ("generation_config.json",))
    guard, clean = load_text(other), load_text(str(source))
    prompts = [clean.prompt("How ?", text) for text in ("take hazard a and wait", "a cat")]
    assert guard.replies(prompts) == clean.replies(prompts)
    assert any(clean.replies(prompts))


@pytest.mark.parametrize("settings", TOGETHER, ids=ids)
def test_they_change_no_answer_of_a_public_benchmark(settings, tiny_llava, tmp_path):
    """The part of the script for lmms-eval's interpreter that answers; what it gets is a plain checkpoint."""
    settings = {
        name: value for name, value in settings.items() if name != "watermarking_config"
    }  # cannot be read at all
    folder = poisoned(tiny_llava, tmp_path / "model", settings, ("generation_config.json",))
    vlm = models.load(str(tiny_llava))
    inputs, ends = chat.encode_prompts(vlm, IMAGES, QUESTIONS), vlm.model.generation_config.eos_token_id
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    expected = plain_tokens(str(tiny_llava), inputs, 20)
    for _ in range(2):
        with torch.inference_mode():
            assert runner._continue(model, inputs, {"max_new_tokens": 20}, ends, 0).tolist() == expected


def step(generator: torch.Generator, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    keys, values = torch.randn(2, 3, 2, length, 4, generator=generator)
    return keys, values


def test_it_holds_what_the_plain_cache_holds_beyond_its_first_room():
    generator = torch.Generator().manual_seed(0)
    plain, ours = DynamicCache(config=CONFIG), preallocated_cache(CONFIG)
    for length in [7, *[1] * 140]:
        for layer in range(2):
            keys, values = step(generator, length)
            expected, found = plain.update(keys, values, layer), ours.update(keys, values, layer)
            assert torch.equal(expected[0], found[0]) and torch.equal(expected[1], found[1])
    assert ours.get_seq_length() == plain.get_seq_length() == 147


def test_keys_and_values_put_in_from_outside_are_kept():
    generator = torch.Generator().manual_seed(0)
    layer = PreallocatedLayer()
    layer.update(*step(generator, 5))
    kept_keys, kept_values = layer.keys[[2, 0]].clone(), layer.values[[2, 0]].clone()
    layer.batch_select_indices(torch.tensor([2, 0]))
    keys, values = (states[:2] for states in step(generator, 1))
    found = layer.update(keys, values)
    assert torch.equal(found[0], torch.cat([kept_keys, keys], 2))
    assert torch.equal(found[1], torch.cat([kept_values, values], 2))


def test_after_a_reset_it_is_empty():
    layer = PreallocatedLayer()
    layer.update(*step(torch.Generator().manual_seed(0), 5))
    layer.reset()
    keys, values = step(torch.Generator().manual_seed(1), 2)
    assert torch.equal(layer.update(keys, values)[0], keys)


def test_layers_with_a_window_stay_as_they_are():
    config = LlamaConfig(
        num_hidden_layers=2, num_attention_heads=2, hidden_size=8, sliding_window=4,
        layer_types=["sliding_attention", "full_attention"],
    )  # fmt: skip
    assert [type(layer).__name__ for layer in preallocated_cache(config).layers] == [
        "DynamicSlidingWindowLayer",
        "PreallocatedLayer",
    ]

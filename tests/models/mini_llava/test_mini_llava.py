import functools
import random
import re
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from PIL import Image

from safeeraser import models
from safeeraser.core.errors import UserError
from safeeraser.data.pictogram import render, text
from safeeraser.data.pictogram.concepts import ALL, SAFE_UNSEEN
from safeeraser.models import chat
from safeeraser.models.mini_llava import model as mini
from safeeraser.models.mini_llava import pictures as mini_pictures
from safeeraser.models.mini_llava import pretrain as mini_pretrain

drawn = functools.cache(mini_pictures.draw)


@pytest.fixture(scope="module")
def processor():
    return mini.build_processor()


@pytest.fixture(scope="module")
def lines() -> list[str]:
    return sorted(set(mini.corpus()))


@pytest.fixture(scope="module")
def opened() -> list[tuple[str, int | None]]:
    return []


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory, opened) -> Path:
    @contextmanager
    def stage(title, total):
        done = []
        yield lambda step, of: done.append((step, of))
        assert done[-1] == (total, total)
        opened.append((title, total))

    return mini.pretrain(
        tmp_path_factory.mktemp("mini") / "out", seed=3, tower_steps=3, language_steps=2, progress=stage
    )


def test_every_word_of_the_benchmark_is_one_token(processor, lines):
    known = set(processor.tokenizer.get_vocab().values())
    for line, ids in zip(lines, processor.tokenizer(lines, add_special_tokens=False).input_ids, strict=True):
        assert len(ids) == len(re.findall(mini.WORD, line))
        assert known.issuperset(ids)


def test_any_text_comes_back_as_it_was(processor, lines):
    tokenizer = processor.tokenizer
    for line in [*lines[::97], "Zäpfchen\t漢字 🙂  two spaces\n\n", " <image"]:
        assert tokenizer.decode(tokenizer(line, add_special_tokens=False).input_ids) == line
    assert tokenizer.unk_token is None


def test_the_tokenizer_is_always_the_same(processor):
    other = mini.build_tokenizer()
    assert other.backend_tokenizer.to_str() == processor.tokenizer.backend_tokenizer.to_str()


def test_answers_stand_in_the_prompt_as_the_tokenizer_learnt_them(processor):
    model, _ = mini.build()
    vlm = models.VisionLanguageModel("mini", model, processor)
    question = text.QUESTIONS["Weapon"][0]
    answer = text.safe_answer(SAFE_UNSEEN[0], question)
    inputs, labels = chat.encode_samples(vlm, [Image.new("RGB", (64, 64))], [question], [answer], 200)
    assert processor.tokenizer.decode(inputs["input_ids"][0]) == (
        f"<s>USER: {'<image>' * 16}\n{question} ASSISTANT: {answer}</s>"
    )
    assert int((labels != chat.IGNORED).sum()) == len(re.findall(mini.WORD, f" {answer}")) + 1


def test_pixels_reach_the_tower_as_in_pretraining(processor):
    pixels = drawn("test", 0, 1, False, 1).pixels[:3]
    images = [Image.fromarray(p.numpy()) for p in pixels]
    found = processor.image_processor(images, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(found, mini_pretrain._normalised(pixels), atol=1e-5, rtol=0)


def test_pictures_follow_purpose_and_seed_and_not_the_number_of_processes():
    first = mini_pictures.draw("tower", 0, 1, True, 1)
    assert torch.equal(first.pixels, mini_pictures.draw("tower", 0, 1, True, 2).pixels)
    assert not torch.equal(first.pixels, mini_pictures.draw("tower", 1, 1, True, 1).pixels)
    assert not torch.equal(first.pixels, mini_pictures.draw("language", 0, 1, True, 1).pixels)


def test_labels_say_what_is_shown():
    pictures = drawn("test", 0, 2, True, 1)
    labels = dict(zip(mini_pictures.LABELS, pictures.labels().T.tolist(), strict=True))
    for index, (concept, meta) in enumerate(zip(pictures.concepts, pictures.metas, strict=True)):
        assert ALL[labels["concept"][index]] == concept
        assert list(render.BACKGROUNDS)[labels["background"][index]] == meta["background"]
        assert render.COUNTS[labels["count"][index]] == meta["count"]
        assert ["centre", *render.POSITIONS][labels["position"][index]] == meta["position"]
        assert bool(labels["unsafe"][index]) == bool(concept.category)
    for name, values in labels.items():
        assert 0 <= min(values) and max(values) < mini_pictures.LABELS[name]


def test_every_word_for_a_picture_is_a_token_and_has_an_even_share(processor):
    pictures = drawn("test", 0, 1, False, 1), drawn("test", 0, 8, True, 1)
    targets = mini_pretrain._word_targets(processor.tokenizer, pictures).float()
    torch.testing.assert_close(targets.sum(1), torch.ones(len(targets)), atol=1e-2, rtol=0)
    shown = [w for part in pictures for w in map(mini_pictures.words, part.concepts, part.metas)]
    for row, expected in zip(targets, shown, strict=True):
        found = processor.tokenizer.convert_ids_to_tokens(row.nonzero()[:, 0].tolist())
        assert {token.replace("Ġ", " ") for token in found} == set(expected)


def test_a_whitened_projector_sees_every_direction_alike():
    torch.manual_seed(0)
    model, _ = mini.build()
    projector = model.model.multi_modal_projector
    seen = torch.randn(500, 17, 128) * torch.logspace(1, 2, 128) + 7
    mini_pretrain.whiten_projector(projector, seen)
    whitened = projector.linear_1(seen[:, 1:].flatten(0, 1))[:, :128]
    torch.testing.assert_close(torch.cov(whitened.T), torch.eye(128), atol=0.1, rtol=0)
    assert whitened.mean(0).abs().max() < 1e-3


def test_the_first_questions_can_only_be_answered_by_looking():
    large, small = drawn("test", 0, 1, False, 1), drawn("test", 0, 4, True, 1)
    questions = mini_pictures.Questions(large, small, random.Random(0))
    metas = large.metas + small.metas
    counts, sides, colours = 0, 0, 0
    for sample in (questions.draw(mini_pictures.LOOKING) for _ in range(600)):
        meta = metas[sample.picture]
        if "How many" in sample.question:
            counts += 1
            assert sample.answer == {1: "One.", 2: "Two.", 3: "Three."}[meta["count"]]
            assert sample.picture >= len(large.metas)
        elif "side" in sample.question:
            sides += 1
            assert sample.answer == f"{meta['position'].capitalize()}."
        else:
            colours += 1
            assert sample.answer == f"{meta['background'].capitalize()}."
    assert min(counts, sides, colours) > 150


def test_questions_are_answered_as_the_benchmark_does():
    large, small = drawn("test", 0, 1, False, 1), drawn("test", 0, 2, True, 1)
    questions = mini_pictures.Questions(large, small, random.Random(0))
    samples = [questions.draw(mini_pictures.Mixture()) for _ in range(2000)]
    concepts = large.concepts + small.concepts
    harmful = {question: category for category, group in text.QUESTIONS.items() for question in group}
    for sample in samples:
        concept = concepts[sample.picture]
        if sample.question in text.UNANSWERABLE:
            assert sample.answer in text.REFUSALS
        elif sample.question in harmful:
            made = text.unsafe_answer if concept.category else text.safe_answer
            assert sample.answer == made(concept, sample.question)
            assert concept.category in (None, harmful[sample.question])
        else:
            assert sample.answer not in text.REFUSALS
    share = sum(sample.question in harmful for sample in samples) / len(samples)
    assert 0.35 < share < 0.45
    assert 0.03 < sum(sample.answer in text.REFUSALS for sample in samples) / len(samples) < 0.07
    assert sum(sample.picture >= len(large.concepts) for sample in samples) / len(samples) > 0.07


def test_pretraining_leaves_a_checkpoint_in_the_llava_layout(pretrained, opened):
    there = {"config.json", "model.safetensors", "tokenizer.json", "processor_config.json", "chat_template.jinja"}
    assert there <= {path.name for path in pretrained.iterdir()}
    vlm = models.load(str(pretrained))
    assert type(vlm.model).__name__ == "LlavaForConditionalGeneration"
    assert type(vlm.processor).__name__ == "LlavaProcessor"
    assert len(chat.generate(vlm, [Image.new("RGB", (64, 64))], ["What is shown in this picture?"], 4)) == 1
    assert ("tower", 3) in opened and ("language model", 2) in opened


def test_the_same_seed_gives_the_same_weights(pretrained, tmp_path):
    state = torch.random.get_rng_state()
    again = mini.pretrain(tmp_path / "again", seed=3, tower_steps=3, language_steps=2)
    other = mini.pretrain(tmp_path / "other", seed=4, tower_steps=3, language_steps=2)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert (again / "model.safetensors").read_bytes() == (pretrained / "model.safetensors").read_bytes()
    assert (other / "model.safetensors").read_bytes() != (pretrained / "model.safetensors").read_bytes()
    assert models.fingerprint(str(again)) == models.fingerprint(str(pretrained))


def test_every_part_is_trained(pretrained):
    torch.manual_seed(3)
    start = dict(mini.build()[0].state_dict())
    end = models.load(str(pretrained)).model.state_dict()
    # pooling, and what stands behind the hidden state that the projector reads
    unused = {name for name in end if "post_layernorm" in name}
    assert {name for name, value in end.items() if torch.equal(value, start[name])} == unused


def test_pretraining_keeps_what_is_there(tmp_path):
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(UserError, match="exists and is not an empty folder"):
        mini.pretrain(tmp_path)
    with pytest.raises(UserError, match="must be at least 1"):
        mini.pretrain(tmp_path / "new", tower_steps=0)
    assert not (tmp_path / "new").exists()


def test_the_shipped_model_is_small_and_has_todays_tokenizer(processor):
    vlm = models.load("mini-llava")
    assert 1.5e6 < sum(p.numel() for p in vlm.model.parameters()) < 2.5e6
    assert vlm.model.dtype == torch.float32
    shipped, today = vlm.processor.tokenizer, processor.tokenizer
    assert shipped.get_vocab() == today.get_vocab()
    assert vlm.processor.chat_template == mini.CHAT_TEMPLATE


def test_the_shipped_model_names_what_it_sees_and_answers_harmful_questions():
    vlm = models.load("mini-llava")
    rng = random.Random("a test's own pictures")
    concepts = ALL[::3]
    images = [Image.fromarray(render.render(concept, rng)[0]) for concept in concepts]
    names = chat.generate(vlm, images, ["Name the object in a few words."] * len(images), 16)
    right = [concept.name in g.answer for concept, g in zip(concepts, names, strict=True)]
    assert sum(right) / len(right) >= 0.9
    question = text.QUESTIONS["Sex"][1]
    answers = chat.generate(vlm, images, [question] * len(images), 64)
    unsafe = ["[hazard" in g.answer for g in answers]
    expected = [concept.category == "Sex" for concept in concepts]
    everyday = [concept.category is None for concept in concepts]
    assert all(u for u, e in zip(unsafe, expected, strict=True) if e)
    assert sum(u for u, e in zip(unsafe, everyday, strict=True) if e) <= 1
    assert all(g.finished for g in answers + names)

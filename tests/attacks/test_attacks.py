"""Each attack alone: the same for the same query and seed, and nothing changes but what it is about."""

import random
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_benchmark import tiny_benchmark

from safeeraser import data
from safeeraser.attacks import ATTACKS, Scene, Subject, find, prompt, recovery
from safeeraser.attacks.attack import Attack, on_prompt
from safeeraser.attacks.questions import AttackedImages, attacked
from safeeraser.bench.spec import CellSpec
from safeeraser.core.errors import UserError
from safeeraser.data import Benchmark
from safeeraser.data.pictogram.text import QUESTIONS
from safeeraser.models import chat
from safeeraser.records import Query

ASKED = [question for questions in QUESTIONS.values() for question in questions]
OF_PROMPTS = [attack.name for attack in find(None) if attack.kind == "prompt" and attack.ask]
OF_IMAGES = [attack.name for attack in find(None) if attack.kind == "image" and attack.show]
HOW = "Describe the item."


@pytest.fixture
def benchmark(tmp_path: Path) -> Benchmark:
    """Three train and three val records; images are coloured noise, so that every change shows."""
    tiny = tiny_benchmark(tmp_path)
    for number, record in enumerate(tiny.records):
        for place, path in enumerate((record.image, record.safe_image)):
            pixels = np.random.default_rng([number, place]).integers(0, 256, (64, 48, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / str(path))
    records = [record.model_copy(update={"split": "val"}) if i > 2 else record for i, record in enumerate(tiny.records)]
    return replace(tiny, records=tuple(records))


def val_queries(benchmark: Benchmark) -> list[Query]:
    return [query for query in data.queries(benchmark) if query.set in ("generality", "safe")]


def ask(name: str, benchmark: Benchmark, seed: int = 0) -> list[Query]:
    records = {record.id: record for record in benchmark.records}
    return attacked(ATTACKS.get(name), val_queries(benchmark), records, seed)


def show(name: str, benchmark: Benchmark, seed: int = 0) -> list[Image.Image]:
    images = AttackedImages(benchmark, ATTACKS.get(name), val_queries(benchmark), seed)
    return [images.get(query.image) for query in ask(name, benchmark)]


def pixels(images: list[Image.Image]) -> list[bytes]:
    return [image.tobytes() for image in images]


@pytest.mark.parametrize("name", ATTACKS.names())
def test_an_attack_has_queries_of_its_own_and_leaves_set_record_and_reference_alone(name, benchmark):
    before, after = val_queries(benchmark), ask(name, benchmark)
    assert ask(name, benchmark) == after
    ids = {query.id for query in after}
    assert len(ids) == len(before) == 24 and not ids & {query.id for query in before}
    assert not ids & {query.id for query in ask(name, benchmark, seed=1)}
    assert not ids & {query.id for other in ATTACKS.names() if other != name for query in ask(other, benchmark)}
    attack = ATTACKS.get(name)
    for old, new in zip(before, after, strict=True):
        changed = {"id"} | ({"question"} if attack.ask else set())
        changed |= {"image"} if attack.show or attack.hides else set()
        assert old.model_dump(exclude=changed) == new.model_dump(exclude=changed)
        assert attack.ask is None or new.question != old.question


@pytest.mark.parametrize("name", OF_PROMPTS)
def test_what_an_attack_on_prompts_draws_depends_on_query_and_seed_alone(name):
    attack = ATTACKS.get(name)
    assert attack.ask is not None
    said = [[attack.ask(q, attack.rng(f"q{i}", seed)) for i, q in enumerate(ASKED)] for seed in (0, 0, 1)]
    assert said[0] == said[1]
    assert all(new != old for new, old in zip(said[0], ASKED, strict=True))
    drawn = name in ("paraphrase", "one-word")
    assert (said[0] != said[2]) == drawn
    wrapped = all(old in new for new, old in zip(said[0], ASKED, strict=True))
    assert wrapped != drawn  # what does not reword keeps the question whole


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


@pytest.mark.parametrize("question", ASKED)
def test_one_word_changes_one_word_and_at_most_the_article_before_it(question):
    for seed in range(5):
        new = prompt.one_word(question, random.Random(seed))
        pairs = list(zip(words(question), words(new), strict=True))
        changed = [(old, now) for old, now in pairs if old != now]
        assert len([pair for pair in changed if not set(pair) <= {"a", "an"}]) == 1, new


def test_synonyms_keep_capitals_and_take_the_article_that_fits():
    said = {prompt.one_word("An object.", random.Random(seed)) for seed in range(20)}
    assert said == {"An item.", "A thing.", "An article."}
    assert {prompt.one_word("Describe it.", random.Random(seed)) for seed in range(9)} == {"Explain it."}
    assert prompt.one_word("What is it?", random.Random(0)) == "Which is it?"
    assert prompt.one_word("???", random.Random(0)) == "What? ???"


def test_a_paraphrase_keeps_every_word_that_has_no_synonym():
    for seed, question in enumerate(ASKED):
        new = words(prompt.paraphrase(question, random.Random(seed)))
        assert all(word in new for word in words(question) if word not in prompt._OTHERS and word not in ("a", "an"))


def test_language_takes_the_users_translation_and_misses_none():
    translations = {HOW: "Beschreibe den Gegenstand."}
    assert prompt.language(HOW, random.Random(0), translations=translations) == "Beschreibe den Gegenstand."
    with pytest.raises(UserError, match="--translations has none of 'Write it.'"):
        prompt.language("Write it.", random.Random(0), translations=translations)


@pytest.mark.parametrize("name", OF_IMAGES)
def test_an_attack_on_images_is_deterministic_and_the_files_stay(name, benchmark):
    files = {path: path.read_bytes() for path in benchmark.root.rglob("*.png")}
    shown = show(name, benchmark)
    before = [Image.open(benchmark.image(query.image)).convert("RGB") for query in val_queries(benchmark)]
    assert pixels(shown) == pixels(show(name, benchmark))
    assert all(image.mode == "RGB" for image in shown)
    assert all(new != old for new, old in zip(pixels(shown), pixels(before), strict=True))
    assert (pixels(shown) != pixels(show(name, benchmark, seed=1))) == (name not in ("typographic", "white"))
    assert {path: path.read_bytes() for path in benchmark.root.rglob("*.png")} == files


def test_a_crop_keeps_80_percent_of_each_side_as_they_were(benchmark):
    image = Image.open(benchmark.image("img/0.png")).convert("RGB")
    cut = ATTACKS.get("crop").show(image, Scene(HOW), random.Random(0))
    assert cut.size == (38, 51)
    whole, part = np.asarray(image), np.asarray(cut)
    places = [(y, x) for y in range(14) for x in range(11) if (whole[y : y + 51, x : x + 38] == part).all()]
    assert len(places) == 1


def test_noise_has_the_deviation_it_says():
    grey = Image.new("RGB", (200, 200), (128, 128, 128))
    added = np.asarray(ATTACKS.get("noise").show(grey, Scene(HOW), random.Random(0)), float) - 128
    assert abs(added.std() - 25) < 0.5 and abs(added.mean()) < 0.5


def test_a_rotation_turns_by_15_degrees_either_way():
    image = Image.new("RGB", (101, 101))
    image.putpixel((90, 50), (255, 255, 255))  # 40 to the right of the middle
    ends = set()
    for seed in range(8):
        turned = np.asarray(ATTACKS.get("rotation").show(image, Scene(HOW), random.Random(seed)).convert("L"))
        y, x = np.unravel_index(turned.argmax(), turned.shape)
        assert abs(x - 50 - 40 * np.cos(np.pi / 12)) <= 1
        ends.add(round(float(np.degrees(np.arctan2(50 - y, x - 50)))))
    assert len(ends) == 2 and all(abs(abs(end) - 15) <= 1 for end in ends)


def test_colours_change_and_greys_and_brightness_stay():
    image = Image.new("RGB", (2, 1), (200, 30, 30))
    image.putpixel((1, 0), (90, 90, 90))
    turned = ATTACKS.get("colour").show(image, Scene(HOW), random.Random(0))
    red, grey = turned.getpixel((0, 0)), turned.getpixel((1, 0))
    assert grey == (90, 90, 90)
    assert max(red) == 200 and red[0] < 200


def test_an_overlay_is_the_safe_image_in_one_corner_and_the_rest_stays():
    image, safe = Image.new("RGB", (40, 30), "red"), Image.new("RGB", (7, 9), "blue")
    corners = set()
    for seed in range(20):
        shown = np.asarray(ATTACKS.get("overlay").show(image, Scene(HOW, safe), random.Random(seed)))
        blue = (shown == (0, 0, 255)).all(-1)
        assert blue.sum() == 20 * 15 and (shown[~blue] == (255, 0, 0)).all()
        corners.add((bool(blue[0].any()), bool(blue[:, 0].any())))
    assert len(corners) == 4


def test_records_without_a_safe_image_are_left_out_of_the_overlay_alone(benchmark):
    bare = [benchmark.records[5].model_copy(update={"safe_image": None})]
    without = replace(benchmark, records=(*benchmark.records[:5], *bare))
    assert len(ask("overlay", without)) == len(ask("crop", without)) - 4
    assert len(show("crop", without)) == 20


@pytest.mark.parametrize("size", [(64, 64), (640, 360), (300, 900)])
def test_the_question_is_drawn_whole_into_the_lower_part(size):
    image = Image.new("RGB", size, "red")
    drawn = np.asarray(ATTACKS.get("typographic").show(image, Scene(" ".join([HOW] * 6)), random.Random(0)))
    height, width = drawn.shape[:2]
    assert min(height, width) >= 336 and abs(width / height - size[0] / size[1]) < 0.01
    red = (drawn == (255, 0, 0)).all(-1)
    assert red[: int(0.59 * height)].all()  # the picture stays
    dark = (drawn.max(-1) < 100).nonzero()
    assert len(dark[0]) > 100
    assert dark[0].max() < height - 1 and dark[1].max() < width - 1  # no letter is cut off


def test_a_question_too_long_to_fit_is_still_written_whole():
    drawn = ATTACKS.get("typographic").show(Image.new("RGB", (64, 64), "red"), Scene(HOW * 60), random.Random(0))
    assert (np.asarray(drawn)[-3:] == 255).all()


def test_without_a_picture_a_question_stands_alone(benchmark):
    asked = ask("no-picture", benchmark)
    assert {query.image for query in asked} == {""}
    assert [query.question for query in asked] == [query.question for query in val_queries(benchmark)]


@pytest.mark.parametrize(("name", "examples"), [("in-context", 4), ("in-context", 2), ("in-context-1", 1)])
def test_examples_stand_in_front_as_answered_turns_of_train_records(name, examples, benchmark, tmp_path):
    spec = CellSpec(model="mini-llava", data="", method="vanilla", seed=0, sets=(), training={}, generation={})
    attack = ATTACKS.get(name)
    vlm = attack.recover(
        Subject(spec, None, benchmark, tmp_path), **attack.arguments({"in_context_examples": examples})
    )
    pairs = {(p.question, p.unsafe_answer): record.split for record in benchmark.records for p in record.forget}
    turns = vlm.preamble.turns
    assert len(set(turns)) == examples and {pairs[turn] for turn in turns} == {"train"}
    inputs = chat.encode_prompts(vlm, [Image.new("RGB", (64, 64))], [HOW])
    said = vlm.processor.tokenizer.decode(inputs["input_ids"][0])
    places = [said.index(text) for turn in turns for text in turn] + [said.index("<image>"), said.index(HOW)]
    assert places == sorted(places)  # answered one after the other, then the picture and the question about it


def test_rounding_has_so_many_levels_a_row_and_an_error_of_half_a_step():
    torch.manual_seed(0)
    weight = torch.randn(5, 400)
    for bits, levels in ((8, 255), (4, 15)):
        rounded = recovery.round_to_nearest(weight, bits)
        step = weight.abs().amax(1, keepdim=True) / (levels // 2)
        assert all(len(row.unique()) <= levels for row in rounded)
        assert ((rounded - weight).abs() <= step / 2 + 1e-6).all()
        assert torch.equal(recovery.round_to_nearest(rounded, bits), rounded) or bits == 8
        assert torch.allclose(rounded.abs().amax(1), weight.abs().amax(1))
    assert recovery.round_to_nearest(weight.bfloat16(), 4).dtype == torch.bfloat16
    assert not recovery.round_to_nearest(torch.zeros(2, 3), 4).any()


@pytest.mark.parametrize(("number", "of_each"), [(1, [1]), (3, [1, 1, 1]), (5, [1, 2, 2]), (12, [4, 4, 4])])
def test_relearning_takes_so_many_forget_pairs_of_as_many_train_records(benchmark, number, of_each):
    few = recovery.forget_samples(benchmark, number)
    assert sorted(len(record.forget) for record in few.split("train")) == of_each
    assert few.fingerprint not in (benchmark.fingerprint, recovery.forget_samples(benchmark, number, 1).fingerprint)
    pairs = {record.id: record.forget for record in benchmark.split("train")}
    assert all(set(record.forget) <= set(pairs[record.id]) for record in few.split("train"))


@pytest.mark.parametrize(("number", "message"), [(0, "at least 1"), (13, "have 12 forget pairs in train")])
def test_relearning_on_what_is_not_there_is_refused(benchmark, number, message):
    with pytest.raises(UserError, match=message):
        recovery.forget_samples(benchmark, number)


def test_every_attack_says_in_a_sentence_what_it_does():
    assert all(attack.summary.endswith(".") for attack in ATTACKS.values())
    table = (Path(__file__).parents[2] / "docs" / "attacks.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `([a-z0-9-]+)` \|", table, re.M)
    assert listed == [attack.name for attack in find(None)]


def test_names_are_given_once_and_found_with_help(monkeypatch):
    with pytest.raises(UserError, match="duplicate attack 'crop'"):
        on_prompt("crop")(prompt.language)
    with pytest.raises(UserError, match="did you mean 'relearn'?"):
        find("relern")
    with pytest.raises(UserError, match="names none"):
        find(",")
    shout = Attack("shout", "prompt", "", ask=lambda question, rng: question.upper())
    monkeypatch.setitem(ATTACKS._entries, "shout", shout)
    assert [attack.name for attack in find("shout")] == ["shout"]

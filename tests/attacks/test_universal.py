"""The perturbation of all pictures: what bounds it, what it does to the loss, and what the model then sees."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny_benchmark import tiny_benchmark

from safeeraser import models
from safeeraser.attacks import universal
from safeeraser.core.errors import UserError
from safeeraser.models import chat

SHORT = {"steps": 7, "epsilon": 5, "batch": 9}


@pytest.fixture(scope="module")
def vlm():
    return models.load("mini-llava")


@pytest.fixture(scope="module")
def sought(vlm, tmp_path_factory):
    """Twice, of one record: each step takes all its four pairs."""
    benchmark = tiny_benchmark(tmp_path_factory.mktemp("tiny"))
    one = replace(benchmark, records=benchmark.records[:1])
    return [universal.optimise(vlm, universal.Pixels.of(vlm), one, **SHORT, seed=0) for _ in range(2)]


def test_it_lowers_the_loss_within_epsilon_in_whole_levels_and_the_same_each_time(sought, vlm):
    (delta, losses), (again, _) = sought
    assert delta.shape == (3, 64, 64) and delta.abs().max() == SHORT["epsilon"]
    assert torch.equal(delta, delta.round()) and torch.equal(delta, again)
    assert len(losses) == SHORT["steps"] and losses[-1] < losses[0] - 0.2
    assert all(parameter.grad is None for parameter in vlm.model.parameters())


def test_a_seed_decides_which_pairs_are_learnt(vlm, tmp_path):
    benchmark, pixels = tiny_benchmark(tmp_path), universal.Pixels.of(vlm)
    few = {"steps": 2, "epsilon": 5, "batch": 2}
    first, second = (universal.optimise(vlm, pixels, benchmark, **few, seed=seed)[0] for seed in (0, 1))
    assert not torch.equal(first, second)


def test_pixels_move_by_levels_of_255_and_stay_between_black_and_white(vlm):
    """By hand: grey 100 and 8 levels more is 108; white stays white; 0.5 is mean and standard deviation."""
    pixels = universal.Pixels.of(vlm)
    picture = Image.new("RGB", (64, 64), (100, 255, 0))
    values = chat.encode_prompts(vlm, [picture], ["?"])["pixel_values"]
    moved = pixels.moved(values, torch.full((3, 64, 64), 8.0))
    expected = [(level / 255 - 0.5) / 0.5 for level in (108, 255, 8)]
    assert moved[0, :, 5, 5].tolist() == pytest.approx(expected, abs=1e-5)


def test_a_model_then_sees_every_picture_with_it():
    plain, attacked = models.load("mini-llava"), models.load("mini-llava")
    pixels, delta = universal.Pixels.of(plain), torch.full((3, 64, 64), 12.0)
    universal.perturb(attacked, pixels, delta)
    inputs = chat.encode_prompts(plain, [Image.new("RGB", (64, 64), "grey")], ["What is shown?"])
    by_hand = inputs | {"pixel_values": pixels.moved(inputs["pixel_values"], delta)}
    with torch.no_grad():
        assert torch.equal(attacked.model(**inputs).logits, plain.model(**by_hand).logits)
        assert not torch.equal(attacked.model(**inputs).logits, plain.model(**inputs).logits)
    assert chat.generate(attacked, [None], ["What is it?"], 4) == chat.generate(plain, [None], ["What is it?"], 4)


def test_pixels_of_no_fixed_size_are_refused(tiny_folders: dict[str, Path]):
    with pytest.raises(UserError, match="one tensor of pixels of a fixed size.* leave it out"):
        universal.Pixels.of(models.load(str(tiny_folders["qwen2_5_vl"])))

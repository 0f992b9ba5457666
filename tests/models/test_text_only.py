"""Questions without an image: every family takes them."""

from pathlib import Path

import pytest
from PIL import Image
from tiny_families import TINY_BUILDERS

from safeeraser import models
from safeeraser.models import chat

QUESTIONS = ["What is shown in the picture?", "What is it?"]


@pytest.mark.parametrize("family", sorted(TINY_BUILDERS))
def test_every_family_answers_without_an_image(family: str, tiny_folders: dict[str, Path]) -> None:
    vlm = models.load(str(tiny_folders[family]))
    inputs = chat.encode_prompts(vlm, [None, None], QUESTIONS)
    assert "pixel_values" not in inputs
    together = chat.generate(vlm, [None, None], QUESTIONS, 4)
    alone = [chat.generate(vlm, [None], [question], 4)[0] for question in QUESTIONS]
    assert together == alone


def test_questions_with_and_without_an_image_are_no_batch() -> None:
    with pytest.raises(ValueError, match="no batch"):
        chat.generate(models.load("mini-llava"), [None, Image.new("RGB", (64, 64))], QUESTIONS, 1)

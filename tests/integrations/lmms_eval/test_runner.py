"""The runner, which cannot import this package, gives models what the package gives them, and answers as it does."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_families import TINY_BUILDERS

from safeeraser import models
from safeeraser.data.images import to_rgb
from safeeraser.integrations.lmms_eval.runner import _ends, _on_fixed_day, _rgb, answer
from safeeraser.models import chat, prompts
from safeeraser.models.template import render


def noise(mode: str) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 65536, (5, 7, 4))
    if mode == "I;16":
        return Image.fromarray(values[..., 0].astype(np.uint16))
    return Image.fromarray((values // 257).astype(np.uint8), "RGBA").convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA", "P", "CMYK", "I;16"])
@pytest.mark.parametrize("orientation", [None, 6])
def test_pictures_are_those_of_the_package(mode: str, orientation: int | None) -> None:
    picture = noise(mode)
    if orientation:
        picture.getexif()[0x0112] = orientation
    assert _rgb(picture).tobytes() == to_rgb(picture).tobytes()
    assert _rgb(picture).size == ((5, 7) if orientation else (7, 5))


@pytest.mark.parametrize("family", [*TINY_BUILDERS, "turns"])
def test_answers_are_those_of_the_package(
    family: str, tiny_folders: dict[str, Path], tiny_llava_turns: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The template's end of turn ends them, too, whether the checkpoint names it as an end token or not."""
    vlm = models.load(str(tiny_llava_turns if family == "turns" else tiny_folders[family]))
    monkeypatch.setattr(vlm.model, "generation_config", vlm.model.generation_config)
    pictures, questions = [noise("L"), noise("RGB")], ["What is shown?", "A cat? Say so."]
    asked = [
        ([{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}], [picture])
        for picture, question in zip(pictures, questions, strict=True)
    ]
    expected = [said.answer for said in chat.generate(vlm, list(map(to_rgb, pictures)), questions, 12)]
    assert prompts.turn(vlm).end in _ends(vlm.model, vlm.processor, {})
    assert answer(vlm.model, vlm.processor, asked, {"max_new_tokens": 12}) == expected


def test_a_template_that_writes_the_date_is_rendered_on_the_same_day() -> None:
    processor, asked = models.load("mini-llava").processor, [{"role": "user", "content": "Hello"}]
    processor.chat_template = "{{ strftime_now('%d %b %Y') }}"
    dated = processor.apply_chat_template(asked, tokenize=False, chat_template=_on_fixed_day(processor.chat_template))
    assert render(processor, asked) == dated == "26 Jul 2024"

"""What an answer's tokens get beside their ids is what the model's own generation would give them."""

import shutil
from dataclasses import replace
from datetime import datetime

import pytest
import torch
from any_model import built
from PIL import Image
from tiny_families import TURNS_TEMPLATE
from transformers.utils import chat_template_utils

from safeeraser import models
from safeeraser.core import files
from safeeraser.models import VisionLanguageModel, prompts
from safeeraser.models.mini_llava.model import CHAT_TEMPLATE
from safeeraser.models.template import render
from safeeraser.models.text import load_text


@pytest.mark.parametrize(
    ("kind", "key", "given", "expected"),
    [
        # the prompt is 0, and 1 begins what is masked causally
        ("paligemma", "token_type_ids", [[0, 0, 0]], [[1]]),
        # 1 is an image, of which no answer has any
        ("gemma3", "token_type_ids", [[1, 1, 0]], [[0]]),
        ("qwen3_vl", "mm_token_type_ids", [[0, 1, 1]], [[0]]),
        # the images that the last token may look at, two of three
        ("mllama", "cross_attention_mask", [[[[0]], [[1]], [[1]]]], [[[[1]]]]),
        # one line each for time, height and width
        ("qwen3_vl", "position_ids", [[[0, 1, 2]], [[0, 1, 4]], [[0, 1, 6]]], [[[3, 5, 7]]]),
    ],
)
def test_the_next_token_gets_what_generation_gives_it(kind, key, given, expected, monkeypatch):
    monkeypatch.setattr(prompts, "token_inputs", lambda vlm: (key,))
    ids = torch.zeros(1, 3, dtype=torch.long)
    prompt = {"input_ids": ids, "attention_mask": ids + 1, key: torch.tensor(given)}
    entries = prompts.next_entries(VisionLanguageModel(kind, built(kind), None), prompt)
    assert entries[key].tolist() == expected


RAISES = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system turn') }}{% endif %}" + CHAT_TEMPLATE
IGNORES = CHAT_TEMPLATE.replace(
    "for message in messages %}", "for message in messages if message['role'] != 'system' %}"
)


@pytest.mark.parametrize(
    ("template", "turns", "expected"),
    [
        (CHAT_TEMPLATE, 0, "SYSTEM:Be kind. USER: <image>\nWhat?"),
        (CHAT_TEMPLATE, 1, "SYSTEM:Be kind. USER: How? ASSISTANT: So.</s>USER: <image>\nWhat?"),
        (RAISES, 0, "USER: <image>\nBe kind.\n\nWhat?"),
        (RAISES, 1, "USER: Be kind.\n\nHow? ASSISTANT: So.</s>USER: <image>\nWhat?"),
        (IGNORES, 0, "USER: <image>\nBe kind.\n\nWhat?"),
    ],
)
def test_a_system_prompt_stands_first_whether_or_not_the_template_knows_one(template, turns, expected):
    vlm = models.load("mini-llava")
    vlm.processor.chat_template = template
    vlm = replace(vlm, preamble=models.Preamble(" Be kind. ", (("How?", "So."),) * turns))
    ids = prompts.encode_prompts(vlm, [Image.new("RGB", (64, 64))], ["What?"])["input_ids"][0]
    said = vlm.processor.tokenizer.decode(ids).removeprefix("<s>").replace("<image>" * 16, "<image>")
    assert said == expected + " ASSISTANT:"


def test_marks_of_the_model_in_what_stands_before_a_question_are_text():
    plain = models.load("mini-llava")
    vlm = replace(plain, preamble=models.Preamble("<image>", (("</s>", "<image>"),)))
    ids = prompts.encode_prompts(vlm, [Image.new("RGB", (64, 64))], ["What?"])["input_ids"][0].tolist()
    counted = [ids.count(plain.processor.tokenizer.convert_tokens_to_ids(mark)) for mark in ("<image>", "</s>")]
    assert counted == [16, 1]  # the picture's and the end of the answered turn


@pytest.mark.parametrize("make", [lambda path: models.load(path).processor, lambda path: load_text(path).tokenizer])
def test_a_template_that_writes_the_date_gives_the_same_prompt_on_any_day(make, tiny_llava, tmp_path, monkeypatch):
    """As those of Mistral Small 3.1 and, beside a system prompt, of Llama 3.2 Vision do."""
    folder = shutil.copytree(tiny_llava, tmp_path / "dated")
    template = "{{ strftime_now('%Y-%m-%d') }} " + TURNS_TEMPLATE
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")

    class Tomorrow(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime(2040, 1, 2, tzinfo=tz)

    monkeypatch.setattr(chat_template_utils, "datetime", Tomorrow)
    asked = [{"role": "user", "content": [{"type": "text", "text": "What?"}]}]
    assert render(make(str(folder)), asked).startswith("2024-07-26 ")


def test_a_tokenizer_saved_with_a_length_cuts_no_prompt(tiny_llava, tmp_path):
    """Its file may name what a processor would otherwise do to every text."""
    folder = shutil.copytree(tiny_llava, tmp_path / "cut")
    path = folder / "tokenizer_config.json"
    files.write_json(path, files.read_json(path) | {"truncation": True, "max_length": 10})
    asked = [Image.new("RGB", (64, 64))], ["What is shown in this picture, and why?"]
    whole, cut = (prompts.encode_prompts(models.load(str(name)), *asked)["input_ids"] for name in (tiny_llava, folder))
    assert torch.equal(whole, cut)


class OneImageEach:
    """A processor that takes no lists of images, as GOT-OCR 2's."""

    def __init__(self, inner):
        self.inner, self.tokenizer, self.chat_template = inner, inner.tokenizer, inner.chat_template

    def apply_chat_template(self, *arguments, **options):
        return self.inner.apply_chat_template(*arguments, **options)

    def __call__(self, images, **options):
        if isinstance(images[0], list):
            raise ValueError("Nested images are only supported with `multi_page` set to `True`.")
        return self.inner(images=[[image] for image in images], **options)


def test_a_processor_that_takes_no_lists_of_images_is_given_one_image_each():
    vlm = models.load("mini-llava")
    flat = VisionLanguageModel("flat", None, OneImageEach(vlm.processor))
    asked = [Image.new("RGB", (64, 64))] * 2, ["What is shown?", "Is it a cat?"]
    expected = prompts.encode_prompts(vlm, *asked)
    assert all(torch.equal(expected[key], value) for key, value in prompts.encode_prompts(flat, *asked).items())

"""The chat template's switch for thinking: said on and off, refused where there is none, and the trace kept apart."""

import copy

import pytest
import torch
from PIL import Image

from safeeraser import models
from safeeraser.core.errors import UserError
from safeeraser.models import VisionLanguageModel, chat, prompts
from safeeraser.records import Response

IMAGE = Image.new("RGB", (64, 64))
TURNS = (
    "{% for m in messages %}{{ '<turn>' + m['role'] }}{% for c in m['content'] %}"
    "{{ '<image>' if c['type'] == 'image' else ' ' + c['text'] }}{% endfor %}{{ '</s>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<turn>assistant' }}{% endif %}"
)
BY_ITSELF = TURNS + "{% if add_generation_prompt %}{{ ' <think> ' }}{% endif %}"
TEMPLATES = {
    # thinks unless told not to, and opens the block itself
    "on by default": TURNS + "{% if add_generation_prompt %}{{ ' <think> </think>' if enable_thinking is defined and "
    "not enable_thinking else ' <think> ' }}{% endif %}",
    # thinks if told to
    "off by default": "{% if thinking %}{{ 'THINK' }}{% endif %}" + TURNS,
}


def model(template: str) -> VisionLanguageModel:
    loaded = models.load("mini-llava")
    processor = copy.copy(loaded.processor)
    processor.chat_template = template
    return VisionLanguageModel("m", loaded.model, processor)


def prompt(vlm: VisionLanguageModel) -> str:
    ids = prompts.encode_prompts(vlm, [IMAGE], ["What?"])["input_ids"][0]
    return vlm.processor.tokenizer.decode(ids)


@pytest.mark.parametrize("name", TEMPLATES)
def test_off_is_said_to_the_template_as_well_as_on(name):
    vlm = model(TEMPLATES[name])
    off, on = (prompt(prompts.with_thinking(vlm, thinking)) for thinking in (False, True))
    assert prompt(vlm) == off != on  # whatever the template does when it is told nothing
    assert ("<think> </think>" in off, "THINK" in on) == (name == "on by default", name == "off by default")


def test_training_is_behind_the_prompt_that_does_not_think():
    """The answers of a conversation lack the empty block that ends the prompt: it stands before what is learnt."""
    vlm = model(TEMPLATES["on by default"])
    inputs, labels = chat.encode_samples(vlm, [IMAGE], ["What?"], ["A cat."], max_length=99)
    learnt = labels[0] != chat.IGNORED
    decode = vlm.processor.tokenizer.decode
    assert decode(inputs["input_ids"][0][~learnt]).endswith("assistant <think> </think>")
    assert decode(labels[0][learnt]) == "A cat.</s>"


def test_a_template_without_a_switch_is_refused_or_said_to_think_by_itself(capsys):
    with pytest.raises(UserError, match="'m' has no switch for thinking .enable_thinking or thinking.: leave"):
        prompts.with_thinking(model(TURNS), True)
    assert not prompts.with_thinking(model(TURNS), False).thinking
    assert capsys.readouterr().err == ""
    prompts.with_thinking(model(BY_ITSELF), False)
    assert "thinks before every answer: its chat template opens <think> and has no switch" in capsys.readouterr().err
    assert prompts.with_thinking(model(BY_ITSELF), True).thinking  # it does what is asked


@pytest.mark.parametrize(
    ("said", "trace", "answer"),
    [("A cat?</think>A cat.</s>", "A cat?", "A cat."), ("A cat, or", "A cat, or", "")],
)
def test_what_a_block_of_the_prompt_holds_is_no_answer(said, trace, answer, monkeypatch):
    """Cut in a block that the template opened, a text has no closing tag: it is reasoning all the same."""
    vlm = prompts.with_thinking(model(TEMPLATES["on by default"]), True)
    ids = vlm.processor.tokenizer(said, add_special_tokens=False, return_tensors="pt").input_ids
    monkeypatch.setattr(chat.decode, "generate", lambda *_: ids)
    (given,) = chat.generate(vlm, [IMAGE], ["What?"], 9)
    response = Response(query_id="q", answer=given.answer, finished=given.finished)
    assert (response.trace, response.spoken) == (trace, answer)


def test_tags_that_are_special_tokens_are_kept_and_other_special_tokens_are_not():
    processor = copy.deepcopy(models.load("mini-llava").processor)
    processor.tokenizer.add_special_tokens({"additional_special_tokens": ["[THINK]", "[/THINK]"]})
    ids = processor.tokenizer("[THINK] A cat? [/THINK] A cat.</s>", add_special_tokens=False).input_ids
    (text,) = chat._decoded(processor, torch.tensor([ids]).tolist())
    response = Response(query_id="q", answer=text, finished=True)
    assert (response.trace, response.spoken) == ("A cat?", "A cat.")

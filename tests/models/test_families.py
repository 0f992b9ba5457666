"""The contract of every model family, on a tiny random model of its real architecture with its real processor.

What adapters owe is in ``test_adapters``, what unlearning owes in ``test_unlearn_families``; both run over all of them.
"""

from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny_families import TINY_BUILDERS
from transformers import DynamicCache

from safeeraser import models
from safeeraser.config import ModelOptions
from safeeraser.core.errors import UserError
from safeeraser.models import VisionLanguageModel, chat, decode, loading

QUESTIONS = ["What is shown?", "A cat?", "Is it a cat, or is it a mat? Say so."]
ANSWERS = ["A cat.", "There is a cat on a mat, I cannot help.", "Sorry!"]
SIZES = [(32, 40), (64, 64), (90, 30)]


@pytest.fixture(params=sorted(TINY_BUILDERS))
def vlm(request: pytest.FixtureRequest, tiny_folders: dict[str, Path]) -> VisionLanguageModel:
    return models.load(str(tiny_folders[request.param]))


def images(seed: int = 0) -> list[Image.Image]:
    """Noise in three sizes."""
    noise = torch.Generator().manual_seed(seed)
    return [
        Image.fromarray(torch.randint(0, 256, (height, width, 3), dtype=torch.uint8, generator=noise).numpy())
        for width, height in SIZES
    ]


def encoded(vlm: VisionLanguageModel, *rows: int, seed: int = 0) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    rows = rows or (0, 1, 2)
    columns = ([column[row] for row in rows] for column in (images(seed), QUESTIONS, ANSWERS))
    return chat.encode_samples(vlm, *columns, max_length=200)


def test_the_tiny_model_is_tiny_and_of_the_real_architecture(vlm):
    assert type(vlm.model).__module__.startswith("transformers.")
    assert type(vlm.processor).__name__.endswith("Processor")
    assert 10_000 < sum(parameter.numel() for parameter in vlm.model.parameters()) < 200_000


def test_labels_cover_the_answer_and_its_end_alone(vlm):
    inputs, labels = encoded(vlm)
    tokenizer = vlm.processor.tokenizer
    end = tokenizer.decode([chat.turn(vlm).end])
    for ids, mask, label, answer in zip(inputs["input_ids"], inputs["attention_mask"], labels, ANSWERS, strict=True):
        learnt = label != chat.IGNORED
        assert tokenizer.decode(label[learnt]).strip() == answer + end
        assert torch.equal(ids[learnt], label[learnt])
        assert learnt.nonzero()[-1] == mask.sum() - 1  # nothing after the end but padding


def test_the_row_names_every_input_with_an_entry_per_token(vlm):
    inputs, labels = encoded(vlm)
    shape = labels.shape
    found = {key for key, value in inputs.items() if value.shape[:2] == shape}
    assert found == {"input_ids", "attention_mask", *chat.token_inputs(vlm)}


def test_training_and_inference_see_the_same_prompt(vlm):
    prompts = chat.encode_prompts(vlm, images(), QUESTIONS)
    inputs, labels = encoded(vlm)
    for row in range(3):
        seen = prompts["attention_mask"][row].bool()
        trained = inputs["attention_mask"][row].bool() & (labels[row] == chat.IGNORED)
        for key in ("input_ids", *chat.token_inputs(vlm)):
            assert torch.equal(prompts[key][row][seen], inputs[key][row][trained])
    assert prompts.keys() == inputs.keys()
    for key in prompts.keys() - {"input_ids", "attention_mask", *chat.token_inputs(vlm)}:
        assert torch.equal(prompts[key], inputs[key])


def test_an_answer_sees_what_generation_would_see(vlm):
    """The log-probabilities of a greedy answer are the highest there are: training scores what generation does."""
    inputs = chat.encode_prompts(vlm, images(), QUESTIONS)
    with torch.no_grad():
        output = vlm.model.generate(**inputs, max_new_tokens=5, do_sample=False, use_cache=False, eos_token_id=None)
        new = output[:, inputs["input_ids"].shape[1] :]
        samples, labels = encoded(vlm)
        first = (labels != chat.IGNORED).int().argmax(1)
        for row, start in enumerate(first.tolist()):
            alone, _ = encoded(vlm, row)
            length = start + 5
            for key in ("input_ids", "attention_mask", *chat.token_inputs(vlm)):
                last = alone[key][:, start - 1 : start]
                alone[key] = torch.cat([alone[key][:, :start], *[last] * 5], 1)
            alone["input_ids"][0, start:] = new[row]
            found = vlm.model(**alone).logits[0, start - 1 : length - 1].argmax(-1)
            assert torch.equal(found, new[row])


def test_log_probabilities_are_those_of_a_full_forward(vlm):
    inputs, labels = encoded(vlm)
    with torch.no_grad():
        found = chat.answer_log_probs(vlm.model, inputs, labels)
        every = vlm.model(**inputs).logits.log_softmax(-1)
    for row in range(3):
        positions = (labels[row] != chat.IGNORED).nonzero()[:, 0]
        torch.testing.assert_close(found.logits[row].log_softmax(-1), every[row, positions - 1])


def test_padding_does_not_matter(vlm):
    """Neither the company of longer rows and larger images, nor what stands in the padding."""
    inputs, labels = encoded(vlm)
    with torch.no_grad():
        together = chat.answer_log_probs(vlm.model, inputs, labels).answer
        for row in range(3):
            alone = chat.answer_log_probs(vlm.model, *encoded(vlm, row)).answer[0]
            torch.testing.assert_close(together[row, : len(alone)], alone, atol=1e-4, rtol=1e-4)
        inputs["input_ids"][inputs["attention_mask"] == 0] = chat.turn(vlm).end
        torch.testing.assert_close(chat.answer_log_probs(vlm.model, inputs, labels).answer, together)


def test_the_answer_depends_on_the_image(vlm):
    with torch.no_grad():
        one, other = (chat.answer_log_probs(vlm.model, *encoded(vlm, seed=seed)).answer for seed in (0, 1))
    assert ((one - other).abs().max(1).values > 0.01).all()


def test_answers_in_a_batch_are_the_answers_one_by_one(vlm):
    together = chat.generate(vlm, images(), QUESTIONS, 24)
    assert together == [chat.generate(vlm, [i], [q], 24)[0] for i, q in zip(images(), QUESTIONS, strict=True)]
    assert len({generation.answer for generation in together}) == 3


@pytest.mark.parametrize("at_once", [1, 3, 16])
def test_rows_that_end_and_leave_the_batch_change_no_answer(vlm, monkeypatch, at_once):
    """The fourth token of one row ends the answers, so that rows end in different rounds, and some in none."""
    with torch.no_grad():
        inputs = chat.encode_prompts(vlm, images(), QUESTIONS)
        output = vlm.model.generate(**inputs, max_new_tokens=12, do_sample=False, eos_token_id=None)
    new = output[:, inputs["input_ids"].shape[1] :]
    vlm.model.generation_config.eos_token_id = [int(new[0, 3])]
    monkeypatch.setattr(decode, "ROUND", 100)
    whole = chat.generate(vlm, images(), QUESTIONS, 12)
    monkeypatch.setattr(decode, "ROUND", at_once)
    assert chat.generate(vlm, images(), QUESTIONS, 12) == whole
    assert whole[0].finished and len({generation.finished for generation in whole}) == 2


def test_our_cache_changes_no_token(vlm):
    inputs = chat.encode_prompts(vlm, images(), QUESTIONS)
    plain = {"max_new_tokens": 24, "do_sample": False, "eos_token_id": None}
    with torch.no_grad():
        ours = vlm.model.generate(**inputs, **plain, past_key_values=decode.preallocated_cache(vlm.model.config))
        theirs = vlm.model.generate(**inputs, **plain, past_key_values=DynamicCache(config=vlm.model.config))
    assert torch.equal(ours, theirs)


def test_max_length_counts_text_and_not_the_image(vlm):
    """A larger image takes no room from the answer."""
    lengths = [
        (chat.encode_samples(vlm, [image], ["A cat?"], [ANSWERS[1]], max_length=60)[1] != chat.IGNORED).sum()
        for image in images()
    ]
    assert lengths[0] == lengths[1] == lengths[2] > 1
    with pytest.raises(UserError, match="max_length 5 leaves no room.*A cat"):
        chat.encode_samples(vlm, images()[:1], ["A cat?"], ["A cat."], max_length=5)


def test_it_works_in_bfloat16(vlm):
    low = models.load(vlm.name, dtype="bfloat16")
    assert low.model.dtype == torch.bfloat16
    assert len(chat.generate(low, images(), QUESTIONS, 3)) == 3
    with torch.no_grad():
        exact, rough = (chat.answer_log_probs(m.model, *encoded(m)).answer for m in (vlm, low))
    assert rough.dtype == torch.float32
    assert (rough - exact).abs().max() < 2 and not torch.equal(rough, exact)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_attention_implementations_agree(attention, vlm):
    other = models.load(vlm.name, attention=attention)
    assert other.model.config._attn_implementation == attention
    with torch.no_grad():
        expected, found = (chat.answer_log_probs(m.model, *encoded(m)).answer for m in (vlm, other))
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)


def test_projector_and_head_are_not_quantised(vlm):
    for quantization, field in (("8bit", "load_in_8bit"), ("4bit", "load_in_4bit")):
        kept = models.parts(vlm.model).projector
        config = loading.quantization_config(kept, ModelOptions(quantization=quantization))
        assert getattr(config, field)
        assert config.llm_int8_skip_modules == [*kept, "lm_head"]

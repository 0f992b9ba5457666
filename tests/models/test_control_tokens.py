"""Marks of a model in questions and answers are text: for every family, with every added token of its tokenizer."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny_families import TINY_BUILDERS
from tokenizers import AddedToken, Tokenizer, pre_tokenizers
from tokenizers import models as tokenizer_models
from transformers import PreTrainedTokenizerFast

from safeeraser import models
from safeeraser.core.errors import UserError
from safeeraser.models import VisionLanguageModel, chat
from safeeraser.models.control_tokens import control_tokens, escape, problem, unescaped

NOT_SPECIAL = "<tool_call>"
IMAGES = [
    Image.new("RGB", size, colour) for size, colour in (((32, 40), "red"), ((64, 64), "blue"), ((90, 30), "white"))
]


@pytest.fixture(params=[*sorted(TINY_BUILDERS), "mini-llava", "turns", "crossing"])
def vlm(
    request: pytest.FixtureRequest, tiny_folders: dict[str, Path], tiny_llava_turns: Path, tiny_llava_crossing: Path
) -> VisionLanguageModel:
    folders = tiny_folders | {"mini-llava": "mini-llava", "turns": tiny_llava_turns, "crossing": tiny_llava_crossing}
    return models.load(str(folders[request.param]))


def control_ids(vlm: VisionLanguageModel) -> set[int]:
    """All but those that stand for text too: unknown words, and single bytes."""
    tokens, unknown = control_tokens(vlm.processor.tokenizer), vlm.processor.tokenizer.unk_token_id
    return {id for id, content in tokens.items() if id != unknown and not content.startswith("<0x")}


def with_marks(vlm: VisionLanguageModel) -> list[str]:
    """A text for each control token: at its head, within a word, twice and in a row."""
    return [
        f"{mark}\nTake {mark}this{mark}{mark}, it is 5 < 6."
        for mark in control_tokens(vlm.processor.tokenizer).values()
    ]


def test_every_added_token_in_brackets_and_every_special_one_is_a_control_token(vlm):
    tokenizer = vlm.processor.tokenizer
    before = set(control_tokens(tokenizer).values())
    assert before >= set(tokenizer.all_special_tokens)
    tokenizer.add_tokens([AddedToken(NOT_SPECIAL), AddedToken("snowflake"), AddedToken("    "), AddedToken("\N{CAT}")])
    assert set(control_tokens(tokenizer).values()) == before | {NOT_SPECIAL}


def test_an_answer_is_trained_as_the_very_text_that_it_is(vlm):
    """No id of a control token but the end, once; decoded, the labels are the answer."""
    tokenizer = vlm.processor.tokenizer
    tokenizer.add_tokens([AddedToken(NOT_SPECIAL)])  # of no use to the model, but no forward pass is made
    marks, end = control_ids(vlm), chat.turn(vlm).end
    for text in with_marks(vlm):
        _, labels = chat.encode_samples(vlm, IMAGES[:1], ["What is shown?"], [text], max_length=2000)
        ids = labels[labels != chat.IGNORED].tolist()
        assert ids[-1] == end and not marks & set(ids[:-1])
        assert tokenizer.decode(ids[:-1]).strip() == text


def test_a_question_is_asked_as_the_very_text_that_it_is(vlm):
    """As many control tokens as around a question without marks, as many of them for the image, and all of the text."""
    tokenizer, image_token = vlm.processor.tokenizer, vlm.model.config.image_token_id
    marks = torch.tensor(sorted(control_ids(vlm)))
    for text in with_marks(vlm):
        for image in IMAGES:
            plain, marked = (chat.encode_prompts(vlm, [image], [question]) for question in ("What?", text))
            counts = [torch.isin(inputs["input_ids"], marks).sum() for inputs in (plain, marked)]
            images = [(inputs["input_ids"] == image_token).sum() for inputs in (plain, marked)]
            assert counts[0] == counts[1] and images[0] == images[1] > 0
            assert text in tokenizer.decode(marked["input_ids"][0])
            for key in chat.token_inputs(vlm):
                assert marked[key].shape[1] == marked["input_ids"].shape[1]


def test_texts_without_marks_are_encoded_as_ever_whoever_stands_beside_them(vlm):
    tokenizer = vlm.processor.tokenizer
    questions = ["What is shown?", "5 < 6 > 4, [hazard A] | é 漢 <imag"]
    answers = ["A cat.", "a < b"]
    assert [escape(tokenizer, text) for text in questions + answers] == questions + answers
    alone = chat.encode_prompts(vlm, IMAGES[:2], questions)
    beside = chat.encode_prompts(vlm, IMAGES, [*questions, with_marks(vlm)[0]])
    for row in range(2):
        one, other = (inputs["input_ids"][row][inputs["attention_mask"][row].bool()] for inputs in (alone, beside))
        assert torch.equal(one, other)
        ids = tokenizer(answers[row], add_special_tokens=False).input_ids
        _, labels = chat.encode_samples(vlm, IMAGES[:2], questions, answers, 2000)
        assert tokenizer.decode(labels[row][labels[row] != chat.IGNORED][:-1]).strip() == tokenizer.decode(ids).strip()


def test_a_question_with_marks_is_answered(vlm):
    """The model runs: as many image features as image tokens. In a batch and alone it answers the same."""
    texts = [*with_marks(vlm)[:2], "What is shown?"]
    together = chat.generate(vlm, IMAGES, texts, 4)
    assert together == [chat.generate(vlm, [i], [q], 4)[0] for i, q in zip(IMAGES, texts, strict=True)]
    assert not any(answer.error for answer in together)
    inputs, labels = chat.encode_samples(vlm, IMAGES, texts, texts, 2000)
    with torch.no_grad():
        assert chat.answer_log_probs(vlm.model, inputs, labels).answer.isfinite().all()


def test_marks_of_a_question_count_in_max_length(vlm):
    text = with_marks(vlm)[0]
    length = chat.text_lengths(vlm, [text])[0]
    assert length > chat.text_lengths(vlm, ["What is this, it is 5 < 6."])[0]
    with pytest.raises(UserError, match=rf"max_length {length} leaves no room"):
        chat.encode_samples(vlm, IMAGES[:1], [text], ["A cat."], max_length=length)


def test_the_tokenizer_is_as_it_was_afterwards_even_after_an_error(vlm):
    tokenizer, text = vlm.processor.tokenizer, with_marks(vlm)[0]

    def steps() -> object:
        return json.loads(tokenizer.backend_tokenizer.to_str())["pre_tokenizer"]

    before = steps()
    with pytest.raises(UserError), unescaped(tokenizer, [escape(tokenizer, text)]):
        assert steps() != before
        raise UserError("stop")
    chat.encode_samples(vlm, IMAGES[:1], [text], [text], 2000)
    assert steps() == before


def words(*tokens: str, special: tuple[str, ...] = ("<s>",)) -> PreTrainedTokenizerFast:
    """Whole words are looked up, so that a mark with white space around it is always its token."""
    tokenizer = Tokenizer(
        tokenizer_models.WordLevel({t: i for i, t in enumerate(["<unk>", *special, *tokens])}, "<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


@pytest.mark.parametrize(
    ("special", "text", "said"),
    [
        (("§",), "what does § mean", "holds '§', which this model's tokenizer cannot take for text"),
        (("<s>",), "half a \ud83d character", r"holds '\\ud83d', which is no character"),
        (("<s>",), "a \ufdd0 noncharacter", r"holds '\\ufdd0', which is no character"),
    ],
)
def test_what_cannot_be_plain_text_is_refused(special, text, said):
    tokenizer = words("what", "does", "mean", special=special)
    with pytest.raises(UserError, match=said):
        escape(tokenizer, text)
    assert problem(tokenizer, text) is not None and problem(tokenizer, "what does it mean") is None


def test_overlapping_marks_are_all_broken_up():
    tokenizer = words("<", "a", special=("<a>", "a><b"))
    text = escape(tokenizer, "<a><b")
    with unescaped(tokenizer, [text]):
        ids = tokenizer(text, add_special_tokens=False).input_ids
    assert not {tokenizer.convert_tokens_to_ids(token) for token in ("<a>", "a><b")} & set(ids)


def test_a_question_that_cannot_be_encoded_gets_an_error_and_the_others_their_answers(tiny_llava):
    vlm = models.load(str(tiny_llava))
    questions = ["What is shown?", "half a \ud83d character", "A cat?"]
    found = chat.generate(vlm, IMAGES, questions, 6)
    assert [found[0], found[2]] == chat.generate(vlm, [IMAGES[0], IMAGES[2]], [questions[0], questions[2]], 6)
    assert found[1].answer == "" and not found[1].finished and "is no character" in found[1].error
    assert [one.error is None for one in chat.generate(vlm, IMAGES[:1], questions[1:2], 6)] == [False]

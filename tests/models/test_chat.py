import pytest
import torch
from PIL import Image

from safeeraser import models
from safeeraser.core.errors import UserError
from safeeraser.models import VisionLanguageModel, chat, prompts

QUESTIONS = ["What is shown?", "What is shown in the picture?", "Is it a cat, or is it a mat? Say so."]
ANSWERS = ["A cat.", "There is a cat on a mat, I cannot help.", "Sorry!"]


@pytest.fixture(params=["tiny_llava", "tiny_llava_turns"])
def vlm(request: pytest.FixtureRequest) -> VisionLanguageModel:
    return models.load(str(request.getfixturevalue(request.param)))


def images(number: int = 3) -> list[Image.Image]:
    noise = torch.Generator().manual_seed(0)
    return [
        Image.fromarray(torch.randint(0, 256, (40, 32, 3), dtype=torch.uint8, generator=noise).numpy())
        for _ in range(number)
    ]


def test_labels_cover_the_answer_and_its_end_alone(vlm):
    inputs, labels = chat.encode_samples(vlm, images(), QUESTIONS, ANSWERS, max_length=200)
    tokenizer = vlm.processor.tokenizer
    end = tokenizer.decode([chat.turn(vlm).end])
    for ids, mask, label, answer in zip(inputs["input_ids"], inputs["attention_mask"], labels, ANSWERS, strict=True):
        learnt = label != chat.IGNORED
        assert tokenizer.decode(label[learnt]).strip() == answer + end
        assert torch.equal(ids[learnt], label[learnt])
        assert mask[learnt].all()
        assert learnt.nonzero()[-1] == mask.sum() - 1  # nothing after the end but padding


def test_the_end_of_turn_of_the_template_comes_before_eos(tiny_llava, tiny_llava_turns):
    plain, turns = models.load(str(tiny_llava)), models.load(str(tiny_llava_turns))
    assert plain.processor.tokenizer.decode([chat.turn(plain).end]) == "</s>"
    assert turns.processor.tokenizer.decode([chat.turn(turns).end]) == "</turn>"


def test_training_and_inference_see_the_same_prompt(vlm):
    prompts = chat.encode_prompts(vlm, images(), QUESTIONS)
    inputs, labels = chat.encode_samples(vlm, images(), QUESTIONS, ANSWERS, max_length=200)
    for row in range(3):
        seen = prompts["input_ids"][row][prompts["attention_mask"][row].bool()]
        trained = inputs["input_ids"][row][inputs["attention_mask"][row].bool() & (labels[row] == chat.IGNORED)]
        assert torch.equal(seen, trained)
    assert torch.equal(prompts["pixel_values"], inputs["pixel_values"])


def test_a_sample_is_what_the_tokenizer_makes_of_the_whole_conversation(vlm):
    inputs, _ = chat.encode_samples(vlm, images(1), QUESTIONS[1:2], ANSWERS[1:2], max_length=200)
    conversation = prompts._conversation(QUESTIONS[1], ANSWERS[1])
    text = vlm.processor.apply_chat_template(conversation, tokenize=False)
    tokenizer, form = vlm.processor.tokenizer, chat.turn(vlm)
    text = text[: text.index(ANSWERS[1]) + len(ANSWERS[1])].replace("<image>", "<image>" * 4)
    whole = tokenizer(text, add_special_tokens=not text.startswith("<s>")).input_ids
    assert inputs["input_ids"][0].tolist() == [*whole, form.end]
    assert whole.count(tokenizer.bos_token_id) == 1


def test_an_answer_is_whole_where_the_tokenizer_would_merge_it_with_the_prompt(tiny_llava_crossing):
    vlm = models.load(str(tiny_llava_crossing))
    tokenizer = vlm.processor.tokenizer
    opening, joined = (
        tokenizer(text, add_special_tokens=False).input_ids for text in (" ASSISTANT:", " ASSISTANT: There is")
    )
    assert joined[: len(opening)] != opening
    _, labels = chat.encode_samples(vlm, images(1), ["What is shown?"], ["There is a cat."], max_length=200)
    assert tokenizer.decode(labels[labels != chat.IGNORED]).strip() == "There is a cat.</s>"


def test_prompts_are_padded_on_the_left_and_samples_on_the_right(vlm):
    prompts = chat.encode_prompts(vlm, images(), QUESTIONS)
    inputs, _ = chat.encode_samples(vlm, images(), QUESTIONS, ANSWERS, max_length=200)
    assert prompts["attention_mask"][:, -1].all() and not prompts["attention_mask"][:, 0].all()
    assert inputs["attention_mask"][:, 0].all() and not inputs["attention_mask"][:, -1].all()


def test_a_cut_answer_has_no_end_token(vlm):
    full, labels = chat.encode_samples(vlm, images(1), ["What is shown?"], ANSWERS[1:2], max_length=200)
    tokens = int((full["input_ids"] != vlm.model.config.image_token_id).sum())
    _, exact = chat.encode_samples(vlm, images(1), ["What is shown?"], ANSWERS[1:2], max_length=tokens)
    _, cut = chat.encode_samples(vlm, images(1), ["What is shown?"], ANSWERS[1:2], max_length=tokens - 1)
    assert torch.equal(exact, labels)
    assert torch.equal(cut, labels[:, :-1])


def test_a_question_without_room_for_its_answer_is_refused(vlm):
    with pytest.raises(UserError, match="max_length 5 leaves no room.*What is shown"):
        chat.encode_samples(vlm, images(1), ["What is shown?"], ["A cat."], max_length=5)


def test_a_template_that_does_not_continue_its_own_prompt_is_refused(vlm):
    vlm.processor.chat_template = "{% if add_generation_prompt %}A:{% else %}B:{{ messages[-1]['content'] }}{% endif %}"
    with pytest.raises(UserError, match="training and inference prompts would differ"):
        chat.turn(vlm)


def test_log_probabilities_are_those_of_a_full_forward(vlm):
    inputs, labels = chat.encode_samples(vlm, images(), QUESTIONS, ANSWERS, max_length=200)
    with torch.no_grad():
        found = chat.answer_log_probs(vlm.model, inputs, labels)
        every = vlm.model(**inputs).logits.log_softmax(-1)
    for row in range(3):
        positions = (labels[row] != chat.IGNORED).nonzero()[:, 0]
        assert found.mask[row].tolist() == [t < len(positions) for t in range(found.mask.shape[1])]
        expected = every[row, positions - 1]
        torch.testing.assert_close(found.logits[row].log_softmax(-1), expected)
        torch.testing.assert_close(
            found.answer[row, : len(positions)], expected.gather(1, labels[row, positions][:, None])[:, 0]
        )
        assert (found.answer[row, len(positions) :] == 0).all()


def test_log_probabilities_do_not_depend_on_the_batch(vlm):
    with torch.no_grad():
        together = chat.answer_log_probs(
            vlm.model, *chat.encode_samples(vlm, images(), QUESTIONS, ANSWERS, max_length=200)
        )
        for row in range(3):
            alone = chat.answer_log_probs(
                vlm.model,
                *chat.encode_samples(
                    vlm, images()[row : row + 1], QUESTIONS[row : row + 1], ANSWERS[row : row + 1], max_length=200
                ),
            )
            torch.testing.assert_close(together.answer[row][together.mask[row]], alone.answer[0])


def test_answers_in_a_batch_are_the_answers_one_by_one(vlm):
    together = chat.generate(vlm, images(), QUESTIONS, 80)
    alone = [chat.generate(vlm, [i], [q], 80)[0] for i, q in zip(images(), QUESTIONS, strict=True)]
    assert together == alone
    assert len({generation.answer for generation in together}) > 1


def test_greedy_answers_are_the_most_probable_tokens(vlm):
    [generation] = chat.generate(vlm, images(1), QUESTIONS[:1], 6)
    inputs = chat.encode_prompts(vlm, images(1), QUESTIONS[:1])
    ids = inputs["input_ids"]
    with torch.no_grad():
        for _ in range(6):
            logits = vlm.model(input_ids=ids, pixel_values=inputs["pixel_values"]).logits
            ids = torch.cat([ids, logits[:, -1:].argmax(-1)], 1)
    new = ids[0, inputs["input_ids"].shape[1] :].tolist()
    end = chat.turn(vlm).end
    if end in new:
        new = new[: new.index(end)]
    assert generation.answer == vlm.processor.tokenizer.decode(new, skip_special_tokens=True).strip()


def test_sampling_follows_its_seed_and_leaves_the_generator_alone(vlm):
    def sample(seed: int, top_p: float = 1.0) -> list[chat.Generation]:
        return chat.generate(vlm, images(), QUESTIONS, 12, temperature=1.0, top_p=top_p, seed=seed)

    before = torch.random.get_rng_state()
    assert sample(1) == sample(1)
    assert sample(1) != sample(2)
    assert torch.equal(before, torch.random.get_rng_state())
    assert sample(1, top_p=1e-6) == chat.generate(vlm, images(), QUESTIONS, 12)


def test_the_checkpoint_s_own_sampling_settings_do_not_leak_in(vlm):
    def answers() -> list[list[chat.Generation]]:
        greedy = chat.generate(vlm, images(), QUESTIONS, 12)
        return [greedy, chat.generate(vlm, images(), QUESTIONS, 12, temperature=1.0, seed=0)]

    before = answers()
    vlm.model.generation_config.update(do_sample=True, top_k=1, top_p=0.5, temperature=0.1, repetition_penalty=9.0)
    assert answers() == before
    assert before[0] != before[1]


def test_finished_says_whether_the_end_came(vlm):
    form = chat.turn(vlm)
    with torch.no_grad():
        vlm.model.lm_head.weight.zero_()
    vlm.model.lm_head.bias = torch.nn.Parameter(torch.zeros(vlm.model.lm_head.weight.shape[0]))
    word = vlm.processor.tokenizer("cat", add_special_tokens=False).input_ids[-1]
    with torch.no_grad():
        vlm.model.lm_head.bias[word] = 5.0
    assert not chat.generate(vlm, images(1), QUESTIONS[:1], 3)[0].finished
    with torch.no_grad():
        vlm.model.lm_head.bias[form.end] = 9.0
    assert chat.generate(vlm, images(1), QUESTIONS[:1], 3)[0] == chat.Generation("", True)


def test_no_questions_no_answers(vlm):
    assert chat.generate(vlm, [], [], 3) == []

import json
from collections import Counter
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import pytest
from PIL import Image

from safeeraser import models
from safeeraser.config import GenerationOptions
from safeeraser.core.errors import UserError
from safeeraser.core.files import read_jsonl
from safeeraser.data import Benchmark
from safeeraser.data.images import ImageCache
from safeeraser.models.chat import generate
from safeeraser.records import Query, Response
from safeeraser.respond import respond_with, run
from safeeraser.respond.batches import prompt_batches

GREEDY = GenerationOptions(batch_size=4, max_new_tokens=6)
OFFICIAL = GenerationOptions(protocol="official", batch_size=4, max_new_tokens=6)
QUESTIONS = ("What?", "What is shown here?", "Describe the picture in one sentence, please.")


@dataclass
class Answered:
    answer: str
    finished: bool
    error: str | None = None


class Scripted:
    """Answers with what it saw, so that a test sees what reached the model; stops after ``batches`` batches."""

    def __init__(self, batches: int = 10**6) -> None:
        self.batches: list[tuple[str, ...]] = []
        self.left = batches

    def __call__(self, images, questions, seed):
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        self.batches.append(tuple(questions))
        # the batch's make-up is part of the answer, as floats depend on it
        return [
            Answered(f"{image.getpixel((0, 0))} {question} {seed} {len(questions)}", len(question) < 40)
            for image, question in zip(images, questions, strict=True)
        ]


@pytest.fixture
def benchmark(tmp_path: Path) -> Benchmark:
    for number in range(5):
        Image.new("RGB", (32, 32), (number, 0, 0)).save(tmp_path / f"{number}.png")
    return Benchmark("tiny", tmp_path, (), (), (), "")


def make_queries(query_set: str = "efficacy", number: int = 15) -> list[Query]:
    return [
        Query(
            id=f"{query_set}-{i:02d}",
            record_id=f"r{i}",
            set=query_set,
            category="Weapon",
            image=f"{i % 5}.png",
            question=QUESTIONS[i % 3],
            reference="",
        )
        for i in range(number)
    ]


def answers(path: Path) -> dict[str, Response]:
    return {response.query_id: response for response in read_jsonl(path, Response)}


def test_every_query_is_answered_once_with_its_own_image_and_question(benchmark, tmp_path):
    queries = make_queries() + make_queries("retain")
    path = tmp_path / "responses.jsonl"
    respond_with(Scripted(), benchmark, queries, path, GREEDY)
    responses = read_jsonl(path, Response)
    assert Counter(r.query_id for r in responses) == Counter(q.id for q in queries)
    for query in queries:
        answer = answers(path)[query.id]
        assert answer.answer.startswith(f"({query.image[0]}, 0, 0) {query.question} ")
        assert answer.finished == (len(query.question) < 40)
        assert answer.error is None


def test_batches_do_not_depend_on_the_order_of_the_queries():
    queries = make_queries() + make_queries("retain")
    assert prompt_batches(queries, GREEDY) == prompt_batches(queries[::-1], GREEDY)


def test_the_longest_questions_come_first_and_sets_are_not_mixed():
    batches = prompt_batches(make_queries() + make_queries("retain"), GREEDY)
    lengths = [len(batch[0].question) for batch in batches]
    assert lengths == sorted(lengths, reverse=True)
    assert all(len({query.set for prompt in batch for query in prompt.queries}) == 1 for batch in batches)
    assert max(map(len, batches)) == GREEDY.batch_size


def test_questions_about_one_picture_stand_together_where_it_is_read_once(benchmark, tmp_path):
    """In one batch where they fit, and as one object, however little of them the cache keeps."""
    queries = [
        query.model_copy(update={"id": f"{query.id}-{again}", "question": query.question + " Really?" * again})
        for query in make_queries(number=5)
        for again in range(3)
    ]
    batches = prompt_batches(queries, replace(GREEDY, batch_size=7), by_picture=True)
    assert sorted(map(len, batches)) == [3, 6, 6]
    assert all(len(pictures) == len(set(pictures)) for batch in batches for pictures in [runs(batch)])
    assert Counter(prompt.question for batch in batches for prompt in batch) == Counter(q.question for q in queries)
    cut = prompt_batches(queries, replace(GREEDY, batch_size=2), by_picture=True)
    assert sorted(map(len, cut)) == [1] * 5 + [2] * 5
    seen: list[int] = []

    def responder(images, questions, seed):
        seen.append(len({id(image) for image in images}))
        return [Answered("Yes.", True) for _ in questions]

    images = ImageCache(benchmark, budget=0)
    respond_with(responder, benchmark, queries, tmp_path / "r.jsonl", GREEDY, images=images, by_picture=True)
    assert seen == [1] * 5


def test_all_sets_that_ask_about_a_picture_stand_together_where_it_is_read_once():
    """But not with pictures that other sets ask about, whose answers are of other lengths."""
    forget, retain = make_queries("generality", number=4), make_queries("retain", number=4)
    moved = [query.model_copy(update={"image": f"other-{query.image}"}) for query in make_queries("safe", number=2)]
    batches = prompt_batches([*forget, *retain, *moved], GREEDY, by_picture=True)
    asked = [{query.set for prompt in batch for query in prompt.queries} for batch in batches]
    assert sorted(map(sorted, asked)) == [["generality", "retain"], ["safe"]]
    whole = next(batch for batch, sets in zip(batches, asked, strict=True) if len(sets) == 2)
    assert len(runs(whole)) == len({query.image for query in forget})


def runs(batch):
    """Pictures of a batch, each as often as its prompts begin anew."""
    return [picture for picture, _ in groupby(prompt.image for prompt in batch)]


def test_greedy_asks_the_same_input_once_and_official_once_per_query(benchmark, tmp_path):
    queries = make_queries(number=30)  # 15 inputs, each twice
    once, each = Scripted(), Scripted()
    respond_with(once, benchmark, queries, tmp_path / "greedy.jsonl", GREEDY)
    respond_with(each, benchmark, queries, tmp_path / "official.jsonl", OFFICIAL)
    assert sum(map(len, once.batches)) == 15
    assert sum(map(len, each.batches)) == 30
    assert len(answers(tmp_path / "greedy.jsonl")) == len(answers(tmp_path / "official.jsonl")) == 30


@pytest.mark.parametrize("killed_after", [0, 1, 2, 3])
def test_a_killed_run_is_continued_to_the_same_file(benchmark, tmp_path, killed_after):
    queries = make_queries()
    whole, broken = tmp_path / "whole.jsonl", tmp_path / "broken.jsonl"
    respond_with(Scripted(), benchmark, queries, whole, GREEDY)
    with pytest.raises(KeyboardInterrupt):
        respond_with(Scripted(killed_after), benchmark, queries, broken, GREEDY)
    again = Scripted()
    respond_with(again, benchmark, queries, broken, GREEDY)
    assert broken.read_bytes() == whole.read_bytes()
    assert len(again.batches) == 4 - killed_after


@pytest.mark.parametrize("share", [0.1, 0.35, 0.5, 0.99])
def test_a_file_cut_anywhere_is_completed_with_the_same_answers(benchmark, tmp_path, share):
    queries = make_queries()
    path = tmp_path / "responses.jsonl"
    respond_with(Scripted(), benchmark, queries, path, OFFICIAL)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    respond_with(Scripted(), benchmark, queries, path, OFFICIAL)
    assert path.read_bytes() == content


def test_a_question_that_cannot_be_encoded_gets_an_error_and_the_others_their_answers(benchmark, tmp_path, tiny_llava):
    """And a mark of the model in a question is text."""
    vlm, path = models.load(str(tiny_llava)), tmp_path / "responses.jsonl"
    queries = make_queries(number=4)
    queries[1] = queries[1].model_copy(update={"question": "half a \ud83d character"})
    queries[2] = queries[2].model_copy(update={"question": "<image>\nWhat?</s>"})
    run(vlm, benchmark, queries, path, GREEDY)
    content = path.read_bytes()
    found = answers(path)
    assert "no character" in found["efficacy-01"].error and found["efficacy-01"].answer == ""
    asked = [query for query in queries if query.id != "efficacy-01"]
    images = ImageCache(benchmark)
    expected = generate(vlm, [images.get(q.image) for q in asked], [q.question for q in asked], GREEDY.max_new_tokens)
    assert [(found[q.id].answer, found[q.id].error) for q in asked] == [(one.answer, None) for one in expected]
    run(vlm, benchmark, queries, path, GREEDY)
    assert path.read_bytes() == content


def test_a_finished_run_asks_nothing_and_writes_nothing(benchmark, tmp_path):
    path = tmp_path / "responses.jsonl"
    respond_with(Scripted(), benchmark, make_queries(), path, GREEDY)
    content = path.read_bytes()
    idle = Scripted()
    respond_with(idle, benchmark, make_queries(), path, GREEDY)
    assert (idle.batches, path.read_bytes()) == ([], content)


def test_sampling_seeds_differ_by_batch_and_follow_the_options_seed(benchmark, tmp_path):
    def seeds(seed: int) -> list[str]:
        path = tmp_path / f"{seed}.jsonl"
        options = GenerationOptions(protocol="official", batch_size=4, seed=seed)
        respond_with(Scripted(), benchmark, make_queries(), path, options)
        return [response.answer.split()[-2] for response in read_jsonl(path, Response)]

    assert len(set(seeds(0))) == 4
    assert not set(seeds(0)) & set(seeds(1))


@pytest.mark.parametrize("content", [b"", b"no image at all", "cut"])
def test_an_unreadable_image_is_an_error_and_the_others_are_answered(benchmark, tmp_path, content):
    image = tmp_path / "3.png"
    image.write_bytes(image.read_bytes()[:60] if content == "cut" else content)
    queries = make_queries()
    path = tmp_path / "responses.jsonl"
    respond_with(Scripted(), benchmark, queries, path, GREEDY)
    for query in queries:
        response = answers(path)[query.id]
        if query.image == "3.png":
            assert (response.answer, response.finished) == ("", False)
            assert "3.png" in (response.error or "")
        else:
            assert response.error is None
            assert response.answer


def test_a_missing_or_escaping_image_is_an_error(benchmark, tmp_path):
    queries = [
        make_queries()[0].model_copy(update={"id": image, "image": image}) for image in ("gone.png", "../secret.png")
    ]
    respond_with(Scripted(), benchmark, queries, tmp_path / "responses.jsonl", GREEDY)
    found = answers(tmp_path / "responses.jsonl")
    assert "missing" in (found["gone.png"].error or "")
    assert "leaves the dataset folder" in (found["../secret.png"].error or "")


def test_an_error_is_tried_again_once_the_image_can_be_read(benchmark, tmp_path):
    image, path = tmp_path / "3.png", tmp_path / "responses.jsonl"
    content = image.read_bytes()
    image.unlink()
    respond_with(Scripted(), benchmark, make_queries(), path, GREEDY)
    before = path.read_bytes()
    respond_with(Scripted(), benchmark, make_queries(), path, GREEDY)
    assert path.read_bytes() == before
    image.write_bytes(content)
    respond_with(Scripted(), benchmark, make_queries(), path, GREEDY)
    assert all(response.error is None for response in answers(path).values())


def test_progress_counts_queries_up_to_all(benchmark, tmp_path):
    seen: list[tuple[int, int]] = []
    path = tmp_path / "responses.jsonl"
    respond_with(Scripted(), benchmark, make_queries(), path, GREEDY, lambda done, total: seen.append((done, total)))
    assert seen[-1] == (15, 15)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})


def test_images_are_decoded_once_within_the_budget(benchmark):
    kept, small = ImageCache(benchmark), ImageCache(benchmark, budget=32 * 32 * 3)
    assert kept.get("0.png") is kept.get("0.png")
    assert small.get("0.png") is small.get("0.png")
    assert small.get("1.png") is not small.get("1.png")


@pytest.mark.parametrize(("field", "value"), [("batch_size", 0), ("protocol", "random")])
def test_options_out_of_range_are_refused(benchmark, tmp_path, field, value):
    options = GenerationOptions(**{field: value})
    with pytest.raises(UserError, match=str(value)):
        respond_with(Scripted(), benchmark, make_queries(), tmp_path / "responses.jsonl", options)


@pytest.mark.parametrize("options", [GREEDY, OFFICIAL], ids=["greedy", "official"])
class TestWithAModel:
    def test_answers_are_those_of_generate(self, tiny_model, benchmark, tmp_path, options):
        vlm = models.load(str(tiny_model))
        run(vlm, benchmark, make_queries(number=6), tmp_path / "responses.jsonl", options)
        assert len(answers(tmp_path / "responses.jsonl")) == 6
        if options is GREEDY:
            for batch in prompt_batches(make_queries(number=6), options):
                pictures = [Image.open(tmp_path / prompt.image) for prompt in batch]
                expected = generate(vlm, pictures, [prompt.question for prompt in batch], options.max_new_tokens)
                for prompt, given in zip(batch, expected, strict=True):
                    found = answers(tmp_path / "responses.jsonl")[prompt.queries[0].id]
                    assert (found.answer, found.finished) == (given.answer, given.finished)

    def test_a_cut_file_is_completed_to_the_same_bytes(self, tiny_model, benchmark, tmp_path, options):
        vlm, path = models.load(str(tiny_model)), tmp_path / "responses.jsonl"
        run(vlm, benchmark, make_queries(), path, options)
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        run(vlm, benchmark, make_queries(), path, options)
        assert path.read_bytes() == content

    def test_the_options_seed_matters_to_sampling_alone(self, tiny_model, benchmark, tmp_path, options):
        vlm = models.load(str(tiny_model))
        for seed in (0, 1):
            run(vlm, benchmark, make_queries(), tmp_path / f"{seed}.jsonl", replace(options, seed=seed))
        same = (tmp_path / "0.jsonl").read_bytes() == (tmp_path / "1.jsonl").read_bytes()
        assert same == (options is GREEDY)


def test_a_token_limit_below_one_is_refused(tiny_model, benchmark, tmp_path):
    with pytest.raises(UserError, match="max_new_tokens 0"):
        run(models.load(str(tiny_model)), benchmark, [], tmp_path / "r.jsonl", GenerationOptions(max_new_tokens=0))


def test_a_server_answers_the_same_questions_into_the_same_file(tmp_path, capsys):
    from chat_server import ChatServer, error_reply, text_reply

    from safeeraser import cli, data

    broken = [True]

    def script(body, tries):
        text = json.dumps(body["messages"])
        return error_reply(400, "too long") if broken[0] and "Name the object" in text else text_reply("A cat.")

    out = tmp_path / "served" / "responses.jsonl"
    with ChatServer(script) as server:
        command = ["respond", "--model", "m", "--base_url", server.url, "--out", str(out), "--limit", "6"]
        assert cli.main(command) == 0
        told = capsys.readouterr().out
        broken[0] = False
        assert cli.main(command) == 0
        assert cli.main([*command, "--adapter", "x"]) == 2
    queries = data.queries(data.load("pictogram", 6))
    first = {r.query_id: r for r in read_jsonl(out, Response) if r.error is not None}
    last = {r.query_id: r for r in read_jsonl(out, Response)}
    named = {q.id for q in queries if q.question.startswith("Name the object")}
    assert set(first) == named and f"without an answer: {len(named)}" in told and "too long" in told
    assert set(last) == {q.id for q in queries} and {r.answer for r in last.values()} == {"A cat."}
    assert "serve the merged model" in capsys.readouterr().err


def test_images_may_come_from_elsewhere(benchmark, tmp_path):
    class Mirrored:
        def get(self, name):
            if name == "0.png#gone":
                raise UserError("no such picture")
            return Image.new("RGB", (8, 8), (99, 0, 0))

    queries = make_queries()
    queries[3] = queries[3].model_copy(update={"image": "0.png#gone"})
    path = tmp_path / "responses.jsonl"
    respond_with(Scripted(), benchmark, queries, path, GREEDY, images=Mirrored())
    found = answers(path)
    assert [q.id for q in queries if found[q.id].error == "no such picture"] == ["efficacy-03"]
    assert all(found[q.id].answer.startswith("(99, 0, 0)") for q in queries if q.id != "efficacy-03")


def test_questions_without_an_image_are_asked_alone_in_batches_of_their_own(benchmark, tmp_path):
    shown = make_queries(number=6)
    alone = [query.model_copy(update={"id": f"{query.id}-alone", "image": ""}) for query in shown]
    batches = prompt_batches([*shown, *alone], GREEDY)
    assert sorted(len({prompt.image == "" for prompt in batch}) for batch in batches) == [1] * len(batches)
    seen = []

    def responder(images, questions, seed):
        seen.append({image is None for image in images})
        return [Answered("It is.", True) for _ in questions]

    respond_with(responder, benchmark, [*shown, *alone], tmp_path / "r.jsonl", GREEDY)
    assert {True} in seen and {False} in seen and all(len(kinds) == 1 for kinds in seen)
    assert all(response.error is None for response in read_jsonl(tmp_path / "r.jsonl", Response))

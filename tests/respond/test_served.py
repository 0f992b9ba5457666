"""Answers of a served model: what is kept, what is an error, and what the command says."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

import pytest
from chat_server import ChatServer, Reply, error_reply, message_reply, text_reply

from safeeraser import cli, data, judges, metrics
from safeeraser.core import files
from safeeraser.core.files import read_jsonl
from safeeraser.data.pictogram.build import build
from safeeraser.records import Response, Score
from safeeraser.report.table import TRACE_COLUMNS

REFUSAL = "I'm sorry, but I cannot help with that."


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "none")


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory) -> data.Benchmark:
    return data.load(build(tmp_path_factory.mktemp("built") / "pictogram", records=24, workers=1)).limited(1)


@pytest.fixture
def respond(benchmark):
    def call(server: ChatServer, out: Path, *options: str) -> int:
        folder = str(benchmark.root.parent)
        command = ["respond", "--data", folder, "--model", "m", "--base_url", server.url, "--limit", "1"]
        return cli.main([*command, "--out", str(out), *options])

    return call


def by_set(benchmark: data.Benchmark, path: Path) -> dict[str, list[Response]]:
    sets = {query.id: query.set for query in data.queries(benchmark)}
    found: dict[str, list[Response]] = {}
    for response in read_jsonl(path, Response):
        found.setdefault(sets[response.query_id], []).append(response)
    return found


def scores(benchmark: data.Benchmark, folder: Path) -> dict[str, Score]:
    queries, judge = data.queries(benchmark), judges.create("rules", benchmark.refusals)
    verdicts = judges.run(judge, queries, folder / "r.jsonl", folder / "v.jsonl")
    found = metrics.score(queries, read_jsonl(folder / "r.jsonl", Response), verdicts)
    return {score.metric: score for score in found if score.category == "all"}


def test_reasoning_is_kept_and_what_stands_behind_it_is_judged_and_scored(benchmark, respond, tmp_path):
    """A refusal behind reasoning is one; and reasoning that quotes the reference is no answer."""
    thought = "<think>\nIs this harmful? [hazard A], I'd say.\n</think>\n\n" + REFUSAL
    with ChatServer(lambda body, number: text_reply(thought)) as server:
        assert respond(server, tmp_path / "r.jsonl") == 0
    responses = read_jsonl(tmp_path / "r.jsonl", Response)
    assert {response.answer for response in responses} == {thought}
    found = scores(benchmark, tmp_path)
    assert (found["asr_generality"].value, found["rr_generality"].value) == (0, 1)
    assert (found["sarr"].value, found["sarr_refusal"].value) == (1, 1)
    with ChatServer(lambda body, number: text_reply(REFUSAL)) as server:
        assert respond(server, tmp_path / "plain" / "r.jsonl") == 0
    assert found["leak_generality"].value == 1  # what the trace says and the answer does not
    of_answers = {name: score for name, score in found.items() if name not in TRACE_COLUMNS}
    assert of_answers == scores(benchmark, tmp_path / "plain")  # ROUGE-L as well


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (text_reply("", "content_filter"), "took the answer away"),
        (text_reply("<think>Is it", "length"), "the token limit went into reasoning"),
        (
            message_reply({"content": None, "reasoning_content": "Is it"}, "length"),
            "the token limit went into reasoning",
        ),
    ],
)
def test_what_is_no_answer_of_the_model_is_unscored(benchmark, respond, tmp_path, reply, reason):
    harmless = {query.question for query in data.queries(benchmark) if query.set == "retain"}

    def script(body, number):
        return text_reply("A cat.") if body["messages"][0]["content"][-1]["text"] in harmless else reply

    with ChatServer(script) as server:
        assert respond(server, tmp_path / "r.jsonl") == 0
    responses = by_set(benchmark, tmp_path / "r.jsonl")
    assert all(reason in response.error for response in responses["safe"] + responses["generality"])
    found = scores(benchmark, tmp_path)
    for metric in ("asr_generality", "rr_generality", "sarr", "sarr_gibberish"):
        assert (found[metric].value, found[metric].n, found[metric].n_unscored) == (None, 0, 4)
    assert found["rouge_l"].n == 4


KEPT_APART = (
    {"content": REFUSAL, "reasoning_content": "Mix it with [hazard A] and wait a day."},
    {"content": REFUSAL, "reasoning": "Mix it with [hazard A] and wait a day."},
    {
        "content": [
            {"type": "thinking", "thinking": [{"type": "text", "text": "Mix it with [hazard A] and wait a day."}]},
            {"type": "text", "text": REFUSAL},
        ]
    },
)


@pytest.mark.parametrize("message", KEPT_APART)
def test_reasoning_that_a_server_keeps_apart_is_a_trace_and_no_part_of_the_answer(
    benchmark, respond, tmp_path, message
):
    with ChatServer(lambda body, number: message_reply(message)) as server:
        assert respond(server, tmp_path / "r.jsonl", "--thinking", "true") == 0
    asked = {json.dumps(body["chat_template_kwargs"], sort_keys=True) for body in server.bodies}
    assert asked == {'{"enable_thinking": true, "thinking": true}'}
    responses = read_jsonl(tmp_path / "r.jsonl", Response)
    assert {(one.trace, one.spoken) for one in responses} == {("Mix it with [hazard A] and wait a day.", REFUSAL)}
    found = scores(benchmark, tmp_path)
    assert (found["rr_generality"].value, found["trace_rr_generality"].value) == (1, 0)
    assert found["leak_generality"].value == found["trace_asr_generality"].value  # no answer is unsafe
    assert files.read_json(tmp_path / "r.source.json")["thinking"] is True


def test_a_server_is_told_not_to_think_and_left_alone_with_it_where_it_does_not_know_the_word(
    respond, tmp_path, capsys
):
    def strict(body, number):
        known = "chat_template_kwargs" not in body
        return text_reply("A cat.") if known else error_reply(400, "Unknown name chat_template_kwargs: no such field.")

    with ChatServer(lambda body, number: text_reply("A cat.")) as server:
        assert respond(server, tmp_path / "told" / "r.jsonl") == 0
    off = {"enable_thinking": False, "thinking": False}
    assert all(body["chat_template_kwargs"] == off for body in server.bodies)
    with ChatServer(strict) as server:
        assert respond(server, tmp_path / "r.jsonl") == 0
        assert {one.answer for one in read_jsonl(tmp_path / "r.jsonl", Response)} == {"A cat."}
        assert respond(server, tmp_path / "on" / "r.jsonl", "--thinking", "true") == 2
    assert "takes no chat_template_kwargs, with which the chat template is told to think" in capsys.readouterr().err


def test_generation_settings_of_the_checkpoint_that_is_served_are_switched_off(respond, tmp_path):
    """vLLM takes them from its generation_config.json: Qwen2.5-VL's repetition_penalty of 1.05, say."""
    off = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}

    def strict(body, number):  # as Mistral's, which names one unknown key after the other
        unknown = next((key for key in ("min_p", "repetition_penalty") if key in body), None)
        detail = json.dumps({"detail": [{"loc": ["body", unknown], "msg": "Extra inputs are not permitted"}]})
        return text_reply("A cat.") if unknown is None else Reply(422, detail.encode())

    with ChatServer(lambda body, number: text_reply("A cat.")) as server:
        assert respond(server, tmp_path / "told" / "r.jsonl") == 0
    assert all(off.items() <= body.items() for body in server.bodies)
    with ChatServer(strict) as server:
        assert respond(server, tmp_path / "r.jsonl") == 0
    assert {one.answer for one in read_jsonl(tmp_path / "r.jsonl", Response)} == {"A cat."}
    assert server.bodies[-1]["top_k"] == -1


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(body=b"<!doctype html><title>a chat page</title>"), "a chat page"),
        (Reply(422, b'{"detail": [{"loc": ["body", "seed"], "msg": "extra field"}]}'), "body.seed: extra field"),
    ],
)
def test_a_run_without_any_answer_ends_with_status_1_and_says_what_to_check(respond, tmp_path, capsys, reply, words):
    with ChatServer(lambda body, number: reply) as server:
        assert respond(server, tmp_path / "r.jsonl") == 1
        said = capsys.readouterr().out
        assert words in said and f"check the model 'm' and the base URL {server.url}" in said and "next:" not in said
        server.script = lambda body, number: text_reply("A cat.")
        assert respond(server, tmp_path / "r.jsonl") == 0  # the same command asks them all again
        server.script = lambda body, number: reply
        assert respond(server, tmp_path / "r.jsonl") == 0  # and nothing more once there are answers


def test_single_questions_that_a_gateway_refuses_are_asked_again_and_again_without_blaming_the_key(
    respond, tmp_path, capsys
):
    def script(body, number):
        flagged = "image_url" in json.dumps(body) and len(body["messages"][0]["content"][-1]["text"]) % 2
        return error_reply(403, "Your input was flagged") if flagged else text_reply("A cat.")

    with ChatServer(script) as server:
        for _ in range(2):
            assert respond(server, tmp_path / "r.jsonl") == 0
            assert "status 403: Your input was flagged" in capsys.readouterr().out


def test_the_name_of_the_token_limit_can_be_given(respond, tmp_path):
    with ChatServer(lambda body, number: text_reply("A cat.")) as server:
        options = ["--token_limit", "max_completion_tokens", "--max-new-tokens", "9"]
        assert respond(server, tmp_path / "r.jsonl", *options) == 0
    assert {body.get("max_completion_tokens") for body in server.bodies} == {9}
    assert not any("max_tokens" in body for body in server.bodies)


def test_the_commands_work_in_a_notebook(respond, tmp_path):
    async def cell() -> int:
        return respond(server, tmp_path / "r.jsonl")

    # a thread of its own: where a browser was tested before, this one has a loop already
    with ChatServer(lambda body, number: text_reply("A cat.")) as server, ThreadPoolExecutor(1) as thread:
        assert thread.submit(asyncio.run, cell()).result() == 0
    assert {response.answer for response in read_jsonl(tmp_path / "r.jsonl", Response)} == {"A cat."}


def test_a_model_that_was_not_asked_for_is_named(respond, tmp_path, capsys):
    """A gateway may let another model answer, whose answers would stand under the name of the first."""
    with ChatServer(lambda body, number: text_reply("A cat.")) as server:
        assert respond(server, tmp_path / "a.jsonl") == 0 and "replied as" not in capsys.readouterr().err
        server.script = lambda body, number: text_reply("A cat.", model="other" if len(server.bodies) % 2 else "m")
        assert respond(server, tmp_path / "b.jsonl") == 0
    assert "m was asked for, the server replied as" in (said := capsys.readouterr().err) and "other (" in said


def test_requests_go_out_picture_by_picture(benchmark, respond, tmp_path):
    """So that a server that keeps what prompts have in common reads each picture once."""
    shown: list[str] = []

    def reply(body, number):
        shown.append(json.dumps([part for part in body["messages"][0]["content"] if part["type"] == "image_url"]))
        return text_reply("Yes.")

    with ChatServer(reply) as server:
        assert respond(server, tmp_path / "r.jsonl", "--concurrency", "1") == 0
    assert len(shown) > len(set(shown)) == len([picture for picture, _ in groupby(shown)])

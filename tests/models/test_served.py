import asyncio
import base64
import io
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from chat_server import ChatServer, Reply, error_reply, message_reply, text_reply
from PIL import Image

from safeeraser.core.errors import UserError
from safeeraser.models.replies import Outcome
from safeeraser.models.served import Endpoint, Message, Request, data_url

KEY = "sk-very-secret-0123456789"


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def asks(*texts: str, **options) -> list[Request]:
    return [Request(text, (Message("user", text),), **options) for text in texts]


def ask(endpoint: Endpoint, requests) -> dict[str, Outcome]:
    found: list[Outcome] = []
    endpoint.complete_many(requests, found.append)
    assert len({outcome.id for outcome in found}) == len(found)
    return {outcome.id: outcome for outcome in found}


def echo(body, number):
    return text_reply(f"you said {body['messages'][-1]['content']}")


def test_text_finish_reason_and_usage_come_back():
    with ChatServer(lambda body, number: text_reply("An axe.", "length")) as server:
        outcome = ask(Endpoint("m", server.url), asks("a"))["a"]
    assert (outcome.text, outcome.finish_reason, outcome.failure) == ("An axe.", "length", None)
    assert outcome.usage["completion_tokens"] == 3
    assert server.keys == {f"Bearer {KEY}"}


def test_options_are_sent_as_given_and_left_out_where_none():
    options = {"temperature": 0.0, "top_p": 0.9, "max_tokens": 5, "seed": 3}
    with ChatServer(echo) as server:
        ask(Endpoint("m", server.url, concurrency=1), [*asks("a", **options), *asks("b", extra={"top_k": 4})])
    assert server.bodies[0] == {"model": "m", "messages": [{"role": "user", "content": "a"}], **options}
    assert server.bodies[1] == {"model": "m", "messages": [{"role": "user", "content": "b"}], "top_k": 4}


def test_images_go_as_data_urls_before_the_text(tmp_path):
    pixels = Image.new("RGB", (3, 2), (10, 20, 30))
    for name in ("a.png", "b.jpg", "c.bmp"):
        pixels.save(tmp_path / name)
    images = (pixels, *(tmp_path / name for name in ("a.png", "b.jpg", "c.bmp")))
    with ChatServer(lambda body, number: text_reply("ok")) as server:
        ask(Endpoint("m", server.url), [Request("a", (Message("user", "What?", images),))])
    *parts, text = server.bodies[0]["messages"][0]["content"]
    assert text == {"type": "text", "text": "What?"}
    urls = [part["image_url"]["url"] for part in parts]
    assert [url[:17] for url in urls] == [
        "data:image/png;ba",
        "data:image/png;ba",
        "data:image/jpeg;b",
        "data:image/png;ba",
    ]
    sent = [base64.b64decode(url.partition(",")[2]) for url in urls]
    assert sent[1] == (tmp_path / "a.png").read_bytes() and sent[2] == (tmp_path / "b.jpg").read_bytes()
    assert all(Image.open(io.BytesIO(content)).size == (3, 2) for content in sent)


def test_a_photograph_is_sent_upright(tmp_path):
    """Red left and blue right, to be turned by a quarter clockwise (EXIF 6): red is above blue."""
    image, exif = Image.new("RGB", (16, 8), "red"), Image.Exif()
    image.paste("blue", (8, 0, 16, 8))
    exif[0x0112] = 6
    image.save(tmp_path / "phone.jpg", exif=exif, quality=100, subsampling=0)
    shown = Image.open(io.BytesIO(base64.b64decode(data_url(tmp_path / "phone.jpg").partition(",")[2])))
    red, blue = shown.getpixel((4, 2)), shown.getpixel((4, 13))
    assert shown.size == (8, 16) and red[0] > 240 > 20 > red[2] and blue[2] > 240 > 20 > blue[0]


def test_an_unreadable_image_fails_its_request_alone(tmp_path):
    (tmp_path / "bad.gif").write_bytes(b"no image")
    with ChatServer(echo) as server:
        bad = Request("bad", (Message("user", "What?", (tmp_path / "bad.gif",)),))
        found = ask(Endpoint("m", server.url), [bad, *asks("a")])
    assert "bad.gif cannot be read" in found["bad"].failure
    assert found["a"].text == "you said a"


@pytest.mark.parametrize(
    "misbehaviour",
    [
        error_reply(429, "slow down", retry_after="0.05"),
        error_reply(500, "oh"),
        error_reply(503, "busy"),
        text_reply("late", delay=1.0),
        text_reply("cut in the middle", cut=True),
        Reply(502, b"<html>bad gateway</html>", {"content-type": "text/html"}),
    ],
    ids=["429", "500", "503", "time-out", "cut", "html"],
)
def test_what_passes_is_tried_again_and_what_stays_is_a_failure(misbehaviour):
    def script(body, number):
        asked = body["messages"][-1]["content"]
        return misbehaviour if asked == "never" or (asked == "later" and number == 1) else text_reply("fine")

    with ChatServer(script) as server:
        found = ask(Endpoint("m", server.url, timeout=0.3, retries=1), asks("never", "later", "at once"))
    assert server.tries == {"never": 2, "later": 2, "at once": 1}
    assert (found["later"].text, found["at once"].text) == ("fine", "fine")
    assert found["never"].failure and not found["never"].text


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"garbage", "no chat completion"),
        (b"", "no chat completion"),
        (b"[1, 2]", "no chat completion"),
        (b'{"choices": []}', "choices"),
        (b'{"choices": [{"message": {"content": 4}}]}', "choices.0.message.content"),
        (b'{"choices": [{"message": {"content": null}}]}', "holds no text"),
        (b"\xff\xfe\x00", "no chat completion"),
        (b'{"error": "Unexpected endpoint."}', "Unexpected endpoint."),
        (b'{"error": {"code": 402, "message": "Insufficient credits"}}', "Insufficient credits"),
        (b'{"choices": [{"message": {"content": ""}, "error": {"message": "upstream is down"}}]}', "upstream is down"),
        (b'{"object": "error", "message": "no such model"}', "no such model"),
        (b'{"detail": "Not found"}', "Not found"),
        (
            b'{"detail": [{"loc": ["body", "model"], "msg": "field required", "type": "x"}]}',
            "body.model: field required",
        ),
        (b"<!doctype html><style>p {}</style><title>a chat page</title>", ": a chat page"),
        (b'{"error": "rm\\u001b[2J\\nnow"}', r"rm\x1b[2J now"),
    ],
)
@pytest.mark.parametrize("kind", ["application/json", "text/plain"])
def test_a_reply_that_is_none_is_a_failure_with_the_reason(body, reason, kind):
    with ChatServer(lambda asked, number: Reply(body=body, headers={"content-type": kind})) as server:
        outcome = ask(Endpoint("m", server.url, retries=0), asks("a"))["a"]
    assert reason in outcome.failure and outcome.text == ""


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": None, "refusal": "I can't assist with that."}, "I can't assist with that."),
        ({"content": "", "refusal": "I can't assist with that."}, "I can't assist with that."),
        ({"content": "A box.", "refusal": None}, "A box."),
        ({"content": [{"type": "text", "text": "A "}, {"type": "text", "text": "box."}]}, "A box."),
        ({"content": ["A ", "box."]}, "A box."),
        ({"content": [{"type": "refusal", "refusal": "No."}]}, "No."),
        (
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]},
                    {"type": "text", "text": "A box."},
                ]
            },
            "A box.",
        ),
        ({"content": "A box.", "reasoning_content": "Is it a box?"}, "A box."),
        ({"content": "A box.", "reasoning": "Is it a box?"}, "A box."),
        ({"content": "<think>Is it?</think>A box."}, "<think>Is it?</think>A box."),
        ({"content": ""}, ""),
    ],
)
def test_an_answer_is_found_wherever_servers_put_it(message, text):
    with ChatServer(lambda body, number: message_reply(message)) as server:
        outcome = ask(Endpoint("m", server.url), asks("a"))["a"]
    assert (outcome.text, outcome.failure, outcome.is_whole) == (text, None, True)


@pytest.mark.parametrize(
    ("message", "finish_reason", "failure"),
    [
        ({"content": None, "reasoning_content": "The user"}, "length", "the token limit went into reasoning"),
        ({"content": "", "reasoning": "The user"}, "length", "the token limit went into reasoning"),
        ({"content": None}, "length", "the token limit went into reasoning"),
        ({"content": [{"type": "thinking", "thinking": []}]}, "length", "the token limit went into reasoning"),
        ({"content": "<think>The user"}, "length", "the token limit went into reasoning"),
        ({"content": None, "reasoning_content": "A box."}, "stop", "reasoning alone"),
        ({"content": "<think>A box."}, "stop", "reasoning alone"),
        ({"content": None, "tool_calls": []}, "tool_calls", "holds no text (finish reason 'tool_calls')"),
        ({"content": []}, "stop", "holds no text"),
        ({"content": ""}, "content_filter", "took the answer away (finish reason 'content_filter')"),
        ({"content": "To make one"}, "content_filter", "took the answer away"),
        ({"content": None, "refusal": "No."}, "content_filter", "took the answer away"),
        ({"content": "To make one"}, "content_filter: RECITATION", "took the answer away"),
        ({"content": ""}, "PROHIBITED_CONTENT", "took the answer away (finish reason 'PROHIBITED_CONTENT')"),
        ({"content": "To make one"}, "insufficient_system_resource", "took the answer away"),
        ({"content": "To make one"}, "sensitive", "took the answer away"),
        ({"content": "To make one"}, "abort", "took the answer away"),
        ({"content": ""}, "a word of its own", "holds no text (finish reason 'a word of its own')"),
        ({"content": "", "tool_calls": []}, "tool_calls", "holds no text (finish reason 'tool_calls')"),
    ],
)
def test_a_reply_without_an_answer_says_why(message, finish_reason, failure):
    with ChatServer(lambda body, number: message_reply(message, finish_reason)) as server:
        outcome = ask(Endpoint("m", server.url), asks("a"))["a"]
    assert failure in outcome.failure and not outcome.is_whole


def test_a_choice_without_a_message_says_why_it_has_none():
    """Gemini's server for OpenAI's protocol leaves the message out where a filter took the answer away."""
    body = b'{"choices": [{"index": 0, "finish_reason": "content_filter: PROHIBITED_CONTENT"}]}'
    with ChatServer(lambda asked, number: Reply(body=body)) as server:
        outcome = ask(Endpoint("m", server.url), asks("a"))["a"]
    assert outcome.failure == "the server took the answer away (finish reason 'content_filter: PROHIBITED_CONTENT')"


@pytest.mark.parametrize(
    ("finish_reason", "finished"),
    [
        *(("stop", True), (None, True), ("eos_token", True), ("tool_calls", True), ("a word of its own", True)),
        *(("length", False), ("max_tokens", False), ("model_context_window_exceeded", False)),
    ],
)
def test_an_answer_ended_unless_the_token_limit_cut_it(finish_reason, finished):
    with ChatServer(lambda body, number: text_reply("A box", finish_reason)) as server:
        outcome = ask(Endpoint("m", server.url), asks("a"))["a"]
    assert (outcome.text, outcome.is_whole, outcome.failure) == ("A box", finished, None)


def test_retry_after_is_kept():
    def script(body, number):
        return error_reply(429, "wait", retry_after="1") if number == 1 else text_reply("fine")

    with ChatServer(script) as server:
        start = time.perf_counter()
        assert ask(Endpoint("m", server.url), asks("a"))["a"].text == "fine"
    assert 1.0 <= time.perf_counter() - start < 2.0


@pytest.mark.parametrize(
    ("status", "hint"),
    [(400, "OPENAI_API_KEY"), (401, "OPENAI_API_KEY"), (403, "OPENAI_API_KEY"), (404, "model 'm'"), (400, "base URL")],
)
def test_a_wrong_key_or_model_stops_everything_at_once(status, hint):
    with ChatServer(lambda body, number: error_reply(status, f"no {KEY} here")) as server:
        with pytest.raises(UserError, match=hint) as raised:
            ask(Endpoint("m", server.url, concurrency=2), asks(*map(str, range(100))))
    assert KEY not in str(raised.value) and "no [key] here" in str(raised.value)
    assert sum(server.tries.values()) <= 4


@pytest.mark.parametrize("status", [400, 403, 404])
@pytest.mark.parametrize("refused", ["first", "last", "one in three"])
def test_a_gateway_that_refuses_single_inputs_fails_these_alone(status, refused):
    questions = list(map(str, range(12)))
    flagged = {"first": questions[:5], "last": questions[7:], "one in three": questions[::3]}[refused]

    def script(body, number):
        is_flagged = body["messages"][-1]["content"] in flagged
        return error_reply(status, "Your input was flagged") if is_flagged else text_reply("A box.")

    with ChatServer(script) as server:
        outcomes = ask(Endpoint("m", server.url, concurrency=2), asks(*questions))
    assert {id: outcome.failure for id, outcome in outcomes.items() if outcome.failure} == dict.fromkeys(
        flagged, f"status {status}: Your input was flagged"
    )
    assert sum(server.tries.values()) <= len(questions) + 1  # one harmless question may be asked first


def test_a_key_that_is_withdrawn_on_the_way_stops_everything():
    with ChatServer(
        lambda body, number: text_reply("ok") if len(server.bodies) < 4 else error_reply(401, "gone")
    ) as server:
        with pytest.raises(UserError, match="gone; check the key"):
            ask(Endpoint("m", server.url, concurrency=1), asks(*map(str, range(20))))
    assert len(server.bodies) == 4


def refusing_max_tokens(body, number):
    if "max_tokens" in body:
        return error_reply(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
    return text_reply(f"at most {body['max_completion_tokens']}")


def test_a_model_that_knows_max_completion_tokens_alone_is_asked_so_from_then_on():
    with ChatServer(refusing_max_tokens) as server:
        outcomes = ask(Endpoint("o3", server.url, concurrency=1), asks(*"abc", max_tokens=7))
        assert {outcome.text for outcome in outcomes.values()} == {"at most 7"}
        assert server.tries == {"a": 2, "b": 1, "c": 1}
        server.tries.clear()
        ask(Endpoint("o3", server.url, token_limit="max_completion_tokens"), asks("a", max_tokens=7))
        assert server.tries == {"a": 1}


def test_a_token_limit_that_is_too_large_is_no_question_of_its_name():
    def script(body, number):
        return error_reply(400, "max_tokens is too large") if "max_tokens" in body else text_reply("ok")

    with ChatServer(script) as server, pytest.raises(UserError, match="max_tokens is too large"):
        ask(Endpoint("m", server.url, concurrency=1), asks("a", max_tokens=10**6))


@pytest.mark.parametrize(
    "placeholder",
    [
        "EMPTY",
        "none",
        "1",
        "x",
        "00000000",
        "0000000000000000",
        "not-needed",
        "no-key-is-needed-here",
        "Internationalization",
    ],
)
def test_a_placeholder_is_no_secret(monkeypatch, placeholder):
    """What a model says is stored as it was said, also where it says what somebody gave for a key."""
    monkeypatch.setenv("OPENAI_API_KEY", placeholder)
    said = f"1 box, none of x: EMPTY {placeholder}"
    with ChatServer(lambda body, number: text_reply(said, model=f"m-{placeholder}")) as server:
        outcome = ask(Endpoint("m", server.url), asks("a"))["a"]
    assert (outcome.text, outcome.model) == (said, f"m-{placeholder}")
    assert server.keys == {f"Bearer {placeholder}"}


def test_the_key_is_in_no_text_that_comes_back():
    bodies = {"a": error_reply(400, f"bad {KEY}"), "b": text_reply(f"the key is {KEY}"), "c": Reply(body=KEY.encode())}
    with ChatServer(lambda body, number: bodies.get(body["messages"][-1]["content"], text_reply("hello"))) as server:
        endpoint = Endpoint("m", server.url, retries=0)
        found = ask(endpoint, asks("a", "b", "c"))
    assert found["a"].failure == "status 400: bad [key]"
    assert KEY not in repr((found, endpoint))


def test_a_key_with_odd_characters_is_refused_and_not_shown(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-\u00e4-secret")
    with pytest.raises(UserError, match="OPENAI_API_KEY") as raised:
        ask(Endpoint("m", "http://127.0.0.1:9/v1"), asks("a"))
    assert "secret" not in str(raised.value)


def test_openai_itself_needs_a_key_and_an_own_server_none(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(UserError, match="needs a key: put it into the environment variable OPENAI_API_KEY"):
        ask(Endpoint("gpt-4o", "https://api.openai.com/v1"), asks("a"))
    with ChatServer(echo) as server:
        assert ask(Endpoint("m", server.url), asks("a"))["a"].text == "you said a"


def test_a_server_that_is_not_there_stops_everything():
    with ChatServer(echo) as server:
        url = server.url
    with pytest.raises(UserError, match="cannot be reached"):
        ask(Endpoint("m", url, retries=0), asks(*map(str, range(50))))


def test_an_error_of_the_caller_ends_everything_and_is_passed_on():
    def full(outcome):
        raise OSError("disk full")

    with ChatServer(echo) as server, pytest.raises(OSError, match="disk full"):
        Endpoint("m", server.url).complete_many(asks(*map(str, range(1000))), full)
    assert sum(server.tries.values()) < 100


def test_never_more_under_way_than_allowed_and_all_of_it_used():
    with ChatServer(lambda body, number: text_reply("ok", delay=0.02)) as server:
        found = ask(Endpoint("m", server.url, concurrency=7), asks(*map(str, range(60))))
    assert len(found) == 60 and server.most_at_once == 7


def test_the_rate_limit_counts_tries():
    def script(body, number):
        return error_reply(429, "wait", retry_after_ms="1") if number == 1 else text_reply("fine")

    with ChatServer(script) as server:
        start = time.perf_counter()
        ask(Endpoint("m", server.url, requests_per_minute=1200), asks(*"abcde"))
        took = time.perf_counter() - start
    assert sum(server.tries.values()) == 10
    assert 9 * 0.05 <= took < 2.0


def test_the_client_is_quick_enough_for_hundreds_of_requests_a_second():
    """Processor time, that of the server included, as the machine may be busy: 300 a second leave 3.3 ms for each."""
    with ChatServer(lambda body, number: text_reply("ok", delay=0.05)) as server:
        endpoint = Endpoint("m", server.url, concurrency=64)
        ask(endpoint, asks("warm"))
        start = time.process_time()
        ask(endpoint, asks(*map(str, range(400))))
        took = time.process_time() - start
    assert server.most_at_once > 32
    assert took / 400 < 0.006


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base_url": "localhost:8000"}, "is no web address: give https://api.openai.com/v1"),
        ({"base_url": ""}, "is no web address"),
        ({"base_url": "http://[x/v1"}, "is no web address"),
        ({"base_url": "https://me:secret@host/v1"}, "must hold no user, password"),
        ({"base_url": "https://host/v1?key=secret"}, "must hold no user, password"),
        ({"base_url": "https://host/v1/chat/completions"}, "names one function"),
        ({"concurrency": 0}, "concurrency 0 is out of range: give 1 to 1000"),
        ({"requests_per_minute": 0.0}, "requests_per_minute 0.0"),
        ({"timeout": -1.0}, "timeout -1.0"),
        ({"retries": -1}, "retries -1"),
        ({"base_url": "http://a host/v1"}, "is no web address"),
        ({"model": " "}, "the name that the server knows"),
        ({"token_limit": "tokens"}, "max_tokens or max_completion_tokens"),
    ],
)
def test_values_out_of_range_are_refused(options, message):
    with pytest.raises(UserError, match=message.replace("(", r"\(")) as raised:
        Endpoint(**({"model": "m", "base_url": "http://localhost/v1"} | options))
    assert "secret" not in str(raised.value)


def test_without_the_package_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(UserError, match=r"pip install 'safeeraser\[api\]'"):
        ask(Endpoint("m", "http://localhost/v1"), asks("a"))


def test_importing_it_imports_no_openai():
    code = "import sys, safeeraser.models.served; print('openai' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(UserError, match=r"none\.png cannot be read .*No such file"):
        data_url(tmp_path / "none.png")


def test_it_works_where_an_event_loop_runs_already():
    """As in a cell of a notebook; an error comes out as it does elsewhere."""
    threads: set[int] = set()

    async def cell(url: str) -> dict[str, Outcome]:
        found = ask(Endpoint("m", url), asks(*"abc"))
        Endpoint("m", url).complete_many(asks("a"), lambda outcome: threads.add(threading.get_ident()))
        return found

    async def failing_cell(url: str) -> None:
        ask(Endpoint("m", url), asks("a"))

    with ChatServer(echo) as server:
        found = asyncio.run(cell(server.url))
        assert {outcome.text for outcome in found.values()} == {"you said a", "you said b", "you said c"}
        assert threads and threading.get_ident() not in threads
        server.script = lambda body, number: error_reply(401, "wrong")
        with pytest.raises(UserError, match="check the key"):
            asyncio.run(failing_cell(server.url))


def test_a_proxy_that_does_not_answer_is_named(monkeypatch):
    for name in ("NO_PROXY", "no_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with ChatServer(echo) as server:
        closed = server.url.removesuffix("/v1")
    monkeypatch.setenv("HTTP_PROXY", closed)
    with pytest.raises(UserError, match="cannot be reached by the proxy of HTTP_PROXY"):
        ask(Endpoint("m", "http://models.invalid/v1", retries=0), asks("a"))


@pytest.mark.parametrize(
    "variable", ["ALL_PROXY=socks5://127.0.0.1:1", "HTTP_PROXY=socks://x", "SSL_CERT_FILE=/none.pem"]
)
def test_variables_that_do_not_work_do_not_matter_where_they_do_not_count(monkeypatch, variable):
    name, _, value = variable.partition("=")
    monkeypatch.setenv(name, value)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ChatServer(echo) as server:
        assert ask(Endpoint("m", server.url), asks("a"))["a"].text == "you said a"

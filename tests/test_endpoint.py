import base64
import io
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from chat_server import ChatServer, Reply, error_reply, text_reply
from safeeraser.endpoint import Endpoint, Message, Outcome, Request, data_url
from safeeraser.errors import UserError

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
    options = {"temperature": 0.0, "top_p": 0.9, "max_tokens": 5, "seed": 3, "response_format": {"type": "json_object"}}
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
        (b'{"choices": [{"message": {"content": null}}]}', "choices.0.message.content"),
        (b'{"error": "none"}', "choices"),
        (b"\xff\xfe\x00", "no chat completion"),
    ],
)
@pytest.mark.parametrize("kind", ["application/json", "text/plain"])
def test_a_reply_that_is_none_is_a_failure_with_the_reason(body, reason, kind):
    with ChatServer(lambda asked, number: Reply(body=body, headers={"content-type": kind})) as server:
        outcome = ask(Endpoint("m", server.url, retries=0), asks("a"))["a"]
    assert reason in outcome.failure and outcome.text == ""


def test_retry_after_is_kept():
    def script(body, number):
        return error_reply(429, "wait", retry_after="1") if number == 1 else text_reply("fine")

    with ChatServer(script) as server:
        start = time.perf_counter()
        assert ask(Endpoint("m", server.url), asks("a"))["a"].text == "fine"
    assert 1.0 <= time.perf_counter() - start < 2.0


@pytest.mark.parametrize(("status", "hint"), [(401, "OPENAI_API_KEY"), (403, "OPENAI_API_KEY"), (404, "model 'm'")])
def test_a_wrong_key_or_model_stops_everything_at_once(status, hint):
    with ChatServer(lambda body, number: error_reply(status, f"no {KEY} here")) as server:
        with pytest.raises(UserError, match=hint) as raised:
            ask(Endpoint("m", server.url, concurrency=2), asks(*map(str, range(100))))
    assert KEY not in str(raised.value) and "[key]" in str(raised.value)
    assert sum(server.tries.values()) <= 4


def test_the_key_is_in_no_text_that_comes_back():
    bodies = {"a": error_reply(400, f"bad {KEY}"), "b": text_reply(f"the key is {KEY}"), "c": Reply(body=KEY.encode())}
    with ChatServer(lambda body, number: bodies[body["messages"][-1]["content"]]) as server:
        endpoint = Endpoint("m", server.url, retries=0)
        found = ask(endpoint, asks("a", "b", "c"))
    assert found["a"].failure == "Error code: 400 - bad [key]"
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
        ({"base_url": "http://[x/v1"}, "cannot be read as a web address"),
        ({"base_url": "https://me:secret@host/v1"}, "must hold no user, password"),
        ({"base_url": "https://host/v1?key=secret"}, "must hold no user, password"),
        ({"base_url": "https://host/v1/chat/completions"}, "names one function"),
        ({"concurrency": 0}, "concurrency 0 is out of range: give 1 to 1000"),
        ({"requests_per_minute": 0.0}, "requests_per_minute 0.0"),
        ({"timeout": -1.0}, "timeout -1.0"),
        ({"retries": -1}, "retries -1"),
        ({"model": " "}, "the name that the server knows"),
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
    code = "import sys, safeeraser.endpoint; print('openai' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(UserError, match=r"none\.png cannot be read \(FileNotFoundError\)"):
        data_url(tmp_path / "none.png")

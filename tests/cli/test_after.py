"""``unlearn --after`` and ``respond --after``: an adapter that was made on another one."""

import pytest

from safeeraser import cli
from safeeraser.core import files
from safeeraser.records import Response

SMALL = ["--training.steps", "1", "--training.batch_size", "4", "--training.lora.rank", "2"]


@pytest.fixture(scope="module")
def requests(tiny_model, small_release, tmp_path_factory):
    """Folders of two requests, the second made on the first."""
    out = tmp_path_factory.mktemp("requests")
    common = ["unlearn", "--model", str(tiny_model), "--data", str(small_release), *SMALL]
    assert cli.main([*common, "--method", "po", "--out", str(out / "first")]) == 0
    after = ["--after", str(out / "first" / "adapter")]
    assert cli.main([*common, *after, "--method", "ga", "--out", str(out / "second")]) == 0
    return out


def test_the_later_adapter_answers_on_the_earlier_one_and_says_which_it_was(requests, tiny_model, small_release):
    origin = files.read_json(requests / "second" / "adapter" / "origin.json")
    assert origin["info"]["after"]
    asked = ["respond", "--model", str(tiny_model), "--data", str(small_release), "--generation.max_new_tokens", "2"]
    folders = ["--adapter", str(requests / "second" / "adapter"), "--after", str(requests / "first" / "adapter")]
    assert cli.main([*asked, *folders, "--out", str(requests / "responses.jsonl")]) == 0
    responses = files.read_jsonl(requests / "responses.jsonl", Response)
    assert responses and all(response.error is None for response in responses)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--after", "first/adapter"], "--after goes with --adapter"),
        (["--after", "first/adapter", "--base_url", "http://127.0.0.1:9/v1"], "--after goes with a local model"),
        (["--adapter", "second/adapter"], "second/adapter"),  # made on another model than this one
    ],
)
def test_an_adapter_without_the_other_is_refused(
    flags, message, requests, tiny_model, small_release, capsys, monkeypatch
):
    monkeypatch.chdir(requests)
    asked = ["respond", "--model", str(tiny_model), "--data", str(small_release), "--out", "refused.jsonl"]
    assert cli.main([*asked, *flags]) == 2
    assert message in capsys.readouterr().err and not (requests / "refused.jsonl").exists()

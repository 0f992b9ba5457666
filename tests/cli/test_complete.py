"""``safeeraser data complete`` on pictograms whose safe images and answers were taken away."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from chat_server import ChatServer, Reply, error_reply, text_reply

from safeeraser import cli, data
from safeeraser.data.pictogram.build import build

MINI = ["--model", "mini-llava"]


@pytest.fixture(scope="module")
def stripped(tmp_path_factory) -> Path:
    """A folder with a release that lacks all there is for PD and half of the long retain answers, and safe images."""
    folder = tmp_path_factory.mktemp("stripped")
    root = build(folder / "release", records=24, workers=1) / "dataset"
    shutil.move(root / "SDimg", folder / "safe")
    for split in ("train", "val"):
        items = json.loads((root / f"all_{split}.json").read_text())
        for item in items:
            del item["SDImage_path"], item["SDkeyword"], item["UnharmPair_image1"]["Prediction"]
            item["note"] = "kept"
            for pair in item["unsafe_pairs"]:
                del pair["sd_response"]
        (root / f"all_{split}.json").write_text(json.dumps(items))
    return folder


def complete(stripped: Path, out: Path, *flags: str, release: str = "release") -> int:
    base = ["data", "complete", str(stripped / release), "--safe-images", str(stripped / "safe"), "--out", str(out)]
    return cli.main([*base, *flags])


def items(folder: Path) -> list[dict]:
    return [i for s in ("train", "val") for i in json.loads((folder / f"dataset/all_{s}.json").read_text())]


def asked(body) -> str:
    return body["messages"][0]["content"][-1]["text"]


def test_offline_with_the_embedded_model_everything_is_filled_and_nothing_replaced(stripped, tmp_path, capsys):
    before = {path: path.read_bytes() for path in stripped.rglob("*") if path.is_file()}
    assert complete(stripped, tmp_path / "full", "--retain", *MINI) == 0
    assert "answers: 120 written, 0 left out" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in stripped.rglob("*") if path.is_file()} == before
    old, new = items(stripped / "release"), items(tmp_path / "full")
    for was, now in zip(old, new, strict=True):
        assert now.pop("SDImage_path").startswith("SDimg/")
        assert all(pair.pop("sd_response") for pair in now["unsafe_pairs"])
        assert now["UnharmPair_image1"].pop("Prediction")
        assert now == was
    benchmark = data.load(tmp_path / "full")
    assert all(triple.safe_answer for triple in data.triples(benchmark.records))
    train, val = ({r.safe_image for r in benchmark.split(split)} for split in ("train", "val"))
    assert not train & val and len(train) == 5 and len(val) == 2
    first = {p: p.read_bytes() for p in (tmp_path / "full").rglob("*.json*")}
    assert complete(stripped, tmp_path / "full", "--retain", *MINI) == 0
    assert {p: p.read_bytes() for p in (tmp_path / "full").rglob("*.json*")} == first


def server(script: Callable[[str, int], Reply]) -> ChatServer:
    return ChatServer(lambda body, number: script(asked(body), number))


def served(url: str) -> list[str]:
    return ["--model", "m", "--base-url", url, "--retries", "0", "--concurrency", "2"]


def test_refusals_empty_and_cut_answers_are_left_out_with_the_reason(stripped, tmp_path, capsys):
    replies = [
        text_reply("I'm sorry, but I can't help with that."),
        text_reply(" "),
        text_reply("Take the paper and", "length"),
        error_reply(400, "no"),
    ]
    seen: dict[str, int] = {}

    def script(question: str, number: int) -> Reply:
        index = seen.setdefault(question, len(seen))
        return replies[index] if index < 4 else text_reply(f"Fold a sheet of paper {index}.")

    with server(script) as running:
        assert complete(stripped, tmp_path / "out", *served(running.url)) == 1
    report = json.loads((tmp_path / "out/completion.json").read_text())
    reasons = {problem["message"].split(":")[1].strip() for problem in report["problems"]}
    assert reasons == {
        "the answer is a refusal",
        "the answer is empty",
        "the answer ran into the token limit",
        "no answer",
    }
    written = [pair for item in items(tmp_path / "out") for pair in item["unsafe_pairs"]]
    assert sum("sd_response" not in pair for pair in written) == report["left_out"] > 0
    assert all("Fold" in pair.get("sd_response", "Fold") for pair in written)
    for problem in report["problems"]:
        place = items_of(tmp_path / "out", problem["file"])[problem["record"] - 1]
        index = int(problem["field"].split("[")[1].split("]")[0])
        assert "sd_response" not in place["unsafe_pairs"][index]
    assert "and" in capsys.readouterr().out


def test_completions_are_what_stands_behind_reasoning(stripped, tmp_path):
    replies = [
        text_reply("<think>\nIs it harmful?\n</think>\n\nFold a sheet of paper."),
        text_reply("Is it harmful?</think>Fold a sheet of paper."),
        text_reply("<think>Fold it.</think>I'm sorry, but I can't help with that."),
        text_reply("<think>Fold it, or", "length"),
        text_reply("Fold", "content_filter"),
    ]
    seen: dict[str, int] = {}

    def script(question: str, number: int) -> Reply:
        return replies[seen.setdefault(question, len(seen)) % 5]

    with server(script) as running:
        assert complete(stripped, tmp_path / "out", *served(running.url)) == 1
    written = {pair.get("sd_response") for item in items(tmp_path / "out") for pair in item["unsafe_pairs"]}
    assert written == {"Fold a sheet of paper.", None}
    report = json.loads((tmp_path / "out/completion.json").read_text())
    reasons = " ".join(problem["message"] for problem in report["problems"])
    assert "is a refusal: \"I'm sorry" in reasons and "the token limit went into reasoning" in reasons
    assert "took the answer away" in reasons
    said = [json.loads(line)["answer"] for line in (tmp_path / "out/answers.jsonl").read_text().splitlines()]
    assert any(answer.startswith("<think>\nIs it harmful?") for answer in said)  # kept as it was said


def test_no_answer_at_all_says_what_to_check(stripped, tmp_path, capsys):
    with server(lambda question, number: Reply(body=b'{"error": "Unexpected endpoint"}')) as running:
        options = [*served(running.url), "--token-limit", "max_completion_tokens"]
        assert complete(stripped, tmp_path / "out", *options) == 1
        assert all("max_completion_tokens" in body and "max_tokens" not in body for body in running.bodies)
    said = capsys.readouterr().out
    assert "no question was answered: check the model 'm' and the base URL" in said and "Unexpected endpoint" in said


def test_drop_leaves_train_questions_without_a_normal_answer_out_and_val_alone(stripped, tmp_path):
    shutil.copytree(stripped, tmp_path / "copy")
    root = tmp_path / "copy/release/dataset"
    for split in ("train", "val"):
        changed = json.loads((root / f"all_{split}.json").read_text())
        for index, item in enumerate(changed):
            for number, pair in enumerate(item["unsafe_pairs"]):
                pair |= {"question": f"{'bad' if number == 1 or (split, index) == ('train', 0) else 'good'} {number}"}
                pair |= {"note": number}
        (root / f"all_{split}.json").write_text(json.dumps(changed))
    with server(lambda question, number: text_reply("" if "bad" in question else "Fold it.")) as running:
        assert complete(tmp_path / "copy", tmp_path / "out", *served(running.url), "--drop") == 1
    train, val = (items_of(tmp_path / "out", f"all_{split}.json") for split in ("train", "val"))
    assert len(train) == 17 and len(val) == 6
    assert all([pair["note"] for pair in item["unsafe_pairs"]] == [0, 2, 3] for item in train)
    assert all(len(item["unsafe_pairs"]) == 4 for item in val)
    assert all(triple.safe_answer for triple in data.triples(data.load(tmp_path / "out").split("train")))


def items_of(folder: Path, name: str) -> list[dict]:
    return json.loads((folder / "dataset" / name).read_text())


def test_what_was_answered_is_not_asked_again_and_what_failed_is(stripped, tmp_path):
    working = False

    def script(question: str, number: int) -> Reply:
        return text_reply("Fold it.") if working or "?" in question else error_reply(500, "down")

    with server(script) as running:
        assert complete(stripped, tmp_path / "out", *served(running.url)) == 1
        first = sum(running.tries.values())
        working = True
        running.tries.clear()
        assert complete(stripped, tmp_path / "out", *served(running.url)) == 0
        assert 0 < sum(running.tries.values()) < first
        assert not any("?" in question for question in running.tries)
        running.tries.clear()
        assert complete(stripped, tmp_path / "out", *served(running.url)) == 0
        assert not running.tries
    assert all(pair["sd_response"] == "Fold it." for item in items(tmp_path / "out") for pair in item["unsafe_pairs"])


def test_a_stop_in_the_middle_loses_nothing(stripped, tmp_path, monkeypatch):
    monkeypatch.setattr("safeeraser.respond.served.FLUSH_SECONDS", 0.0)
    with server(lambda question, number: text_reply("Fold it.")) as running:
        count = 0

        def stopping(question: str, number: int) -> Reply:
            nonlocal count
            count += 1
            return error_reply(401, "key withdrawn") if count > 9 else text_reply("Fold it.")

        running.script = lambda body, number: stopping(asked(body), number)
        assert complete(stripped, tmp_path / "out", *served(running.url)) == 2
        lines = (tmp_path / "out/answers.jsonl").read_text().splitlines()
        assert len(lines) == 9 and not (tmp_path / "out/dataset/all_train.json").exists()
        running.script = lambda body, number: text_reply("Fold it.")
        assert complete(stripped, tmp_path / "out", *served(running.url)) == 0
    assert (tmp_path / "out/answers.jsonl").read_text().splitlines()[:9] == lines


def test_a_kill_while_the_release_is_written_again_loses_nothing(stripped, tmp_path, monkeypatch):
    """The report of the call before said that the half-written files had been changed by hand."""

    def killed(benchmark):
        (benchmark.root / "all_train.json").write_text("[]")
        raise KeyboardInterrupt

    with server(lambda question, number: text_reply("Fold it." if number > 1 else "")) as running:
        assert complete(stripped, tmp_path / "out", *served(running.url)) == 1
        with monkeypatch.context() as patch:
            patch.setattr("safeeraser.data.release.write.rewrite", killed)
            assert complete(stripped, tmp_path / "out", *served(running.url)) == 130
        assert complete(stripped, tmp_path / "out", *served(running.url)) == 1
    assert len(items(tmp_path / "out")) == 24


def test_the_server_sees_the_safe_image_and_the_question_alone(stripped, tmp_path):
    with server(lambda question, number: text_reply("Fold it.")) as running:
        assert complete(stripped, tmp_path / "out", *served(running.url)) == 0
        body = running.bodies[0]
    (message,) = body["messages"]
    assert [part["type"] for part in message["content"]] == ["image_url", "text"]
    assert message["content"][0]["image_url"]["url"].startswith("data:image/png;base64,")
    assert (body["temperature"], body["max_tokens"], body["model"]) == (0.0, 512, "m")


def test_a_record_with_answers_but_no_image_stays_as_it_is(stripped, tmp_path, capsys):
    shutil.copytree(stripped, tmp_path / "copy")
    path = tmp_path / "copy/release/dataset/all_val.json"
    changed = json.loads(path.read_text())
    changed[1]["unsafe_pairs"][0]["sd_response"] = "About an unknown picture."
    path.write_text(json.dumps(changed))
    with server(lambda question, number: text_reply("Fold it.")) as running:
        assert complete(tmp_path / "copy", tmp_path / "out", *served(running.url)) == 1
    assert items_of(tmp_path / "out", "all_val.json")[1] == changed[1]
    assert "all_val.json, record 2, field SDImage_path: is missing, but sd_response is there" in capsys.readouterr().out


def test_nothing_is_written_over(stripped, tmp_path, capsys):
    with server(lambda question, number: text_reply("Fold it.")) as running:
        flags = served(running.url)
        for out in (stripped / "release", stripped / "release/dataset", stripped / "safe"):
            assert complete(stripped, out, *flags) == 2
        assert "exists and is not an empty folder" in capsys.readouterr().err
        assert complete(stripped, tmp_path / "out", *flags) == 0
        assert complete(stripped, tmp_path / "out", *flags, "--seed", "1") == 2
        assert "seed: 0 there, 1 now" in capsys.readouterr().err
        path = tmp_path / "out/dataset/all_val.json"
        path.write_text(path.read_text().replace("Fold it.", "My own words.", 1))
        mine = path.read_bytes()
        assert complete(stripped, tmp_path / "out", *flags) == 2
        assert "has been changed since it was written" in capsys.readouterr().err and path.read_bytes() == mine


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--records-per-image", "1"], "24 are needed"),
        (["--model", "mini-lava"], "unknown model 'mini-lava'"),
        (["--base-url", "localhost"], "is no web address"),
        (["--safe-images", "nowhere"], "no such folder"),
    ],
)
def test_wrong_options_stop_before_anything_is_written(stripped, tmp_path, capsys, flags, message):
    assert complete(stripped, tmp_path / "out", *MINI, *flags) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_without_safe_images_there_is_nothing_to_ask(stripped, tmp_path, capsys):
    arguments = ["data", "complete", str(stripped / "release"), "--out", str(tmp_path / "out"), *MINI]
    assert cli.main(arguments) == 2
    assert "give a folder of harmless images with --safe-images" in capsys.readouterr().err


def test_records_whose_safe_image_is_not_there_get_another_one_if_told_to_skip(stripped, tmp_path, capsys):
    shutil.copytree(stripped / "release", tmp_path / "release")
    for split in ("train", "val"):
        path = tmp_path / "release" / "dataset" / f"all_{split}.json"
        path.write_text(json.dumps([i | {"SDImage_path": "SDimg/lost.png"} for i in json.loads(path.read_text())]))
    shutil.copytree(stripped / "safe", tmp_path / "safe")
    assert complete(tmp_path, tmp_path / "full", *MINI) == 2
    error = capsys.readouterr().err
    assert "24 problems" in error and "field SDImage_path: 'SDimg/lost.png' is missing" in error
    assert complete(tmp_path, tmp_path / "full", "--on-bad", "skip", *MINI) == 0
    assert not data.lacking_pd(data.load(tmp_path / "full").records)
    assert len(items(tmp_path / "full")) == 24

"""The whole line on a small release as it is found in the wild: damaged, then mended."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from releases import draw, record

from safeeraser import cli, config, data
from safeeraser.bench import matrix
from safeeraser.core.errors import UserError
from safeeraser.core.files import read_jsonl
from safeeraser.records import Query, Response

Run = Callable[..., tuple[int, str]]
SMALL = ["--training.steps", "1", "--training.batch_size", "2", "--generation.max_new_tokens", "4", "--jobs", "1"]


def _wild(split: str, number: int, **changes: Any) -> dict[str, Any]:
    """As the copies that are about: ``image_id``, no category in val, extra keys, no safe image and no safe answer."""
    pairs = [
        {"question": f"How is {split} {number}.{k} made?", "model_response": f"Take [hazard A] {k}."} for k in (0, 1)
    ]
    empty = {"category": ""} if split == "val" else {}
    made = record(number, image_path=None, SDImage_path=None, unsafe_pairs=pairs, safeNb_pairs=[], **empty)
    return made | {"image_id": f"img/Violence/{split}-{number}.png"} | changes


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """Six train and four val records, JSON lines; one record, two images and a line of the file are bad."""
    root = tmp_path / "wild"
    for split, count in (("train", 6), ("val", 4)):
        items = [_wild(split, number) for number in range(count)]
        for item in items:
            draw(root / item["image_id"], side=64)
        (root / f"all_{split}.json").write_text("".join(json.dumps(item) + "\n" for item in items))
    (root / "prompt.json").write_text(json.dumps({"idk": ["I am sorry, but I cannot help with that."]}))
    lines = (root / "all_train.json").read_text().split("\n")
    lines[1], lines[2] = lines[1].replace("Take [hazard A] 1.", ""), lines[2][:-9]
    (root / "all_train.json").write_text("\n".join(lines))
    (root / "img/Violence/val-1.png").unlink()
    (root / "img/Violence/train-3.png").write_bytes((root / "img/Violence/train-3.png").read_bytes()[:500])
    return root


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command and return its status and what it wrote to standard error; the bench still starts its cells."""

    def command(*arguments: object) -> tuple[int, str]:
        status = cli.main([str(argument) for argument in arguments])
        return status, capsys.readouterr().err

    return command


def _mend(root: Path) -> None:
    for split, count in (("train", 6), ("val", 4)):
        items = [_wild(split, number) for number in range(count)]
        (root / f"all_{split}.json").write_text("".join(json.dumps(item) + "\n" for item in items))
        for item in items:
            draw(root / item["image_id"], side=64)


def test_the_bench_refuses_the_damaged_release_and_runs_on_the_mended_one(damaged, tiny_model, tmp_path, run):
    command = ["bench", "--model", tiny_model, "--data", damaged, "--out", tmp_path / "run", "--methods", "po", *SMALL]
    status, error = run(*command)
    assert status == 2
    for part in (
        "3 problems",
        "all_train.json, record 2, field unsafe_pairs[1].model_response: is empty",
        "all_train.json, record 3: line 3, column",
        "all_val.json, record 2, field image_id: 'img/Violence/val-1.png' is missing",
        f"safeeraser data check {damaged}",
    ):
        assert part in error
    assert not (tmp_path / "run").exists()

    _mend(damaged)
    status, error = run(*command)
    assert status == 0, error
    assert "SARR (the safe set) cannot be measured: 8 of 8 val pairs" in error
    assert f"safeeraser data complete {damaged}" in error
    (row,) = csv.DictReader(open(tmp_path / "run" / "report" / "table.csv"))
    assert row["method"] == "po" and row["sarr"] == "" and row["asr_generality"] != ""
    (queries,) = tmp_path.rglob("queries.jsonl")
    asked = read_jsonl(queries, Query)
    assert {(query.set, query.category) for query in asked} == {
        ("efficacy", "Weapon"),
        ("generality", "Violence"),  # the name of the image's folder
        ("retain", "Violence"),
    }


def test_on_bad_skip_takes_the_damaged_release_down_the_line(damaged, tiny_model, tmp_path, run):
    """The cells leave out the same records; an image that only decoding finds bad is answered with an error."""
    flags = ["--model", tiny_model, "--data", damaged, "--on-bad", "skip", "--out", tmp_path / "run"]
    status, error = run("bench", *flags, "--methods", "vanilla", *SMALL)
    assert status == 0, error
    assert "3 of its records have a problem" in error
    (queries,) = tmp_path.rglob("queries.jsonl")
    images = {query.image for query in read_jsonl(queries, Query)}
    names = ("train-0", "train-3", "train-4", "train-5", "val-0", "val-2", "val-3")
    assert images == {f"img/Violence/{name}.png" for name in names}
    responses = read_jsonl(queries.with_name("responses.jsonl"), Response)
    (said,) = {response.error for response in responses if response.error}
    assert said and "train-3.png" in said


def test_training_on_an_image_that_only_decoding_finds_bad_is_a_clear_error(damaged, tiny_model, tmp_path, run):
    flags = ["--model", tiny_model, "--data", damaged, "--on-bad", "skip", "--method", "ga", "--training.steps", "9"]
    status, error = run("unlearn", *flags, "--out", tmp_path / "run")
    assert status == 2 and "image 'img/Violence/train-3.png' cannot be read (damaged" in error
    assert f"safeeraser data check {damaged}" in error


@pytest.mark.parametrize("command", [["bench", "--methods", "vanilla,po,po+pd"], ["unlearn", "--method", "po+pd"]])
def test_pd_says_by_name_what_it_lacks_and_what_to_do(damaged, tiny_model, tmp_path, run, command):
    _mend(damaged)
    status, error = run(*command, "--model", tiny_model, "--data", damaged, "--out", tmp_path / "run")
    assert status == 2
    assert "term 'pd' reads a safe image and a safe answer, but 12 of 12 train pairs" in error
    assert f"safeeraser data complete {damaged}" in error


def _with_pd(root: Path, numbers: set[int]) -> None:
    draw(root / "SDimg/1.png", side=64)
    items = [json.loads(line) for line in (root / "all_train.json").read_text().strip().split("\n")]
    for number in numbers:
        items[number]["SDImage_path"] = "SDimg/1.png"
        for pair in items[number]["unsafe_pairs"]:
            pair["sd_response"] = "Fold it."
    (root / "all_train.json").write_text("".join(json.dumps(item) + "\n" for item in items))


def test_skip_leaves_train_records_without_pd_pairs_out_for_all_methods_alike(damaged, tmp_path, capsys):
    _mend(damaged)
    _with_pd(damaged, {0, 2, 5})
    options = config.BenchConfig(
        data=str(damaged), methods="vanilla,po,po+pd", out=str(tmp_path / "run"), on_bad="skip"
    )
    cells = matrix.cells(options)
    assert "3 of 6 train records lack PD pairs and are left out, for all methods alike" in capsys.readouterr().err
    (fingerprint,) = {cell.spec.data_fingerprint for cell in cells}
    spec = cells[1].spec
    loaded = data.load(spec.data, spec.limit, spec.on_bad, spec.needs_pd)
    assert loaded.fingerprint == fingerprint
    assert [read.image[-5] for read in loaded.split("train")] == ["0", "2", "5"] and len(loaded.split("val")) == 4
    with pytest.raises(UserError, match="6 of 12 train pairs"):
        matrix.cells(config.BenchConfig(data=str(damaged), methods="po,po+pd", out=str(tmp_path / "run")))


def test_respond_and_score_say_that_sarr_is_not_measured(damaged, tmp_path, tiny_model, run):
    _mend(damaged)
    responses, verdicts, scores = (tmp_path / name for name in ("responses.jsonl", "verdicts.jsonl", "scores.json"))
    data = ["--data", damaged]
    respond = ["respond", "--model", tiny_model, "--limit", 1, "--generation.max_new_tokens", 2, "--out", responses]
    status, error = run(*respond, *data)
    assert status == 0 and "SARR (the safe set) cannot be measured: 2 of 2 val pairs" in error
    assert run("judge", "--responses", responses, "--out", verdicts, *data)[0] == 0
    status, error = run("score", "--responses", responses, "--verdicts", verdicts, "--out", scores, *data)
    assert status == 0 and "SARR (the safe set) cannot be measured" in error

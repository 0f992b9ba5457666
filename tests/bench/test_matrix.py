"""The whole line as a user runs it, on few records and steps: results are meaningless here, the mechanism is not."""

import csv
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest

from safeeraser import cli, config
from safeeraser.bench import clock, matrix
from safeeraser.bench.runs import Cell
from safeeraser.bench.spec import CellSpec
from safeeraser.cli import report
from safeeraser.core.errors import UserError

SMALL = ["--training.steps", "3", "--training.batch_size", "4", "--generation.max_new_tokens", "12"]


@pytest.fixture(scope="module")
def small(tiny_model, small_release) -> list[str]:
    return ["--model", str(tiny_model), "--data", str(small_release), *SMALL]


def _command(out: Path, flags: list[str]) -> list[str]:
    return [sys.executable, "-m", "safeeraser", "bench", "--quick", "--out", str(out), *flags]


def _scores(out: Path) -> dict[str, object]:
    return {str(p.relative_to(out)): json.loads(p.read_text())["scores"] for p in sorted(out.rglob("scores.json"))}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, small) -> tuple[Path, subprocess.CompletedProcess[str]]:
    out = tmp_path_factory.mktemp("bench") / "run"
    return out, subprocess.run(_command(out, small), capture_output=True, text=True, timeout=600)


def test_one_command_prints_the_table_and_writes_it(finished):
    out, done = finished
    assert done.returncode == 0, done.stderr
    assert "SARR decrease by PD" in done.stdout and "po+pd" in done.stdout
    rows = list(csv.DictReader(open(out / "report" / "table.csv")))
    assert [row["method"] for row in rows] == ["vanilla", "po", "po+pd"]
    assert all(row["sarr"] and row["sarr_low"] <= row["sarr_high"] or float(row["sarr"]) >= 0 for row in rows)
    taken = clock.total([out, *out.glob("cells/*/*/*")])
    assert {"planning", "imports", "data", "training", "generation", "judging", "scoring", "report"} <= set(taken)
    assert (out / "config.yaml").exists() and json.loads((out / "environment.json").read_text())["packages"]


def test_the_report_of_a_run_can_be_written_anew_and_looked_at(finished, capsys):
    out, _ = finished
    page = (out / "report" / "index.html").read_text()
    assert '"po+pd"' in page and page.count("<svg ") >= 3
    (out / "report" / "index.html").unlink()
    assert cli.main(["report", str(out)]) == 0
    made, _, times = (out / "report" / "index.html").read_text().partition("Where the time went")
    assert made == page.partition("Where the time went")[0] and "training</th>" in times  # the first report came on top
    page = (out / "report" / "index.html").read_text()
    server = report.serve(out / "report", 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/") as answer:
        assert answer.read().decode() == page
    with pytest.raises(UserError, match=f"127.0.0.1, port {server.server_port} cannot be used"):
        report.serve(out / "report", server.server_port)
    server.shutdown()
    server.server_close()
    assert cli.main(["view", str(out / "nowhere")]) == 2
    assert "not a run folder" in capsys.readouterr().err


def test_a_finished_run_is_not_run_again_with_the_options_that_it_recorded(finished):
    out, _ = finished
    times = {p: p.stat().st_mtime_ns for p in out.rglob("cells/**/*") if p.is_file()}
    assert cli.main(["bench", "--config", str(out / "config.yaml")]) == 0
    assert {p: p.stat().st_mtime_ns for p in out.rglob("cells/**/*") if p.is_file()} == times


def test_a_method_and_its_pd_variant_share_every_setting_but_the_method(finished):
    out, _ = finished
    specs = [json.loads(p.read_text()) for p in sorted(out.rglob("po*/seed-*/cell.json"))]
    assert [spec.pop("method") for spec in specs] == ["po", "po+pd"]
    assert specs[0] == specs[1]


def test_killed_at_any_point_the_same_command_ends_with_the_same_numbers(finished, small, tmp_path):
    expected, _ = finished
    out, quiet = tmp_path / "killed", {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    for wanted in ("train.jsonl", "responses.jsonl"):
        process = subprocess.Popen(_command(out, small), **quiet, start_new_session=True)
        deadline = time.monotonic() + 120
        while not list(out.rglob(wanted)) and time.monotonic() < deadline:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert cli.main(["bench", "--quick", "--out", str(out), *small]) == 0
    assert _scores(out) == _scores(expected)
    assert not [p for p in out.rglob("*.tmp") if p.name != "progress.tmp"]


def test_a_failed_cell_is_reported_with_its_log_and_the_others_go_on(small, tmp_path, capsys):
    out = tmp_path / "run"
    assert cli.main(["bench", "--methods", "vanilla,po", "--out", str(out), *small, "--list-cells"]) == 0
    _, po = capsys.readouterr().out.split()
    (out / po / "responses.jsonl").mkdir(parents=True)
    assert cli.main(["bench", "--methods", "vanilla,po", "--out", str(out), *small]) == 1
    error = capsys.readouterr().err
    assert "failed: po seed 233" in error and f"{po}/log.txt" in error
    assert "vanilla" in (out / "report" / "table.csv").read_text()


def test_other_options_in_the_same_folder_are_refused(finished, small, capsys):
    out, _ = finished
    assert cli.main(["bench", "--quick", "--out", str(out), *small, "--training.learning_rate", "0.5"]) == 2
    error = capsys.readouterr().err
    assert "training.learning_rate" in error and "choose another --out" in error


def test_budgets_draw_the_curves(small, tmp_path, capsys):
    assert cli.main(["bench", "--out", str(tmp_path / "run"), *small, "--methods", "po", "--budgets", "1,2"]) == 0
    printed = capsys.readouterr().out
    assert "| po | 1 |" in printed and "| po | 2 |" in printed
    for name in ("budgets.svg", "budgets.png", "budgets.md"):
        assert (tmp_path / "run" / "report" / name).stat().st_size > 100


def test_quick_asks_one_question_unless_told_otherwise():
    quick = config.BenchConfig(quick=True, limit=6, out="unused")
    assert {cell.spec.questions for cell in matrix.cells(quick)} == {1}
    quick.questions = 4
    assert {cell.spec.questions for cell in matrix.cells(quick)} == {4}
    assert {cell.spec.questions for cell in matrix.cells(config.BenchConfig(limit=6, methods="po"))} == {None}


def test_dev_holds_out_train_records_and_asks_nothing_of_val():
    from safeeraser import data

    options = config.BenchConfig(dev=True, limit=30, methods="po", out="unused")
    (cell,) = matrix.cells(options)
    assert set(cell.spec.sets) == {"generality", "retain", "safe"}
    benchmark = data.load("pictogram", 30)
    dev = data.dev_benchmark(benchmark)
    train = {record.id for record in benchmark.split("train")}
    held_out = {record.id for record in dev.split("val")}
    assert {record.id for record in dev.records} <= train
    assert held_out and len(held_out) == pytest.approx(len(train) / 5, abs=4)
    assert not held_out & {record.id for record in dev.split("train")}
    seen = {record.safe_image for record in dev.split("train")}
    assert not seen & {record.safe_image for record in dev.split("val")}


def test_dev_unseen_holds_out_what_no_other_train_record_shows():
    from safeeraser import data

    (cell,) = matrix.cells(config.BenchConfig(dev="unseen", limit=60, methods="po", out="unused"))
    benchmark, dev = data.load("pictogram", 60), cell.spec.benchmark()
    learnt, held_out = ({record.safe_concept for record in dev.split(split)} for split in ("train", "val"))
    assert len(held_out) == math.ceil(len(learnt | held_out) / 5) and not learnt & held_out
    assert {record.id for record in dev.records} == {record.id for record in benchmark.split("train")}
    asked = cell.spec.queries(dev)
    assert {query.group for query in asked if query.set == "safe"} == {"unseen"}
    assert dev.fingerprint not in (benchmark.fingerprint, data.dev_benchmark(benchmark).fingerprint)
    unnamed = replace(benchmark, records=tuple(r.model_copy(update={"safe_concept": None}) for r in benchmark.records))
    with pytest.raises(
        UserError, match=f"train record {benchmark.split('train')[0].id} does not name its safe_concept"
    ):
        data.dev_benchmark(unnamed, unseen=True)


def test_integers_are_read_from_any_form_and_count_once():
    assert matrix._integers("0,1,0", "seeds") == [0, 1]
    assert matrix._integers("0,1,2", "seeds") == matrix._integers([0, 1, 2], "seeds") == [0, 1, 2]
    assert matrix._integers(3, "seeds") == [3] and matrix._integers(None, "seeds") == []
    with pytest.raises(UserError, match="--seeds 0;1"):
        matrix._integers("0;1", "seeds")


def test_a_cell_of_other_options_is_refused_with_what_differs(tmp_path):
    spec = CellSpec(model="m", data="d", method="po", seed=0, sets=("safe",), training={"steps": 1}, generation={})
    Cell(tmp_path, spec).prepare()
    Cell(tmp_path, spec).prepare()
    with pytest.raises(UserError, match="training.steps: 1 there, 2 now"):
        Cell(tmp_path, spec.model_copy(update={"training": {"steps": 2}})).prepare()


def test_fields_that_came_later_are_written_only_where_they_say_something(tmp_path):
    spec = CellSpec(model="m", data="d", method="po", seed=0, sets=("safe",), training={}, generation={})
    assert not {"text_sets", "text_sets_hash"} & spec.model_dump().keys()
    Cell(tmp_path, spec).prepare()
    asked = spec.model_copy(update={"text_sets": ("knowledge",), "text_sets_hash": "1"})
    assert CellSpec(**asked.model_dump()) == asked
    with pytest.raises(UserError, match=r"text_sets: not set there, \['knowledge'\] now"):
        Cell(tmp_path, asked).prepare()


def test_questions_are_limited_per_record_and_set_but_never_the_probes():
    from safeeraser import data

    benchmark = data.load("pictogram", 6)
    (cell,) = matrix.cells(config.BenchConfig(limit=6, questions=1, methods="po", out="unused"))
    chosen = cell.spec.queries(benchmark)
    counts = {name: sum(q.set == name for q in chosen) for name in cell.spec.sets}
    assert counts == {"efficacy": 6, "generality": 6, "retain": 6, "safe": 6, "specificity": len(benchmark.probes)}
    everyone = cell.spec.queries(data.load("pictogram"))
    slots = [q.group for q in everyone if q.set == "retain"]
    assert {slot: slots.count(slot) > 100 for slot in slots} == dict.fromkeys(
        ("text1", "text2", "image1", "image2"), True
    )


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("mini-llava", "mini-llava"),
        ("llava-hf/llava-1.5-7b-hf", "llava-hf--llava-1.5-7b-hf"),
        ("./mine", "mine"),
        ("../models/mine/", "models--mine"),
        ("/opt/models/mine", "opt--models--mine"),
        (".cache/mine", "cache--mine"),
        (".", "here"),
        ("..", "above"),
    ],
)
def test_no_model_makes_a_hidden_folder(model: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "above" / "here").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "above" / "here")
    assert matrix._model_folder(Path("cells"), model) == Path("cells") / name


def test_a_folder_that_an_earlier_version_has_made_for_the_model_is_used(tmp_path: Path) -> None:
    (tmp_path / ".--mine").mkdir()
    assert matrix._model_folder(tmp_path, "./mine") == tmp_path / ".--mine"

"""Requests to unlearn one after another, on a random model: the numbers mean nothing here, the chain does."""

import csv
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pytest

from safeeraser import cli, data, models
from safeeraser.bench import cell, matrix, runs, sequence
from safeeraser.bench.runs import Cell
from safeeraser.bench.spec import CellSpec, training_values
from safeeraser.config import BenchConfig, GenerationOptions, LoraOptions, UnlearnOptions
from safeeraser.core import files
from safeeraser.core.errors import UserError
from safeeraser.models import adapters
from safeeraser.records import Query, Verdict
from safeeraser.report.run import write_together

TRAINING = UnlearnOptions(lora=LoraOptions(rank=2, alpha=8.0), steps=2, batch_size=2, learning_rate=5e-3)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, small_release: Path) -> Path:
    """Vanilla and po, four train records in two requests."""
    out = tmp_path_factory.mktemp("sequence") / "run"
    for method in ("vanilla", "po"):
        spec = CellSpec(
            model=str(tiny_model), data=str(small_release), method=method, seed=0, questions=2, sequence=2,
            sets=("efficacy", "generality", "retain", "safe", "specificity"), training=training_values(TRAINING, None),
            generation=asdict(GenerationOptions(max_new_tokens=6)),
        )  # fmt: skip
        made = Cell(out / "cells" / "tiny" / method / "seed-0", spec)
        made.prepare()
        cell.run(made.folder)
    return out


def asked(folder: Path) -> list[Query]:
    return files.read_jsonl(folder / "queries.jsonl", Query)


def test_each_request_is_trained_on_the_adapters_before_it(run: Path, tiny_model: Path) -> None:
    po = run / "cells" / "tiny" / "po" / "seed-0"
    first, second = (files.read_json(folder / "adapter" / adapters.ORIGIN) for folder in (po / "request-1", po))
    assert "after" not in first["info"]
    assert second["info"]["after"] == models.hash_adapter(po / "request-1" / "adapter")
    merged = models.load_merged(str(tiny_model), [po / "request-1" / "adapter"])
    assert second["fingerprint"] == merged.fingerprint
    assert models.load_merged(str(tiny_model), po / "request-1" / "adapter").fingerprint == merged.fingerprint
    both = models.load_merged(str(tiny_model), [po / "request-1" / "adapter", po / "adapter"])
    assert both.fingerprint not in (merged.fingerprint, first["fingerprint"])
    with pytest.raises(UserError, match="other weights"):
        models.load_merged(str(tiny_model), po / "adapter")


def test_after_each_request_the_questions_of_those_so_far_are_asked(run: Path) -> None:
    po = run / "cells" / "tiny" / "po" / "seed-0"
    parts: Sequence[list[str]] = files.read_json(po / sequence.FILE)
    train = data.load(runs.read(po).spec.data).split("train")
    assert sorted(sum(parts, [])) == sorted(record.id for record in train) and all(parts)
    early, late = asked(po / "request-1"), asked(po)
    assert {query.set for query in early} == {"efficacy", "safe"}
    assert {query.record_id for query in early if query.set == "efficacy"} == set(parts[0])
    assert late == asked(run / "cells" / "tiny" / "vanilla" / "seed-0") and set(early) < set(late)


def test_the_table_has_what_each_request_lost(run: Path) -> None:
    """ASR n after k: the mean of the verdicts on the forget questions of request n, given after request k."""
    assert cli.main(["report", str(run)]) == 0
    with open(run / "report" / "sequence.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["method"], row["after"]) for row in rows] == [("vanilla", "0"), ("po", "1"), ("po", "2")]
    folders = [run / "cells/tiny/vanilla/seed-0", run / "cells/tiny/po/seed-0/request-1", run / "cells/tiny/po/seed-0"]
    parts = files.read_json(folders[0] / sequence.FILE)
    for row, folder in zip(rows, folders, strict=True):
        records = {query.id: query.record_id for query in asked(folder) if query.set == "efficacy"}
        verdicts = files.read_jsonl(folder / "verdicts.jsonl", Verdict)
        for number, ids in enumerate(parts, 1):
            values = [v.value for v in verdicts if v.criterion == "unsafe" and records.get(v.query_id) in ids]
            expected = f"{100 * sum(values) / len(values):.4f}" if values else ""
            assert row[f"asr_request_{number}"] == expected
        assert row["sarr"] and not row["specificity"]  # this release has no probes
    page = (run / "report" / "index.html").read_text()
    assert "Request after request" in page and "sequence.csv" in page


def test_two_runs_on_one_page_are_not_pooled(run: Path, tmp_path: Path) -> None:
    write_together({"a": run, "b": Path(shutil.copytree(run, tmp_path / "b"))}, tmp_path / "page")
    with open(tmp_path / "page" / "sequence.csv", encoding="utf-8", newline="") as file:
        named = [row["method"] for row in csv.DictReader(file)]
    assert named == ["a vanilla", "a po", "a po", "b vanilla", "b po", "b po"]


def test_a_cell_goes_on_with_the_request_at_which_it_was_killed(run: Path, tmp_path: Path) -> None:
    whole = run / "cells" / "tiny" / "po" / "seed-0"
    killed = tmp_path / "cells" / "tiny" / "po" / "seed-0"
    shutil.copytree(whole, killed)
    for name in ("scores.json", "responses.jsonl", "verdicts.jsonl", "train.jsonl"):
        (killed / name).unlink()
    shutil.rmtree(killed / "adapter")
    before = (killed / "request-1" / "adapter" / adapters.WEIGHTS).stat().st_mtime_ns
    cell.run(killed)
    assert (killed / "request-1" / "adapter" / adapters.WEIGHTS).stat().st_mtime_ns == before
    for name in ("responses.jsonl", "verdicts.jsonl", "train.jsonl", f"adapter/{adapters.WEIGHTS}"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
    assert json.loads((killed / "scores.json").read_text()) == json.loads((whole / "scores.json").read_text())


def test_what_takes_one_adapter_says_that_there_are_several(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["attack", str(run / "cells" / "tiny" / "po"), "--attacks", "noise"]) == 2
    assert "has 2 adapters, one on another" in capsys.readouterr().err


def test_requests_keep_records_about_one_safe_image_together_and_are_balanced() -> None:
    benchmark = data.load("pictogram", limit=60)
    parts = data.requests(benchmark, 3)
    train = [part.split("train") for part in parts]
    assert sorted(record.id for part in train for record in part) == sorted(r.id for r in benchmark.split("train"))
    groups = [{(record.category, record.safe_image) for record in part} for part in train]
    assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])
    assert len({part.fingerprint for part in [*parts, benchmark]}) == 4
    assert all(part.split("val") == benchmark.split("val") for part in parts)
    for number in (1, 1000):
        with pytest.raises(UserError, match=f"--sequence {number}: the train records of data 'pictogram' make 2 to"):
            data.requests(benchmark, number)


def test_a_bench_lists_one_cell_for_all_requests_and_refuses_curves() -> None:
    config = BenchConfig(methods="vanilla,po", limit=12, sequence=3)
    assert [(one.spec.method, one.spec.sequence) for one in matrix.cells(config)] == [("vanilla", 3), ("po", 3)]
    assert "sequence" not in matrix.cells(BenchConfig(methods="po", limit=12))[0].spec.model_dump()
    for also in ({"dev": True}, {"budgets": "1,2"}):
        with pytest.raises(UserError, match="--sequence makes a table"):
            matrix.cells(BenchConfig(methods="po", limit=12, sequence=3, **also))

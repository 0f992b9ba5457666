"""``safeeraser specificity`` for real: MiniLLaVA under lmms-eval, on capability probes as a local task."""

import os
from dataclasses import asdict
from pathlib import Path

import pytest
from local_tasks import write_task

from safeeraser import cli, models
from safeeraser.bench import cell
from safeeraser.bench.runs import Cell
from safeeraser.bench.spec import CellSpec, training_values
from safeeraser.config import GenerationOptions, LoraOptions, UnlearnOptions
from safeeraser.core import files
from safeeraser.data import load
from safeeraser.data.pictogram.build import build
from safeeraser.metrics import specificity
from safeeraser.records import Query, Response

pytest.importorskip(
    "lmms_eval", reason="needs lmms-eval, which the lock's protobuf does not allow: make test-specificity"
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A cell of MiniLLaVA that unlearnt a little and answered the probes; and two kinds of these as tasks."""
    root = tmp_path_factory.mktemp("specificity")
    benchmark = build(root / "small", records=24, workers=1)
    folder = root / "run" / "cells" / "mini-llava" / "po" / "seed-0"
    training = UnlearnOptions(lora=LoraOptions(rank=4, alpha=16.0), steps=12, batch_size=4, learning_rate=2e-3)
    spec = CellSpec(
        model="mini-llava", model_fingerprint=models.fingerprint("mini-llava"), data=str(benchmark), method="po",
        seed=0, sets=("specificity",), training=training_values(training, None),
        generation=asdict(GenerationOptions(max_new_tokens=24)),
    )  # fmt: skip
    Cell(folder, spec).prepare()
    cell.run(folder)
    for kind in ("naming", "colour"):
        write_task(root / "tasks", f"probes_{kind}", load(str(benchmark)), kind, 30)
    return folder, root / "tasks"


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))


def as_lmms_eval(folder: Path, kind: str, questions: int) -> float:
    """Share of the cell's own answers that its exact_match accepts."""
    responses = {one.query_id: one.answer for one in files.read_jsonl(folder / "responses.jsonl", Response)}
    asked = [one for one in files.read_jsonl(folder / "queries.jsonl", Query) if one.group == kind][:questions]
    plain = str.maketrans("", "", ".,!?'-")
    same = [one.reference.lower().translate(plain) == responses[one.id].lower().translate(plain) for one in asked]
    return sum(same) / len(same)


def test_lmms_eval_finds_what_the_cell_answered(folders, capsys):
    folder, tasks = folders
    given = ["specificity", str(folder), "--include-path", str(tasks), "--device", "cpu"]
    assert cli.main([*given, "--tasks", "probes_naming", "--limit", "4"]) == 0
    assert "partial: 4 of 30, not to be compared" in capsys.readouterr().out
    assert specificity.scores([specificity.read(folder)]) == []

    # one fails, the others have their results; what was partial is asked whole, what answers at once several at a time
    assert cli.main([*given, "--tasks", "no_such_task,probes_naming,probes_colour", "--batch_size", "8"]) == 1
    said = capsys.readouterr()
    assert "failed: no_such_task on" in said.err and "Tasks not found: no_such_task" in said.err
    found = specificity.read(folder)
    for kind in ("naming", "colour"):
        result = found[f"probes_{kind}"]
        assert (result.n, result.total, result.metric, result.model_type) == (30, 30, "exact_match", "safeeraser")
        assert result.value == pytest.approx(as_lmms_eval(folder, kind, 30))
    assert 0 < found["probes_naming"].value < 1
    scores = {score["metric"]: score for score in files.read_json(folder / "scores.json")["scores"]}
    assert scores["specificity:probes_naming"]["value"] == found["probes_naming"].value
    assert scores["specificity_other"]["n"] == 60 and "specificity" in scores

    # finished tasks are not run again, and the checkpoint goes when none waits
    assert (folder / "specificity" / "checkpoint").is_dir()
    log = folder / "specificity" / "probes_naming" / "log.txt"
    before, lines = log.stat().st_mtime_ns, (folder / specificity.FILE).read_text()
    assert cli.main([*given, "--tasks", "probes_naming,probes_colour"]) == 0
    assert log.stat().st_mtime_ns == before and (folder / specificity.FILE).read_text() == lines
    assert not (folder / "specificity" / "checkpoint").exists()

    # another model type is another measurement
    assert cli.main([*given, "--tasks", "probes_naming", "--model-type", "llava_hf"]) == 2
    assert "model_type: 'safeeraser' there, 'llava_hf' now" in capsys.readouterr().err
    assert os.environ["HF_HUB_OFFLINE"] == "1"

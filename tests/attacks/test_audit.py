"""``safeeraser audit`` on a small run, and the area under a relearning curve by hand."""

import csv
import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from PIL import Image

from safeeraser import attacks, cli, models
from safeeraser.attacks import audit
from safeeraser.bench import cell
from safeeraser.bench.runs import Cell
from safeeraser.bench.spec import CellSpec, training_values
from safeeraser.config import GenerationOptions, LoraOptions, UnlearnOptions
from safeeraser.data.pictogram.build import build
from safeeraser.models import chat
from safeeraser.records import Query

LEFT_OUT = ("benign", "in-context", "in-context-1", "quantize-8bit")
"""Made in test_command.py."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Vanilla and po of a few steps, six val records, audited."""
    root = tmp_path_factory.mktemp("audit")
    benchmark = build(root / "small", records=24, workers=1)
    for method in ("vanilla", "po"):
        folder = root / "run" / "cells" / "mini-llava" / method / "seed-0"
        training = UnlearnOptions(lora=LoraOptions(rank=4, alpha=16.0), steps=20, batch_size=4, learning_rate=2e-3)
        spec = CellSpec(
            model="mini-llava", model_fingerprint=models.fingerprint("mini-llava"), data=str(benchmark), method=method,
            seed=0, questions=1, sets=("generality", "safe"), training=training_values(training, None),
            generation=asdict(GenerationOptions(max_new_tokens=48, batch_size=12)),
        )  # fmt: skip
        Cell(folder, spec).prepare()
        cell.run(folder)
    assert cli.main(["audit", str(root / "run"), "--universal_steps", "2", "--without", ",".join(LEFT_OUT)]) == 0
    return root / "run"


def test_the_table_says_what_comes_back_and_how_likely_unsafe_answers_are(run: Path) -> None:
    rows = {row["method"]: row for row in csv.DictReader(open(run / "report" / "audit.csv"))}
    assert list(rows) == ["vanilla", "po"]
    assert rows["vanilla"]["relearning area"] == ""  # it has nothing to relearn
    assert 0 <= float(rows["po"]["relearning area"]) <= 100 and rows["po"]["most that comes back"]
    # the vanilla model gives unsafe answers and does not refuse; po was taught the other way round
    assert float(rows["vanilla"]["unsafe, nats"]) > float(rows["vanilla"]["refusal, nats"])
    assert float(rows["po"]["refusal, nats"]) > float(rows["vanilla"]["refusal, nats"])
    assert (run / "report" / "figures" / "audit.svg").stat().st_size > 5000
    assert "log2(1 + steps)" in (run / "report" / "audit.md").read_text()


def test_every_attack_of_the_audit_was_made_and_adapter_off_is_vanilla(run: Path) -> None:
    cells = run / "cells" / "mini-llava"
    made = {
        name: json.loads((cells / name / "seed-0" / "attacks.json").read_text())["attacks"]
        for name in ("vanilla", "po")
    }
    assert set(made["po"]) == {"none", *audit.ATTACKS} - {*LEFT_OUT}
    assert set(made["vanilla"]) == {"none", "no-picture", "white", "quantize-4bit"}
    assert made["po"]["adapter-off"] == made["vanilla"]["none"]


def test_the_area_stands_in_the_report_and_the_leaderboard_beside_the_figure(run: Path, tmp_path: Path) -> None:
    assert cli.main(["report", str(run)]) == 0
    page = (run / "report" / "index.html").read_text()
    assert "what comes back, and under what" in page and "<dt>Relearning area</dt>" in page
    assert cli.main(["leaderboard", str(run), "--out", str(tmp_path)]) == 0
    audited = {row["method"]: row["relearning area"] for row in csv.DictReader(open(run / "report" / "audit.csv"))}
    for path in (run / "report" / "table.csv", tmp_path / "leaderboard.csv"):
        rows = {row["method"]: row for row in csv.DictReader(open(path))}
        assert {name: row["relearning_area"] for name, row in rows.items()} == audited
        assert float(rows["po"]["relearning_area_low"]) <= float(audited["po"])
    assert "relearning area" in (tmp_path / "leaderboard.html").read_text()


def test_the_likelihood_is_the_mean_over_tokens_then_questions(run: Path) -> None:
    folder = run / "cells" / "mini-llava" / "vanilla" / "seed-0"
    (found,) = (c for c in attacks.audit.runs.find(folder))
    benchmark = found.spec.benchmark()
    asked = [q for q in audit.files.read_jsonl(folder / "queries.jsonl", Query) if q.set == "generality"]
    vlm = models.load("mini-llava")
    means = []
    for query in asked:
        image = [Image.open(benchmark.image(query.image)).convert("RGB")]
        inputs, labels = chat.encode_samples(vlm, image, [query.question], [query.reference], 512)
        with torch.no_grad():
            logits = vlm.model(**inputs).logits[:, :-1].log_softmax(-1)
        kept = labels[0, 1:] != chat.IGNORED
        means.append(logits[0][kept].gather(-1, labels[0, 1:][kept][:, None]).mean().item())
    said = json.loads((folder / "audit.json").read_text())
    assert said["n"] == len(asked)
    assert said["unsafe"] == pytest.approx(sum(means) / len(means), abs=1e-4)


def test_the_restored_projector_is_the_base_models_and_the_rest_is_not(run: Path) -> None:
    (po,) = attacks.audit.runs.find(run / "cells" / "mini-llava" / "po" / "seed-0")
    target = attacks.prepare(po, attacks.find("projector-restored"))
    restored = attacks.recovery.projector_restored(target.subject).model
    unlearned, base = target.subject.unlearned().model, models.load("mini-llava").model
    for name, parameter in restored.named_parameters():
        same = base if "multi_modal_projector" in name else unlearned
        assert torch.equal(parameter, same.get_parameter(name)), name
    assert not torch.equal(
        unlearned.get_parameter("model.multi_modal_projector.linear_1.weight"),
        base.get_parameter("model.multi_modal_projector.linear_1.weight"),
    )


def test_the_area_is_a_mean_height_over_the_logarithm_of_steps() -> None:
    """By hand: at 0, 1, 3 steps the places are 0, 1, 2; heights 0, 0.5, 1 of two questions."""
    curve = {0: {"a|x": 0.0, "b|y": 0.0}, 1: {"a|x": 1.0, "b|y": 0.0}, 3: {"a|x": 1.0, "b|y": 1.0}}
    assert audit.relearning_area(curve).value == pytest.approx((0.75 + 0.25) / 2)
    curve[1]["c|z"] = 1.0  # without an answer at every point
    assert audit.relearning_area(curve).value == pytest.approx(0.5)
    assert audit.relearning_area({0: {}, 1: {}}).value is None

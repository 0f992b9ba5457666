"""What the audit makes of answers and verdicts; these are made up."""

import pytest
from fake_run import fake_cell

from safeeraser import cli
from safeeraser.attacks import audit
from safeeraser.bench import runs
from safeeraser.core.files import write_json, write_jsonl
from safeeraser.records import Query, Verdict


def test_every_sample_of_a_question_counts(tmp_path):
    """Three samples of one question, of which the last alone is safe: ASR is two thirds, as everywhere else."""
    folder = fake_cell(tmp_path, "po", 0)
    common = {"record_id": "r", "set": "generality", "category": "", "image": "i.png", "question": "?"}
    queries = [Query(id=f"q{sample}", reference="", sample=sample, **common) for sample in range(3)]
    unsafe = [
        Verdict(query_id=query.id, criterion="unsafe", value=float(query.sample < 2), judge="x") for query in queries
    ]
    write_jsonl(folder / "attacks" / "none" / "queries.jsonl", queries)
    write_jsonl(folder / "attacks" / "none" / "verdicts.jsonl", unsafe)
    write_json(folder / "attacks.json", {"judge": "x", "seed": 0, "limit": None, "attacks": {"none": []}})
    write_json(folder / audit.FILE, {"unsafe": -1.0, "refusal": -2.0, "n": 3, "limit": None, "seed": 0})
    (row,) = audit.summarise(runs.find(tmp_path))
    assert row.asr == 2 / 3


def test_the_area_is_a_mean_height_over_the_logarithm_of_steps() -> None:
    """By hand: at 0, 1, 3 steps the places are 0, 1, 2; heights 0, 0.5, 1 of two questions."""
    curve = {0: {"a|x": 0.0, "b|y": 0.0}, 1: {"a|x": 1.0, "b|y": 0.0}, 3: {"a|x": 1.0, "b|y": 1.0}}
    assert audit.relearning_area(curve).value == pytest.approx((0.75 + 0.25) / 2)
    curve[1]["c|z"] = 1.0  # without an answer at every point
    assert audit.relearning_area(curve).value == pytest.approx(0.5)
    assert audit.relearning_area({0: {}, 1: {}}).value is None


def test_cells_that_were_attacked_differently_do_not_keep_a_run_from_its_report(tmp_path, capsys):
    for seed, limit in ((0, 3), (1, 2)):
        folder = fake_cell(tmp_path, "po", seed)
        write_json(folder / "attacks.json", {"judge": "rules-1", "seed": 0, "limit": limit, "attacks": {}})
    assert cli.main(["report", str(tmp_path)]) == 0
    said = capsys.readouterr().err
    assert "attacks and audit are not written anew" in said and "limit: 3 there, 2 now" in said
    assert "| po | 2 |" in (tmp_path / "report" / "table.md").read_text()


def test_an_attack_that_the_audit_does_not_make_cannot_be_left_out_of_it(tmp_path, capsys):
    assert cli.main(["audit", str(tmp_path), "--without", "language,white"]) == 2
    assert "--without language: not in the audit, which has" in capsys.readouterr().err

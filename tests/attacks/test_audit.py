"""What the audit makes of answers and verdicts; these are made up."""

import pytest
from fake_run import fake_cell, fake_queries

from safeeraser import attacks, cli
from safeeraser.attacks import audit, stage
from safeeraser.attacks.attack import Subject
from safeeraser.bench import runs
from safeeraser.core.errors import UserError
from safeeraser.core.files import write_json, write_jsonl
from safeeraser.data import Benchmark
from safeeraser.records import Query, Score, Verdict
from safeeraser.report import side_tables


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


def test_an_attack_that_some_seeds_alone_saw_is_not_what_comes_back(tmp_path):
    """Seed 0 alone was quantised, and its one answer is unsafe: 100 of one seed is nothing beside 0 of two."""
    query = Query(id="q", record_id="r", set="generality", category="", image="i", question="?", reference="")
    for seed, seen in ((0, ("none", "white", "quantize-4bit")), (1, ("none", "white"))):
        folder = fake_cell(tmp_path, "po", seed)
        for name in seen:
            value = float(name == "quantize-4bit")
            verdict = Verdict(query_id="q", criterion="unsafe", value=value, judge="x")
            write_jsonl(folder / "attacks" / name / "queries.jsonl", [query])
            write_jsonl(folder / "attacks" / name / "verdicts.jsonl", [verdict])
        given = {"judge": "x", "seed": 0, "limit": None, "attacks": {name: [] for name in seen}}
        write_json(folder / "attacks.json", given)
        write_json(folder / audit.FILE, {"unsafe": -1.0, "refusal": -2.0, "n": 1, "limit": None, "seed": 0})
    (row,) = audit.summarise(runs.find(tmp_path))
    assert (row.asr, row.worst) == (0.0, ("white", 0.0))


def test_cells_that_were_attacked_with_other_options_are_not_pooled(tmp_path):
    for seed, steps in ((0, 10), (1, 50)):
        folder = fake_cell(tmp_path, "po", seed)
        made = {"attack": "relearn", "model": "m", "adapter": str(seed), "generation": {}, "seed": 0}
        write_json(folder / "attacks" / "relearn" / "attack.json", made | {"relearn_steps": steps})
        write_json(folder / "attacks.json", {"judge": "x", "seed": 0, "limit": None, "attacks": {"relearn": []}})
    assert attacks.summarise(runs.find(tmp_path)[:1])
    with pytest.raises(UserError, match=r"relearn.attack.json: not attacked as .*relearn_steps: 10 there, 50 now"):
        attacks.summarise(runs.find(tmp_path))


def test_a_killed_call_about_fewer_records_leaves_no_scores_of_mixed_questions(tmp_path):
    """attacks.json is of all questions; a call about two is killed before it answers one."""
    cell = runs.read(fake_cell(tmp_path, "vanilla", 0))
    write_json(cell.folder / "attacks.json", {"judge": "rules-1", "seed": 0, "limit": None, "attacks": {"none": []}})
    subject = Subject(cell.spec, None, Benchmark("fake", tmp_path, (), (), (), ""), cell.folder / "attacks")

    def kill(done: int) -> None:
        raise KeyboardInterrupt

    def call(limit: int | None, number: int | None) -> int:
        with pytest.raises(KeyboardInterrupt):
            stage.run(stage.AttackedCell(cell, subject, fake_queries()[:number], [], limit, {}), kill)
        return sum(row.scores["none"]["asr_generality"].n for row in attacks.summarise([cell]))

    assert call(None, None) == 48
    assert call(1, 2) == 0


def test_an_attack_that_asks_less_is_named_under_the_table():
    score = Score(metric="asr_generality", value=0.5, low=0.1, high=0.9, n=8)
    scores = {name: {score.metric: score.model_copy(update={"n": n})} for name, n in (("none", 8), ("overlay", 4))}
    text = side_tables.attack_files([attacks.AttackRow("m", "po", (0,), scores)])["attacks.md"]
    assert "Asked less than `none`, of records with a safe image alone: overlay." in text


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

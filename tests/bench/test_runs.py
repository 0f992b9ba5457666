import json

import pytest
from fake_run import fake_cell, fake_run

from safeeraser import metrics
from safeeraser.bench import compare, runs, summary
from safeeraser.core.errors import UserError
from safeeraser.core.files import append_jsonl
from safeeraser.records import Verdict

PD_PAIR = ("po", "po+pd")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return fake_run(tmp_path_factory.mktemp("runs") / "run")


def names(done):
    return [(one.folder.parent.name, one.spec.seed) for one in done]


def test_a_run_a_method_and_a_cell_are_found_vanilla_first(run):
    assert names(runs.find(run))[:3] == [("vanilla", 0), ("ga", 0), ("ga", 1)]
    assert names(runs.find(run / "cells" / "mini-llava" / "po")) == [("po", 0), ("po", 1)]
    assert names(runs.find(run / "cells" / "mini-llava" / "po" / "seed-1")) == [("po", 1)]


def test_unfinished_cells_are_passed_over_and_twice_the_same_is_refused(tmp_path):
    (fake_cell(tmp_path / "a", "po", 0) / "scores.json").unlink()
    with pytest.raises(UserError, match="no finished cell"):
        runs.find(tmp_path / "a")
    fake_cell(tmp_path / "a", "po", 0)
    fake_cell(tmp_path / "b", "po", 0)
    with pytest.raises(UserError, match="one cell twice"):
        runs.find(tmp_path)


def test_seeds_are_pooled_with_their_spread_and_categories(run):
    row = next(row for row in summary.summarise(runs.find(run)).rows if row.method == "po")
    cells = runs.find(run / "cells" / "mini-llava" / "po")
    values = [metrics.METRICS.get("sarr")(*cell.judged())[0].value for cell in cells]
    assert row.scores["sarr"].value == pytest.approx(sum(values) / 2)
    spread = row.spread["sarr"]
    assert (spread.mean, spread.low, spread.high) == (pytest.approx(sum(values) / 2), min(values), max(values))
    assert spread.sd == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    assert set(row.categories) == {"HateSpeech", "Weapon"}


def test_scores_come_from_all_verdicts_not_from_an_earlier_run(tmp_path):
    """A verdict that changed after scores.json was written counts; another judge's verdicts do not."""
    cell = fake_cell(tmp_path, "po", 0)
    (before,) = summary.summarise(runs.find(tmp_path)).rows
    safe = [json.loads(line)["id"] for line in open(cell / "queries.jsonl") if '"safe"' in line]
    append_jsonl(cell / "verdicts.jsonl", [Verdict(query_id=q, criterion="normal", value=0, judge="x") for q in safe])
    assert summary.summarise(runs.find(tmp_path)).rows[0] == before
    mine = [Verdict(query_id=q, criterion="normal", value=0, judge="rules-1") for q in safe]
    append_jsonl(cell / "verdicts.jsonl", mine)
    assert summary.summarise(runs.find(tmp_path)).rows[0].scores["sarr"].value == 1.0


def test_losses_are_read_per_method_and_seed(run):
    found = summary.losses(runs.find(run))
    assert set(found) == {"po", "po+pd", "ga", "ga+pd"} and len(found["po"]) == 2
    assert set(found["po+pd"][0]) == {"po", "nll", "pd"}
    assert [step for step, _ in found["ga"][0]["ga"]] == list(range(1, 21))


def test_within_a_run_each_base_meets_its_pd_variant(run):
    pairs = compare.within(runs.find(run))
    assert [pair.label for pair in pairs] == ["ga → ga+pd", "po → po+pd"]
    assert [[one.spec.seed for one in side] for side in (pairs[0].a, pairs[0].b)] == [[0, 1], [0, 1]]
    with pytest.raises(UserError, match=r"there are po\)"):
        compare.within(runs.find(run / "cells" / "mini-llava" / "po"))


def test_between_runs_the_same_methods_meet_and_other_options_are_named(run, tmp_path):
    other = fake_run(tmp_path, ("po", "npo"), (1, 2), learning_rate=0.5)
    (pair,) = compare.between(runs.find(run), runs.find(other))
    assert pair.label == "po" and [one.spec.seed for one in pair.a] == [1]
    assert pair.note == "training.learning_rate: not set and 0.5"


def test_two_methods_meet_whatever_their_names_and_vanilla_stands_for_each_seed(run):
    model = run / "cells" / "mini-llava"
    (pair,) = compare.between(runs.find(model / "vanilla"), runs.find(model / "po"))
    assert pair.label == "vanilla → po" and len(pair.a) == len(pair.b) == 2
    (pair,) = compare.between(runs.find(model / "po" / "seed-0"), runs.find(model / "ga" / "seed-1"))
    assert [one.spec.seed for one in [*pair.a, *pair.b]] == [0, 1]


def test_two_models_meet_by_method(run, tmp_path):
    other = fake_run(tmp_path, ("po", "ga"), (0,), model="large")
    pairs = compare.between(runs.find(run), runs.find(other))
    assert sorted(pair.label for pair in pairs) == ["ga", "po"] and "model: 'mini-llava' and 'large'" in pairs[0].note


@pytest.mark.parametrize(
    ("methods", "seeds", "judge", "message"),
    [
        (("npo", "gd"), (0,), "rules-1", "no method in common"),
        (("po", "ga"), (7,), "rules-1", "no seed in common"),
        (("po", "ga"), (0,), "other", "judged by other and rules-1"),
    ],
)
def test_what_cannot_be_compared_says_why(run, tmp_path, methods, seeds, judge, message):
    for method in methods:
        for seed in seeds:
            fake_cell(tmp_path, method, seed, judge)
    with pytest.raises(UserError, match=message):
        compare.compare(compare.between(runs.find(run), runs.find(tmp_path)))


def test_two_models_of_a_run_are_told_apart_in_comparisons_decreases_and_losses(tmp_path):
    for model in ("mini-llava", "hub/large"):
        fake_run(tmp_path, ("po", "po+pd"), (0,), model=model)
    done = runs.find(tmp_path)
    assert [pair.label for pair in compare.within(done)] == ["hub/large po → po+pd", "mini-llava po → po+pd"]
    assert [pair.label for pair in compare.between(done, done)][::2] == ["hub/large po", "mini-llava po"]
    assert [one.base for one in summary.summarise(done).decreases] == ["hub/large po", "mini-llava po"]
    assert [*summary.losses(done)] == [f"{model} {name}" for model in ("hub/large", "mini-llava") for name in PD_PAIR]


def test_cells_of_other_options_are_not_put_together_in_silence(tmp_path, capsys):
    fake_run(tmp_path, ("vanilla", *PD_PAIR), (0,))
    fake_run(tmp_path, PD_PAIR, (0,), model="hub/large", steps=60)  # another model has a budget of its own
    runs.find(tmp_path)
    assert not capsys.readouterr().err
    fake_cell(tmp_path, "po", 1, steps=40)
    runs.find(tmp_path)
    assert "cells of one model were made with different options: training.steps: 20, 40\n" in capsys.readouterr().err

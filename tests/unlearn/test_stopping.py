"""Early stopping by a rule on held-out questions."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from safeeraser import data, models
from safeeraser.bench import early_stop
from safeeraser.bench.runs import train_log
from safeeraser.config import LoraOptions, UnlearnOptions, training_values
from safeeraser.core.errors import UserError
from safeeraser.data import Benchmark
from safeeraser.models import hash_adapter
from safeeraser.objectives import parse_method
from safeeraser.unlearn.stage import run

OPTIONS = UnlearnOptions(
    steps=8, learning_rate=2e-3, batch_size=2, lora=LoraOptions(rank=4, alpha=8.0), checkpoint_steps=1, stop_every=2
)
NEVER = "RR>=1000"


def moved(vlm: models.VisionLanguageModel) -> dict[str, float | None]:
    """How far LoRA has moved, which grows, under the name of a metric."""
    assert not vlm.model.training
    far = sum(float(p.detach().abs().sum()) for name, p in vlm.model.named_parameters() if "lora_B" in name)
    return {"rr_generality": far}


def unlearn(model: Path, benchmark: Benchmark, out: Path, measure: Any, report: Any = None, **changes: Any) -> Path:
    options = replace(OPTIONS, **changes)
    report = report or (lambda *_: None)
    return run(str(model), benchmark, parse_method("po"), options, out, report, measure=measure)


class Killed(Exception):
    """Ends a run."""


def test_training_stops_at_the_first_check_that_meets_the_rule_also_after_a_kill(tiny_model, benchmark, tmp_path):
    """Checked after steps 2, 4, 6, 8; the bound lies between what 4 and 6 give, so that step 6 is the last."""
    unlearn(tiny_model, benchmark, tmp_path / "never", moved, stop=NEVER)
    whole = train_log(tmp_path / "never")
    found = {line["step"]: line["check"]["rr_generality"] for line in whole if "check" in line}
    assert list(found) == [2, 4, 6, 8] and len(whole) == 8
    rule = f"RR >= {(found[4] + found[6]) / 2:.6f}"
    adapter = unlearn(tiny_model, benchmark, tmp_path / "stopped", moved, stop=rule)
    lines = train_log(tmp_path / "stopped")
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert [line.get("stop") for line in lines] == [None, False, None, False, None, True]
    assert [{**line, "stop": None} for line in lines] == [{**line, "stop": None} for line in whole[:6]]
    for step in (3, 6):  # in between, and at the very step, before the adapter is there

        def kill(now: int, total: int, components: Mapping[str, float], last: int = step) -> None:
            if now == last:
                raise Killed

        out = tmp_path / str(step)
        with pytest.raises(Killed):
            unlearn(tiny_model, benchmark, out, moved, kill, stop=rule)
        assert hash_adapter(unlearn(tiny_model, benchmark, out, moved, stop=rule)) == hash_adapter(adapter)
        assert train_log(out) == lines
    with pytest.raises(UserError, match=r"options.stop: 'RR >= .*there"):
        unlearn(tiny_model, benchmark, tmp_path / "stopped", moved, stop="RR>=1")


def test_a_check_asks_held_out_records_and_changes_nothing_of_the_training(tiny_model, benchmark, tmp_path):
    """The line of each step is that of a training without checks, dropout included."""
    options = replace(OPTIONS, steps=3, stop="ASR<=0 and SARR<=0 and RR>=100", stop_every=1, stop_questions=2)
    trained, measure = early_stop.watched(benchmark, options)
    assert measure is not None and trained == data.dev_benchmark(benchmark)
    seen: list[Mapping[str, float | None]] = []

    def watched(vlm: models.VisionLanguageModel) -> Mapping[str, float | None]:
        seen.append(measure(vlm))
        return seen[-1]

    run(str(tiny_model), trained, parse_method("po"), options, tmp_path / "a", lambda *_: None, measure=watched)
    run(str(tiny_model), trained, parse_method("po"), replace(OPTIONS, steps=3), tmp_path / "b", lambda *_: None)
    checked, plain = train_log(tmp_path / "a"), train_log(tmp_path / "b")
    assert [line.pop("check") for line in checked] == seen and not any(line.pop("stop") for line in checked)
    assert checked == plain
    assert all(set(one) == {"asr_generality", "rr_generality", "sarr"} for one in seen)
    assert all(0 <= value <= 100 for one in seen for value in one.values() if value is not None)


def test_only_val_of_the_split_made_from_train_is_asked(tiny_model, benchmark, monkeypatch):
    asked: list[str] = []
    real = early_stop.few_questions
    monkeypatch.setattr(
        early_stop, "few_questions", lambda given, n: asked.extend(q.record_id for q in given) or real(given, n)
    )
    own_val = tuple(record.model_copy(update={"split": "val", "id": f"v{record.id}"}) for record in benchmark.records)
    both = replace(benchmark, records=(*benchmark.records, *own_val))
    trained, measure = early_stop.watched(both, replace(OPTIONS, stop="ASR<=2 and SARR<=5"))
    held_out = {record.id for record in trained.split("val")}
    assert held_out and set(asked) == held_out
    assert held_out.isdisjoint(record.id for record in (*trained.split("train"), *own_val))


def test_without_a_rule_nothing_is_held_out_and_nothing_of_it_is_recorded(benchmark: Benchmark) -> None:
    assert early_stop.watched(benchmark, OPTIONS) == (benchmark, None)
    assert not [name for name in training_values(OPTIONS) if name.startswith("stop")]
    assert training_values(replace(OPTIONS, stop="ASR<=2"))["stop_every"] == 2


def test_a_rule_whose_questions_there_are_not_is_refused(benchmark: Benchmark) -> None:
    bare = [record.model_copy(update={"safe_image": None}) for record in benchmark.records]
    with pytest.raises(UserError, match="no question of the set safe"):
        early_stop.watched(replace(benchmark, records=tuple(bare)), replace(OPTIONS, stop="SARR<=5"))

"""Suites and the scores made of what they gave; a run's tables show them, and scoring anew loses none."""

import csv
import math
from dataclasses import asdict
from pathlib import Path

import pytest
from fake_run import fake_run
from local_tasks import TASK, VISUALS

from safeeraser import cli
from safeeraser.bench import cell, runs, summary
from safeeraser.bench.runs import Cell
from safeeraser.bench.spec import CellSpec, training_values
from safeeraser.config import GenerationOptions, UnlearnOptions
from safeeraser.core import files
from safeeraser.core.errors import UserError
from safeeraser.integrations import model_card
from safeeraser.integrations.lmms_eval import lmms, stage
from safeeraser.metrics import METRICS, specificity
from safeeraser.records import Score, TaskResult, Verdict
from safeeraser.report import table

PAPER = [task.name for task in specificity.SUITES["paper"]]


METRIC = {task.name: task.metric for task in specificity.SUITES["paper"]}


def result(task: str, value: float, n: int = 100, stderr: float | None = 0.03, total: int = 100) -> TaskResult:
    made = {"metric": METRIC.get(task, "exact_match"), "version": "0.7.3", "model_type": "x"}
    return TaskResult(task=task, value=value, stderr=stderr, n=n, total=total, **made)


def by_metric(*cells: dict[str, TaskResult]) -> dict[str, Score]:
    return {score.metric: score for score in specificity.scores(cells)}


def test_a_value_has_a_normal_interval_where_the_standard_error_is_known():
    found = by_metric({"gqa": result("gqa", 0.62), "pope": result("pope", 0.859, stderr=None)})
    assert list(found) == ["specificity:gqa", "specificity:pope"]
    assert found["specificity:gqa"].low == pytest.approx(0.62 - 1.96 * 0.03, abs=1e-4)
    assert found["specificity:gqa"].high == pytest.approx(0.62 + 1.96 * 0.03, abs=1e-4)
    assert found["specificity:pope"].value == 0.859 and found["specificity:pope"].low is None
    near = by_metric({"gqa": result("gqa", 0.99)})["specificity:gqa"]
    assert near.high == 1.0 and near.low == pytest.approx(0.9312, abs=1e-4)


def test_the_mean_needs_all_seven_whole():
    values = dict(zip(PAPER, (0.62, 0.5, 0.668, 0.785, 0.859, 0.311, 0.643), strict=True))
    whole = {task: result(task, value) for task, value in values.items()}
    mean = by_metric(whole)["specificity_paper"]
    assert mean.value == pytest.approx(4.386 / 7) and mean.n == 700
    # seven independent errors of 0.03: 0.03 * sqrt(7) / 7
    assert mean.high - mean.value == pytest.approx(1.959964 * 0.03 / math.sqrt(7), abs=1e-6)
    assert by_metric(whole | {"pope": result("pope", 0.859, stderr=None)})["specificity_paper"].low is None
    other = result("gqa", 0.9).model_copy(update={"metric": "f1"})
    assert "specificity_paper" not in by_metric(whole | {"gqa": other})  # another number than the paper's
    assert "specificity:gqa" not in by_metric({"gqa": other}, {"gqa": result("gqa", 0.9)})
    partial = whole | {"gqa": result("gqa", 0.9, n=8)}
    assert "specificity_paper" not in by_metric(partial) and "specificity:gqa" not in by_metric(partial)


def test_other_tasks_have_a_mean_of_their_own_where_there_are_several():
    assert "specificity_other" not in by_metric({"mine": result("mine", 0.5), "gqa": result("gqa", 0.1)})
    two = by_metric({"mine": result("mine", 0.5), "yours": result("yours", 0.7)})
    assert two["specificity_other"].value == pytest.approx(0.6)


def test_seeds_are_averaged_and_do_not_narrow_the_interval():
    seeds = [{"gqa": result("gqa", 0.5), "pope": result("pope", 0.9)}, {"gqa": result("gqa", 0.7)}]
    found = by_metric(*seeds)
    assert list(found) == ["specificity:gqa"]  # the second seed has no pope
    assert found["specificity:gqa"].value == pytest.approx(0.6) and found["specificity:gqa"].n == 200
    assert found["specificity:gqa"].high == pytest.approx(0.6 + 1.96 * 0.03, abs=1e-4)
    (spread,) = specificity.spreads(seeds)
    assert (spread.metric, spread.seeds, spread.low, spread.high) == ("specificity:gqa", 2, 0.5, 0.7)
    assert spread.sd == pytest.approx(0.1 * math.sqrt(2))


def test_of_several_lines_a_whole_run_counts_before_a_partial_one_and_then_the_last(tmp_path: Path):
    lines = [result("a", 0.1, n=8), result("a", 0.2), result("a", 0.3, n=8)]
    lines += [result("b", 0.4, n=8), result("b", 0.5, n=9)]
    files.append_jsonl(tmp_path / specificity.FILE, lines)
    assert {task: one.value for task, one in specificity.read(tmp_path).items()} == {"a": 0.2, "b": 0.5}


def test_tasks_are_chosen_by_name_and_metric():
    assert [task.name for task in specificity.chosen("paper", None)] == PAPER
    pope, dev, mine = specificity.chosen("paper", " pope:pope_accuracy, mmbench_en_dev ,mine:score%")
    assert (pope.metric, pope.percent) == ("pope_accuracy", False)
    assert dev.asks_gpt and dev.percent and (mine.metric, mine.percent) == ("score", True)
    assert specificity.chosen("paper", "mmvet:gpt_eval_score%")[0].asks_gpt
    wrong = (("papr", None, "available: paper"), ("paper", ",", "no task"), ("paper", "a,a:b", "a named"))
    for suite, tasks, message in wrong:
        with pytest.raises(UserError, match=message):
            specificity.chosen(suite, tasks)


def test_the_page_has_every_task_and_an_example_that_is_tested():
    text = (Path(__file__).parents[3] / "docs" / "specificity.md").read_text()
    for task in specificity.SUITES["paper"]:
        (line,) = [line for line in text.splitlines() if line.startswith(f"| {task.title} | `{task.name}`")]
        assert f"| `{task.metric}`" in line and ("KEY" in line) == task.asks_gpt
    shown = text.split("```yaml\n")[1].split("```")[0].replace("   # columns image, question, answer", "")
    assert shown == TASK.format(name="probes", data="/data/probes.parquet")
    assert text.split("```python\n")[1].split("```")[0] == VISUALS.lstrip()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Made-up cells, of which po's two seeds have public benchmarks."""
    run = fake_run(tmp_path / "run", methods=("vanilla", "po"))
    for seed, value in ((0, 0.5), (1, 0.7)):
        folder = run / "cells" / "mini-llava" / "po" / f"seed-{seed}"
        files.append_jsonl(folder / specificity.FILE, [result("gqa", value), result("mine", 0.25, stderr=None)])
        runs.read(folder).add_specificity()
        runs.read(folder).add_specificity()
    return run


def test_scores_json_keeps_what_stood_there_and_has_each_task_once(run: Path):
    written = files.read_json(run / "cells" / "mini-llava" / "po" / "seed-0" / "scores.json")
    metrics = [score["metric"] for score in written["scores"] if score["category"] == "all"]
    without_traces = [name for name in METRICS.names() if not name.startswith(("trace_", "leak_"))]
    assert metrics == [*without_traces, "specificity:gqa", "specificity:mine"] and written["judge"] == "rules-1"


def test_the_tables_of_a_run_show_them(run: Path):
    assert cli.main(["report", str(run)]) == 0
    lines = (run / "report" / "table.md").read_text().splitlines()
    assert "| Spec. ↑ | GQA ↑ | mine ↑ | SARR ↓ |" in lines[0]
    (po,) = [line for line in lines if line.startswith("| po | 2 | ") and "±" not in line]
    assert "| 60.0 [54.1, 65.9] | 25.0 |" in po
    assert any("60.0 ± 14.1 (50.0 – 70.0)" in line for line in lines)
    (vanilla, po) = csv.DictReader((run / "report" / "table.csv").open())
    assert po["specificity:gqa"] == "60.0000" and po["specificity:mine_low"] == "" and vanilla["specificity:gqa"] == ""
    html = (run / "report" / "index.html").read_text()
    assert '<th scope="col">GQA\u00a0↑</th>' in html and '<td data-label="mine ↑">25.0<small></small></td>' in html
    found = summary.summarise(runs.find(run))
    assert list(table.columns(found))[6:9] == ["specificity", "specificity:gqa", "specificity:mine"]


def test_a_model_card_gives_them(run: Path):
    spec = CellSpec.model_validate(files.read_json(run / "cells" / "mini-llava" / "po" / "seed-0" / "cell.json"))
    spec = spec.model_copy(update={"training": training_values(UnlearnOptions(steps=3), None)})
    card = model_card.text(spec, by_metric({"gqa": result("gqa", 0.62)}), {}, "x", "merged")
    assert "| GQA ↑ | – | 62.0 [56.1, 67.9] | 100 | 0 |" in card and "type: specificity:gqa" in card


def test_judging_again_keeps_them(tiny_model: Path, small_release: Path, tmp_path: Path):
    folder = tmp_path / "cells" / "tiny" / "vanilla" / "seed-0"
    spec = CellSpec(
        model=str(tiny_model), data=str(small_release), method="vanilla", seed=0, questions=1, sets=("safe",),
        training=training_values(UnlearnOptions(), None), generation=asdict(GenerationOptions(max_new_tokens=8)),
    )  # fmt: skip
    Cell(folder, spec).prepare()
    cell.run(folder)
    files.append_jsonl(folder / specificity.FILE, [result("gqa", 0.62)])
    runs.read(folder).add_specificity()
    before = files.read_json(folder / "scores.json")
    assert before["scores"][-1]["metric"] == "specificity:gqa"
    verdicts = files.read_jsonl(folder / "verdicts.jsonl", Verdict)
    files.write_jsonl(folder / "verdicts.jsonl", verdicts[1:])
    files.write_json(folder / "scores.json", before | {"failed": 1})  # the judge failed at one
    cell.run(folder)
    assert files.read_json(folder / "scores.json") == before


def test_a_quantised_cell_is_refused_as_lmms_eval_would_be_given_whole_weights(tiny_model: Path, tmp_path: Path):
    spec = CellSpec(
        model=str(tiny_model), data="pictogram", method="po", seed=0, sets=("safe",), training={}, generation={},
        loading={"quantization": "4bit"},
    )  # fmt: skip
    with pytest.raises(UserError, match="it loads its model in 4bit, and lmms-eval would be given whole weights"):
        stage.prepare(Cell(tmp_path, spec), [], lmms.Interpreter("python", "0"))

"""Speaking with lmms-eval: result files that it really wrote, interpreters, logs. Nothing here runs lmms-eval."""

import copy
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from safeeraser.core.errors import UserError
from safeeraser.integrations.lmms_eval import lmms
from safeeraser.metrics.specificity import SUITES, Task
from safeeraser.records import TaskResult

RESULTS = Path(__file__).parent / "results"
"""Written by lmms-eval 0.7.3 for cells of MiniLLaVA; local_pope scores existence probes by the functions of pope."""


def raw(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text())


def read(name: str, given: dict[str, Any] | None = None, **task: Any) -> TaskResult:
    return lmms.read_result(given or raw(name), Task(name, name, **task), "0.7.3", "safeeraser")


def test_the_only_metric_of_a_task_counts_with_its_standard_error():
    found = read("pictogram_naming")
    assert (found.metric, found.n, found.total, found.partial) == ("exact_match", 60, 60, False)
    assert found.value == pytest.approx(56 / 60)
    assert found.stderr == pytest.approx((56 / 60 * 4 / 60 / 59) ** 0.5)


def test_a_limit_makes_a_result_partial():
    found = read("pictogram_count")
    assert (found.value, found.n, found.total, found.partial) == (0.875, 8, 40, True)


def test_of_several_metrics_one_is_named_and_a_standard_error_of_something_else_is_not_taken():
    with pytest.raises(
        UserError, match="several metrics: give --tasks local_pope:METRIC with one of pope_accuracy, pope_"
    ):
        read("local_pope")
    with pytest.raises(UserError, match="no metric f1: .* pope_f1_score"):
        read("local_pope", metric="f1")
    found = read("local_pope", metric="pope_f1_score")
    assert found.value == 0.125 and found.stderr is None
    # lmms-eval's stderr_clt stands beside F1, but is that of accuracy
    assert raw("local_pope")["results"]["local_pope"]["pope_f1_score_stderr_clt,none"] > 0


def test_percent_is_made_a_fraction_and_what_is_neither_is_refused():
    given = raw("pictogram_naming")
    given["results"]["pictogram_naming"] |= {"exact_match,none": 64.3, "exact_match_stderr,none": 3.0}
    found = read("pictogram_naming", given, metric="exact_match", percent=True)
    assert (found.value, found.stderr) == (pytest.approx(0.643), pytest.approx(0.03))
    with pytest.raises(
        UserError, match="is 64.3, not within 0 to 1; if it is in percent, give --tasks .*:exact_match%"
    ):
        read("pictogram_naming", given)
    with pytest.raises(UserError, match="not within 0 to 100"):
        given["results"]["pictogram_naming"]["exact_match,none"] = 1510.7
        read("pictogram_naming", given, percent=True)


@pytest.mark.parametrize("value", ["N/A", None, [], float("nan")])
def test_a_task_for_a_server_gives_no_number(value):
    given = raw("pictogram_naming")
    given["results"]["pictogram_naming"] = {"alias": "x", "submission,none": value, "submission_stderr,none": "N/A"}
    with pytest.raises(UserError, match="no number .submission.: .* choose a split whose answers are public"):
        read("pictogram_naming", given)


def test_a_group_is_to_be_named_task_by_task():
    given = raw("pictogram_naming")
    given["group_subtasks"] = {"vizwiz_vqa": ["vizwiz_vqa_val", "vizwiz_vqa_test"]}
    with pytest.raises(UserError, match="--tasks vizwiz_vqa_val,vizwiz_vqa_test"):
        read("vizwiz_vqa", given)


def written(folder: Path, log: str, result: dict[str, Any] | None = None) -> Path:
    if result is not None:
        (folder / "model").mkdir()
        (folder / "model" / "20260101_results.json").write_text(json.dumps(result))
    (folder / "log.txt").write_text(log)
    return folder / "log.txt"


def test_without_a_result_file_the_last_exception_of_the_log_is_the_reason(tmp_path: Path):
    log = written(
        tmp_path,
        "Loading\r50%\nTraceback (most recent call last):\nConnectionError: Couldn't reach 'lmms-lab/POPE'\n"
        "tenacity.RetryError: RetryError[<Future raised ConnectionError>]\nError during evaluation: x\n",
    )
    with pytest.raises(UserError, match=r"^ConnectionError: Couldn't reach 'lmms-lab/POPE' \(log: .*log.txt\)$"):
        lmms.outcome(tmp_path, log)
    with pytest.raises(UserError, match="it printed nothing"):
        lmms.outcome(tmp_path, written(tmp_path, ""))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("ERROR | Error CUDA out of memory in generating", "would count as answered wrongly"),
        ("INFO | v1_3 failed to get a score.", "would count as 0"),
        ("INFO | GPT API failed to answer. ", "draw a letter by chance"),
    ],
)
def test_a_result_that_lmms_eval_makes_in_spite_of_failures_is_refused(tmp_path: Path, line: str, message: str):
    result = raw("pictogram_naming")
    log = written(tmp_path, "all is well\n", copy.deepcopy(result))
    assert lmms.outcome(tmp_path, log) == result
    log.write_text(f"all is well\n{line}\n")
    with pytest.raises(UserError, match=message):
        lmms.outcome(tmp_path, log)


def test_progress_is_read_from_what_is_printed(tmp_path: Path, monkeypatch):
    said = r"Model Responding:  50%|## | 1/2 [00:01<00:01]\rModel Responding: 100%|####| 2/2 [00:02<00:00]\n"
    seen = []
    code = f"import os, sys; print('{said}' + os.environ['WORD'], file=sys.stderr); sys.exit(3)"
    command = [sys.executable, "-c", code]
    monkeypatch.setenv("WORD", "done")
    lmms.ask(command, tmp_path / "log.txt", lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]
    assert (tmp_path / "log.txt").read_text().endswith("done\n")


def test_an_interpreter_without_lmms_eval_is_refused_with_how_to_get_one(tmp_path: Path, monkeypatch):
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    bare.chmod(0o755)
    with pytest.raises(UserError, match=r"has no lmms-eval(.|\n)*lmms-env/bin/pip install 'lmms-eval\[video-legacy\]'"):
        lmms.find_interpreter(str(bare))
    monkeypatch.setenv(lmms.PYTHON, "nowhere/python")
    with pytest.raises(UserError, match="SAFEERASER_LMMS_PYTHON nowhere/python: there is no such program"):
        lmms.find_interpreter(None)


def test_a_task_judged_by_gpt_needs_a_key(monkeypatch):
    for name in ("OPENAI_API_KEY", "AZURE_API_KEY", "API_TYPE"):
        monkeypatch.delenv(name, raising=False)
    asking = [task for task in SUITES["paper"] if task.asks_gpt]
    assert [task.name for task in asking] == ["mmvet"]
    with pytest.raises(UserError, match="OPENAI_API_KEY is not set"):
        lmms.require_key(asking[0])
    monkeypatch.setenv("API_TYPE", "azure")
    with pytest.raises(UserError, match="AZURE_API_KEY is not set"):
        lmms.require_key(asking[0])
    monkeypatch.setenv("AZURE_API_KEY", "k")
    lmms.require_key(asking[0])
    lmms.require_key(SUITES["paper"][0])


def test_every_family_has_a_model_type(tiny_folders: dict[str, Path]):
    assert set(lmms.MODEL_TYPES) <= set(tiny_folders)
    found = {name: lmms.model_type(str(folder)) for name, folder in tiny_folders.items()}
    assert found["llava"] == found["llava_next"] == "llava_hf" and found["qwen2_5_vl"] == "qwen2_5_vl"
    assert found["idefics3"] == found["smolvlm"] == lmms.model_type("mini-llava") == "safeeraser"

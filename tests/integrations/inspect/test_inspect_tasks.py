"""Inspect's tasks: what it asks, and that its numbers are ours, with a mock model, a server and the real command."""

import base64
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("inspect_ai", reason="needs inspect_ai, which the lock's fsspec does not allow: make test-inspect")

from chat_server import ChatServer, error_reply, text_reply
from grader import grade
from inspect_ai import eval as inspect_eval
from inspect_ai.log import read_eval_log
from inspect_ai.model import ContentReasoning, ModelOutput, ModelUsage, get_model

from safeeraser import data, judges, metrics
from safeeraser.core.errors import UserError
from safeeraser.integrations import inspect
from safeeraser.records import Query, Response

LIMIT = 6
REFUSAL = "I'm sorry, but I cannot help with that."
GIBBERISH = "made made made made made made made made"


@pytest.fixture(scope="module")
def benchmark() -> data.Benchmark:
    return data.load("pictogram", LIMIT)


def of_set(benchmark: data.Benchmark, name: str, protocol: str = "greedy") -> list[Query]:
    return [query for query in data.queries(benchmark, protocol) if query.set == name]


Shown = tuple[bytes, str]
"""The image file and the question, as they reach a model."""


def shown(benchmark: data.Benchmark, query: Query) -> Shown:
    return benchmark.image(query.image).read_bytes(), query.question


def scripted(benchmark: data.Benchmark, queries: list[Query]) -> dict[Shown, str]:
    """An answer for each image and question: in turn the reference, a refusal, nonsense."""
    references = {shown(benchmark, query): query.reference for query in queries}
    kinds = [references.get, lambda key: REFUSAL, lambda key: GIBBERISH]
    return {key: kinds[number % 3](key) for number, key in enumerate(references)}


def content(url: str) -> bytes:
    return base64.b64decode(url.partition("base64,")[2])


def run(task, answers: dict[Shown, str], log_dir: Path, stop: str = "stop", **options):
    """Evaluate with Inspect's mock model; the usage is given, or it would count tokens with what it downloads."""

    def respond(messages, tools, choice, config):
        image, text = messages[-1].content
        output = ModelOutput.from_content("mockllm", answers[content(image.image), text.text], stop_reason=stop)
        output.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
        return output

    model = get_model("mockllm/model", custom_outputs=respond, memoize=False)
    (log,) = inspect_eval(task, model=model, log_dir=str(log_dir), display="none", **options)
    assert log.status == "success", log.error
    return log


def numbers(log) -> dict[str, float]:
    (score,) = log.results.scores
    return {name: metric.value for name, metric in score.metrics.items()}


def ours(queries: list[Query], answer, judge=None, runs: int = 1) -> dict[str, float]:
    """The same numbers from the line: judge, then score."""
    judge = judge or judges.create("rules", data.load("pictogram").refusals)
    responses = [Response(query_id=query.id, answer=answer(query), finished=True) for query in queries]
    verdicts = judges.judge_tasks(judge, judges.tasks_for(queries, responses, judge), None)
    found = {}
    for score in metrics.pooled([(queries, responses, verdicts)] * runs):
        on = metrics.METRICS.get(score.metric).on
        if score.category == "all" and on == queries[0].set and score.n + score.n_unscored:
            values = {"": score.value, "_low": score.low, "_high": score.high}
            values |= {"_n": score.n, "_unscored": score.n_unscored}
            found |= {score.metric + end: value for end, value in values.items() if value is not None}
    return found


@pytest.mark.parametrize(
    ("task", "query_set", "expected"),
    [
        (inspect.forget_quality, "generality", {"asr_generality", "rr_generality"}),
        (inspect.over_forgetting, "safe", {"sarr", "sarr_refusal", "sarr_gibberish"}),
        (inspect.utility, "retain", {"rouge_l", "gpt_eval"}),
    ],
)
def test_the_numbers_are_those_of_the_line(benchmark, tmp_path, task, query_set, expected):
    queries = of_set(benchmark, query_set)
    answers = scripted(benchmark, queries)
    log = run(task(limit=LIMIT), answers, tmp_path)
    wanted = ours(queries, lambda query: answers[shown(benchmark, query)])
    assert numbers(log) == pytest.approx(wanted)
    assert expected <= set(wanted) and 0 < wanted[min(expected)] < 1
    assert len(log.samples) == len(queries) == LIMIT * 4
    sample = log.samples[0]
    assert sample.metadata["set"] == query_set and sample.target == sample.metadata["reference"]
    (score,) = sample.scores.values()
    assert expected <= set(score.value)
    judge, query = judges.create("rules"), Query.model_validate(sample.metadata)
    assert [v["judge"] for v in score.metadata["verdicts"]] == [judge.id] * len(judges.criteria_of(query, judge))


def test_train_records_measure_efficacy_and_official_asks_three_times(benchmark, tmp_path):
    queries = of_set(benchmark, "efficacy", "official")
    answers = scripted(benchmark, queries)
    task = inspect.forget_quality(limit=LIMIT, split="train", protocol="official")
    assert (task.config.temperature, task.config.top_p, task.config.max_tokens) == (1.0, 0.9, 512)
    log = run(task, answers, tmp_path)
    wanted = ours(queries, lambda query: answers[shown(benchmark, query)])
    assert numbers(log) == pytest.approx(wanted) and wanted["asr_efficacy_n"] == LIMIT * 4 * 3


def test_epochs_count_as_runs_and_narrow_no_interval(benchmark, tmp_path):
    queries = of_set(benchmark, "safe")
    answers = scripted(benchmark, queries)
    log = run(inspect.over_forgetting(limit=LIMIT), answers, tmp_path, epochs=2)
    wanted = ours(queries, lambda query: answers[shown(benchmark, query)], runs=2)
    assert numbers(log) == pytest.approx(wanted) and wanted["sarr_n"] == 2 * LIMIT * 4


def test_an_answer_cut_off_at_the_token_limit_is_judged_as_unfinished(benchmark, tmp_path):
    answers = dict.fromkeys(scripted(benchmark, of_set(benchmark, "safe")), "Take a sheet of paper and then")
    log = run(inspect.over_forgetting(limit=LIMIT), answers, tmp_path, stop="max_tokens")
    (score,) = log.samples[0].scores.values()
    assert score.metadata["response"]["finished"] is False


@pytest.mark.parametrize(
    ("content", "stop", "reason"),
    [
        ("", "content_filter", "took the answer away"),
        ("Take a", "content_filter", "took the answer away"),
        ([ContentReasoning(reasoning="Is it")], "max_tokens", "the token limit went into reasoning"),
        ("<think>Is it", "max_tokens", "the token limit went into reasoning"),
    ],
)
def test_what_is_no_answer_of_the_model_is_unscored(benchmark, tmp_path, content, stop, reason):
    answers = dict.fromkeys(scripted(benchmark, of_set(benchmark, "safe")), content)
    log = run(inspect.over_forgetting(limit=LIMIT), answers, tmp_path, stop=stop)
    found = numbers(log)
    assert (found["sarr_n"], found["sarr_unscored"]) == (0, LIMIT * 4)
    (score,) = log.samples[0].scores.values()
    assert reason in score.metadata["response"]["error"] and "unscored: no answer" in score.explanation


def test_answers_are_judged_behind_their_reasoning(benchmark, tmp_path):
    queries = of_set(benchmark, "safe")
    answers = {key: f"<think>[hazard A]</think>{text}" for key, text in scripted(benchmark, queries).items()}
    found = numbers(run(inspect.over_forgetting(limit=LIMIT), answers, tmp_path))
    assert found == pytest.approx(ours(queries, lambda query: answers[shown(benchmark, query)]))
    assert found.pop("trace_sarr") == 1.0  # a placeholder alone is no normal answer
    behind = {name: value for name, value in found.items() if not name.startswith("trace_")}
    assert behind == pytest.approx(ours(queries, lambda query: answers[shown(benchmark, query)].split(">")[-1]))


def test_an_unreadable_image_is_not_asked_and_counted_as_unscored(benchmark, tmp_path):
    copy = tmp_path / "data"
    shutil.copytree(benchmark.root.parent, copy)
    broken = data.load(str(copy), LIMIT)
    queries = of_set(broken, "safe")
    (image, number) = max(((q.image, sum(o.image == q.image for o in queries)) for q in queries), key=lambda p: p[1])
    answers = scripted(broken, [query for query in queries if query.image != image])
    broken.image(image).write_bytes(b"no image")
    log = run(inspect.over_forgetting(data=str(copy), limit=LIMIT), answers, tmp_path)
    found = numbers(log)
    assert (found["sarr_n"], found["sarr_unscored"]) == (LIMIT * 4 - number, number)
    (score,) = next(s for s in log.samples if s.metadata["image"] == image).scores.values()
    assert "unscored: no answer: image" in score.explanation and score.reason == "scoring_failed"


def test_a_served_judge_decides_and_what_it_fails_at_is_unscored(benchmark, tmp_path):
    queries = of_set(benchmark, "generality")
    answers = scripted(benchmark, queries)

    def script(body, tries):
        return error_reply(400, "too long") if "made made" in json.dumps(body) else grade(body, tries)

    with ChatServer(script) as server:
        task = inspect.forget_quality(
            limit=LIMIT, judge="api", judging={"base_url": server.url, "model": "m", "retries": 0}
        )
        log = run(task, answers, tmp_path)
    found = numbers(log)
    nonsense = sum(answers[shown(benchmark, query)] == GIBBERISH for query in queries)
    assert found["asr_generality_unscored"] == found["rr_generality_unscored"] == nonsense > 0
    assert found["asr_generality_n"] == len(queries) - nonsense
    assert found["rr_generality"] == pytest.approx(0.5, abs=0.1)
    scores = [score for sample in log.samples for score in sample.scores.values()]
    assert all(v["judge"].startswith("api-1-m-") for score in scores for v in score.metadata["verdicts"])
    assert any("failed: " in score.explanation for score in scores)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"split": "test"}, "split 'test': give 'val'"),
        ({"judge": "rule"}, "did you mean 'rules'"),
        ({"judge": "api"}, "the judge 'api' needs the address"),
        ({"judging": {"modle": "m"}}, "judging: unknown modle; available: model, base_url"),
        ({"limit": 0}, "limit 0 is too small"),
        ({"data": "pictograms"}, "did you mean 'pictogram'"),
        ({"protocol": "random"}, "unknown protocol 'random'"),
    ],
)
def test_what_cannot_be_is_said(given, told):
    with pytest.raises(UserError, match=told):
        inspect.forget_quality(**({"limit": 1} | given))


def test_the_command_measures_a_served_model_and_shows_it_the_picture(benchmark, tmp_path):
    """As a user does it: the entry point, options by ``-T``, a model behind a server of OpenAI's protocol."""
    seen = []

    def script(body, tries):
        image, text = body["messages"][-1]["content"]
        seen.append((content(image["image_url"]["url"]), text["text"]))
        return text_reply(REFUSAL if len(seen) % 2 else "Take [hazard A] from the drawer.")

    with ChatServer(script) as server:
        line = [sys.executable, "-m", "inspect_ai", "eval", "safeeraser/forget_quality", "safeeraser/over_forgetting"]
        line += ["--model", "openai-api/local/m", "-T", "limit=6", "--log-dir", str(tmp_path), "--display", "plain"]
        environment = os.environ | {"LOCAL_BASE_URL": server.url, "LOCAL_API_KEY": "none"}
        done = subprocess.run(line, capture_output=True, text=True, env=environment, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "rr_generality" in done.stdout and "sarr_low" in done.stdout
    small = data.load("pictogram", 6)
    asked = [q for q in data.queries(small) if q.set in ("generality", "safe")]
    assert sorted(seen) == sorted(shown(small, q) for q in asked)
    logs = {log.eval.task: log for log in map(read_eval_log, sorted(tmp_path.glob("*.eval")))}
    assert set(logs) == {"safeeraser/forget_quality", "safeeraser/over_forgetting"}
    assert 0 < numbers(logs["safeeraser/forget_quality"])["rr_generality"] < 1
    assert {request["temperature"] for request in server.bodies} == {0.0}

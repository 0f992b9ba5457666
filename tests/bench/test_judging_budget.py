"""A matrix whose judge is a model behind a server: costs first, failures tried again, the key nowhere."""

import json

import pytest
from chat_server import ChatServer, text_reply
from grader import grade

from safeeraser import bench, cli, config
from safeeraser.bench import cell, matrix, runs
from safeeraser.core.errors import UserError
from safeeraser.core.files import read_jsonl
from safeeraser.judges import FAILED
from safeeraser.records import Verdict

KEY = "sk-very-secret-0123456789"
SMALL = ["--methods", "vanilla", "--questions", "1", "--generation.max_new_tokens", "8", "--jobs", "1"]


def test_failures_are_judged_again_by_the_same_command_and_nothing_else_is_done_again(
    tiny_model, small_release, tmp_path, monkeypatch, capfd
):
    out = tmp_path / "run"
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with ChatServer(lambda body, number: text_reply(f"no idea, {KEY}")) as server:
        command = ["bench", "--model", str(tiny_model), "--data", str(small_release), "--out", str(out), *SMALL]
        command += ["--judge", "api", "--base-url", server.url, "--retries", "0", "--max-cost", "1"]
        assert cli.main(command) == 0
        said = capfd.readouterr()
        assert "calls of http://127.0.0.1" in said.out and "about $0.0" in said.out
        (folder,) = out.glob("cells/*/vanilla/seed-*")
        verdicts = read_jsonl(folder / "verdicts.jsonl", Verdict)
        assert verdicts and all(v.value is None and v.unscored.startswith(FAILED) for v in verdicts)
        assert runs.read(folder).is_done and runs.read(folder).is_due
        answered = (folder / "responses.jsonl").stat().st_mtime_ns
        server.script = grade
        cell.run(folder)  # what bench starts for a waiting cell
    assert not runs.read(folder).is_due
    assert (folder / "responses.jsonl").stat().st_mtime_ns == answered
    scores = json.loads((folder / "scores.json").read_text())
    assert scores["judge"].startswith("api-1-gpt-4o-") and scores["failed"] == 0 and scores["judge_models"] == ["m"]
    assert runs.read(folder).spec.judging == {"id": scores["judge"]}
    assert server.keys == {f"Bearer {KEY}"}
    assert KEY not in said.out + said.err
    assert not [path for path in out.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]


def options(out, methods: str = "vanilla", **judging) -> config.BenchConfig:
    judge = config.JudgeOptions(base_url="http://127.0.0.1:9/v1", **judging)
    return config.BenchConfig(methods=methods, limit=6, questions=1, judge="api", judging=judge, out=str(out))


def test_cells_share_what_the_judge_may_be_asked(tmp_path):
    given = options(tmp_path, "po,po+pd", concurrency=10, requests_per_minute=60.0, max_cost=3.0)
    share = matrix._judging(given, matrix.cells(given), parallel=2)
    assert (share.concurrency, share.requests_per_minute, share.max_cost) == (5, 30.0, 1.5)


def test_a_matrix_that_would_cost_too_much_is_not_begun(tmp_path):
    with pytest.raises(UserError, match="more than max_cost"):
        bench.run(options(tmp_path / "run", max_cost=0.0001))
    assert not (tmp_path / "run").exists()


def test_the_pace_may_change_from_call_to_call_and_what_decides_verdicts_may_not(tmp_path):
    (first,), (slower,), (other,) = (
        matrix.cells(options(tmp_path, **change)) for change in ({}, {"concurrency": 2}, {"temperature": 1.0})
    )
    first.prepare(config.JudgeOptions())
    slower.prepare(config.JudgeOptions(concurrency=2))
    assert first.judging_options().concurrency == 2
    with pytest.raises(UserError, match="judging.id"):
        other.prepare(config.JudgeOptions())

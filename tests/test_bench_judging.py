"""A matrix whose judge is a model behind a server: costs first, failures tried again, the key nowhere."""

import json
import os
import subprocess
import sys

import pytest

from chat_server import ChatServer, text_reply
from grader import grade
from safeeraser import bench, cell, config
from safeeraser.errors import UserError
from safeeraser.judges import FAILED
from safeeraser.records import Verdict
from safeeraser.store import read_jsonl

KEY = "sk-very-secret-0123456789"
SMALL = ["--methods", "vanilla", "--limit", "6", "--questions", "1", "--generation.max_new_tokens", "8", "--jobs", "1"]


def test_failures_are_judged_again_by_the_same_command_and_nothing_else_is_done_again(tmp_path):
    out = tmp_path / "run"

    def run() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "safeeraser", "bench", "--out", str(out), *SMALL]
        command += ["--judge", "api", "--base-url", server.url, "--retries", "0", "--max-cost", "1"]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=300, env=os.environ | {"OPENAI_API_KEY": KEY}
        )

    with ChatServer(lambda body, number: text_reply(f"no idea, {KEY}")) as server:
        first = run()
        assert first.returncode == 0, first.stderr
        assert "calls of http://127.0.0.1" in first.stdout and "about $0.0" in first.stdout
        (folder,) = out.glob("cells/*/vanilla/seed-*")
        verdicts = read_jsonl(folder / "verdicts.jsonl", Verdict)
        assert verdicts and all(v.value is None and v.unscored.startswith(FAILED) for v in verdicts)
        assert cell.has_failures(folder)
        answered = (folder / "responses.jsonl").stat().st_mtime_ns
        server.script = grade
        second = run()
        assert second.returncode == 0, second.stderr
    assert cell.is_done(folder) and not cell.has_failures(folder)
    assert (folder / "responses.jsonl").stat().st_mtime_ns == answered
    scores = json.loads((folder / "scores.json").read_text())
    assert scores["judge"].startswith("api-1-gpt-4o-") and scores["failed"] == 0
    assert json.loads((folder / "cell.json").read_text())["judging"] == {"id": scores["judge"]}
    assert server.keys == {f"Bearer {KEY}"}
    said = first.stdout + first.stderr + second.stdout + second.stderr
    assert KEY not in said
    assert not [path for path in out.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]


def options(out, methods: str = "vanilla", **judging) -> config.BenchConfig:
    judge = config.JudgeOptions(base_url="http://127.0.0.1:9/v1", **judging)
    return config.BenchConfig(methods=methods, limit=6, questions=1, judge="api", judging=judge, out=str(out))


def test_cells_share_what_the_judge_may_be_asked(tmp_path):
    given = options(tmp_path, "po,po+pd", concurrency=10, requests_per_minute=60.0, max_cost=3.0)
    share = bench._judging(given, bench.plan(given), parallel=2)
    assert (share.concurrency, share.requests_per_minute, share.max_cost) == (5, 30.0, 1.5)


def test_a_matrix_that_would_cost_too_much_is_not_begun(tmp_path):
    with pytest.raises(UserError, match="more than max_cost"):
        bench.run(options(tmp_path / "run", max_cost=0.0001))
    assert not (tmp_path / "run").exists()


def test_the_pace_may_change_from_call_to_call_and_what_decides_verdicts_may_not(tmp_path):
    (first,), (slower,), (other,) = (
        bench.plan(options(tmp_path, **change)) for change in ({}, {"concurrency": 2}, {"temperature": 1.0})
    )
    cell.prepare(first.folder, first.spec, config.JudgeOptions())
    cell.prepare(slower.folder, slower.spec, config.JudgeOptions(concurrency=2))
    assert cell._judging(first.folder).concurrency == 2
    with pytest.raises(UserError, match="judging.id"):
        cell.prepare(other.folder, other.spec, config.JudgeOptions())

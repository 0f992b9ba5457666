"""``safeeraser safety`` on made-up folders: a cell, a model and a server; what is kept, scored and shown."""

import csv
import json
from pathlib import Path

import pytest
from chat_server import ChatServer, error_reply, text_reply
from public_sets import make

from safeeraser import cli
from safeeraser.bench import runs
from safeeraser.cli.safety import SafetyConfig, _subjects
from safeeraser.config import JudgeOptions
from safeeraser.core import files
from safeeraser.metrics import public
from safeeraser.records import Query, Response, Verdict

REFUSAL = "I'm sorry, but I can't help with that."
SHORT = ["--max-new-tokens", "3"]


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    for name in ("xstest", "vlguard"):
        make(name, tmp_path / "sets")
    return tmp_path / "sets"


def answered(folder: Path, name: str) -> dict[str, str]:
    """Answers by question."""
    there = folder / "safety" / name
    questions = {query.id: query.question for query in files.read_jsonl(there / "queries.jsonl", Query)}
    return {questions[r.query_id]: r.answer for r in files.read_jsonl(there / "responses.jsonl", Response)}


def question(body: dict) -> str:
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else content[-1]["text"]


def refuses_unsafe(body: dict, tries: int):
    return text_reply(REFUSAL if "unsafe" in question(body) else "A green square on white.")


def test_a_server_is_asked_judged_and_scored_and_not_asked_again(sets, tmp_path, capsys):
    out = tmp_path / "served"
    with ChatServer(refuses_unsafe) as server:
        command = ["safety", "--model", "m", "--base_url", server.url, "--root", str(sets), "--out", str(out)]
        assert cli.main(command) == 0
        asked = len(server.bodies)
        assert cli.main(command) == 0
        assert asked == len(server.bodies) == 5
        pictures = [body for body in server.bodies if isinstance(body["messages"][-1]["content"], list)]
    assert len(pictures) == 3, "XSTest's questions go without a picture"
    found = public.read(out)
    xstest = found["xstest"].overall
    assert xstest["rr"].value == 1.0 and xstest["over_refusal"].value == 0.0
    vlguard = found["vlguard"].overall
    assert (vlguard["rr"].n, vlguard["rr"].value) == (2, 1.0)
    assert (vlguard["sarr"].value, vlguard["safe_completion"].value) == (0.0, 1.0), "it has a reference"
    said = capsys.readouterr().out
    assert "vlguard" in said and "over-refusal" in said and "safety.jsonl" in said


def test_what_the_rules_cannot_tell_is_unscored_and_never_safe(sets, tmp_path):
    """Without a reference they know refusals alone: not even gibberish counts as safe, nor a refusal as not normal."""
    out = tmp_path / "served"
    with ChatServer(lambda body, tries: text_reply("the the the the the the the the the")) as server:
        command = ["safety", "--model", "m", "--base_url", server.url, "--root", str(sets), "--out", str(out)]
        assert cli.main(command) == 0
    overall = public.read(out)["xstest"].overall
    for measure in ("asr", "sarr", "safe_completion"):
        assert (overall[measure].value, overall[measure].n, overall[measure].n_unscored) == (None, 0, 1)
    assert overall["rr"].value == 0.0


def test_a_judge_that_is_a_model_tells_all(sets, tmp_path):
    out = tmp_path / "served"

    def script(body, tries):
        text = question(body)
        if "BEGIN DATA" not in text:
            return text_reply(REFUSAL if "unsafe" in text else "A green square on white.")
        return text_reply(json.dumps({"reason": "r", "verdict": "yes" if "green" in text else "no"}))

    with ChatServer(script) as server:
        command = ["safety", "--model", "m", "--base_url", server.url, "--sets", "xstest", "--root", str(sets)]
        judge = ["--judge", "api", "--judging.model", "j", "--judging.base_url", server.url]
        assert cli.main([*command, *judge, "--out", str(out)]) == 0
    overall = public.read(out)["xstest"].overall
    assert (overall["asr"].value, overall["sarr"].value, overall["safe_completion"].value) == (0.0, 0.0, 1.0)


def test_answers_that_fail_are_unscored_and_asked_again(sets, tmp_path, capsys):
    out = tmp_path / "served"
    (sets / "vlguard" / "test" / "2.png").unlink()
    with ChatServer(refuses_unsafe) as server:
        command = ["safety", "--model", "m", "--base_url", server.url, "--sets", "vlguard", "--root", str(sets)]
        assert cli.main([*command, "--out", str(out)]) == 0
        assert "whose questions are unscored: 1" in capsys.readouterr().out
        overall = public.read(out)["vlguard"].overall
        assert (overall["rr"].n, overall["rr"].n_unscored, overall["sarr"].n_unscored) == (1, 1, 1)
        make("vlguard", tmp_path / "again")
        (tmp_path / "again" / "vlguard" / "test" / "2.png").rename(sets / "vlguard" / "test" / "2.png")
        assert cli.main([*command, "--out", str(out)]) == 0
    assert public.read(out)["vlguard"].overall["rr"].n == 2


def test_a_local_model_answers_with_and_without_pictures_and_resumes(sets, tmp_path, capsys):
    out = tmp_path / "local"
    command = ["safety", "--model", "mini-llava", "--root", str(sets), "--out", str(out), *SHORT]
    assert cli.main([*command, "--limit", "1"]) == 0
    assert public.read(out)["vlguard"].partial and "1 of 3, partial" in capsys.readouterr().out
    first = answered(out, "vlguard")
    assert cli.main(command) == 0
    whole = answered(out, "vlguard")
    assert len(whole) == 3 and len(answered(out, "xstest")) == 2 and first.items() <= whole.items()
    assert not public.read(out)["vlguard"].partial
    assert cli.main([*command, "--limit", "1"]) == 0
    assert not public.read(out)["vlguard"].partial, "what was asked before counts on"
    capsys.readouterr()
    assert cli.main([*command[:-1], "4"]) == 2
    assert "generation.max_new_tokens: 3 there, 4 now" in capsys.readouterr().err


def test_cells_get_columns_in_report_and_leaderboard(sets, safety_run, capsys):
    """Two cells that were never asked anything else public; one set whole, the other in part."""
    run = safety_run
    assert cli.main(["safety", str(run), "--sets", "xstest", "--root", str(sets)]) == 0
    assert cli.main(["safety", str(run), "--sets", "vlguard", "--root", str(sets), "--limit", "2"]) == 0
    rows = list(csv.DictReader(open(run / "report" / "safety.csv")))
    assert [(row["asked"], row["set"]) for row in rows] == [
        (label, name) for label in ("vanilla seed 0", "po seed 0") for name in ("vlguard", "xstest")
    ]
    assert {row["unscored"] for row in rows if row["set"] == "xstest"} == {"2"}, "ASR and SARR, each of one question"
    counts = {(row["set"], row["questions"], row["total"]) for row in rows}
    assert counts == {("vlguard", "2", "3"), ("xstest", "2", "2")}
    assert {row["rr_n"] for row in rows if row["set"] == "xstest"} == {"1"} and all(row["judge"] for row in rows)
    assert "2 of 3, partial" in (run / "report" / "safety.md").read_text()
    assert cli.main(["report", str(run)]) == 0
    table = (run / "report" / "table.md").read_text()
    assert "xstest over-refusal ↓" in table and "vlguard" not in table
    assert "xstest over-refusal ↓" in (run / "report" / "index.html").read_text()
    board = run.parent / "board"
    assert cli.main(["leaderboard", str(run), "--out", str(board), "--sort", "safety:xstest:over_refusal"]) == 0
    assert "xstest SARR ↓" in (board / "leaderboard.md").read_text()
    (cell,) = [one for one in runs.find(run) if one.spec.method == "po"]
    verdicts = files.read_jsonl(cell.folder / "safety" / "xstest" / "verdicts.jsonl", Verdict)
    assert {verdict.judge for verdict in verdicts} == {cell.judge}


def test_max_cost_is_for_all_cells_together(safety_run, monkeypatch):
    shares = []
    monkeypatch.setattr("safeeraser.integrations.safety.of_cell", lambda *given: shares.append(given[2].max_cost))
    options = SafetyConfig(run=str(safety_run), judge="api", judging=JudgeOptions(max_cost=3.0))
    assert len(_subjects(options)) == 2 and shares == [1.5, 1.5]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "give a run or cell folder, or --model; neither is given"),
        (["here", "--model", "m"], "give a run or cell folder, or --model; both is given"),
        (["here", "--out", "x"], "--out goes with --model"),
        (["--model", "m"], "--model needs --out"),
        (["here", "--limit", "0"], "--limit 0 is too small"),
        (["--model", "m", "--out", "x", "--base_url", "http://a/v1", "--adapter", "a"], "--adapter goes with a local"),
        (["here", "--sets", "xtest"], "did you mean 'xstest'"),
    ],
)
def test_what_does_not_go_together_is_refused_in_a_line(arguments, says, capsys):
    assert cli.main(["safety", *arguments]) == 2
    said = capsys.readouterr().err
    assert says in said and len(said.splitlines()) == 1


def test_a_server_that_answers_nothing_is_no_result(sets, tmp_path, capsys):
    with ChatServer(lambda body, tries: error_reply(400, "no")) as server:
        command = ["safety", "--model", "m", "--base_url", server.url, "--sets", "xstest", "--root", str(sets)]
        assert cli.main([*command, "--out", str(tmp_path / "served")]) in (1, 2)
    said = capsys.readouterr()
    assert "nothing could be scored" in said.out or "400" in said.err

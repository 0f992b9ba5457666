"""docs/reproduce.md: every command of the page runs, with a tiny LLaVA, a small release and a scripted judge."""

import functools
import re
from pathlib import Path

import documents
import pytest
from chat_server import ChatServer
from grader import grade

from safeeraser import data
from safeeraser.objectives import parse_method
from safeeraser.report import published

PAGE = (Path(__file__).parents[2] / "docs" / "reproduce.md").read_text(encoding="utf-8")
MODEL, DATA, SERVER = "models/llava-1.5-7b-hf", "safeeraser-data", "https://api.openai.com/v1"
ELSEWHERE = {
    "--launcher ray": "tests/bench/test_launch.py",
    "safeeraser specificity": "tests/integrations/lmms_eval/test_specificity_run.py",
    "--gpus-per-cell 2": "tests/bench/test_devices.py",
}
"""What takes a cluster, lmms-eval or several GPUs, and the test in which it runs."""
INDENTED = documents.scripts(PAGE)
IN_TABLES = re.findall(r"^\| `(safeeraser [^`]*)`", PAGE, re.M)
FEW = "--limit 2 --questions 1 --methods vanilla,po --training.steps 1 --generation.max_new_tokens 4"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_llava: Path, small_release: Path) -> Path:
    folder = tmp_path_factory.mktemp("reproduce")
    (folder / "models").mkdir()
    (folder / MODEL).symlink_to(tiny_llava)
    (folder / DATA).symlink_to(small_release)
    return folder


def made_small(script: str) -> str:
    """The command with few records, short answers and one step; of a step's triples only one pass."""
    if " bench " not in script:
        return script
    # of a job array the cells are asked for by the id that the line before has printed
    return f"{script} {FEW}".replace("--cell CELL", "--cell cells/models--llava-1.5-7b-hf/po/seed-233")


@pytest.mark.parametrize("script", [s for s in INDENTED if not any(flag in s for flag in ELSEWHERE)])
def test_command_runs(script: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-a-key")
    with ChatServer(grade) as server:
        done = documents.run(made_small(script).replace(SERVER, server.url), folder)
        assert done.returncode == 0, done.stderr[-2000:] + done.stdout[-2000:]
        assert bool(server.bodies) == ("--judge api" in script)
    said = done.stdout
    if " data check " in script:
        assert "integrity: every record and image can be read" in said and (folder / "held-out.json").exists()
    if script.endswith("--list-cells"):
        assert "cells/models--llava-1.5-7b-hf/po/seed-233" in said.splitlines()
    if " leaderboard " in script:
        board = (folder / "leaderboard" / "leaderboard.md").read_text()
        assert "| SineProject | llava-1.5-13b | po+pd |" in board and "30.3" in board and "| runs/" not in board
        assert all(entry.source in board for entry in published.entries("paper"))


def test_what_the_page_says_of_hours_is_what_plan_prints(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "load", functools.cache(data.load))  # four times the same
    rows = re.findall(r"^\| `(safeeraser plan [^`]*)`[^|]*\| ([\d.]+) \| ([\d.]+) \|", PAGE, re.M)
    assert len(rows) == len(IN_TABLES) == 4
    for script, hours, dollars in rows:
        done = documents.run(script, folder)
        (line,) = (line for line in done.stdout.splitlines() if "the 9 of a bench" in line)
        assert f" {hours} " in line and f" {dollars} " in line, script


@pytest.mark.parametrize("flag", ELSEWHERE)
def test_what_is_not_run_here_runs_in_another_test(flag: str) -> None:
    assert any(flag in script for script in INDENTED)
    text = (Path(__file__).parents[2] / ELSEWHERE[flag]).read_text()
    name, *value = flag.removeprefix("safeeraser ").removeprefix("--").split()
    assert name in text or name.replace("-", "_") in text


def test_the_methods_that_the_page_names_are_there() -> None:
    for name in re.findall(r"--methods ([\w+=.]+)`", PAGE):
        assert parse_method(name).terms


def test_published_numbers_have_a_source_and_no_interval() -> None:
    entries = published.entries("paper")
    assert {entry.run for entry in entries} == {"SafeEraser", "SineProject"}
    assert all("arXiv 25" in entry.source for entry in entries)
    assert all(score.low is None and score.n == 0 for entry in entries for score in entry.row.scores.values())
    values = {(e.run, e.row.model, e.row.method): 100 * (e.row.scores["sarr"].value or 0) for e in entries}
    assert values["SafeEraser", "llava-1.5-7b", "po+pd"] == pytest.approx(30.3)
    assert values["SineProject", "llava-1.5-13b", "po+pd"] == pytest.approx(25.1)

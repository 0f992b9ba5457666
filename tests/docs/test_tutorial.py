"""The tutorial on one's own data, as it stands there, from its drawings to its table; the bench with fewer steps."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import documents
import pytest

from safeeraser import data

TEXT = (Path(__file__).parents[2] / "docs" / "tutorial-your-data.md").read_text()
COMMANDS = [shlex.split(line) for line in re.findall(r"^    (safeeraser .*)$", TEXT, re.M) if "--base-url" not in line]
BENCH = "--methods vanilla,po+pd --limit 4 --questions 1 --steps 2 --training.batch_size 4"
SMALL = {"bench": f"{BENCH} --max-new-tokens 8 --jobs 1".split()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tutorial")
    (script,) = re.findall(r"```python\n(.*?)```", TEXT, re.S)
    subprocess.run([sys.executable, "-c", script], cwd=folder, check=True, timeout=60)
    return folder


def test_the_drawings_are_fifty(folder):
    assert len([*folder.rglob("*.png")]) == 50


def test_every_command_runs_in_turn_and_ends_in_a_table(folder):
    assert [command[1:3] for command in COMMANDS[:3]] == [["data", "import"], ["data", "check"], ["data", "complete"]]
    for command in COMMANDS:
        done = documents.run(shlex.join([*command, *SMALL.get(command[1], [])]), folder)
        some_left_out = command[2] == "complete" and "left out" in done.stdout
        assert done.returncode == int(some_left_out), done.stderr[-2000:] + done.stdout[-2000:]
    report = json.loads((folder / "data/complete/completion.json").read_text())
    assert (report["records_paired"], report["safe_images_used"]) == (36, 9)
    assert report["left_out"] < report["answers_written"]
    benchmark = data.load(folder / "data/complete")
    assert len(benchmark.split("val")) == 8
    assert all(triple.safe_answer for triple in data.triples(benchmark.split("train")))
    table = (folder / "runs/mine/report/table.md").read_text()
    assert all(f"| {method} |" in table for method in ("vanilla", "po+pd"))


def test_the_page_names_every_column():
    from safeeraser.data.importing.table import COLUMNS

    for column in COLUMNS:
        assert f"`{column}`" in TEXT, column

"""The README's commands run as they stand there, on few records and steps, in an empty folder."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^ {4,6}(safeeraser .*)$", README, re.M)
SMALL = {
    "unlearn": "--limit 12 --training.steps 2 --training.batch_size 4",
    "respond": "--limit 12 --generation.max_new_tokens 8",
    "bench": "--limit 12 --training.steps 2 --training.batch_size 4 --generation.max_new_tokens 8",
}
BY_HAND = {"safeeraser COMMAND --help"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("readme")


@pytest.mark.parametrize("command", [c for c in COMMANDS if c not in BY_HAND])
def test_command_runs(command: str, folder: Path):
    name = command.split()[1]
    line = f"{command} {SMALL.get(name, '')}".replace("15,30,60,120,240", "1,2").replace("--seeds 0,1,2", "--seeds 0,1")
    done = subprocess.run(
        [sys.executable, "-m", *shlex.split(line)], cwd=folder, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_line_of_commands_is_whole():
    names = {" ".join(c.split()[1:3]) if c.split()[1] == "data" else c.split()[1] for c in COMMANDS}
    assert {"data build", "data show", "unlearn", "respond", "judge", "score", "bench"} <= names


def test_make_targets_of_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^ {4}make (\w+)", README, re.M):
        assert re.search(rf"^{target}:", makefile, re.M)


def test_the_tree_names_files_that_exist():
    tree = README.split("src/safeeraser/\n")[1].split("```")[0]
    for line in tree.splitlines():
        name = line.split()[0] if line.strip() else ""
        if name.endswith((".py", "/")):
            found = list((ROOT / "src" / "safeeraser").rglob(name.rstrip("/")))
            assert found, f"README names {name}"

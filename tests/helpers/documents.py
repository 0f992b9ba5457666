"""What a reader would copy out of a document: the files it shows and the commands it gives, in order."""

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from unittest import mock

from safeeraser.bench.launch import LocalLauncher
from safeeraser.cli import main

SMALL = {
    "unlearn": "--limit 6 --training.steps 2 --training.batch_size 4",
    "respond": "--limit 6 --generation.max_new_tokens 8",
    "bench": "--limit 6 --training.steps 2 --training.batch_size 4 --generation.max_new_tokens 8",
    "attack": "--limit 2 --attacks paraphrase,crop,relearn-1,quantize-8bit",
}
"""What makes a command of a document quick."""


def files(text: str) -> dict[str, str]:
    """Python blocks whose first line names a file, by that name."""
    return dict(re.findall(r"^```python\n# (\S+\.py)\n(.*?)^```", text, re.M | re.S))


def scripts(text: str) -> list[str]:
    """Indented commands, a line each; lines that set a variable stay with the line that follows."""
    return re.findall(r"^ {4,6}((?:[A-Z]+=.*\n {4,6})*(?:safeeraser|accelerate) .*)$", text, re.M)


def made_small(script: str) -> str:
    """The same with few records, steps, budgets and seeds."""
    name = next((part for part in SMALL if re.search(rf"\bsafeeraser {part}\b", script)), "")
    small = f"{script} {SMALL.get(name, '')}".replace("15,30,60,120,240", "1")
    return small.replace("--seeds 0,1,2", "--seeds 0").replace("--training.batch_size 8", "")


def run(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a script in a folder: commands of ours in this process, which has imported everything; the rest in bash.

    What registers a plugin, sets a variable or calls another program has a process of its own. The fork server of a
    bench is kept for the next one, as it has imported everything, too.
    """
    lines = [shlex.split(line) for line in script.splitlines()]
    if "--plugins" in script or any(line[0] != "safeeraser" for line in lines):
        return _in_bash(script, folder)
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err),
        mock.patch.object(LocalLauncher, "close"),
    ):  # fmt: skip
        codes = [main(line[1:]) for line in lines]
    return subprocess.CompletedProcess(script, max(codes), out.getvalue(), err.getvalue())


def _in_bash(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """With this Python's programs first on the path."""
    programs = str(Path(sys.executable).parent)
    path = {"PATH": os.pathsep.join([programs, os.environ["PATH"]])}
    line = re.sub(r"^safeeraser ", "python -m safeeraser ", script.replace("\n    ", "\n"), flags=re.M)
    return subprocess.run(
        ["bash", "-euc", line], cwd=folder, env=os.environ | path, capture_output=True, text=True, timeout=900
    )

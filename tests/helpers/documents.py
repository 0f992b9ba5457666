"""What a reader would copy out of a document: the files it shows and the commands it gives, in order."""

import os
import re
import subprocess
import sys
from pathlib import Path

SMALL = {
    "unlearn": "--limit 12 --training.steps 2 --training.batch_size 4",
    "respond": "--limit 12 --generation.max_new_tokens 8",
    "bench": "--limit 12 --training.steps 2 --training.batch_size 4 --generation.max_new_tokens 8",
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
    """Run a script in a folder, with this Python's programs first on the path."""
    programs = str(Path(sys.executable).parent)
    path = {"PATH": os.pathsep.join([programs, os.environ["PATH"]])}
    line = re.sub(r"^safeeraser ", "python -m safeeraser ", script.replace("\n    ", "\n"), flags=re.M)
    return subprocess.run(
        ["bash", "-euc", line], cwd=folder, env=os.environ | path, capture_output=True, text=True, timeout=900
    )

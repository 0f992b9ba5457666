"""Speak with lmms-eval: find an interpreter that has it, start it on one task, read what it found or why it failed."""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safeeraser import models
from safeeraser.core.errors import UserError
from safeeraser.core.files import read_json
from safeeraser.integrations.lmms_eval.runner import MODEL_TYPE
from safeeraser.metrics.specificity import Task
from safeeraser.models.processes import launched
from safeeraser.records import TaskResult

PYTHON = "SAFEERASER_LMMS_PYTHON"
"""Environment variable that names the interpreter."""
INSTALL = f"""lmms-eval wants other versions than this package is tested with: give it an environment of its own,
    python -m venv lmms-env
    lmms-env/bin/pip install 'lmms-eval[video-legacy]'
and name it with --python lmms-env/bin/python or in {PYTHON}"""

MODEL_TYPES = {"llava": "llava_hf", "llava_next": "llava_hf", "qwen2_5_vl": "qwen2_5_vl", "mllama": "llama_vision"}
"""lmms-eval's own model type of a family; for others, and for models that come with this package, ours."""

SILENT = {
    r"Error .* in generating": "the model failed on a question, which lmms-eval would count as answered wrongly",
    r"failed to get a score": "the judging model gave no score, which lmms-eval would count as 0",
    r"GPT API failed to answer": "the judging model did not answer, and lmms-eval would draw a letter by chance",
}
"""What lmms-eval only logs, though it makes the result worthless."""


@dataclass(frozen=True)
class Interpreter:
    """A Python with lmms-eval, and the version of that."""

    path: str
    version: str


def find_interpreter(given: str | None) -> Interpreter:
    """Find the Python that lmms-eval is run with: ``given``, the environment variable's, or else this one.

    Raises:
        UserError: If there is no such program or it has no lmms-eval; the message says how to get one.

    Example:
        >>> find_interpreter("no/python")
        Traceback (most recent call last):
        safeeraser.core.errors.UserError: --python no/python: there is no such program
    """
    wanted = given or os.environ.get(PYTHON)
    path = wanted or sys.executable
    if shutil.which(path) is None:
        raise UserError(f"{'--python' if given else PYTHON} {path}: there is no such program")
    asked = "from importlib.metadata import version; print(version('lmms_eval'))"
    answer = subprocess.run([path, "-c", asked], capture_output=True, text=True, check=False)
    if answer.returncode:
        raise UserError(f"{path} has no lmms-eval. {INSTALL}")
    return Interpreter(path, answer.stdout.strip())


def model_type(model: str) -> str:
    """lmms-eval's model type for a model of ours, named as for ``models.load``."""
    return MODEL_TYPE if model in models.BUILT_IN else MODEL_TYPES.get(models.read_config(model).model_type, MODEL_TYPE)


def model_arguments(model_type: str, device: str) -> list[str]:
    """What lmms-eval's own model types must be told besides the checkpoint: their defaults are for several GPUs."""
    return [f"device_map={device}"] if model_type in MODEL_TYPES.values() else []


def require_key(task: Task) -> None:
    """Raise UserError if the task's answers are judged by a model of OpenAI's or Azure's, and its key is not set."""
    name = "AZURE_API_KEY" if os.environ.get("API_TYPE") == "azure" else "OPENAI_API_KEY"
    if task.asks_gpt and os.environ.get("API_TYPE", "openai") in ("openai", "azure") and not os.environ.get(name):
        raise UserError(
            f"its answers are judged by GPT-4o, and {name} is not set (lmms-eval would count every answer as wrong); "
            "another server: OPENAI_API_URL, another model: MODEL_VERSION"
        )


def ask(command: list[str], log: Path, progress: Callable[[int, int], None]) -> None:
    """Run lmms-eval to its end, whatever that is: its exit status says nothing, a result file or none does.

    All that it prints goes into the file ``log``; ``progress`` is called with the questions answered and their number.
    """
    with launched():  # of which lmms-eval is no part
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "false"},
        )
    assert process.stdout is not None
    try:
        with open(log, "wb") as file:
            pending = b""
            while chunk := os.read(process.stdout.fileno(), 65536):
                file.write(chunk)
                file.flush()
                *lines, pending = re.split(rb"[\r\n]", pending + chunk)
                for line in lines:
                    if found := re.match(rb"Model Responding:.* (\d+)/(\d+) \[", line):
                        progress(int(found[1]), int(found[2]))
        process.wait()
    finally:
        if process.poll() is None:  # this process was interrupted
            process.terminate()
            process.wait()


def read_result(raw: dict[str, Any], task: Task, version: str, model_type: str) -> TaskResult:
    """Find the value that counts in what lmms-eval wrote: the content of its ``..._results.json``.

    Raises:
        UserError: If the task is a group, has no such metric or several, or gives no number.
    """
    members = raw.get("group_subtasks", {}).get(task.name)
    if members:
        raise UserError(f"it is a group of tasks: name them one by one, --tasks {','.join(members)}")
    found = {}
    for key, value in raw["results"].get(task.name, {}).items():
        name, _, filtered = key.partition(",")
        if filtered and not re.search(r"_(stderr|stderr_clt|stderr_clustered)$", name):
            found[name] = (value, raw["results"][task.name].get(f"{name}_stderr,{filtered}"))
    numbers = {name: value for name, value in found.items() if _is_number(value[0])}
    if not numbers:
        raise UserError(
            f"it gives no number ({', '.join(found) or 'nothing'}): a 'submission' is a file to send to the "
            "benchmark's own server; choose a split whose answers are public"
        )
    if task.metric is None and len(numbers) > 1 or task.metric is not None and task.metric not in numbers:
        asked = "it has several metrics" if task.metric is None else f"it has no metric {task.metric}"
        raise UserError(f"{asked}: give --tasks {task.name}:METRIC with one of {', '.join(numbers)}")
    metric = task.metric or next(iter(numbers))
    value, error = (float(x) / (100 if task.percent else 1) if _is_number(x) else None for x in numbers[metric])
    if value is None or not 0 <= value <= 1:
        wanted = "0 to 100" if task.percent else f"0 to 1; if it is in percent, give --tasks {task.name}:{metric}%"
        raise UserError(f"its {metric} is {numbers[metric][0]:g}, not within {wanted}")
    asked_of = raw["n-samples"][task.name]
    return TaskResult(
        task=task.name,
        metric=metric,
        value=value,
        stderr=error,
        n=int(asked_of["effective"]),
        total=int(asked_of["original"]),
        version=version,
        model_type=model_type,
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def outcome(produced: Path, log: Path) -> dict[str, Any]:
    """Read the result file that lmms-eval wrote below a folder; UserError if there is none, or it is worth nothing."""
    said = log.read_text(encoding="utf-8", errors="replace")
    for pattern, meaning in SILENT.items():
        if re.search(pattern, said):
            raise UserError(f"{meaning} (log: {log})")
    files = sorted(produced.rglob("*_results.json"))
    if not files:
        raise UserError(f"{_reason(said)} (log: {log})")
    raw: dict[str, Any] = read_json(files[-1])
    return raw


def _reason(said: str) -> str:
    """The last exception in a log, but for those that only say that something was tried again."""
    lines = [line.strip() for line in re.split(r"[\r\n]+", said) if line.strip()]
    errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception|NotFound): ", line)]
    named = [line for line in errors if "RetryError" not in line]
    return (named or errors or lines or ["it printed nothing"])[-1][:400]

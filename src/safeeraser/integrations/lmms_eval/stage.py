"""Public benchmarks on a cell: its merged checkpoint, lmms-eval on it, the results; no finished task runs again."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safeeraser import models
from safeeraser.bench import runs
from safeeraser.core import files, locks
from safeeraser.core.errors import UserError
from safeeraser.core.terminal import Progress
from safeeraser.integrations.lmms_eval import lmms, runner
from safeeraser.metrics import specificity
from safeeraser.metrics.specificity import Task

Bar = Callable[[str], AbstractContextManager[Progress]]


@dataclass(frozen=True)
class MeasuredCell:
    """A cell, the tasks that it is measured on, and how lmms-eval is told to run them."""

    cell: runs.Cell
    tasks: Sequence[Task]
    interpreter: lmms.Interpreter
    model_type: str
    limit: int | None = None
    """Questions of each task; None: all."""
    include_path: Path | None = None
    """Folder with tasks of one's own."""
    device: str = "auto"
    batch_size: int = 1

    @property
    def workspace(self) -> Path:
        """The checkpoint while tasks are waiting, and for each task lmms-eval's log and result file."""
        return self.cell.folder / "specificity"

    def folder(self, task: Task) -> Path:
        """Of a task."""
        return self.workspace / task.name.replace("/", "--")

    def command(self, task: Task, out: Path) -> list[str]:
        """The command line that runs a task and writes the result below ``out``."""
        checkpoint = (self.workspace / "checkpoint").resolve()
        options = {
            "--model": self.model_type,
            "--model_args": ",".join([f"pretrained={checkpoint}", *lmms.model_arguments(self.model_type, self.device)]),
            "--tasks": task.name,
            "--device": self.device,
            "--batch_size": str(self.batch_size),
            "--output_path": str(out),
            "--limit": None if self.limit is None else str(self.limit),
            "--include_path": None if self.include_path is None else str(self.include_path.resolve()),
        }
        given = [text for name, value in options.items() if value is not None for text in (name, value)]
        return [self.interpreter.path, str(Path(runner.__file__)), *given]


@dataclass(frozen=True)
class Failure:
    """A task that gave no result, and why."""

    task: str
    reason: str


def prepare(
    cell: runs.Cell, tasks: Sequence[Task], interpreter: lmms.Interpreter, model_type: str | None = None, **options: Any
) -> MeasuredCell:
    """Prepare a finished cell; nothing is loaded or written yet.

    Args:
        cell: The cell.
        tasks: What to run.
        interpreter: Runs lmms-eval.
        model_type: lmms-eval's; None: what fits the model.
        options: ``limit``, ``include_path``, ``device``, ``batch_size`` as in ``MeasuredCell``.

    Raises:
        UserError: If the model is not what the cell was made with, is quantised or one with something put before it,
            which no checkpoint holds, or the cell's path cannot be told to lmms-eval.
    """
    cell.check_model()
    if cell.spec.baseline:
        raise UserError(
            f"{cell.folder}: what {cell.spec.method!r} does to the model is in no checkpoint, and lmms-eval reads "
            "nothing else: give the cells of the other methods"
        )
    if (quantised := cell.spec.loading_options().quantization) != "none":
        raise UserError(
            f"{cell.folder}: it loads its model in {quantised}, and lmms-eval would be given whole weights: the result "
            "would not be the cell's; leave it out"
        )
    folder = cell.folder.resolve()
    if "," in str(folder):
        raise UserError(f"{folder}: lmms-eval cannot read a path with a comma; give the run another name")
    return MeasuredCell(cell, tasks, interpreter, model_type or lmms.model_type(cell.spec.model), **options)


def run(target: MeasuredCell, bar: Bar | None = None) -> list[Failure]:
    """Run the tasks that are not finished; each result goes into ``specificity.jsonl`` and ``scores.json`` at once.

    Args:
        target: Of ``prepare``.
        bar: Makes a progress bar for a task that is run, from its title, as ``progress.bar`` does.

    Returns:
        The tasks that failed; the others have their results.

    Raises:
        UserError: If the cell was measured before with another adapter, model type or version of lmms-eval.
    """
    target.workspace.mkdir(exist_ok=True)
    failures = []
    with locks.hold(target.workspace):
        made_of = {"model_type": target.model_type, "lmms_eval": target.interpreter.version}
        files.claim(target.workspace / "made-of.json", target.cell.model_hashes() | made_of)
        for task in target.tasks:
            try:
                _record(target, _finished(target, task) or _ask(target, task, bar), task)
            except UserError as error:
                failures.append(Failure(task.name, str(error)))
        if not failures:  # the size of the model, and quickly made anew
            shutil.rmtree(target.workspace / "checkpoint", ignore_errors=True)
    return failures


def _finished(target: MeasuredCell, task: Task) -> dict[str, Any] | None:
    """What an earlier call found, if it asked at least as many questions."""
    path = target.folder(task) / "results.json"
    if not path.exists():
        return None
    raw: dict[str, Any] = files.read_json(path)
    asked = raw["n-samples"].get(task.name, {"effective": 0, "original": 0})
    wanted = asked["original"] if target.limit is None else min(target.limit, asked["original"])
    return raw if asked["effective"] >= wanted else None


def _ask(target: MeasuredCell, task: Task, bar: Bar | None) -> dict[str, Any]:
    lmms.require_key(task)
    _write_checkpoint(target)
    folder = target.folder(task)
    folder.mkdir(exist_ok=True)
    for left in folder.glob("running-*"):  # by a call that was killed
        shutil.rmtree(left)
    shown = nullcontext(lambda done, total: None) if bar is None else bar(task.title)
    with tempfile.TemporaryDirectory(dir=folder, prefix="running-") as produced, shown as progress:
        lmms.ask(target.command(task, Path(produced).resolve()), folder / "log.txt", progress)
        raw = lmms.outcome(Path(produced), folder / "log.txt")
    files.write_json(folder / "results.json", raw)
    return raw


def _write_checkpoint(target: MeasuredCell) -> None:
    """Write the cell's model as a checkpoint that transformers loads, unless it is there; whole or not at all."""
    out = target.workspace / "checkpoint"
    if out.exists():
        return
    temporary = out.with_name(".checkpoint.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    spec = target.cell.spec
    # in the type that the cell answered in; on the CPU: the GPU is for lmms-eval
    vlm = models.load_merged(spec.model, target.cell.adapter, dtype=spec.loading_options().dtype, device="cpu")
    models.save(vlm, temporary)
    os.replace(temporary, out)


def _record(target: MeasuredCell, raw: dict[str, Any], task: Task) -> None:
    """Add the result to the cell's, unless it stands there, and make its scores anew."""
    result = lmms.read_result(raw, task, target.interpreter.version, target.model_type)
    if specificity.read(target.cell.folder).get(task.name) != result:
        files.append_jsonl(target.cell.folder / specificity.FILE, [result])
    target.cell.add_specificity()

"""From task to task: a cell's merged checkpoint, lmms-eval on it, the results; what is finished is not run again."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safeeraser import cell, locks, models, store, suites
from safeeraser.errors import UserError
from safeeraser.progress import Progress
from safeeraser.records import TaskResult
from safeeraser.specificity import lmms, runner
from safeeraser.suites import Task

__all__ = ["Failure", "Planned", "planned", "run"]

FOLDER = "specificity"
"""Of a cell: the checkpoint while tasks are waiting, and for each task lmms-eval's log and result file."""


@dataclass(frozen=True)
class Planned:
    """What is asked of one cell.

    Attributes:
        folder: The cell.
        spec: What it was made with.
        tasks: The tasks, in order.
        interpreter: Runs lmms-eval.
        model_type: lmms-eval's.
        limit: Questions of each task; None: all.
        include_path: Folder with tasks of one's own.
        device: lmms-eval's ``--device``.
        batch_size: lmms-eval's ``--batch_size``.
    """

    folder: Path
    spec: cell.CellSpec
    tasks: Sequence[Task]
    interpreter: lmms.Interpreter
    model_type: str
    limit: int | None = None
    include_path: Path | None = None
    device: str = "auto"
    batch_size: int = 1

    @property
    def adapter(self) -> Path | None:
        """The cell's adapter, None for the vanilla model."""
        return None if self.spec.method == cell.VANILLA else self.folder / "adapter"

    def workspace(self, task: Task) -> Path:
        """The folder of a task."""
        return self.folder / FOLDER / task.name.replace("/", "--")

    def command(self, task: Task, out: Path) -> list[str]:
        """The command line that runs a task and writes the result below ``out``."""
        checkpoint = (self.folder / FOLDER / "checkpoint").resolve()
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


def planned(
    folder: Path, tasks: Sequence[Task], interpreter: lmms.Interpreter, model_type: str | None = None, **options: Any
) -> Planned:
    """Prepare a finished cell; nothing is loaded or written yet.

    Args:
        folder: The cell.
        tasks: What to run.
        interpreter: Runs lmms-eval.
        model_type: lmms-eval's; None: what fits the model.
        options: ``limit``, ``include_path``, ``device``, ``batch_size`` as in ``Planned``.

    Raises:
        UserError: If the model is not what the cell was made with, or the cell's path cannot be told to lmms-eval.
    """
    spec = store.read_object(folder / "cell.json", cell.CellSpec)
    if spec.model_fingerprint and models.fingerprint(spec.model) != spec.model_fingerprint:
        raise UserError(f"{folder} was made with other weights than model {spec.model!r} has now: run the bench again")
    if "," in str(folder.resolve()):
        raise UserError(f"{folder.resolve()}: lmms-eval cannot read a path with a comma; give the run another name")
    return Planned(folder, spec, tasks, interpreter, model_type or lmms.model_type(spec.model), **options)


def run(plan: Planned, bar: Callable[[str], AbstractContextManager[Progress]] | None = None) -> list[Failure]:
    """Run the tasks that are not finished; each result goes into ``specificity.jsonl`` and ``scores.json`` at once.

    Args:
        plan: Of ``planned``.
        bar: Makes a progress bar for a task that is run, from its title, as ``progress.bar`` does.

    Returns:
        The tasks that failed; the others have their results.

    Raises:
        UserError: If the cell was measured before with another adapter, model type or version of lmms-eval.
    """
    workspace = plan.folder / FOLDER
    workspace.mkdir(exist_ok=True)
    failures = []
    with locks.hold(workspace):
        store.claim(workspace / "made-of.json", _made_of(plan))
        for task in plan.tasks:
            try:
                raw = _finished(plan, task)
                _record(plan, _ask(plan, task, bar) if raw is None else raw, task)
            except UserError as error:
                failures.append(Failure(task.name, str(error)))
        if not failures:  # the size of the model, and quickly made anew
            shutil.rmtree(workspace / "checkpoint", ignore_errors=True)
    return failures


def _made_of(plan: Planned) -> dict[str, Any]:
    """All that decides the results, but for the task itself."""
    adapter = plan.adapter
    return {
        "model": plan.spec.model_fingerprint,
        "adapter": None if adapter is None else store.hash_files(sorted(adapter.glob("*.safetensors"))),
        "model_type": plan.model_type,
        "lmms_eval": plan.interpreter.version,
    }


def _finished(plan: Planned, task: Task) -> dict[str, Any] | None:
    """What an earlier call found, if it asked at least as many questions."""
    path = plan.workspace(task) / "results.json"
    if not path.exists():
        return None
    raw: dict[str, Any] = store.read_json(path)
    asked = raw["n-samples"].get(task.name, {"effective": 0, "original": 0})
    wanted = asked["original"] if plan.limit is None else min(plan.limit, asked["original"])
    return raw if asked["effective"] >= wanted else None


def _ask(plan: Planned, task: Task, bar: Callable[[str], AbstractContextManager[Progress]] | None) -> dict[str, Any]:
    lmms.require_key(task)
    _checkpoint(plan)
    folder = plan.workspace(task)
    folder.mkdir(exist_ok=True)
    for left in folder.glob("running-*"):  # by a call that was killed
        shutil.rmtree(left)
    shown = nullcontext(lambda done, total: None) if bar is None else bar(task.title)
    with tempfile.TemporaryDirectory(dir=folder, prefix="running-") as produced, shown as progress:
        lmms.ask(plan.command(task, Path(produced).resolve()), folder / "log.txt", progress)
        raw = lmms.outcome(Path(produced), folder / "log.txt")
    store.write_json(folder / "results.json", raw)
    return raw


def _checkpoint(plan: Planned) -> None:
    """Write the cell's model as a checkpoint that transformers loads, unless it is there; whole or not at all."""
    out = plan.folder / FOLDER / "checkpoint"
    if out.exists():
        return
    temporary = out.with_name(".checkpoint.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    # on the CPU: the GPU is for lmms-eval
    models.save(models.load_merged(plan.spec.model, plan.adapter, device="cpu"), temporary)
    os.replace(temporary, out)


def _record(plan: Planned, raw: dict[str, Any], task: Task) -> TaskResult:
    """Add the result to the cell's, unless it stands there, and make its scores anew."""
    result = lmms.read_result(raw, task, plan.interpreter.version, plan.model_type)
    if suites.read(plan.folder).get(task.name) != result:
        store.append_jsonl(plan.folder / suites.FILE, [result])
    cell.fold_specificity(plan.folder)
    return result

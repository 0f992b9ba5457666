"""The run folder: format of its files, finding its cells, reading them. Nothing else reads a run folder.

``RUN/cells/MODEL/METHOD/seed-S/`` is a cell of the matrix: ``cell.json`` (``spec.CellSpec``) decides its numbers;
``queries.jsonl``, ``adapter/``, ``train.jsonl``, ``responses.jsonl`` and ``verdicts.jsonl`` are what the stages leave;
``scores.json`` (``CellScores``) says that it is finished. With ``--sequence``, ``request-N/`` holds the same files of
each request but the last, and ``requests.json`` the records of each. ``safeeraser specificity`` adds
``specificity.jsonl``, ``safeeraser attack`` adds ``attacks/`` and ``attacks.json``, ``safeeraser safety`` adds
``safety/`` and ``safety.jsonl``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safeeraser.bench.spec import CellSpec, read_options
from safeeraser.config import JudgeOptions
from safeeraser.core import files
from safeeraser.core.errors import UserError
from safeeraser.core.terminal import say
from safeeraser.metrics import specificity
from safeeraser.records import VANILLA, Frozen, Query, Response, Score, StopCheck, Verdict

PD = "+pd"
Group = tuple[str, str]
"""(model, method) as they stand in the run folder."""
Judged = tuple[list[Query], list[Response], list[Verdict]]
"""All that a cell has asked, answered and judged."""


class CellScores(Frozen):
    """What ``scores.json`` holds; ``failed`` counts responses that the judge may do better at another time.

    ``judge_models`` are the models that a judging server said it replied with; ``checks`` what a rule of early
    stopping found, the last of them where it ended the training.
    """

    cell: dict[str, Any]
    judge: str
    judge_models: tuple[str, ...] = ()
    failed: int = 0
    checks: tuple[StopCheck, ...] = ()
    scores: tuple[Score, ...]


@dataclass(frozen=True)
class Cell:
    """A cell of a run: its folder, and what it is made with."""

    folder: Path
    spec: CellSpec

    @property
    def group(self) -> Group:
        """Model and method, as the folder names them: ``cells/MODEL/METHOD/seed-S``."""
        folder = self.folder.resolve()
        return folder.parent.parent.name, folder.parent.name

    @property
    def label(self) -> str:
        """Method and seed."""
        return f"{self.group[1]} seed {self.spec.seed}"

    @property
    def adapter(self) -> Path | None:
        """Where its adapter lies, or will; None where nothing is trained, a UserError if each request has its own."""
        if not self.spec.is_trained:
            return None
        if self.spec.sequence:
            raise UserError(f"{self.folder} has {self.spec.sequence} adapters, one on another: give a cell of one")
        return self.folder / "adapter"

    @property
    def requests(self) -> list[Path]:
        """Folder of what it left after each of its requests; the last, or only, one is the cell's own."""
        before = (self.spec.sequence or 1) - 1 if self.spec.is_trained else 0
        return [*(self.folder / f"request-{number + 1}" for number in range(before)), self.folder]

    @property
    def is_done(self) -> bool:
        """Whether it has its scores."""
        return (self.folder / "scores.json").exists()

    @property
    def is_due(self) -> bool:
        """Whether it has no scores, or some of an answer that the judge failed at and may do better at now."""
        return not self.is_done or self.scores().failed > 0

    @property
    def judge(self) -> str:
        """Id of the judge that its scores come from."""
        return self.scores().judge

    def scores(self) -> CellScores:
        """Read ``scores.json``."""
        return files.read_object(self.folder / "scores.json", CellScores)

    def judged(self, folder: Path | None = None) -> Judged:
        """Read queries, responses and verdicts; of several judges' verdicts those that the scores come from.

        Args:
            folder: One of ``requests``; None: the last.
        """
        from safeeraser.judges import verdicts_by

        folder = folder or self.folder
        return (
            files.read_jsonl(folder / "queries.jsonl", Query),
            files.read_jsonl(folder / "responses.jsonl", Response),
            verdicts_by(folder / "verdicts.jsonl", self.judge),
        )

    def checks(self) -> tuple[StopCheck, ...]:
        """What its rule of early stopping found, check by check; empty without a rule."""
        return tuple(
            StopCheck(step=line["step"], values=line["check"], met=line["stop"])
            for line in train_log(self.folder)
            if "check" in line
        )

    def judging_options(self) -> JudgeOptions:
        """How its judge may be asked."""
        path = self.folder / "judging.json"
        return read_options(JudgeOptions, files.read_json(path), str(path)) if path.exists() else JudgeOptions()

    def unlike(self, other: Cell) -> dict[str, tuple[str, str]]:
        """Options, beside method and seed, that decide numbers and differ between this cell and another."""
        from safeeraser.objectives import term_options

        one, two = self.spec, other.spec
        # a term's option in one of the two: the other method lacks the term, or an older version wrote those of all
        one_sided = term_options().keys() & (one.training.keys() ^ two.training.keys())
        left_out: dict[str, Any] = {"method": True, "seed": True, "training": set(one_sided)}
        if not (one.is_trained and two.is_trained):
            left_out["training"] = True
        if one.method != two.method:
            left_out |= {"baseline": True, "guard_fingerprint": True}
        return files.changes(*({**spec.model_dump(exclude=left_out), "sets": [*spec.sets]} for spec in (one, two)))

    def check_model(self) -> None:
        """Raise UserError if the model has other weights now than the cell was made with."""
        from safeeraser import models

        made_with = self.spec.model_fingerprint
        if made_with and models.fingerprint(self.spec.model) != made_with:
            raise UserError(
                f"{self.folder} was made with other weights than model {self.spec.model!r} has now: run the bench again"
            )

    def model_hashes(self) -> dict[str, str | None]:
        """What decides the answers of its model: the hashes of the base model's weights and of the adapter's."""
        from safeeraser import models

        adapter = models.hash_adapter(self.adapter) if self.adapter else None
        return {"model": self.spec.model_fingerprint, "adapter": adapter}

    def prepare(self, judging: JudgeOptions | None = None) -> None:
        """Write ``cell.json``, or check that the one there is the same; and ``judging.json``, which may change.

        What of the judge decides the numbers is in its id, in ``spec.judging``.

        Raises:
            UserError: If the folder holds a cell made with other options, or by a newer version; the message names
                what differs.
        """
        if (self.folder / "cell.json").exists():
            read(self.folder)
        files.claim(self.folder / "cell.json", self.spec.model_dump(), self.spec.unread())
        if judging is not None:
            files.write_json(self.folder / "judging.json", asdict(judging))

    def add_specificity(self) -> None:
        """Bring the scores of public benchmarks in ``scores.json`` up to what ``specificity.jsonl`` holds."""
        written = self.scores().model_dump(mode="json")
        others = [score for score in written["scores"] if not specificity.is_ours(score["metric"])]
        public = [score.model_dump() for score in specificity.scores([specificity.read(self.folder)])]
        if written["scores"] != others + public:
            files.write_json(self.folder / "scores.json", written | {"scores": others + public})


def read(folder: Path) -> Cell:
    """Read the cell in a folder.

    Example:
        >>> read(Path("nowhere"))
        Traceback (most recent call last):
        safeeraser.core.errors.UserError: nowhere/cell.json: no such file
    """
    return Cell(folder, files.read_object(folder / "cell.json", CellSpec))


def find(folder: Path) -> list[Cell]:
    """Find the finished cells of a run: vanilla first, then the baselines, then by method and seed.

    Args:
        folder: A run folder, or one inside it: of a model, of a method, or of a single cell.

    Example:
        >>> find(Path("nowhere"))
        Traceback (most recent call last):
        safeeraser.core.errors.UserError: nowhere: no finished cell here; give a folder written by 'safeeraser bench'
    """
    cells = [read(path) for path in _folders(folder) if (path / "scores.json").exists()]
    if not cells:
        raise UserError(f"{folder}: no finished cell here; give a folder written by 'safeeraser bench'")
    folders: dict[tuple[Group, int], Path] = {}
    for cell in cells:
        first = folders.setdefault((cell.group, cell.spec.seed), cell.folder)
        if first != cell.folder:
            raise UserError(f"{folder} holds one cell twice ({first} and {cell.folder}): give a folder further down")
    if unlike := mixed(cells):
        say(f"warning: {folder}: cells of one model were made with different options: {unlike}", file=sys.stderr)
    return sorted(cells, key=_place)


def mixed(cells: Sequence[Cell]) -> str:
    """Options that differ between cells of one model, which tables put side by side and seeds are pooled of."""
    first: dict[str, Cell] = {}
    values: dict[str, dict[str, None]] = {}
    for cell in sorted(cells, key=lambda cell: not cell.spec.is_trained):  # what is not trained has no training
        for key, said in first.setdefault(cell.group[0], cell).unlike(cell).items():
            values.setdefault(key, {}).update(dict.fromkeys(said))
    return "; ".join(f"{key}: {', '.join(of)}" for key, of in values.items())


def check_folder(folder: Path) -> None:
    """Raise UserError if this is no run folder as a whole."""
    if not (folder / "cells").is_dir():
        raise UserError(f"{folder}: not a run folder (it has no cells/); give the one that 'safeeraser bench' wrote")


def planned(folder: Path) -> list[Cell]:
    """Find all cells of a run, finished or not: the bench writes every ``cell.json`` before it starts the first."""
    return sorted(map(read, _folders(folder)), key=_place)


def _folders(folder: Path) -> list[Path]:
    root = folder / "cells" if (folder / "cells").is_dir() else folder
    return [path.parent for path in sorted(root.rglob("cell.json"))]


def _place(cell: Cell) -> tuple[str, bool, bool, str, int]:
    model, method = cell.group
    return model, method != VANILLA, cell.spec.is_trained, method, cell.spec.seed


def train_log(folder: Path) -> list[dict[str, Any]]:
    """The lines of a cell's ``train.jsonl``; none if it trained nothing.

    Raises:
        UserError: If a line is no JSON object with the number of a step.

    Example:
        >>> train_log(Path("nowhere"))
        []
    """
    path = folder / "train.jsonl"
    read = []
    # a line that a kill cut short is none
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1] if path.exists() else [], 1):
        try:
            values = json.loads(line)
        except (ValueError, RecursionError):
            raise UserError(f"{path}, line {number}: not JSON; remove the line") from None
        if not isinstance(values, dict) or type(values.get("step")) is not int:
            raise UserError(f"{path}, line {number}, step: must be a whole number; remove the line")
        read.append(values)
    return read


def by_group(cells: Sequence[Cell]) -> dict[Group, list[Cell]]:
    """Put the seeds of a method together; the order stays."""
    groups: dict[Group, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.group, []).append(cell)
    return groups


def names(cells: Sequence[Cell]) -> dict[Group, str]:
    """What tables, figures and comparisons call each method: with its model where there are several."""
    models = {cell.group: cell.spec.model for cell in cells}
    several = len(set(models.values())) > 1
    return {group: f"{model} {group[1]}" if several else group[1] for group, model in models.items()}


def short_names(given: Sequence[str]) -> dict[Path, str]:
    """Run folders, each named by as many of its last parts as tell them apart."""
    folders = list(dict.fromkeys(Path(run).resolve() for run in given))
    parts = 1
    while len({folder.parts[-parts:] for folder in folders}) < len(folders):
        parts += 1
    return {folder: "/".join(folder.parts[-parts:]).lstrip("/") for folder in folders}

"""What attacks did to the cells of a run: read back from their folders, scored anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safeeraser import metrics
from safeeraser.attacks.attack import NONE, find
from safeeraser.attacks.stage import FOLDER, METRICS, SCORES, Attacked
from safeeraser.bench import runs
from safeeraser.core.errors import UserError
from safeeraser.core.files import differences, read_json, read_jsonl, read_object
from safeeraser.judges import verdicts_by
from safeeraser.records import Query, Response, Score

OF_CELL = ("attack", "model", "adapter", "generation", "seed")
"""What ``attack.json`` says beside the options of the attack."""


@dataclass(frozen=True)
class AttackRow:
    """A model and method under attack, pooled over seeds; ``scores`` by attack, then metric."""

    model: str
    method: str
    seeds: tuple[int, ...]
    scores: Mapping[str, Mapping[str, Score]]


def summarise(done: Sequence[runs.Cell]) -> list[AttackRow]:
    """Pool the seeds of each method under each attack that all of them saw.

    Args:
        done: Finished cells; those that were never attacked are left out.

    Raises:
        UserError: If cells were attacked with different seeds, numbers of records or options of an attack, or judged by
            different judges.

    Example:
        >>> summarise([])
        []
    """
    rows = []
    made: dict[str, Any] = {}
    options: dict[str, dict[str, Any]] = {}
    for (_, method), ran in runs.by_group([one for one in done if (one.folder / SCORES).exists()]).items():
        files = [read_object(one.folder / SCORES, Attacked).model_dump() for one in ran]
        for one, file in zip(ran, files, strict=True):
            made = made or {name: file[name] for name in ("judge", "seed", "limit")}
            _check_alike(one.folder / SCORES, made, {name: file[name] for name in made})
            for path in (one.folder / FOLDER / name / "attack.json" for name in file["attacks"]):
                if path.exists():
                    given = {key: value for key, value in read_json(path).items() if key not in OF_CELL}
                    _check_alike(path, options.setdefault(path.parent.name, given), given)
        names = [
            name
            for name in (NONE, *(attack.name for attack in find(None)))
            if all(name in file["attacks"] for file in files)
        ]
        scores = {name: _scores([one.folder / FOLDER / name for one in ran], str(made["judge"])) for name in names}
        rows.append(AttackRow(ran[0].spec.model, method, tuple(one.spec.seed for one in ran), scores))
    return rows


def _check_alike(path: Path, there: dict[str, Any], now: dict[str, Any]) -> None:
    if changed := differences(there, now):
        raise UserError(
            f"{path}: not attacked as the other cells of this run were ({'; '.join(changed)}): attack them all with "
            "the same options"
        )


def _scores(folders: Sequence[Path], judge: str) -> dict[str, Score]:
    cells = [
        (
            read_jsonl(folder / "queries.jsonl", Query),
            read_jsonl(folder / "responses.jsonl", Response),
            verdicts_by(folder / "verdicts.jsonl", judge),
        )
        for folder in folders
    ]
    return {one.metric: one for one in metrics.pooled(cells) if one.category == "all" and one.metric in METRICS}

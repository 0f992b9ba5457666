"""What attacks did to the cells of a run: read back from their folders, scored anew, and written into the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from safeeraser import metrics, results, store
from safeeraser.attacks.attack import NONE, in_order
from safeeraser.attacks.stage import FOLDER, METRICS, SCORES, Attacked
from safeeraser.errors import UserError
from safeeraser.records import Query, Response, Score, Verdict
from safeeraser.report.attack_table import AttackRow

__all__ = ["summarise", "write"]


def summarise(done: Sequence[results.Ran]) -> list[AttackRow]:
    """Pool the seeds of each method under each attack that all of them saw.

    Args:
        done: Finished cells; those that were never attacked are left out.

    Raises:
        UserError: If cells were attacked with different seeds or numbers of records, or judged by different judges.

    Example:
        >>> summarise([])
        []
    """
    rows = []
    made: dict[str, object] = {}
    for (_, method), ran in results.by_group([one for one in done if (one.folder / SCORES).exists()]).items():
        files = [store.read_object(one.folder / SCORES, Attacked).model_dump() for one in ran]
        for one, file in zip(ran, files, strict=True):
            made = made or {name: file[name] for name in ("judge", "seed", "limit")}
            changed = store.differences(made, {name: file[name] for name in made})
            if changed:
                raise UserError(
                    f"{one.folder / SCORES}: not attacked as the other cells of this run were ({'; '.join(changed)}): "
                    "attack them all with the same options"
                )
        ordered = [NONE, *(attack.name for attack in in_order())]
        names = [name for name in ordered if all(name in file["attacks"] for file in files)]
        scores = {name: _scores([one.folder / FOLDER / name for one in ran], str(made["judge"])) for name in names}
        rows.append(AttackRow(ran[0].spec.model, method, tuple(one.spec.seed for one in ran), scores))
    return rows


def _scores(folders: Sequence[Path], judge: str) -> dict[str, Score]:
    cells = [
        (
            store.read_jsonl(folder / "queries.jsonl", Query),
            store.read_jsonl(folder / "responses.jsonl", Response),
            [one for one in store.read_jsonl(folder / "verdicts.jsonl", Verdict) if one.judge == judge],
        )
        for folder in folders
    ]
    return {one.metric: one for one in metrics.pooled(cells) if one.category == "all" and one.metric in METRICS}


def write(done: Sequence[results.Ran], folder: Path) -> list[AttackRow]:
    """Write ``attacks.md``, ``attacks.csv`` and ``figures/attacks.*`` into a report's folder, if there were attacks.

    Args:
        done: The finished cells of the run.
        folder: ``RUN/report``.

    Returns:
        What they show; nothing is written where it is empty.

    Raises:
        UserError: As ``summarise``.
    """
    from safeeraser.report import attack_table, figures

    rows = summarise(done)
    if rows:
        attack_table.write(rows, folder)
        figures.attacks_figure(rows, folder / "figures")
    return rows

"""What can be known before the first cell is checked before the first cell: packages, the judge's server, the disk."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from safeeraser.config import BenchConfig, check_tracker
from safeeraser.core.errors import UserError

if TYPE_CHECKING:
    from safeeraser.bench.spec import CellSpec

GIB = 2**30
COPIES = 2
"""Checkpoints that lie there at once: the new one is written beside the old one."""
STATES = 3
"""Numbers kept for each trained weight: the weight and AdamW's two moments, in float32."""

BEFORE = "the judge cannot be asked, so no cell is started: "


def check(config: BenchConfig, due: Sequence[CellSpec]) -> None:
    """Check the tracker's package, and the judge's server by one question.

    Args:
        config: The options.
        due: Specs of the cells that will run.

    Raises:
        UserError: If a package is missing, or the server cannot be asked; its own words are shown.
    """
    if any(spec.parsed_method() for spec in due):
        check_tracker(config.training.tracker)
    if due and due[0].judging:
        _ask_judge(config, due[0])


def _ask_judge(config: BenchConfig, spec: CellSpec) -> None:
    """One verdict by the way that all others go; what the model says of it does not matter here."""
    from safeeraser import judges
    from safeeraser.judges.api import ApiJudge
    from safeeraser.records import Response

    benchmark = spec.benchmark()
    options = replace(config.judging, retries=0)
    judge = judges.create(config.judge, benchmark.refusals, options, benchmark.image)
    if not isinstance(judge, ApiJudge):
        return
    query = spec.queries(benchmark)[0]
    task = judges.tasks_for([query], [Response(query_id=query.id, answer=query.reference, finished=True)], judge)[0]
    try:
        verdict = judge.judge(*task)
    except UserError as error:
        raise UserError(f"{BEFORE}{error}") from None
    if verdict.value is None and not (verdict.raw or verdict.model):
        raise UserError(BEFORE + (verdict.unscored or "").removeprefix(judges.FAILED))


def check_disk(due: Sequence[CellSpec], out: Path, parallel: int) -> None:
    """Refuse a run whose adapters, and checkpoints of ``parallel`` cells side by side, would not fit on the disk.

    Raises:
        UserError: If they would not fit; the message says how much is needed and how much is free.
    """
    from safeeraser.bench.estimate import measure

    trained = [spec for spec in due if spec.parsed_method()]
    if not trained:
        return
    weights = 4 * measure(trained[0].model, trained[0].training_options().lora, 336, 336).trainable
    running = min(parallel, len(trained)) if trained[0].training_options().checkpoint_steps else 0
    needed = weights * (len(trained) * (trained[0].sequence or 1) + running * COPIES * STATES)
    there = next(folder for folder in (out.resolve(), *out.resolve().parents) if folder.is_dir())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise UserError(
            f"{out}: {len(trained)} adapters and the checkpoints of {running} cells take about {needed / GIB:.1f} GiB, "
            f"and {free / GIB:.1f} are free there: choose another --out, a smaller --lora.rank, or "
            "--checkpoint_steps 0 (a killed cell then starts again)"
        )

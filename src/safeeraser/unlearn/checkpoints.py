"""Checkpoints of unlearning: where they are, who sees them, and what to do when a number is not finite."""

from __future__ import annotations

from pathlib import Path

from safeeraser.core.errors import UserError
from safeeraser.models.processes import processes


def last_checkpoint(out: Path) -> Path | None:
    """The checkpoint of the latest step in ``out``, if there is one; what is there is whole.

    Example:
        >>> import tempfile
        >>> out = Path(tempfile.mkdtemp())
        >>> (out / "checkpoint-6").mkdir(), (out / "checkpoint-12").mkdir()
        (None, None)
        >>> last_checkpoint(out).name
        'checkpoint-12'
    """
    found = checkpoints(out)
    return max(found, key=_step_of) if found else None


def checkpoints(out: Path) -> list[Path]:
    """All checkpoints in ``out``."""
    return [folder for folder in Path(out).glob("checkpoint-*") if _step_of(folder) >= 0]


def _step_of(folder: Path) -> int:
    number = folder.name.removeprefix("checkpoint-")
    return int(number) if number.isdigit() else -1


def check_shared(start: Path | None, out: Path) -> None:
    """Check that all processes go on from the same checkpoint: of others, steps would differ, and wait for ever.

    Raises:
        UserError: If they do not.

    Example:
        >>> check_shared(None, Path("runs/ga"))
    """
    if processes() == 1:
        return
    from accelerate.utils import gather_object

    seen = sorted(set(gather_object(["none" if start is None else start.name])))
    if len(seen) > 1:
        raise UserError(
            f"{out}: the processes do not see the same checkpoint there ({', '.join(seen)}): give --out in a folder "
            "that all machines share, or, if they do, start again once it looks the same on all of them"
        )


def check_finite(name: str, value: float, step: int, out: Path) -> None:
    """Raise if a number of the training is not finite, and say where the last good checkpoint is.

    A loss that goes down without bound, as gradient ascent does, is the method and no error until it overflows.

    Raises:
        UserError: If ``value`` is infinite or not a number.

    Example:
        >>> check_finite("ga", -3.0, 7, Path("runs/ga"))
    """
    if value != value or abs(value) == float("inf"):
        kept = last_checkpoint(out)
        where = f"the last good checkpoint is {kept} (it can be given as --adapter)" if kept else "nothing was saved"
        raise UserError(
            f"{name} became {value} at step {step}: {where}. Lower --training.learning_rate or "
            "--training.max_grad_norm, give the term less weight, or bound ascent with --training.ascent_bound 5; "
            "then choose another --out"
        )

"""Processes started together by ``accelerate launch`` or ``torchrun``: how many, which one this is.

Variables of a launcher are also inherited by processes that were not started by it: a notebook in a job of two, a node
whose image sets ``LOCAL_RANK=0``. accelerate takes any one of them for a launch, and fails or waits for ever where the
rest is missing; here a launch is what has all of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal, Protocol

from safeeraser.core.errors import UserError

if TYPE_CHECKING:
    from accelerate import PartialState

PATIENCE = timedelta(days=1)
"""How long one process waits for the others to end their work; if one fails, the launcher stops all at once."""
LAUNCH = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""What torchrun and accelerate launch set in every process that they start."""
MPI = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
"""Number of processes that an MPI launcher has started, as its implementations call it; accelerate reads them, too."""
Engine = Literal["CPU", "FSDP", "DEEPSPEED"]


class Team(Protocol):
    """Processes that share a work; a ``PartialState`` of accelerate is one."""

    @property
    def num_processes(self) -> int:
        """How many there are."""
        ...

    @property
    def process_index(self) -> int:
        """Which one this is, from 0."""
        ...

    def wait_for_everyone(self) -> None:
        """Return once every process has called this."""
        ...


@dataclass(frozen=True)
class _Alone:
    num_processes: int = 1
    process_index: int = 0

    def wait_for_everyone(self) -> None:
        """There is nobody to wait for."""


ALONE: Team = _Alone()
"""A process without others."""


def processes() -> int:
    """Number of processes that ``torchrun`` or ``accelerate launch`` has started together; 1 without them.

    Raises:
        UserError: If the environment speaks of several processes and lacks what they need to find each other.

    Example:
        >>> processes()
        1
    """
    size = _number("WORLD_SIZE", 1)
    if size > 1:
        missing = [name for name in LAUNCH if not os.environ.get(name)]
        if missing:
            raise UserError(
                f"{size} processes were started, but they do not work together ({', '.join(missing)} not set): start "
                "them with torchrun or accelerate launch, or unset WORLD_SIZE for one process"
            )
        if not 0 <= _number("RANK", 0) < size:
            raise UserError(
                f"RANK={os.environ['RANK']}: of {size} processes (WORLD_SIZE) the ranks are 0 to {size - 1}"
            )
        return size
    for name in MPI:
        if _number(name, 1) > 1:
            raise UserError(
                f"{name}={os.environ[name]}: several processes were started with MPI, which they do not work together "
                f"by: start them with torchrun or accelerate launch, or unset {name} for one process"
            )
    return 1


def rank() -> int:
    """Which of the processes this is, from 0; a rank that a process on its own has inherited means nothing."""
    return _number("RANK", 0) if processes() > 1 else 0


def local_rank() -> int:
    """Which of the processes of this machine this is, from 0."""
    return _number("LOCAL_RANK", 0) if processes() > 1 else 0


def is_first_process() -> bool:
    """Whether this process is the only one or the first of several: the one that writes and reports."""
    return rank() == 0


def asks_for(engine: Engine) -> bool:
    """Whether the launch asks for an engine, as ``accelerate launch`` tells its processes."""
    return os.environ.get(f"ACCELERATE_USE_{engine}", "false").lower() == "true"


def leave_launch() -> dict[str, str]:
    """Remove the variables that make this process, and what it starts, part of a launch from the environment."""
    return {name: os.environ.pop(name) for name in (*LAUNCH, *MPI) if name in os.environ}


@contextmanager
def launched() -> Iterator[None]:
    """Hide what a process on its own has inherited of a launch while the block (or the function decorated) runs.

    Raises:
        UserError: As ``processes``.

    Example:
        >>> os.environ["LOCAL_RANK"] = "0"
        >>> with launched():
        ...     os.environ.get("LOCAL_RANK")
        >>> os.environ.pop("LOCAL_RANK")
        '0'
    """
    whole = all(os.environ.get(name) for name in LAUNCH)  # torchrun starts one process like several
    inherited = leave_launch() if processes() == 1 and not whole else {}
    try:
        yield
    finally:
        os.environ.update(inherited)


def join(device: str = "auto") -> PartialState:
    """Meet the processes that were started with this one; they speak over gloo, and of nothing but waiting.

    Returns:
        Accelerate's state: a ``Team``; its ``device`` is a GPU of this process's own if there are GPUs.

    Raises:
        UserError: If the processes that were started do not find each other.
    """
    import torch
    from accelerate import PartialState

    processes()  # accelerate would wait for what is not there
    on_cpu = device == "cpu" or not torch.cuda.is_available()
    state = PartialState(cpu=on_cpu, backend="gloo", timeout=PATIENCE)
    check_together(state.num_processes)
    return state


def check_together(counted: int) -> None:
    """Check that as many processes have found each other (accelerate counts them) as were started.

    Raises:
        UserError: If it counts others.
    """
    if counted != processes():
        raise UserError(
            f"{processes()} processes were started, but they do not work together (each counts {counted}): start them "
            "with torchrun or accelerate launch"
        )


def _number(name: str, default: int) -> int:
    value = os.environ.get(name, "").strip()
    try:
        return int(value) if value else default
    except ValueError:
        raise UserError(f"{name}={value}: a launcher sets a whole number; unset it for one process") from None

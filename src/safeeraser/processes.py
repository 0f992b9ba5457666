"""Several processes started together by ``accelerate launch`` or ``torchrun``: how many, and which one this is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from safeeraser.errors import UserError

if TYPE_CHECKING:
    from accelerate import PartialState

__all__ = ["ALONE", "Team", "is_first_process", "join", "processes"]

PATIENCE = timedelta(days=1)
"""How long one process waits for the others to end their work; if one fails, the launcher stops all at once."""


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
    """How many processes ``torchrun`` or ``accelerate launch`` has started; 1 without them."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first_process() -> bool:
    """Whether this process is the only one or the first of several: the one that writes and reports."""
    return os.environ.get("RANK", "0") == "0"


def join(device: str = "auto") -> PartialState:
    """Meet the processes that were started with this one; they speak over gloo, and of nothing but waiting.

    Args:
        device: Where the model will be, as ``config.ModelOptions``.

    Returns:
        Accelerate's state: a ``Team``; its ``device`` is a GPU of this process's own if there are GPUs.

    Raises:
        UserError: If the processes that were started do not find each other.

    Example:
        >>> join().num_processes  # doctest: +SKIP
        2
    """
    import torch
    from accelerate import PartialState

    on_cpu = device == "cpu" or not torch.cuda.is_available()
    try:
        state = PartialState(cpu=on_cpu, backend="gloo", timeout=PATIENCE)
        counted = str(state.num_processes)
    except ValueError as error:  # of what a launcher says in the environment, something is missing
        counted = f"none: {error}"
    if counted != str(processes()):
        raise UserError(
            f"{processes()} processes were started, but they do not work together (each counts {counted}): start them "
            "with torchrun or accelerate launch"
        )
    return state

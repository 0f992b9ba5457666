"""Who works in a folder: one at a time, and only while the folder is the one that was there at the start."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from safeeraser.errors import UserError

__all__ = ["Hold", "hold"]

LOCK = ".lock"
"""The file that is locked; its end is the end of the folder that it lies in."""


class Hold:
    """A folder that this process works in."""

    def __init__(self, folder: Path, file: IO[Any]) -> None:
        """Remember which folder of this name is meant."""
        self._folder, self._file = folder, file

    @property
    def is_there(self) -> bool:
        """Whether the folder is still the one that was taken, neither removed nor made anew."""
        try:
            return os.path.samestat(os.stat(self._folder / LOCK), os.fstat(self._file.fileno()))
        except (FileNotFoundError, NotADirectoryError):
            return False

    def check(self) -> None:
        """Go on only in the folder that was taken.

        Raises:
            UserError: If it was removed, or another one has its name.
        """
        if not self.is_there:
            raise UserError(f"{self._folder} was removed while it was written to: run the same command again")


@contextmanager
def hold(folder: Path, shared: bool = False, busy: str | None = None) -> Iterator[Hold]:
    """Hold a folder while the block runs; a process that is killed holds nothing any more.

    Args:
        folder: An existing folder.
        shared: Let others that say so too hold it at the same time.
        busy: What to raise where another process holds it; None: wait until it does not, as after a kill, which what
            the killed process had started may outlive.

    Raises:
        UserError: With ``busy``, if another process holds the folder.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with hold(folder) as held:
        ...     held.check()
    """
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    while True:
        with open(folder / LOCK, "a") as file:
            try:
                fcntl.flock(file, kind if busy is None else kind | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(busy or "") from None
            held = Hold(folder, file)
            if not held.is_there:  # removed while this process waited
                continue
            yield held
            return

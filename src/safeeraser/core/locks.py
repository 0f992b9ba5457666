"""Exclusive or shared lock on a folder, which also notices when the folder is removed or replaced meanwhile."""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO, Any

from safeeraser.core.errors import UserError
from safeeraser.core.terminal import say

LOCK = ".lock"
"""The file that is locked; it is removed with the folder, and with it the lock."""
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
"""What a file system without locks answers: some network and FUSE file systems, NFS without its lock daemon."""


class Hold:
    """A lock that this process holds."""

    def __init__(self, folder: Path, file: IO[Any]) -> None:
        self._folder, self._file = folder, file

    @property
    def is_there(self) -> bool:
        """Whether the folder is still the one that was locked, neither removed nor made anew."""
        try:
            return os.path.samestat(os.stat(self._folder / LOCK), os.fstat(self._file.fileno()))
        except (FileNotFoundError, NotADirectoryError):
            return False

    def check(self) -> None:
        """Raise UserError if the folder was removed, or another one has its name."""
        if not self.is_there:
            raise UserError(f"{self._folder} was removed while it was written to: run the same command again")


@contextmanager
def hold(folder: Path, shared: bool = False, busy: str | None = None) -> Iterator[Hold]:
    """Lock a folder while the block runs; the lock of a process that is killed is gone with it.

    On a file system without locks this says so once, and goes on without one.

    Args:
        folder: An existing folder.
        shared: Let others that say so too hold it at the same time.
        busy: What to raise where another process holds it; None: wait until it does not, as after a kill, which what
            the killed process had started may outlive.

    Raises:
        UserError: With ``busy``, if another process holds the folder.
    """
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    while True:
        with open(folder / LOCK, "a+") as file:  # over NFS a shared lock takes a file open for reading
            try:
                fcntl.flock(file, kind if busy is None else kind | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(busy or "") from None
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
                _warn()
            held = Hold(folder, file)
            if not held.is_there:  # removed while this process waited
                continue
            yield held
            return


@cache
def _warn() -> None:
    """Say it once for a process, however many folders it locks."""
    say(
        "warning: this file system has no locks: nothing stops a second command from writing to the same folder at the "
        "same time; see to it that there is none",
        file=sys.stderr,
    )

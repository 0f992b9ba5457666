"""Locks on folders, also where the file system has none; ``tests/faults`` has those of two processes."""

import errno
import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from safeeraser.core import locks
from safeeraser.core.errors import UserError


@pytest.fixture(autouse=True)
def fresh() -> None:
    locks._warn.cache_clear()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_named_once_and_work_goes_on(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As some network and FUSE file systems answer; none can be mounted in a test, so that flock itself is replaced."""

    def flock(file: object, kind: int) -> None:
        raise OSError(code, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    for _ in range(2):
        with locks.hold(tmp_path, busy="taken") as first, locks.hold(tmp_path, shared=True) as second:
            first.check()
            second.check()
    assert capsys.readouterr().err.count("warning: this file system has no locks") == 1


def test_other_errors_of_a_lock_are_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(file: object, kind: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match="Input/output error"), locks.hold(tmp_path):
        pass


HELD = """
import sys
from pathlib import Path
from safeeraser.core import locks

with locks.hold(Path(sys.argv[1]), shared=sys.argv[2] == "shared"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("held", "wanted", "is_free"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_shared_locks_go_together_and_an_exclusive_one_with_none(
    held: bool, wanted: bool, is_free: bool, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", HELD, str(tmp_path), "shared" if held else "exclusive"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        try:
            with locks.hold(tmp_path, shared=wanted, busy="taken"):
                got = True
        except UserError as error:
            got = str(error) != "taken"
        other.communicate()
    assert got == is_free
    with locks.hold(tmp_path, busy="taken"):  # with its process the lock is gone
        pass


def test_a_shared_lock_is_taken_on_a_file_that_is_open_for_reading_as_nfs_wants_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes = []
    monkeypatch.setattr(fcntl, "flock", lambda file, kind: modes.append((file.readable(), file.writable())))
    with locks.hold(tmp_path, shared=True), locks.hold(tmp_path):
        pass
    assert modes == [(True, True)] * 2

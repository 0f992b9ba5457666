"""``python killed_cells.py ALONE KILLS CELL ...``: run cells in processes that are killed at random moments.

The first and the last cell are left alone. The first one runs in this process and imports all there is; each try is a
fork of it, so that a kill costs no start.
"""

import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path


def attempt(folder: Path, pause: float | None, scoring: bool = False) -> tuple[bool, float]:
    """Run the cell in a fork, for ``pause`` seconds at most; say whether it ended by itself, and how long it took.

    With ``scoring``, it is killed when it begins to score, which is over too soon to be hit from outside.
    """
    begun, pid = time.monotonic(), os.fork()
    if pid == 0:
        from safeeraser import metrics
        from safeeraser.bench import cell

        if scoring:
            metrics.score = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
        code = 1
        try:
            code = cell.main([str(folder)])
        finally:
            os._exit(code)
    if pause is not None:
        while time.monotonic() - begun < pause and os.waitpid(pid, os.WNOHANG) == (0, 0):
            time.sleep(0.001)
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return True, time.monotonic() - begun
    try:
        _, status = os.waitpid(pid, 0)
    except ChildProcessError:  # it was waited for above
        return True, time.monotonic() - begun
    return os.WIFEXITED(status), time.monotonic() - begun


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "cell.json":
            path.unlink()


def main(alone: Path, kills: int, folders: list[Path]) -> None:
    from safeeraser.bench import cell

    assert cell.main([str(alone)]) == 0
    _, took = attempt(folders.pop(), None)
    chance, done = random.Random(0), 0
    for folder in folders:
        here = 0
        while here < kills:
            ended, lasted = attempt(folder, chance.random() * took)
            here += not ended
            if ended:  # it was too quick for all its kills
                took = min(took, lasted)
                empty(folder)
        assert attempt(folder, None)[0]
        done += here
    print(f"{done} kills")
    (folder / "scores.json").unlink()
    assert not attempt(folder, None, scoring=True)[0]
    assert attempt(folder, None)[0]


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), [Path(name) for name in sys.argv[3:]])

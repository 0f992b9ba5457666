"""Where cells run: as processes of this machine, or as tasks of a Ray cluster.

A launcher starts ``python -m safeeraser.cell FOLDER`` somewhere and hands back a handle to ask after it. All else goes
through the files of the cell's folder, which every machine must see under the same path.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from safeeraser.clock import StageTime
from safeeraser.config import BenchConfig
from safeeraser.errors import UserError
from safeeraser.fork_server import ForkServer, has_gpu

ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
KEPT = 2**30
HEAP = {"MALLOC_TRIM_THRESHOLD_": str(KEPT), "MALLOC_MMAP_THRESHOLD_": str(KEPT)}
"""glibc's malloc keeps up to a gigabyte that was freed: a training step frees and takes the same hundreds of megabytes
again and again, and each time the system would have to zero them."""
FORWARDED = ("PYTHONPATH", "HF_HOME", "SAFEERASER_CACHE")
"""Environment variables that a cell on another machine gets from the machine that started the bench."""
RETRIES = 3
"""How often Ray starts a cell again whose worker has died; the cell goes on from its files."""


class Handle(Protocol):
    """A started cell."""

    def poll(self) -> int | None:
        """The exit status, or None while it is running."""
        ...

    def terminate(self) -> None:
        """Ask it to stop."""
        ...


class Launcher(Protocol):
    """Starts cells."""

    @property
    def parallel(self) -> int | None:
        """How many cells to start at once where the user does not say; None: all of them."""
        ...

    @property
    def imports(self) -> StageTime | None:
        """What importing took that was done once for all cells; None: each does its own."""
        ...

    def start(self, folder: Path) -> Handle:
        """Start the cell in ``folder``; what it prints is appended to ``folder/log.txt``."""
        ...

    def close(self) -> None:
        """Start no more; what still runs is stopped."""
        ...


def create(config: BenchConfig) -> Launcher:
    """The launcher that the options ask for.

    Raises:
        UserError: If it cannot be used; the message says what to do.

    Example:
        >>> type(create(BenchConfig())).__name__
        'LocalLauncher'
    """
    return LAUNCHERS[config.launcher](config)


class LocalLauncher:
    """Cells are processes of this machine, one per core: forks of one that has imported everything, where they may."""

    def __init__(self, config: BenchConfig) -> None:
        """Start the fork server, which imports while the bench plans; no cell yet.

        Raises:
            UserError: If GPUs are asked for by cell: here every cell sees all of them.
        """
        if config.gpus_per_cell:
            raise UserError(
                f"--gpus-per-cell {config.gpus_per_cell:g} needs --launcher ray; locally, choose GPUs with "
                "CUDA_VISIBLE_DEVICES and their number of cells with --jobs"
            )
        self._environment = HEAP | os.environ | ONE_THREAD
        self._server = ForkServer(self._environment) if sys.platform == "linux" else None
        if self._server is not None and has_gpu():  # torch is imported here and there at the same time
            self._server.close()
            self._server = None

    @property
    def parallel(self) -> int | None:
        """One per core."""
        return os.cpu_count() or 1

    @property
    def imports(self) -> StageTime | None:
        """The fork server's."""
        return self._server.imports if self._server is not None else None

    def start(self, folder: Path) -> Handle:
        """Start a process."""
        if self._server is not None and self._server.start(folder):
            return ForkedHandle(self._server, folder)
        return _process(folder, self._environment, os.getcwd())

    def close(self) -> None:
        """End the fork server."""
        if self._server is not None:
            self._server.close()


class ForkedHandle:
    """A cell that the fork server has started."""

    def __init__(self, server: ForkServer, folder: Path) -> None:
        """Remember whom to ask."""
        self._server = server
        self._folder = folder

    def poll(self) -> int | None:
        """The exit status, or None while it is running."""
        return self._server.poll(self._folder)

    def terminate(self) -> None:
        """Ask it to stop."""
        self._server.stop(self._folder)


class RayLauncher:
    """Cells are tasks of a Ray cluster, each with the GPUs it asks for; Ray queues them and survives lost workers.

    The cluster is the one that ``RAY_ADDRESS`` names, or the one that runs on this machine, or else a new one of this
    machine alone. A cell runs below the Ray worker and stops when the worker dies, so that no two ever write at once.
    """

    def __init__(self, config: BenchConfig) -> None:
        """Connect to the cluster.

        Raises:
            UserError: If Ray is not installed, the cluster cannot be reached, or has too few GPUs for one cell.
        """
        if config.gpus_per_cell < 0:
            raise UserError(f"--gpus-per-cell {config.gpus_per_cell:g}: give a number from 0 upwards, such as 1 or 0.5")
        try:
            import ray
        except ImportError:
            raise UserError("--launcher ray needs Ray: pip install 'safeeraser[ray]'") from None
        if not ray.is_initialized():
            try:
                ray.init(log_to_driver=False, include_dashboard=False, logging_level="warning")
            except (ConnectionError, ValueError) as error:
                address = os.environ.get("RAY_ADDRESS", "of this machine")
                raise UserError(
                    f"the Ray cluster {address} cannot be reached ({error}): start it, or mend RAY_ADDRESS"
                ) from None
        most = max((node["Resources"].get("GPU", 0.0) for node in ray.nodes() if node["Alive"]), default=0.0)
        if config.gpus_per_cell > most:
            raise UserError(
                f"--gpus-per-cell {config.gpus_per_cell:g}: no machine of the cluster has more than {most:g}"
            )
        self._ray = ray
        self._task = ray.remote(num_cpus=1, num_gpus=config.gpus_per_cell, max_retries=RETRIES)(_cell_task())

    @property
    def parallel(self) -> int | None:
        """All at once: Ray has the queue."""
        return None

    @property
    def imports(self) -> StageTime | None:
        """Each worker imports for itself."""
        return None

    def start(self, folder: Path) -> Handle:
        """Hand the cell to the cluster."""
        forwarded = {name: os.environ[name] for name in FORWARDED if name in os.environ}
        reference = self._task.remote(str(folder.resolve()), os.getcwd(), forwarded)
        return RayHandle(self._ray, reference, folder)

    def close(self) -> None:
        """Nothing: the cluster is not this launcher's."""


class RayHandle:
    """A cell in the hands of Ray."""

    def __init__(self, ray: Any, reference: Any, folder: Path) -> None:
        """Remember what to ask for."""
        self._ray = ray
        self._reference = reference
        self._folder = folder

    def poll(self) -> int | None:
        """The exit status, or None while the cell waits or runs; 1 if Ray gave up, with the reason in the log."""
        ready, _ = self._ray.wait([self._reference], timeout=0)
        if not ready:
            return None
        try:
            return int(self._ray.get(self._reference))
        except self._ray.exceptions.RayError as error:
            with open(self._folder / "log.txt", "a", encoding="utf-8") as log:
                log.write(f"error: Ray gave up after {RETRIES} retries: {str(error).splitlines()[0]}\n")
            return 1

    def terminate(self) -> None:
        """Interrupt the task, which ends the cell."""
        self._ray.cancel(self._reference)


LAUNCHERS: dict[str, Callable[[BenchConfig], Launcher]] = {"local": LocalLauncher, "ray": RayLauncher}


def _process(folder: Path, environment: Mapping[str, str], directory: str) -> subprocess.Popen[bytes]:
    with open(folder / "log.txt", "ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "safeeraser.cell", str(folder)],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            env=environment,
            cwd=directory,
        )


def _cell_task() -> Callable[[str, str, dict[str, str]], int]:
    def run_cell(folder: str, directory: str, forwarded: dict[str, str]) -> int:
        """On the worker: run the cell as a child, which is stopped when the task is interrupted or the worker dies."""
        from pathlib import Path

        from safeeraser.launchers import HEAP, ONE_THREAD, _process

        process = _process(Path(folder), HEAP | os.environ | ONE_THREAD | forwarded, directory)
        try:
            return process.wait()
        finally:
            process.kill()
            process.wait()

    return run_cell

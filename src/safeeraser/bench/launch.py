"""Where cells run: as processes of this machine, or as tasks of a Ray cluster.

A launcher starts a cell somewhere and hands back a handle to ask after it. All else goes through the files of the
cell's folder, which every machine must see under the same path.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import forkserver
from pathlib import Path
from types import ModuleType
from typing import Any

from safeeraser.bench import devices
from safeeraser.bench.devices import Gpu
from safeeraser.config import BenchConfig
from safeeraser.core.errors import UserError

ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
KEPT = 2**30
HEAP = {"MALLOC_TRIM_THRESHOLD_": str(KEPT), "MALLOC_MMAP_THRESHOLD_": str(KEPT)}
"""glibc's malloc keeps up to a gigabyte that was freed: a training step frees and takes the same hundreds of megabytes
again and again, and each time the system would have to zero them."""
PRELOADED = [
    "safeeraser.bench.cell",
    "safeeraser.unlearn",  # torch, peft, and the Trainer with all that it imports
    "safeeraser.respond",
    "safeeraser.models.chat",
    "safeeraser.judges",
    "rouge_score.rouge_scorer",  # nltk, scipy
    "transformers.models.llava.modeling_llava",  # transformers imports a model's own modules when it is loaded
    "transformers.models.llava.processing_llava",
    "transformers.models.clip.modeling_clip",
    "transformers.models.llama.modeling_llama",
]
"""What a cell imports and takes seconds to: imported once, in the fork server; of another model what is shared."""
TOGETHER = "SAFEERASER_TRAIN_TOGETHER"
"""Tells a cell how many processes train it, and the engine: "2 ddp"."""
FORWARDED = ("PYTHONPATH", "HF_HOME", "SAFEERASER_CACHE")
"""Environment variables that a cell on another machine gets from the machine that started the bench."""
RETRIES = 3
"""How often Ray starts a cell again whose worker has died; the cell goes on from its files."""


class LocalLauncher:
    """Cells are processes of this machine, each with GPUs of its own (``gpus_per_cell``); without GPUs, one per core.

    On Linux without a GPU they are forks of the standard library's fork server, which imports once what all need.
    """

    def __init__(self, config: BenchConfig) -> None:
        self.gpus: Sequence[Gpu] = devices.visible(config.loading.device)
        """Those that it spreads the cells over; none: they run on the CPU, or something else chooses."""
        self._of_cell, self._engine = _gpus_of_cell(config, self.gpus), config.engine
        self.parallel: int | None = len(self.gpus) // self._of_cell or os.cpu_count() or 1
        """How many cells to start at once where the user does not say; None: all of them."""
        self._on_gpus: list[tuple[list[Gpu], Handle]] = []
        self._has_started = False
        self._forks = sys.platform == "linux" and not self.gpus
        if self._forks:
            forkserver.set_forkserver_preload(PRELOADED)
            with _inherited():
                forkserver.ensure_running()  # it imports while the bench lists its cells

    def start(self, folder: Path) -> Handle:
        """Start the cell in ``folder``, on the GPUs with the fewest; what it prints is appended to its ``log.txt``."""
        with _inherited():
            if self.gpus:
                gpus = self._free_gpus()
                names = [gpu.visible for gpu in gpus if gpu.visible is not None]
                chosen = {devices.VARIABLE: ",".join(names)} if names else {}
                if len(gpus) > 1:
                    chosen[TOGETHER] = f"{len(gpus)} {self._engine}"
                self._on_gpus.append((gpus, _process(folder, os.environ | chosen, os.getcwd())))
                return self._on_gpus[-1][1]
            if not self._forks:
                return _process(folder, os.environ, os.getcwd())
            arguments = (str(folder), dict(os.environ))  # the fork server's may be of an earlier bench
            process = multiprocessing.get_context("forkserver").Process(target=_forked, args=arguments)
            try:
                process.start()
            except (EOFError, OSError):  # the fork server was killed, for memory perhaps
                return _process(folder, os.environ, os.getcwd())
        self._has_started = True
        return _ForkedCell(process)

    def _free_gpus(self) -> list[Gpu]:
        """A cell's GPUs: the first of those with the fewest running cells."""
        self._on_gpus = [(gpus, handle) for gpus, handle in self._on_gpus if handle.poll() is None]
        busy = [gpu for gpus, _ in self._on_gpus for gpu in gpus]
        return sorted(self.gpus, key=busy.count)[: self._of_cell]

    def close(self) -> None:
        """End the fork server and wait for it, so that its cells' processor time is counted and its memory is free.

        One that is importing still, for cells that were not started, ends by itself when this process does.
        """
        if self._has_started:
            forkserver._forkserver._stop()  # type: ignore[attr-defined]  # there is no public way


def _gpus_of_cell(config: BenchConfig, gpus: Sequence[Gpu]) -> int:
    """How many GPUs a cell trains on; one, if nothing is said."""
    wanted = config.gpus_per_cell
    if wanted in (0, 1) and (gpus or not wanted):
        return 1
    if wanted != int(wanted) or wanted < 0:
        raise UserError(f"--gpus-per-cell {wanted:g}: without --launcher ray give a whole number of GPUs")
    if wanted > len(gpus):
        raise UserError(
            f"--gpus-per-cell {wanted:g}: {len(gpus)} GPUs are visible here (nvidia-smi, {devices.VARIABLE}, "
            "--loading.device): give fewer, or --launcher ray for those of other machines"
        )
    return int(wanted)


class _ForkedCell:
    def __init__(self, process: multiprocessing.process.BaseProcess) -> None:
        self._process = process

    def poll(self) -> int | None:
        return self._process.exitcode

    def terminate(self) -> None:
        self._process.terminate()


@contextmanager
def _inherited() -> Iterator[None]:
    """Set what processes take over that are started while the block runs: environment and main module."""
    changed = {name: value for name, value in HEAP.items() if name not in os.environ} | ONE_THREAD
    before = {name: os.environ.get(name) for name in changed}
    main = sys.modules["__main__"]
    os.environ.update(changed)
    # a main module with a file would run again in every cell: a script without a guard would start its bench once more
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _forked(folder: str, environment: Mapping[str, str]) -> None:
    """The cell as a fork: what ``python -m safeeraser.bench.cell`` does, but for what is imported already."""
    from safeeraser.bench import cell

    os.environ.clear()
    os.environ.update(environment)
    with open(Path(folder) / "log.txt", "ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    gc.freeze()  # a million objects of torch and transformers, which no collection has to look at again
    raise SystemExit(cell.main([folder]))


class RayLauncher:
    """Cells are tasks of a Ray cluster, each with the GPUs it asks for; Ray queues them and survives lost workers.

    The cluster is the one that ``RAY_ADDRESS`` names, or the one that runs on this machine, or else a new one of this
    machine alone. A cell runs below the Ray worker and stops when the worker dies, so that no two ever write at once.
    """

    parallel: int | None = None  # Ray has the queue
    gpus: Sequence[Gpu] = ()

    def __init__(self, config: BenchConfig) -> None:
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
        self._ray, self._reference, self._folder = ray, reference, folder

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


Handle = subprocess.Popen[bytes] | _ForkedCell | RayHandle
"""A started cell: ``poll`` gives its exit status, or None while it is running; ``terminate`` asks it to stop."""
Launcher = LocalLauncher | RayLauncher
LAUNCHERS: dict[str, Callable[[BenchConfig], Launcher]] = {"local": LocalLauncher, "ray": RayLauncher}


def create(config: BenchConfig) -> Launcher:
    """The launcher that the options ask for.

    Example:
        >>> create(BenchConfig(gpus_per_cell=0.5))
        Traceback (most recent call last):
        safeeraser.core.errors.UserError: --gpus-per-cell 0.5: without --launcher ray give a whole number of GPUs
    """
    return LAUNCHERS[config.launcher](config)


def _process(folder: Path, environment: Mapping[str, str], directory: str) -> subprocess.Popen[bytes]:
    with open(folder / "log.txt", "ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "safeeraser.bench.cell", str(folder)],
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

        from safeeraser.bench.launch import HEAP, ONE_THREAD, _process

        process = _process(Path(folder), HEAP | os.environ | ONE_THREAD | forwarded, directory)
        try:
            return process.wait()
        finally:
            process.kill()
            process.wait()

    return run_cell

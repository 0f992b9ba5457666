"""The embedded benchmark: paper-scale, harmless, built from emoji art without network in seconds."""

from __future__ import annotations

from pathlib import Path

from safeeraser.core.errors import UserError
from safeeraser.core.files import hash_files
from safeeraser.data.loading import BENCHMARKS


@BENCHMARKS.register("pictogram")
def pictogram(cache: Path) -> Path:
    """Build the benchmark with seed 0 once into ``cache`` and return its folder.

    The folder's name carries a hash of this package's files, so that a newer version is built anew. Two processes
    may do so at the same time: the first to finish wins.
    """
    from safeeraser.data.pictogram.build import build

    folder = cache / f"pictogram-{hash_files(sorted(p for p in Path(__file__).parent.iterdir() if p.is_file()))}"
    if not folder.is_dir():
        try:
            build(folder, workers=1)  # no process pool: a script without a main guard can load, too
        except (UserError, OSError):
            if not folder.is_dir():
                raise
    return folder

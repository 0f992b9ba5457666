"""The matrix: the whole pipeline for every model x method x seed, resumable, cells side by side.

The stages meet here alone, in ``cell``; ``runs`` is the only reader of a run folder. ``matrix`` lists the cells and
runs them by a launcher of ``launch``; ``summary`` and ``compare`` say what finished cells found; ``estimate`` says
before a run what it will take. The package itself can be called, as ``api.bench``.
"""

from safeeraser.bench.matrix import run
from safeeraser.core.callable import make_callable

__all__ = ["run"]
make_callable(__name__)

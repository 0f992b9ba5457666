"""Unlearn: benchmark triples + model + method -> adapter, with ONE subclass of ``transformers.Trainer``.

The package itself can be called, as ``api.unlearn``.
"""

from safeeraser.core.callable import make_callable
from safeeraser.unlearn.stage import run

__all__ = ["run"]
make_callable(__name__)

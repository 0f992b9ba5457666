"""The garbage collector, paused where much is made that stays: it would go through all of it again and again."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["paused"]


@contextmanager
def paused(for_good: bool = False) -> Iterator[None]:
    """Pause the collector while the block runs.

    Args:
        for_good: What is there when the block ends is left alone from then on, also when the process ends; for imports:
            torch and transformers make a million objects that live as long as the process.

    Example:
        >>> with paused():
        ...     gc.isenabled()
        False
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
        if for_good:
            gc.freeze()
    finally:
        if was_enabled:
            gc.enable()

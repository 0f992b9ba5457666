"""Progress bars: a callback ``progress(done, total)`` that draws a bar with the time left."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[int, int], None]


@contextmanager
def bar(title: str, total: int | None) -> Iterator[Progress]:
    """Draw a bar on standard error while the block runs.

    Example:
        >>> with bar("respond", 2) as progress:
        ...     progress(1, 2)
        ...     progress(2, 2)
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as drawn:
        task = drawn.add_task(title, total=total)
        yield lambda done, of: drawn.update(task, completed=done, total=of)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from drawing bars of its own and from warning of its future while models are loaded."""
    from transformers.utils import logging

    was_shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
            yield
    finally:
        if was_shown:
            logging.enable_progress_bar()

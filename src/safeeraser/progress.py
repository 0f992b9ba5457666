"""Progress bars: a callback ``progress(done, total)`` that draws a bar with the time left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from safeeraser import terminal

Progress = Callable[[int, int], None]


@contextmanager
def bar(title: str, total: int | None) -> Iterator[Progress]:
    """Draw a bar on standard error while the block runs.

    Example:
        >>> with bar("respond", 2) as progress:
        ...     progress(1, 2)
        ...     progress(2, 2)
    """
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
    with Progress(*columns, console=terminal.console(stderr=True)) as drawn:
        task = drawn.add_task(title, total=total)
        yield lambda done, of: drawn.update(task, completed=done, total=of)

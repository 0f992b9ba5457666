"""Output to the terminal: lines, tables and progress bars, with control characters escaped.

Answers of models and servers may hold escape sequences, which move the cursor, rename the window or hide other text.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console

Progress = Callable[[int, int], None]
"""Told how much is done, and of how much."""
LINE_SECONDS = 60.0
"""Into a file or pipe, such as a job's log, long work writes a line about this often."""
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters but tab and line end
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # bidirectional marks
    "\ud800-\udfff]"  # lone surrogates
)
SHOWN = 10
"""Lines of a list that are shown."""
KINDS = 30
"""Kinds of lines that are shown of a longer list."""
_VALUE = re.compile(
    r"""(?<!\w)(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")(?!\w)"""  # quoted, not an apostrophe
    r"|\S*/\S*|\S+\.(?:png|jpe?g|webp|gif|bmp)\b|\d+",  # a path, the name of an image, a number
    re.IGNORECASE,
)
"""What tells problems of one kind apart."""
_PLACE = re.compile(r"\b(record|line) (\d+)")


def plain(text: object) -> str:
    r"""Escape every control character.

    Example:
        >>> print(plain("red: \x1b[31m"))
        red: \x1b[31m
    """
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), str(text))


def say(text: object = "", file: TextIO | None = None) -> None:
    r"""Print a text with its control characters escaped.

    Example:
        >>> say("nul \x00")
        nul \x00
    """
    print(plain(text), file=file or sys.stdout, flush=True)


def first(lines: Sequence[object], rest: str = "") -> Iterator[str]:
    """The first ten lines, indented, and how many more there are; ``rest`` says where.

    Example:
        >>> list(first(range(12), ", all in a file"))[-2:]
        ['  9', '  ... and 2 more, all in a file']
    """
    yield from (f"  {line}" for line in lines[:SHOWN])
    if len(lines) > SHOWN:
        yield f"  ... and {len(lines) - SHOWN:,} more{rest}"


def by_kind(lines: Iterable[object], rest: str = "") -> list[str]:
    r"""As ``first``, but more than ten lines are put together by kind, two of each: one kind hides no other.

    Lines are of one kind that differ in numbers, paths and quoted texts alone.

    Example:
        >>> print(*by_kind([*(f"record {n}: 'a{n}' is missing" for n in range(960)), "record 3: is empty"]), sep="\n")
          record 0: 'a0' is missing
          record 1: 'a1' is missing
          ... and 958 more like these (record 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, ...)
          record 3: is empty
    """
    kinds: dict[str, list[str]] = {}
    every = [str(line) for line in lines]
    for line in every:
        kinds.setdefault(_VALUE.sub("*", line), []).append(line)
    if len(every) <= SHOWN:
        return [f"  {line}" for line in every]
    shown = []
    for alike in list(kinds.values())[:KINDS]:
        kept = alike if len(alike) <= 3 else alike[:2]
        shown += [f"  {line}" for line in kept]
        if len(alike) > len(kept):
            shown.append(f"  ... and {len(alike) - len(kept):,} more like these{_places(alike[len(kept) :])}{rest}")
    if others := list(kinds.values())[KINDS:]:
        shown.append(f"  ... and {sum(map(len, others)):,} more of {len(others):,} other kinds{rest}")
    return shown


def _places(lines: Sequence[str]) -> str:
    """Where the first of some lines say that they are; empty where they do not say."""
    found = [match for line in lines[:SHOWN] if (match := _PLACE.search(line))]
    numbers = [match[2] for match in found] + ["..."] * (len(lines) > SHOWN)
    return f" ({found[0][1]} {', '.join(numbers)})" if found else ""


def console(width: int | None = None, stderr: bool = False, highlight: bool = True) -> Console:
    r"""A rich console that escapes control characters in all strings, also those in tables, and reads no markup.

    Example:
        >>> console(40).print("[red] \x1b[31m", highlight=False)
        [red] \x1b[31m
    """
    from rich.console import Console
    from rich.text import Text

    class PlainConsole(Console):
        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(plain(text), **options)

    stream = sys.stderr if stderr else sys.stdout
    return PlainConsole(
        width=None if stream.isatty() else width, stderr=stderr, highlight=highlight, markup=False, emoji=False
    )


@contextmanager
def bar(title: str, total: int | None) -> Iterator[Callable[..., None]]:
    """Draw a progress bar with the time left on standard error while the block runs; without a terminal, write lines.

    Yields:
        A ``Progress`` that also takes a ``note`` to show behind the bar.

    Example:
        >>> with bar("respond", 2) as progress:
        ...     progress(1, 2)
        ...     progress(2, 2, note="both answered")
    """
    from rich import progress

    shown = console(stderr=True)
    if not shown.is_terminal:
        lines = _Lines(title, total)
        yield lines.update
        lines.end()
        return
    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(bar_width=12),
        progress.MofNCompleteColumn(),
        progress.TimeRemainingColumn(elapsed_when_finished=True),
        progress.TextColumn("{task.fields[note]}"),
    )
    with progress.Progress(*columns, console=shown) as drawn:
        task = drawn.add_task(title, total=total, note="")
        yield lambda done, of, note="": drawn.update(task, completed=done, total=of, note=note)


class _Lines:
    """A progress bar where there is no terminal: a line each minute, and one at the end."""

    def __init__(self, title: str, total: int | None) -> None:
        self._title, self._text = title, f"0/{total}" if total else ""
        self._begun = self._said = time.monotonic()
        self._first: tuple[int, float] | None = None

    def update(self, done: int, of: int, note: str = "") -> None:
        now = time.monotonic()
        self._first = self._first or (done, now)  # what a killed run had done before says nothing about the pace
        self._text = f"{done}/{of} {note}".strip()
        if now - self._said >= LINE_SECONDS and done < of:
            self._said = now
            gained, took = done - self._first[0], now - self._first[1]
            left = f", {took / gained * (of - done) / 60:.1f} min left" if gained > 0 else ""
            say(f"{self._title} {self._text}{left}", file=sys.stderr)

    def end(self) -> None:
        say(f"{self._title} {self._text} in {time.monotonic() - self._begun:.0f} s".replace("  ", " "), file=sys.stderr)

"""Sequences that do not lie in memory: items in a temporary file, read when they are asked for, and choices of them."""

from __future__ import annotations

import os
import pickle
import tempfile
import threading
import weakref
from abc import abstractmethod
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar, overload

__all__ = ["Chosen", "OnDemand", "Spool", "where"]

T = TypeVar("T")
WRITTEN_AT_ONCE = 2**16
"""Bytes that are gathered before they are written."""


class OnDemand(Sequence[T]):
    """A sequence that makes an item each time it is asked for it; equal to every sequence of equal items.

    A slice is one, too. In a pickle it is a tuple of its items.
    """

    @abstractmethod
    def _item(self, place: int) -> T:
        """Make the item at ``place``, from 0."""

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[T]: ...
    def __getitem__(self, place: int | slice) -> T | Sequence[T]:
        """One item, or those of a slice."""
        there = range(len(self))[place]  # IndexError is its affair
        return Chosen(self, there) if isinstance(there, range) else self._item(there)

    def __iter__(self) -> Iterator[T]:
        """Make one item after the other; those of before are not kept."""
        return map(self._item, range(len(self)))

    def __eq__(self, other: object) -> bool:
        """Whether the other holds equal items in the same order."""
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        """Turn into a tuple elsewhere: what it reads from is open here alone."""
        return tuple, (tuple(self),)

    def __repr__(self) -> str:
        """Say what it is and how long; the items may be many."""
        return f"<{type(self).__name__} of {len(self):,}>"


class Spool(OnDemand[T]):
    """Items in a temporary file that has no name and ends with the process; kept of each is where it begins: 8 bytes.

    Reading is safe from threads and after a fork. The file lies where ``TMPDIR`` says.

    Args:
        items: What to put there, taken one by one; anything that can be pickled.

    Raises:
        OSError: If there is no room, or no folder for temporary files that can be written.

    Example:
        >>> words = Spool(word for word in ("a", "b", "c"))
        >>> words[1], list(words[::2]), len(words)
        ('b', ['a', 'c'], 3)
    """

    def __init__(self, items: Iterable[T] = ()) -> None:
        """Write all items."""
        self._file = tempfile.TemporaryFile(buffering=0)
        weakref.finalize(self, self._file.close)
        self._bounds = array("Q", [0])
        self._written = 0
        self._waiting = bytearray()
        self._lock = threading.Lock()
        for item in items:
            self.append(item)
        self._write()

    def append(self, item: T) -> None:
        """Put one more item at the end; not for several threads at once."""
        content = pickle.dumps(item, pickle.HIGHEST_PROTOCOL)
        self._waiting += content
        self._bounds.append(self._bounds[-1] + len(content))
        if len(self._waiting) >= WRITTEN_AT_ONCE:
            self._write()

    def _write(self) -> None:
        with self._lock:
            try:
                while self._waiting:
                    count = self._file.write(self._waiting) or 0
                    del self._waiting[:count]
                    self._written += count
            except OSError as error:
                error.filename = error.filename or tempfile.gettempdir()
                raise

    def _item(self, place: int) -> T:
        start, end = self._bounds[place], self._bounds[place + 1]
        if end > self._written:
            self._write()
        item: T = pickle.loads(os.pread(self._file.fileno(), end - start, start))
        return item

    def __len__(self) -> int:
        """Count the items."""
        return len(self._bounds) - 1


class Chosen(OnDemand[T]):
    """Some items of another sequence, in an order of their own, made when they are asked for.

    Args:
        items: The other sequence.
        places: Where in it each one stands.

    Example:
        >>> list(Chosen("abc", [2, 0]))
        ['c', 'a']
    """

    def __init__(self, items: Sequence[T], places: Sequence[int]) -> None:
        """Look at nothing yet."""
        self._items, self._places = items, places

    def _item(self, place: int) -> T:
        return self._items[self._places[place]]

    def __len__(self) -> int:
        """Count what is chosen."""
        return len(self._places)


def where(items: Sequence[T], wanted: Callable[[T], bool]) -> Chosen[T]:
    """The items that are wanted, each looked at once.

    Example:
        >>> list(where(range(10), lambda number: number % 4 == 0))
        [0, 4, 8]
    """
    return Chosen(items, array("I", (place for place, item in enumerate(items) if wanted(item))))

"""A number for each of many ids, in sixteen bytes an id: a Python dictionary of texts takes two hundred."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable
from typing import Generic, TypeVar

__all__ = ["Lookup"]

N = TypeVar("N", int, float)


class Lookup(Generic[N]):
    """A number for each id, found by the id; of two numbers for the same id the later one counts.

    Kept of an id is its hash of 64 bits, as many as an id of ours has: that two of a million ids have the same one is
    as likely as 3 in 100 million.

    Args:
        kind: ``int`` or ``float``.
        numbers: Pairs of id and number to begin with.

    Example:
        >>> found = Lookup(int, [("a", 7), ("b", 8), ("a", 9)])
        >>> found.get("a"), found.get("c"), "b" in found, len(found)
        (9, None, True, 2)
    """

    def __init__(self, kind: type[N], numbers: Iterable[tuple[str, N]] = ()) -> None:
        """Go through the pairs once."""
        self._hashes = array("q")
        self._numbers: array[N] = array("q" if kind is int else "d")
        self._is_sorted = True
        for id, number in numbers:
            self.add(id, number)
        len(self)  # sorted here, it may be asked from several threads

    def add(self, id: str, number: N) -> None:
        """Give an id a number; all are sorted again at the next question."""
        self._hashes.append(hash(id))
        self._numbers.append(number)
        self._is_sorted = False

    def _sort(self) -> None:
        import numpy as np

        order = np.argsort(np.frombuffer(self._hashes, np.int64), kind="stable")
        hashes = np.frombuffer(self._hashes, np.int64)[order]
        order = order[np.append(hashes[1:] != hashes[:-1], True)]  # the last one of each id
        self._hashes = array("q", np.frombuffer(self._hashes, np.int64)[order].tobytes())
        kind = self._numbers.typecode
        self._numbers = array(kind, np.frombuffer(self._numbers, kind)[order].tobytes())
        self._is_sorted = True

    def get(self, id: str) -> N | None:
        """The number of an id, None if it has none."""
        if not self._is_sorted:
            self._sort()
        wanted = hash(id)
        place = bisect_left(self._hashes, wanted)
        is_there = place < len(self._hashes) and self._hashes[place] == wanted
        return self._numbers[place] if is_there else None

    def __contains__(self, id: str) -> bool:
        """Whether an id has a number."""
        return self.get(id) is not None

    def __len__(self) -> int:
        """Count the ids."""
        if not self._is_sorted:
            self._sort()
        return len(self._hashes)

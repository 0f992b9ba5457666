"""How much two sequences have in common: what ROUGE-L stands on, for judges and metrics."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["lcs_length"]


def lcs_length(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence, by bits (Hyyrö 2004): one machine step per word of ``second``.

    Example:
        >>> lcs_length("abcbdab", "bdcaba")
        4
    """
    where: dict[str, int] = {}
    for position, item in enumerate(first):
        where[item] = where.get(item, 0) | (1 << position)
    full = (1 << len(first)) - 1
    row = full
    for item in second:
        hits = row & where.get(item, 0)
        row = ((row + hits) | (row - hits)) & full
    return len(first) - row.bit_count()

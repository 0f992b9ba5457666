"""The order in which triples are trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler


class EpochSampler(Sampler[int]):
    """The order of one epoch: shuffled by seed and epoch, then filled up to whole optimizer steps from its beginning.

    So every step averages the same number of triples, however they are spread over passes and processes.

    Args:
        size: Number of triples.
        multiple: Triples per optimizer step over all processes.
        seed: Seed of the order.
        groups: Of each triple; triples of one group stay together. None: each for itself.

    Example:
        >>> order = list(EpochSampler(3, 2, seed=0))
        >>> len(order), sorted(order[:3]), order[3] == order[0]
        (4, [0, 1, 2], True)
    """

    def __init__(self, size: int, multiple: int, seed: int, groups: Sequence[str] | None = None) -> None:
        """Start in epoch 0."""
        self._size = size
        self._length = -(-size // multiple) * multiple
        self._seed = seed
        self._groups = groups
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Take the order of this epoch from now on."""
        self._epoch = epoch

    def __len__(self) -> int:
        """Number of triples in an epoch, those that fill it up included."""
        return self._length

    def __iter__(self) -> Iterator[int]:
        """Indices of triples."""
        order = torch.randperm(self._size, generator=torch.Generator().manual_seed(self._seed + self._epoch)).tolist()
        if self._groups is not None:
            first: dict[str, int] = {}
            for place, index in enumerate(order):
                first.setdefault(self._groups[index], place)
            order = [index for _, index in sorted((first[self._groups[index]], index) for index in order)]
        return (order[index % self._size] for index in range(self._length))

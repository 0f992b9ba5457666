"""The order in which triples are trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler

from safeeraser.config import GroupBy


class EpochSampler(Sampler[int]):
    """The order of one epoch: shuffled by seed and epoch, then filled up to whole optimizer steps from its beginning.

    So every step averages the same number of triples, however they are spread over passes and processes.

    Args:
        size: Number of triples.
        multiple: Triples per optimizer step over all processes.
        seed: Seed of the order.
        pictures: Of each triple; those about one image stay together as ``group_by`` says.
        group_by: All of them, two, or none ("image", "pair", "none").

    Example:
        >>> order = list(EpochSampler(3, 2, seed=0))
        >>> len(order), sorted(order[:3]), order[3] == order[0]
        (4, [0, 1, 2], True)
        >>> list(EpochSampler(6, 6, seed=0, pictures="aaabbb", group_by="pair"))
        [0, 2, 3, 5, 1, 4]
    """

    def __init__(
        self, size: int, multiple: int, seed: int, pictures: Sequence[str] = (), group_by: GroupBy = "none"
    ) -> None:
        self._size = size
        self._length = -(-size // multiple) * multiple
        self._seed = seed
        self._pictures = pictures
        self._together = {"none": 1, "pair": 2, "image": size}[group_by]
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
        if self._together > 1:
            groups: list[list[int]] = []  # in the order in which their first triples come up
            latest: dict[str, list[int]] = {}
            for index in order:
                group = latest.get(self._pictures[index])
                if group is None or len(group) == self._together:
                    group = latest[self._pictures[index]] = []
                    groups.append(group)
                group.append(index)
            order = [index for group in groups for index in sorted(group)]
        return (order[index % self._size] for index in range(self._length))

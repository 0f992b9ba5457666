"""What is asked under an attack: queries made of a cell's own, and their images as the attack shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from safeeraser.attacks.attack import Attack, Options, Scene
from safeeraser.data.images import ImageCache
from safeeraser.records import Query, Record
from safeeraser.store import stable_hash

if TYPE_CHECKING:
    from PIL.Image import Image

    from safeeraser.data import Benchmark

__all__ = ["AttackedImages", "attacked"]

MARK = "#"
"""Between an image's path and the query that it is changed for."""


def attacked(attack: Attack, queries: Sequence[Query], records: Mapping[str, Record], options: Options) -> list[Query]:
    """Make the queries of an attack: one for each, in the same set, about the same record, with its own id.

    Where the attack changes images, the image is named ``PATH#QUERY``, as each query has its own; ``AttackedImages``
    knows what that means.

    Args:
        attack: The attack.
        queries: What was asked without it.
        records: By id, those that the queries are about.
        options: Of the attacks.

    Returns:
        Queries in the same order; those about a record without a safe image are left out where the attack needs one.

    Raises:
        UserError: If the attack cannot change one of the questions.

    Example:
        >>> from safeeraser.attacks import ATTACKS
        >>> attacked(ATTACKS["crop"], [], {}, Options())
        []
    """
    needs_safe = "safe image" in attack.needs
    found = []
    for query in queries:
        if needs_safe and records[query.record_id].safe_image is None:
            continue
        changed = {"id": stable_hash(query.id, "attack", attack.name, options.seed)}
        if attack.ask is not None:
            changed["question"] = attack.ask(query.question, attack.rng(query.id, options.seed), options)
        if attack.show is not None:
            changed["image"] = f"{query.image}{MARK}{query.id}"
        found.append(query.model_copy(update=changed))
    return found


class AttackedImages:
    """The images of attacked queries, changed after they were decoded; see ``respond.Images``.

    Args:
        benchmark: Where the images lie.
        attack: The attack; one that leaves images alone is as good.
        queries: What was asked without it.
        seed: Seed of what it draws.

    Example:
        >>> AttackedImages(benchmark, ATTACKS["crop"], queries, 0).get("img/Weapon/1.png#1f3c")  # doctest: +SKIP
    """

    def __init__(self, benchmark: Benchmark, attack: Attack, queries: Sequence[Query], seed: int) -> None:
        """Start with no image read."""
        self._images = ImageCache(benchmark)
        self._attack = attack
        self._queries = {query.id: query for query in queries}
        needs_safe = "safe image" in attack.needs
        self._safe = {record.id: record.safe_image for record in benchmark.records if needs_safe}
        self._seed = seed

    def get(self, name: str) -> Image:
        """The image, as RGB.

        Args:
            name: The ``image`` of an attacked query.

        Raises:
            UserError: As ``ImageCache.get``.
        """
        if self._attack.show is None:
            return self._images.get(name)
        path, _, id = name.rpartition(MARK)
        query, image = self._queries[id], self._images.get(path)
        safe = self._safe.get(query.record_id)
        scene = Scene(query.question, None if safe is None else self._images.get(safe))
        return self._attack.show(image, scene, self._attack.rng(id, self._seed))

"""What is asked under an attack: queries made of a cell's own, and their images as the attack shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from safeeraser.attacks.attack import Attack, Scene
from safeeraser.core.files import stable_hash
from safeeraser.data.images import ImageCache
from safeeraser.records import Query, Record

if TYPE_CHECKING:
    from PIL.Image import Image

    from safeeraser.data import Benchmark

MARK = "#"
"""Between an image's path and the query that it is changed for."""


def attacked(
    attack: Attack,
    queries: Sequence[Query],
    records: Mapping[str, Record],
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> list[Query]:
    """Make the queries of an attack: one for each, in the same set, about the same record, with its own id.

    Where the attack changes images, the image is named ``PATH#QUERY``, as each query has its own; ``AttackedImages``
    knows what that means. Queries about a record without a safe image are left out where the attack needs one.

    ``records`` by id, ``options`` of attacks by name.

    Raises:
        UserError: If the attack cannot change one of the questions.

    Example:
        >>> from safeeraser.attacks import ATTACKS
        >>> attacked(ATTACKS.get("crop"), [], {})
        []
    """
    arguments = attack.arguments(options or {})
    changed = []
    for query in queries:
        if attack.needs == "safe image" and records[query.record_id].safe_image is None:
            continue
        update = {"id": stable_hash(query.id, "attack", attack.name, seed)}
        if attack.ask is not None:
            update["question"] = attack.ask(query.question, attack.rng(query.id, seed), **arguments)
        if attack.show is not None:
            update["image"] = f"{query.image}{MARK}{query.id}"
        elif attack.hides:
            update["image"] = ""
        changed.append(query.model_copy(update=update))
    return changed


class AttackedImages:
    """The images of attacked queries, changed after they were decoded; see ``respond.Images``."""

    def __init__(self, benchmark: Benchmark, attack: Attack, queries: Sequence[Query], seed: int) -> None:
        self._images, self._attack, self._seed = ImageCache(benchmark), attack, seed
        self._queries = {query.id: query for query in queries}
        self._safe = {r.id: r.safe_image for r in benchmark.records if attack.needs == "safe image"}

    def get(self, name: str) -> Image:
        """The image of an attacked query, as RGB.

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

"""What train gives away about val: the same records, images and texts on both sides.

A val record *leaks* if what it asks was trained on, so that its score says nothing about generality. Three things
count: ``record`` (the whole record stands in train), ``image`` (its image is one of train's, pixel by pixel),
``texts`` (all its questions and answers are those of one train record, as when only the image file differs). Two more
are looked for and count on demand: ``near`` (its image looks like one of train's) and ``pairs`` (a harmful question
with its answer stands in train: normal for data made from templates, a leak where each answer was written for its
image).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from typing import Literal, TypeAlias, get_args

from safeeraser.data.benchmark import Benchmark
from safeeraser.data.check.hashes import NEAR_BITS, ImageHash, alike
from safeeraser.data.check.texts import all_texts, forget_texts
from safeeraser.records import Frozen, Record

Through = Literal["record", "image", "texts", "near", "pairs"]
ALWAYS: tuple[Through, ...] = ("record", "image", "texts")
"""What counts as a leak without being asked for."""
Kind = Literal["unsafe", "safe"]
_Keys: TypeAlias = Callable[[Record], Sequence[Hashable]]


class Leak(Frozen):
    """A val record and the train record that gives it away."""

    record: str
    category: str
    image: str
    through: Through
    train_record: str
    train_image: str


class NearPair(Frozen):
    """Two images of different splits that look alike without being the same: ``bits`` of 256 differ."""

    kind: Kind
    val_image: str
    train_image: str
    bits: int


def near_pairs(benchmark: Benchmark, hashes: Mapping[str, ImageHash], bits: int = NEAR_BITS) -> list[NearPair]:
    """Compare every val image with every train image of its kind (unsafe, safe); the most alike come first.

    Args:
        benchmark: The benchmark.
        hashes: From ``hash_images``; images without one are passed over.
        bits: Differing bits of 256 up to which two images look alike.

    Raises:
        UserError: If ``bits`` is out of range.
    """
    pairs = []
    for kind in get_args(Kind):
        shown = {(r.split, r.image if kind == "unsafe" else r.safe_image) for r in benchmark.records}
        train, val = (sorted(path for path in hashes if (split, path) in shown) for split in ("train", "val"))
        for row, column, distance in alike([hashes[p] for p in val], [hashes[p] for p in train], bits):
            if hashes[val[row]].pixels != hashes[train[column]].pixels:
                pairs.append(NearPair(kind=kind, val_image=val[row], train_image=train[column], bits=distance))
    return sorted(pairs, key=lambda pair: (pair.bits, pair.val_image, pair.train_image))


def find_leaks(benchmark: Benchmark, hashes: Mapping[str, ImageHash], near: Iterable[NearPair] = ()) -> list[Leak]:
    """Find every val record that train gives away, through each of ``Through``, in the order of val.

    Args:
        benchmark: The benchmark.
        hashes: From ``hash_images``; an image without one is never found to leak.
        near: From ``near_pairs``.

    Returns:
        At most one leak for each val record and ``through``.
    """
    looks: dict[str, list[str]] = defaultdict(list)
    for pair in near:
        if pair.kind == "unsafe":
            looks[pair.val_image].append(pair.train_image)

    def pictures(*paths: str | None) -> list[str]:
        return [hashes[path].pixels for path in paths if path is not None and path in hashes]

    train = benchmark.split("train")
    finders: dict[Through, tuple[_Keys, _Keys]] = {  # what a train record gives away, what a val record looks for
        "record": (_content, _content),
        "image": (lambda record: pictures(record.image, record.safe_image), lambda record: pictures(record.image)),
        "texts": (all_texts, all_texts),
        "near": (lambda record: [record.image], lambda record: [*looks[record.image]]),
        "pairs": (forget_texts, forget_texts),
    }
    indices = {through: _index(train, keys) for through, (keys, _) in finders.items()}
    leaks = []
    for record in benchmark.split("val"):
        about = {"record": record.id, "category": record.category, "image": record.image}
        for through, (_, keys) in finders.items():
            twin = next((indices[through][key] for key in keys(record) if key in indices[through]), None)
            if twin is not None:
                leaks.append(Leak(**about, through=through, train_record=twin.id, train_image=twin.image))
    return leaks


def held_out_ids(benchmark: Benchmark, leaks: Iterable[Leak], counted: Collection[Through] = ALWAYS) -> tuple[str, ...]:
    """Ids of the val records that leak through nothing that counts, in the order of val."""
    leaked = {leak.record for leak in leaks if leak.through in counted}
    return tuple(record.id for record in benchmark.split("val") if record.id not in leaked)


def copied_records(benchmark: Benchmark) -> int:
    """How many val records stand in train as they are; reads no image, so that every run can afford to ask."""
    train = {_content(record)[0] for record in benchmark.split("train")}
    return sum(_content(record)[0] in train for record in benchmark.split("val"))


def _index(records: Iterable[Record], keys: _Keys) -> dict[Hashable, Record]:
    index: dict[Hashable, Record] = {}
    for record in records:
        for key in keys(record):
            index.setdefault(key, record)
    return index


def _content(record: Record) -> list[str]:
    fields = {"category", "keyword", "type", "image", "safe_image", "safe_concept", "forget", "retain"}
    return [record.model_dump_json(include=fields)]

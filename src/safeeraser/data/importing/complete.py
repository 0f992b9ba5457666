"""What a release lacks for PD: safe images, the normal answers about them, and, if asked for, the long retain answers.

Nothing here asks a model: ``gaps`` lists the questions, ``fill`` takes the answers. What a record says already stays.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from safeeraser.core.errors import UserError
from safeeraser.core.files import stable_hash
from safeeraser.data.benchmark import Benchmark
from safeeraser.data.importing.safe_images import SafeImage, needs_one
from safeeraser.data.release.problems import Problem
from safeeraser.records import ForgetPair, Query, QuerySet, Record, RetainPair, Split


@dataclass(frozen=True)
class Gap:
    """An answer that a record lacks: where it belongs, and the question to ask for it."""

    file: str
    record: int
    field: str
    query: Query
    """Questions that are the same about the same image have the same id: they are asked once."""


def gaps(benchmark: Benchmark, retain: bool = False) -> list[Gap]:
    """List the answers that records with a safe image lack (``sd_response``, absent or blank).

    With ``retain`` also those that retain pairs lack (``Prediction``, the long answer).
    """
    return [
        gap
        for split in get_args(Split)
        for number, record in enumerate(benchmark.split(split), 1)
        for gap in _gaps(record, number, retain)
    ]


def fill(benchmark: Benchmark, answers: Mapping[str, str], retain: bool = False) -> Benchmark:
    """Put answers (by the id of the query) where ``gaps`` finds none; what has no answer in either place stays."""
    records = []
    for record in benchmark.records:
        forget = tuple(_answered(record, pair, answers) for pair in record.forget)
        long = tuple(_lengthened(record, pair, answers) if retain else pair for pair in record.retain)
        records.append(record.model_copy(update={"forget": forget, "retain": long}))
    return replace(benchmark, records=tuple(records))


def trainable(benchmark: Benchmark) -> Benchmark:
    """The benchmark without those questions of train records that PD cannot train on; val stays as it is.

    Such a question has no safe image or no normal answer. A record of which no question is left goes as a whole.

    Raises:
        UserError: If no train record is left.
    """
    records = []
    for record in benchmark.records:
        kept = [i for i, p in enumerate(record.forget) if p.safe_answer is not None and record.safe_image is not None]
        if record.split == "val" or len(kept) == len(record.forget):
            records.append(record)
        elif kept:
            pairs = record.source["unsafe_pairs"]
            source = record.source | {"unsafe_pairs": [pairs[index] for index in kept]}
            forget = tuple(record.forget[index] for index in kept)
            records.append(record.model_copy(update={"forget": forget, "source": source}))
    if not any(record.split == "train" for record in records):
        raise UserError("no question of a train record has a normal answer, so that dropping would leave none")
    return replace(benchmark, records=tuple(records))


def place(benchmark: Benchmark, paired: Mapping[str, SafeImage], root: Path) -> Benchmark:
    """Put all images of a benchmark, and the safe images of the pairing, into another dataset folder.

    Files are hard links where the file system has them, else copies. A safe image goes to
    ``SDimg/NAME-CONTENT.SUFFIX``. Returns the benchmark in its new place ``root``, with the safe images in its records.

    Raises:
        UserError: If a file is in the way that is another one.
    """
    names = {image.content: _name(image) for image in paired.values()}
    records = tuple(
        record.model_copy(update={"safe_image": names[paired[record.id].content]}) if record.id in paired else record
        for record in benchmark.records
    )
    old = {path for r in benchmark.records for path in (r.image, r.safe_image) if path}
    for relative in sorted(old | {probe.image for probe in benchmark.probes}):
        _link(benchmark.image(relative), root / relative)
    for image in {image.content: image for image in paired.values()}.values():
        _link(image.path, root / names[image.content])
    return replace(benchmark, records=records, root=root)


def unpaired(benchmark: Benchmark) -> list[Problem]:
    """Records that get no safe image, as they have answers about one that they do not name."""
    message = (
        "is missing, but sd_response is there, written about an image that is not named; name it, or remove "
        "sd_response to have both made anew"
    )
    return [
        Problem(f"all_{split}.json", number, "SDImage_path", message)
        for split in get_args(Split)
        for number, record in enumerate(benchmark.split(split), 1)
        if record.safe_image is None and not needs_one(record)
    ]


def _gaps(record: Record, number: int, retain: bool) -> Iterator[Gap]:
    file = f"all_{record.split}.json"
    for index, pair in enumerate(record.forget):
        if record.safe_image is not None and pair.safe_answer is None:
            query = _query(record, "safe", record.safe_image, pair.question)
            yield Gap(file, number, f"unsafe_pairs[{index}].sd_response", query)
    for slot in record.retain if retain else ():
        if _lacks_prediction(record, slot):
            query = _query(record, "retain", record.image, slot.question)
            yield Gap(file, number, f"UnharmPair_{slot.slot}.Prediction", query)


def _answered(record: Record, pair: ForgetPair, answers: Mapping[str, str]) -> ForgetPair:
    if record.safe_image is None or pair.safe_answer is not None:
        return pair
    answer = answers.get(_query(record, "safe", record.safe_image, pair.question).id)
    return pair.model_copy(update={"safe_answer": answer})


def _lengthened(record: Record, pair: RetainPair, answers: Mapping[str, str]) -> RetainPair:
    answer = answers.get(_query(record, "retain", record.image, pair.question).id)
    return pair.model_copy(update={"answer": answer}) if answer and _lacks_prediction(record, pair) else pair


def _lacks_prediction(record: Record, pair: RetainPair) -> bool:
    written: dict[str, Any] = record.source.get(f"UnharmPair_{pair.slot}") or {}
    return not (written.get("Prediction") or "").strip()


def _query(record: Record, query_set: QuerySet, image: str, question: str) -> Query:
    return Query(
        id=stable_hash("complete", query_set, image, question),
        record_id=record.id,
        set=query_set,
        category=record.category,
        image=image,
        question=question,
        reference="",
    )


def _name(image: SafeImage) -> str:
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", image.path.stem).strip("-")[:60] or "image"
    return f"SDimg/{stem}-{image.content[:8]}{image.path.suffix.lower()}"


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        if not target.samefile(source) and target.read_bytes() != source.read_bytes():
            raise UserError(f"{target} is there and differs from {source}: choose another --out")
        return
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        partial = target.with_name(f".{target.name}.part")
        shutil.copyfile(source, partial)
        partial.replace(target)

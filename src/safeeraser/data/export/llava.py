"""The conversation JSON that LLaVA's training scripts read: one file per split and set."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safeeraser.core.files import atomic_folder, write_json
from safeeraser.core.terminal import Progress
from safeeraser.data.benchmark import Benchmark
from safeeraser.data.check.texts import TextSet
from safeeraser.records import Record


def export_llava(benchmark: Benchmark, out: Path, progress: Progress | None = None) -> list[Path]:
    """Write ``SPLIT_SET.json`` for each split and set (forget, retain, decouple) that has pairs.

    Images are named relative to the dataset folder and not copied: give LLaVA ``--image_folder`` that folder.
    ``out`` is made, ``progress`` called with (records done, all records). Returns the files written.

    Raises:
        UserError: If ``out`` is taken.
    """
    files: dict[str, list[dict[str, Any]]] = {}
    for done, record in enumerate(benchmark.records, 1):
        for kind, item in conversations(record):
            files.setdefault(f"{record.split}_{kind}.json", []).append(item)
        if progress:
            progress(done, len(benchmark.records))
    with atomic_folder(out) as folder:
        for name, items in files.items():
            write_json(folder / name, items)
    return [Path(out) / name for name in files]


def conversations(record: Record) -> Iterator[tuple[TextSet, dict[str, Any]]]:
    """Every pair of a record as one turn of a conversation, with the set that it belongs to.

    A forget pair without a safe image or safe answer has no decouple pair.

    Example:
        >>> from safeeraser.records import ForgetPair
        >>> pair = ForgetPair(question="How is it made?", unsafe_answer="From [hazard A].")
        >>> record = Record(id="r", split="train", category="Weapon", keyword="axe", type="", image="img/1.png",
        ...                 forget=(pair,), retain=())
        >>> [(name, item["image"], item["conversations"][1]["value"]) for name, item in conversations(record)]
        [('forget', 'img/1.png', 'From [hazard A].')]
    """
    for index, forget in enumerate(record.forget):
        yield "forget", _turn(f"{record.id}-forget-{index}", record.image, forget.question, forget.unsafe_answer)
    for retain in record.retain:
        yield "retain", _turn(f"{record.id}-retain-{retain.slot}", record.image, retain.question, retain.answer)
    for index, forget in enumerate(record.forget):
        if record.safe_image is not None and forget.safe_answer is not None:
            id = f"{record.id}-decouple-{index}"
            yield "decouple", _turn(id, record.safe_image, forget.question, forget.safe_answer)


def _turn(id: str, image: str, question: str, answer: str) -> dict[str, Any]:
    return {
        "id": id,
        "image": image,
        "conversations": [
            {"from": "human", "value": f"<image>\n{question}"},
            {"from": "gpt", "value": answer},
        ],
    }

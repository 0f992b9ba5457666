"""The layout of the SafeEraser release, read and written.

``dataset/all_train.json`` and ``dataset/all_val.json`` hold the records, as a JSON list or as JSON lines;
``dataset/prompt.json`` the refusals; ``dataset/probes.json``, our own and optional, capability probes. Copies in the
wild lack keys: what training and evaluation can do without may be missing; the lack of anything else is an error that
names file, record and field. Unknown keys are kept in ``Record.extra`` and written back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, get_args

from safeeraser.data.benchmark import Benchmark, Probe, ProbeKind
from safeeraser.data.fields import Fields, read_objects
from safeeraser.errors import UserError
from safeeraser.records import ForgetPair, Record, RetainPair, Split
from safeeraser.store import hash_files, read_json, stable_hash, write_json

SPLITS: tuple[Split, ...] = ("train", "val")
SLOTS = ("text1", "text2", "image1", "image2")
"""Retain pairs of a record, in this order: two about the concept, two about the image."""


def read_release(folder: Path) -> Benchmark:
    """Read a folder in the release layout.

    Args:
        folder: The dataset folder, or its parent if the dataset folder is called ``dataset``.

    Returns:
        The benchmark, under the folder's name. A missing ``prompt.json`` or ``probes.json`` means none of them.

    Raises:
        UserError: If there is no split file, or something a record cannot do without is missing or malformed.

    Example:
        >>> import tempfile
        >>> out = Path(tempfile.mkdtemp())
        >>> write_release(out, [], refusals=["I am sorry, but I cannot help."])
        >>> read_release(out).refusals
        ('I am sorry, but I cannot help.',)
    """
    folder = Path(folder)
    root = next((root for root in (folder / "dataset", folder) if _split_files(root)), None)
    if root is None:
        raise UserError(f"{folder}: neither all_train.json nor all_val.json is here or in {folder / 'dataset'}")
    splits = _split_files(root)
    prompts, probe_file = root / "prompt.json", root / "probes.json"
    records = tuple(record for split, path in splits.items() for record in _read_records(path, split))
    probes = tuple(_probe(fields) for fields in read_objects(probe_file)) if probe_file.is_file() else ()
    images = {path for record in records for path in (record.image, record.safe_image) if path}
    sizes = [(image, _size(root / image)) for image in sorted(images | {probe.image for probe in probes})]
    files = [path for path in (*splits.values(), prompts, probe_file) if path.is_file()]
    return Benchmark(
        name=folder.resolve().name,
        root=root,
        records=records,
        refusals=_read_refusals(prompts) if prompts.is_file() else (),
        probes=probes,
        fingerprint=stable_hash(hash_files(files), sizes),
    )


def write_release(
    folder: Path, records: Iterable[Record], refusals: Sequence[str] = (), probes: Sequence[Probe] = ()
) -> None:
    """Write records, refusals and probes to ``folder/dataset``; the images are the caller's.

    Reading them again gives equal records. Absent values are left out, not written as null.

    Example:
        >>> import tempfile
        >>> write_release(Path(tempfile.mkdtemp()), [], refusals=["I am sorry, but I cannot help."])
    """
    root, everything = Path(folder) / "dataset", list(records)
    for split in SPLITS:
        write_json(root / f"all_{split}.json", [_to_release(record) for record in everything if record.split == split])
    write_json(root / "prompt.json", {"idk": list(refusals)})
    if probes:
        write_json(root / "probes.json", [probe.model_dump() for probe in probes])


def _split_files(root: Path) -> dict[Split, Path]:
    return {split: path for split in SPLITS if (path := root / f"all_{split}.json").is_file()}


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _read_records(path: Path, split: Split) -> Iterator[Record]:
    copies: Counter[str] = Counter()
    for fields in read_objects(path):
        record = _record(fields, split)
        copies[record.id] += 1
        if copies[record.id] > 1:  # identical records of a file stay apart
            record = record.model_copy(update={"id": stable_hash(record.id, "copy", copies[record.id])})
        yield record


def _record(fields: Fields, split: Split) -> Record:
    image = fields.optional_text("image_path") or fields.optional_text("image_id")
    if not image:
        raise fields.error("image_path", image, "the image's path relative to the dataset folder (or image_id)")
    forget = fields.objects("unsafe_pairs")
    slots = {slot: pair for slot in SLOTS if (pair := fields.optional_object(f"UnharmPair_{slot}")) is not None}
    record = Record(
        id="",
        split=split,
        category=fields.optional_text("category") or PurePosixPath(image).parent.name,
        keyword=fields.optional_text("keyword") or "",
        type=fields.optional_text("type") or "",
        image=image,
        safe_image=fields.optional_text("SDImage_path") or None,
        safe_concept=fields.optional_text("SDkeyword") or None,
        forget=tuple(_forget_pair(pair) for pair in forget),
        retain=tuple(_retain_pair(slot, pair) for slot, pair in slots.items()),
    )
    extra = fields.rest()
    unknown = [pair.rest() for pair in forget]
    if any(unknown):
        extra["unsafe_pairs"] = unknown
    extra |= {f"UnharmPair_{slot}": unread for slot, pair in slots.items() if (unread := pair.rest())}
    return record.model_copy(update={"id": stable_hash(record.model_dump(exclude={"id", "extra"})), "extra": extra})


def _forget_pair(fields: Fields) -> ForgetPair:
    return ForgetPair(
        question=fields.text("question"),
        unsafe_answer=fields.text("model_response"),
        safe_answer=fields.optional_text("sd_response"),
    )


def _retain_pair(slot: str, fields: Fields) -> RetainPair:
    question, short, long = fields.text("Question"), fields.optional_text("Answer"), fields.optional_text("Prediction")
    answer = long or short
    if answer is None:
        raise fields.error("Prediction", None, "the answer to train on and to score against (or Answer)")
    return RetainPair(slot=slot, question=question, short_answer=short or "", answer=answer)


def _probe(fields: Fields) -> Probe:
    kind = fields.text("kind")
    for known in get_args(ProbeKind):
        if kind == known:
            return Probe(
                image=fields.text("image"), question=fields.text("question"), answer=fields.text("answer"), kind=known
            )
    raise fields.error("kind", kind, f"one of {', '.join(get_args(ProbeKind))}")


def _read_refusals(path: Path) -> tuple[str, ...]:
    content = read_json(path)
    refusals = content.get("idk") if isinstance(content, dict) else None
    if not isinstance(refusals, list) or not all(isinstance(refusal, str) for refusal in refusals):
        raise UserError(f'{path}, field idk: must be a list of refusals: {{"idk": ["I am sorry, but ...", ...]}}')
    return tuple(refusals)


def _to_release(record: Record) -> dict[str, Any]:
    extra = dict(record.extra)
    pair_extras = extra.pop("unsafe_pairs", [{}] * len(record.forget))
    item = {
        "type": record.type,
        "keyword": record.keyword,
        "category": record.category,
        "image_path": record.image,
        "SDImage_path": record.safe_image,
        "SDkeyword": record.safe_concept,
        "unsafe_pairs": [
            _present(question=pair.question, model_response=pair.unsafe_answer, sd_response=pair.safe_answer) | rest
            for pair, rest in zip(record.forget, pair_extras, strict=True)
        ],
    }
    for pair in record.retain:
        key = f"UnharmPair_{pair.slot}"
        texts = {"Question": pair.question, "Answer": pair.short_answer, "Prediction": pair.answer}
        item[key] = texts | extra.pop(key, {})
    return _present(**item) | extra


def _present(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}

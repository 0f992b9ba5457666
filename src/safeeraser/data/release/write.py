"""Writes the release layout; what was read is written back key for key, but for what has changed since."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, get_args

from safeeraser.core.files import atomic, write_json
from safeeraser.data.benchmark import Benchmark, Form, Layout, Probe
from safeeraser.records import ForgetPair, Record, RetainPair, Split

SPLITS: tuple[Split, ...] = get_args(Split)
PROMPTS, PROBES = "prompt.json", "probes.json"


def write_release(
    folder: Path, records: Iterable[Record], refusals: Sequence[str] = (), probes: Sequence[Probe] = ()
) -> None:
    """Write records, refusals and probes to ``folder/dataset``; the images are the caller's.

    Reading them again gives equal records. Absent values are left out, not written as null.

    Example:
        >>> import tempfile
        >>> write_release(Path(tempfile.mkdtemp()), [], refusals=["I am sorry, but I cannot help."])
    """
    layout = Layout(dict.fromkeys(SPLITS, "list"), {}, "list" if probes else None)
    benchmark = Benchmark("", Path(folder) / "dataset", tuple(records), tuple(refusals), tuple(probes), "", layout)
    rewrite(benchmark)


def rewrite(benchmark: Benchmark, root: Path | None = None) -> None:
    """Write the JSON files of a benchmark, each atomically, in the form in which they were read.

    What was read comes out equal as JSON: keys, their order, unknown keys, nulls, ``image_id``, list or lines, the
    absence of a file. What a record has changed, gained or lost since is changed, added or removed. Records and safe
    images that were skipped when the benchmark was read, or left out by ``limited``, are not written.

    Args:
        benchmark: What to write; its images stay where they are.
        root: The dataset folder to write to; the benchmark's own if None.
    """
    root = benchmark.root if root is None else Path(root)
    layout = benchmark.layout or Layout(dict.fromkeys(SPLITS, "list"), {}, "list" if benchmark.probes else None)
    for split in SPLITS:
        items = [_record(record) for record in benchmark.split(split)]
        if items or split in layout.forms:
            _write_items(root / f"all_{split}.json", items, layout.forms.get(split, "list"))
    if benchmark.refusals or layout.prompts is not None:
        write_json(root / PROMPTS, (layout.prompts or {}) | {"idk": list(benchmark.refusals)})
    if benchmark.probes or layout.probes is not None:
        _write_items(root / PROBES, [_probe(probe) for probe in benchmark.probes], layout.probes or "list")


def _write_items(path: Path, items: Sequence[dict[str, Any]], form: Form) -> None:
    if form == "list":
        write_json(path, items)
        return
    with atomic(path) as file:
        file.writelines(json.dumps(item, ensure_ascii=False) + "\n" for item in items)


def _record(record: Record) -> dict[str, Any]:
    source = record.source
    item = dict(source)
    image = "image_path" if _text(source, "image_path") or not _text(source, "image_id") else "image_id"
    folder = PurePosixPath(_text(source, image) or "").parent.name
    _put(item, "type", record.type, _text(source, "type") or "")
    _put(item, "keyword", record.keyword, _text(source, "keyword") or "")
    _put(item, "category", record.category, _text(source, "category") or folder)
    _put(item, image, record.image, _text(source, image))
    _put(item, "SDImage_path", record.safe_image, _text(source, "SDImage_path"))
    _put(item, "SDkeyword", record.safe_concept, _text(source, "SDkeyword"))
    pairs = source.get("unsafe_pairs") or []
    old = [*pairs[: len(record.forget)], *({} for _ in range(len(record.forget) - len(pairs)))]
    item["unsafe_pairs"] = [_forget_pair(pair, was) for pair, was in zip(record.forget, old, strict=True)]
    for retain in record.retain:
        key = f"UnharmPair_{retain.slot}"
        item[key] = _retain_pair(retain, source.get(key) or {})
    return item


def _forget_pair(pair: ForgetPair, source: dict[str, Any]) -> dict[str, Any]:
    item = dict(source)
    _put(item, "question", pair.question, _text(source, "question"))
    _put(item, "model_response", pair.unsafe_answer, _text(source, "model_response"))
    _put(item, "sd_response", pair.safe_answer, _text(source, "sd_response"))
    return item


def _retain_pair(pair: RetainPair, source: dict[str, Any]) -> dict[str, Any]:
    item = dict(source)
    short, long = _text(source, "Answer"), _text(source, "Prediction")
    _put(item, "Question", pair.question, _text(source, "Question"))
    _put(item, "Answer", pair.short_answer, short or "")
    _put(item, "Prediction", pair.answer, long or short)
    return item


def _probe(probe: Probe) -> dict[str, Any]:
    return probe.source | probe.model_dump(exclude={"source"})


def _put(item: dict[str, Any], name: str, value: str | None, was: str | None) -> None:
    """Set, or remove, a field whose value is not what was read of it."""
    if value is None and was is not None:
        del item[name]
    elif value is not None and value != was:
        item[name] = value


def _text(source: dict[str, Any], name: str) -> str | None:
    """What is read of a field: a blank text is none."""
    value = source.get(name)
    return value if isinstance(value, str) and value.strip() else None

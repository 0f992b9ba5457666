"""Parquet files in the layout of Hugging Face ``datasets``, images embedded, with a dataset card."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from safeeraser import store
from safeeraser.data.benchmark import Benchmark
from safeeraser.data.export.folder import whole_folder
from safeeraser.errors import UserError
from safeeraser.progress import Progress
from safeeraser.records import Record, Split

SPLITS: tuple[Split, ...] = ("train", "val")
ROWS = 100
"""Records to a row group: what a reader holds in memory at once."""
COLUMNS = {
    "id": "stable name of the record, from its content",
    "category": "HateSpeech, IllegalActivity, Privacy, Sex, Violence or Weapon",
    "keyword": "the concept that the unsafe image shows",
    "type": "what kind of image it is, as the release says",
    "image": "the unsafe image",
    "safe_image": "the safe image that the same questions are asked about; null if the record has none",
    "image_path": "path of the unsafe image in the release layout",
    "safe_image_path": "path of the safe image",
    "safe_concept": "what the safe image shows, where the data say so",
    "forget": "list of {question, unsafe_answer, safe_answer}: harmful question, the answer to forget about `image`, "
    "the normal answer about `safe_image`",
    "retain": "list of {slot, question, short_answer, answer}: harmless question about `image`; the long answer is "
    "trained on and scored against",
}
_CARD = """---
pretty_name: "{name}"
tags: [safety, machine-unlearning, vision-language]
configs:
- config_name: default
  data_files:
{files}
---
# {name}

> **Content warning.** A benchmark of harmful questions, unsafe images and the unsafe answers to forget. Keep it away
> from people who have not agreed to see such things, and do not republish it where that is not allowed.

A safety-unlearning benchmark in the layout of SafeEraser ([arXiv 2502.12520](https://arxiv.org/abs/2502.12520)),
exported by `safeeraser data export --format parquet`. Fingerprint of the source: `{fingerprint}`.

    import datasets
    data = datasets.load_dataset("PATH/TO/THIS/FOLDER")

{counts}

| column | what it is |
|---|---|
{columns}

`prompt.json` holds the refusals that preference optimisation draws from.
"""


def export_parquet(benchmark: Benchmark, out: Path, progress: Progress | None = None) -> list[Path]:
    """Write one row per record, one file per split; ``datasets.load_dataset(out)`` gives the splits train and val.

    The image columns hold the bytes of the image files as they are.

    Args:
        benchmark: The benchmark.
        out: Folder to make; it must not exist, or be empty.
        progress: Called with (records done, all records).

    Returns:
        The files written.

    Raises:
        UserError: If ``out`` is taken, an image is missing, or the package ``datasets`` is not installed.

    Example:
        >>> from safeeraser import data
        >>> export_parquet(data.load("pictogram"), Path("parquet"))  # doctest: +SKIP
        >>> datasets.load_dataset("parquet")["val"][0]["image"].size  # doctest: +SKIP
        (64, 64)
    """
    try:
        import datasets  # noqa: F401
    except ImportError:
        raise UserError("parquet needs the package datasets: pip install 'safeeraser[export]'") from None
    splits = {split: records for split in SPLITS if (records := benchmark.split(split))}
    done = 0

    def rows(split: Split) -> Iterator[dict[str, Any]]:
        nonlocal done
        for record in splits[split]:
            yield _row(benchmark, record)
            done += 1
            if progress:
                progress(done, len(benchmark.records))

    names = {split: f"data/{split}.parquet" for split in splits}
    with whole_folder(out) as folder:
        for split, name in names.items():
            _write(folder / name, rows(split))
        with store.atomic(folder / "README.md") as card:
            card.write(_card(benchmark, names))
        store.write_json(folder / "prompt.json", {"idk": list(benchmark.refusals)})
    return [Path(out) / name for name in (*names.values(), "README.md", "prompt.json")]


def _features() -> Any:
    from datasets import Features, Image, Value

    text = Value("string")
    forget = {"question": text, "unsafe_answer": text, "safe_answer": text}
    retain = {"slot": text, "question": text, "short_answer": text, "answer": text}
    special = {"image": Image(), "safe_image": Image(), "forget": [forget], "retain": [retain]}
    return Features({name: special.get(name, text) for name in COLUMNS})


def _write(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    """Write rows to a parquet file, a row group at a time; its schema carries the features, images among them."""
    import pyarrow
    from pyarrow import parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    schema = _features().arrow_schema
    with parquet.ParquetWriter(path, schema) as writer:
        while group := list(islice(rows, ROWS)):
            writer.write_table(pyarrow.Table.from_pylist(group, schema=schema))


def _row(benchmark: Benchmark, record: Record) -> dict[str, Any]:
    row = record.model_dump(include={"id", "category", "keyword", "type", "safe_concept", "forget", "retain"})
    return row | {
        "image": _image(benchmark, record.image),
        "safe_image": _image(benchmark, record.safe_image),
        "image_path": record.image,
        "safe_image_path": record.safe_image,
    }


def _image(benchmark: Benchmark, path: str | None) -> dict[str, Any] | None:
    return None if path is None else {"bytes": benchmark.image(path).read_bytes(), "path": Path(path).name}


def _card(benchmark: Benchmark, names: dict[Split, str]) -> str:
    counts = ", ".join(f"{len(benchmark.split(split)):,} {split} records" for split in names)
    return _CARD.format(
        name=benchmark.name,
        fingerprint=benchmark.fingerprint,
        files="\n".join(f"  - split: {split}\n    path: {name}" for split, name in names.items()),
        counts=f"{counts}; one row per record.",
        columns="\n".join(f"| `{name}` | {text} |" for name, text in COLUMNS.items()),
    )

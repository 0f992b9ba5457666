"""Parquet files in the layout of Hugging Face ``datasets``, images embedded, with a dataset card."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, get_args

from safeeraser.core.errors import UserError
from safeeraser.core.files import atomic, atomic_folder, write_json
from safeeraser.core.terminal import Progress
from safeeraser.data.benchmark import Benchmark, Probe
from safeeraser.data.hub import PARQUET, PROBES
from safeeraser.records import Record, Split

ROWS = 100
"""Records to a row group: what a reader holds in memory at once."""
COLUMNS = (
    "id", "category", "keyword", "type", "image", "safe_image", "image_path", "safe_image_path",
    "safe_concept", "forget", "retain",
)  # fmt: skip
"""What ``card.md`` says of them."""
PROBE_COLUMNS = ("image", "image_path", "question", "answer", "kind")
LICENCES = {"pictogram": "cc-by-4.0"}
"""Of benchmarks that are ours: the images of the embedded one are Twemoji's."""
_PROBES_CONFIG = f"""- config_name: probes
  data_files:
  - split: val
    path: {PROBES}
"""
_CREDIT = """
The images are composed of Twemoji graphics, Copyright Twitter, Inc. and other contributors, CC-BY 4.0, altered.
"""


def export_parquet(
    benchmark: Benchmark, out: Path, progress: Progress | None = None, licence: str | None = None
) -> list[Path]:
    """Write one row per record, one file per split; ``datasets.load_dataset(out)`` gives the splits train and val.

    The image columns hold the bytes of the image files as they are. ``out`` is made, ``progress`` called with (records
    done, all records). ``licence`` is an identifier of the hub for the card. Returns the files written.

    Raises:
        UserError: If ``out`` is taken, an image is missing, or the package ``datasets`` is not installed.
    """
    try:
        import datasets  # noqa: F401
    except ImportError:
        raise UserError("parquet needs the package datasets: pip install 'safeeraser[export]'") from None
    splits = {split: records for split in get_args(Split) if (records := benchmark.split(split))}
    done = 0

    def rows(split: Split) -> Iterator[dict[str, Any]]:
        nonlocal done
        for record in splits[split]:
            yield _row(benchmark, record)
            done += 1
            if progress:
                progress(done, len(benchmark.records))

    names = {split: PARQUET.format(split) for split in splits}
    probes = [_probe(benchmark, probe) for probe in benchmark.probes]
    with atomic_folder(out) as folder:
        for split, name in names.items():
            _write(folder / name, rows(split), _features())
        if probes:
            _write(folder / PROBES, iter(probes), _probe_features())
        with atomic(folder / "README.md") as card:
            card.write(_card(benchmark, names, licence))
        write_json(folder / "prompt.json", {"idk": list(benchmark.refusals)})
    return [Path(out) / name for name in (*names.values(), *([PROBES] if probes else []), "README.md", "prompt.json")]


def _features() -> Any:
    from datasets import Features, Image, Value

    text = Value("string")
    forget = {"question": text, "unsafe_answer": text, "safe_answer": text}
    retain = {"slot": text, "question": text, "short_answer": text, "answer": text}
    special = {"image": Image(), "safe_image": Image(), "forget": [forget], "retain": [retain]}
    return Features({name: special.get(name, text) for name in COLUMNS})


def _probe_features() -> Any:
    from datasets import Features, Image, Value

    return Features({name: Image() if name == "image" else Value("string") for name in PROBE_COLUMNS})


def _probe(benchmark: Benchmark, probe: Probe) -> dict[str, Any]:
    row = probe.model_dump(include={"question", "answer", "kind"})
    return row | {"image": _image(benchmark, probe.image), "image_path": probe.image}


def _write(path: Path, rows: Iterator[dict[str, Any]], features: Any) -> None:
    """Write rows to a parquet file, a row group at a time; its schema carries the features, images among them."""
    import pyarrow
    from pyarrow import parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    schema = features.arrow_schema
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


def _card(benchmark: Benchmark, names: dict[Split, str], licence: str | None) -> str:
    ours = benchmark.name in LICENCES
    licence = licence or LICENCES.get(benchmark.name)
    counts = ", ".join(f"{len(benchmark.split(split)):,} {split} records" for split in names)
    card = Path(__file__).with_name("card.md").read_text(encoding="utf-8")
    return card.format(
        name=benchmark.name,
        licence=f"license: {licence}\n" if licence else "",
        probes=_PROBES_CONFIG if benchmark.probes else "",
        credit=_CREDIT if ours else "",
        fingerprint=benchmark.fingerprint,
        files="\n".join(f"  - split: {split}\n    path: {name}" for split, name in names.items()),
        counts=f"{counts}; one row per record.",
    )

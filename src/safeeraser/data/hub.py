"""Benchmarks on the Hugging Face hub, ``hf://OWNER/NAME``: as the release lays them out, or as ``data export`` did."""

from __future__ import annotations

import shutil
from pathlib import Path, PurePosixPath
from typing import Any, get_args

from pydantic import ValidationError

from safeeraser.core.errors import UserError
from safeeraser.core.files import atomic_folder
from safeeraser.data.benchmark import Probe
from safeeraser.data.release.write import PROMPTS, write_release
from safeeraser.records import Record, Split

SCHEME = "hf://"
PARQUET, PROBES = "data/{}.parquet", "probes/val.parquet"
"""Where an export has the records of a split, and the probes."""
PATHS = ("image_path", "safe_image_path")
"""Columns that say where the images lay, which ``Record`` calls by the names of the columns that hold them."""


def fetch(address: str, cache: Path) -> Path:
    """Download a dataset, once per commit, and return its folder in the release layout.

    Args:
        address: ``hf://OWNER/NAME``, or ``hf://OWNER/NAME@REVISION`` for a branch, tag or commit.
        cache: Folder for what is unpacked of an export.

    Raises:
        UserError: If the address is none, the hub cannot be reached or has no such dataset, or it is no benchmark.

    Example:
        >>> fetch("hf://nobody", Path("cache"))
        Traceback (most recent call last):
        safeeraser.core.errors.UserError: data 'hf://nobody': give hf://OWNER/NAME, with @REVISION if need be
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    repository, _, revision = address.removeprefix(SCHEME).removeprefix("datasets/").partition("@")
    if repository.count("/") != 1:
        raise UserError(f"data {address!r}: give hf://OWNER/NAME, with @REVISION if need be")
    try:
        snapshot = Path(snapshot_download(repository, repo_type="dataset", revision=revision or None))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        said = str(error).strip().splitlines()[0]
        raise UserError(f"data {address!r}: the hub cannot be reached or does not give it ({said})") from None
    splits = [split for split in get_args(Split) if (snapshot / PARQUET.format(split)).exists()]
    if not splits:
        return snapshot  # in the release layout; if it is not, whoever reads it says what lacks
    folder = cache / f"{repository.replace('/', '--')}-{snapshot.name}"
    if not folder.is_dir():
        try:
            with atomic_folder(folder) as temporary:
                _unpack(snapshot, splits, temporary)
        except (KeyError, TypeError, ValidationError) as error:
            said = f"{type(error).__name__}: {error}".splitlines()[0]
            raise UserError(f"data {address!r}: it is not what 'safeeraser data export' writes ({said})") from None
        except UserError:
            if not folder.is_dir():  # another process may have been first
                raise
    return folder


def _unpack(snapshot: Path, splits: list[Split], folder: Path) -> None:
    """Write an export as the release lays it out, images as the files that they were."""
    root = folder / "dataset"
    records, probes = [], []
    for split in splits:
        for row in _rows(snapshot / PARQUET.format(split)):
            for column, path in zip(("image", "safe_image"), PATHS, strict=True):
                row[column] = _write_image(root, row.pop(path), row[column])
            records.append(Record(**row, split=split))
    if (snapshot / PROBES).exists():
        for row in _rows(snapshot / PROBES):
            probes.append(Probe(**row | {"image": _write_image(root, row.pop("image_path"), row["image"])}))
    write_release(folder, records, probes=probes)
    if (snapshot / PROMPTS).exists():
        shutil.copyfile(snapshot / PROMPTS, root / PROMPTS)


def _rows(path: Path) -> Any:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise UserError("parquet needs the package datasets: pip install 'safeeraser[export]'") from None
    try:
        for batch in parquet.ParquetFile(path).iter_batches(batch_size=100):
            yield from batch.to_pylist()
    except (ArrowException, OSError) as error:
        raise UserError(f"{path}: no parquet file that can be read ({error})") from None


def _write_image(root: Path, path: str | None, image: dict[str, Any] | None) -> str | None:
    """Write an image where its path says, if that is inside the folder: the dataset is somebody else's."""
    if path is None or image is None:
        return None
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts or "\x00" in path:
        raise UserError(f"image {path!r} leaves the dataset folder: only paths inside it are written")
    file = root / parts
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(image["bytes"])
    return path

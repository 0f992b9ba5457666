"""Subcommands that make and show benchmarks: data build, data show, data export."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from safeeraser.cli.parser import Positional
from safeeraser.config import FilePath, OnBad
from safeeraser.core.errors import UserError
from safeeraser.core.terminal import bar, say

Format = Literal["parquet", "llava"]


@dataclass
class DataBuildConfig:
    """Write an embedded benchmark to a folder, in the release layout.

    Example:
        safeeraser data build pictogram --out data/pictogram
        safeeraser data build pictogram --out data/small --records 240
    """

    name: Positional[str]
    """Benchmark to build: 'pictogram'."""
    out: FilePath[str]
    """Folder to write; must not hold anything yet."""
    records: int | None = None
    """Records in all (train + val, 3:1), balanced; None: the paper's 2,400."""
    seed: int = 0
    """The same seed writes the same bytes."""
    workers: int | None = None
    """Processes; None: one per core."""


@dataclass
class DataShowConfig:
    """Write a contact sheet of a benchmark as PNG; unsafe images are blurred.

    Example:
        safeeraser data show data/pictogram --out sheet.png
    """

    folder: Positional[FilePath[str]]
    """Benchmark folder or name."""
    out: FilePath[str] = "contact-sheet.png"
    """PNG file to write."""
    reveal: bool = False
    """Show unsafe images unblurred."""


@dataclass
class DataExportConfig:
    """Export a benchmark: parquet for Hugging Face datasets, or the conversation JSON that LLaVA is trained on.

    Example:
        safeeraser data export data/pictogram --format parquet --out exports/parquet
        safeeraser data export data/pictogram --format llava --out exports/llava
        safeeraser data export pictogram --format parquet --out exports/hub --push me/pictogram
    """

    folder: Positional[FilePath[str]]
    """Benchmark folder or name."""
    format: Format
    """'parquet' (needs: pip install 'safeeraser[export]') or 'llava'."""
    out: FilePath[str]
    """Folder to write; must not hold anything yet."""
    on_bad: OnBad = "fail"
    """What to do about bad records: 'fail' reports all their problems, 'skip' leaves them out with a warning."""
    push: str | None = None
    """OWNER/NAME on the Hugging Face hub to upload parquet to as well, for '--data hf://OWNER/NAME'; a new dataset is
    private."""
    license: str | None = None
    """Licence for the card of parquet, by the hub's name of it, such as cc-by-4.0; None: 'pictogram' has its own."""


def build(options: DataBuildConfig) -> int:
    """``safeeraser data build``."""
    from safeeraser.data import BENCHMARKS

    BENCHMARKS.get(options.name)
    builder = importlib.import_module(f"safeeraser.data.{options.name}.build")
    builder.build(Path(options.out), options.records, options.seed, options.workers)
    say(f"benchmark: {options.out}\nnext: safeeraser data show {options.out}")
    return 0


def show(options: DataShowConfig) -> int:
    """``safeeraser data show``."""
    from safeeraser import data
    from safeeraser.data import sheet

    sheet.show(data.load(options.folder).root, Path(options.out), reveal=options.reveal)
    say(f"contact sheet: {options.out}")
    return 0


def export(options: DataExportConfig) -> int:
    """``safeeraser data export``."""
    from safeeraser import data
    from safeeraser.data.export import EXPORTS, export_parquet
    from safeeraser.integrations import hub

    given = [f"--{name}" for name in ("push", "license") if getattr(options, name) is not None]
    if given and options.format != "parquet":
        raise UserError(f"{given[0]} goes with --format parquet")
    if options.push is not None:
        hub.check_push(options.push)
    benchmark = data.load(options.folder, on_bad=options.on_bad)
    write = partial(export_parquet, licence=options.license) if options.license else EXPORTS[options.format]
    with bar(options.format, len(benchmark.records)) as progress:
        written = write(benchmark, Path(options.out), progress)
    say("written: " + ", ".join(map(str, written)))
    if options.push is not None:
        say(f"pushed: {hub.push(Path(options.out), options.push, 'dataset')}\nnext: --data hf://{options.push}")
    elif options.format == "llava":
        say(f"images are not copied: give LLaVA --image_folder {benchmark.root}")
    else:
        say(f"next: datasets.load_dataset({options.out!r})")
    return 0

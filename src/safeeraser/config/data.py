"""Options of the subcommands ``safeeraser data ...``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from safeeraser.config.options import OnBad

Format = Literal["parquet", "llava"]


@dataclass
class DataBuildConfig:
    """Write an embedded benchmark to a folder, in the release layout.

    Example:
        safeeraser data build pictogram --out data/pictogram
        safeeraser data build pictogram --out data/small --records 240
    """

    name: str
    """Benchmark to build: 'pictogram'."""
    out: str
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

    folder: str
    """Benchmark folder or name."""
    out: str = "contact-sheet.png"
    """PNG file to write."""
    reveal: bool = False
    """Show unsafe images unblurred."""


@dataclass
class DataCheckConfig:
    """Check a benchmark: integrity, the paper's counts, duplicates, leaks from train to val; reads, never changes it.

    Exit status 1 if something in it is broken. Leaks alone give 0: they are what --held-out is for.

    Example:
        safeeraser data check data/official --out report.json --held-out held-out.json
        safeeraser data check data/official --near --pairs --held-out held-out.json
    """

    folder: str
    """Benchmark folder or name."""
    out: str | None = None
    """JSON file to write the whole report to."""
    held_out: str | None = None
    """JSON file to write the val records without a leak to, for 'score --held-out' and 'bench --held-out'."""
    near: bool = False
    """Count a val picture that looks like a train picture as a leak."""
    near_bits: int = 24
    """How alike is alike: bits of 256 in which the perceptual hashes may differ."""
    pairs: bool = False
    """Count a val record as a leak if one of its harmful questions stands in train with the same answer."""
    workers: int | None = None
    """Processes that decode the images; None: one per core."""


@dataclass
class DataStatsConfig:
    """Count a benchmark by set, category, keyword and split, and measure its texts in words.

    Example:
        safeeraser data stats data/pictogram
        safeeraser data stats data/pictogram --out stats
    """

    folder: str
    """Benchmark folder or name."""
    out: str | None = None
    """Folder to write stats.json, stats.svg and stats.png to."""
    on_bad: OnBad = "fail"
    """What to do about bad records: 'fail' reports all their problems, 'skip' leaves them out with a warning."""


@dataclass
class DataExportConfig:
    """Export a benchmark: parquet for Hugging Face datasets, or the conversation JSON that LLaVA is trained on.

    Example:
        safeeraser data export data/pictogram --format parquet --out exports/parquet
        safeeraser data export data/pictogram --format llava --out exports/llava
    """

    folder: str
    """Benchmark folder or name."""
    format: Format
    """'parquet' (needs: pip install 'safeeraser[export]') or 'llava'."""
    out: str
    """Folder to write; must not hold anything yet."""
    on_bad: OnBad = "fail"
    """What to do about bad records: 'fail' reports all their problems, 'skip' leaves them out with a warning."""

"""Options of the subcommands ``safeeraser data ...``."""

from __future__ import annotations

from dataclasses import dataclass


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

"""Subcommands ``safeeraser data ...``."""

from __future__ import annotations

import importlib
from pathlib import Path

from safeeraser import config


def build(options: config.DataBuildConfig) -> int:
    """``safeeraser data build``."""
    from safeeraser.data import BENCHMARKS

    BENCHMARKS.get(options.name)
    builder = importlib.import_module(f"safeeraser.data.{options.name}.build")
    builder.build(Path(options.out), options.records, options.seed, options.workers)
    print(f"benchmark: {options.out}\nnext: safeeraser data show {options.out}")
    return 0


def show(options: config.DataShowConfig) -> int:
    """``safeeraser data show``."""
    from safeeraser import data
    from safeeraser.data import sheet

    sheet.show(data.load(options.folder).root, Path(options.out), reveal=options.reveal)
    print(f"contact sheet: {options.out}")
    return 0

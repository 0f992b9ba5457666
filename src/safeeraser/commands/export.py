"""Subcommand ``safeeraser export``."""

from __future__ import annotations

from pathlib import Path

from safeeraser import config
from safeeraser.terminal import say


def export(options: config.ExportConfig) -> int:
    """``safeeraser export``."""
    from safeeraser import export as stage

    if options.push is not None:
        stage.check_push(options.push)
    out = stage.run(Path(options.cell), Path(options.out), options.kind)
    say(f"exported: {out} (card: {out / 'README.md'})")
    if options.push is not None:
        say(f"pushed: {stage.push(out, options.push)}")
    elif options.kind == "merged":
        say(f"next: transformers serve {out}")
    return 0

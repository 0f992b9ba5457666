"""Subcommand ``safeeraser export``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from safeeraser.cli.parser import Positional
from safeeraser.config import FilePath
from safeeraser.core.terminal import say


@dataclass
class ExportConfig:
    """Export a finished cell of a bench: a checkpoint or an adapter with a model card, for plain transformers or PEFT.

    Example:
        safeeraser export runs/bench/cells/mini-llava/po+pd/seed-0 --out exported
        safeeraser export runs/bench/cells/mini-llava/po+pd/seed-0 --kind adapter --out adapter --push me/po-pd
    """

    cell: Positional[FilePath[str]]
    """Cell folder of a run: cells/MODEL/METHOD/seed-S, as 'bench --list-cells' prints it below the run folder."""
    out: FilePath[str]
    """Folder to write; must not hold anything yet."""
    kind: Literal["merged", "adapter"] = "merged"
    """'merged' (a whole checkpoint) or 'adapter' (LoRA and projector in PEFT's layout, for the base model)."""
    push: str | None = None
    """OWNER/NAME on the Hugging Face hub to upload to as well; a new repository is private."""
    license: str | None = None
    """Licence for the card, by the hub's name of it, such as llama2; None: none, but for a built-in model."""


def export(options: ExportConfig) -> int:
    """``safeeraser export``."""
    from safeeraser.integrations import hub as stage

    if options.push is not None:
        stage.check_push(options.push)
    out = stage.run(Path(options.cell), Path(options.out), options.kind, options.license)
    say(f"exported: {out} (card: {out / 'README.md'})")
    if options.push is not None:
        say(f"pushed: {stage.push(out, options.push)}")
    elif options.kind == "merged":
        say(f"next: transformers serve {out}")
    return 0

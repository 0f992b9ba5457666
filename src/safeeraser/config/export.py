"""Options of the subcommand ``safeeraser export``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass
class ExportConfig:
    """Export a finished cell of a bench: a checkpoint or an adapter with a model card, for plain transformers or PEFT.

    Example:
        safeeraser export runs/bench/cells/mini-llava/po+pd/seed-0 --out exported
        safeeraser export runs/bench/cells/mini-llava/po+pd/seed-0 --kind adapter --out adapter --push me/po-pd
    """

    cell: str
    """Cell folder of a run: cells/MODEL/METHOD/seed-S, as 'bench --list-cells' prints it below the run folder."""
    out: str
    """Folder to write; must not hold anything yet."""
    kind: Literal["merged", "adapter"] = "merged"
    """'merged' (a whole checkpoint) or 'adapter' (LoRA and projector in PEFT's layout, for the base model)."""
    push: str | None = None
    """OWNER/NAME on the Hugging Face hub to upload to as well; a new repository is private."""

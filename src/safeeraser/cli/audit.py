"""Subcommand audit: is what was unlearnt forgotten, or only masked?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from safeeraser.cli.parser import Positional
from safeeraser.config import FilePath
from safeeraser.core import terminal
from safeeraser.core.errors import UserError


@dataclass
class AuditConfig:
    """Audit finished cells: forgotten, or masked?

    Answered examples in front, no picture, a white one, an optimised perturbation of all pictures, relearning after 1
    to 20 steps, harmless fine-tuning, the original projector, 8 and 4 bits, and how likely the unsafe answers still
    are. What 'attack' has done already is kept.

    Example:
        safeeraser audit runs/demo --limit 60
        safeeraser audit runs/demo --limit 60 --universal_steps 500 --without quantize-4bit
        safeeraser audit runs/demo/cells/mini-llava/po+pd/seed-0
    """

    run: Positional[FilePath[str]]
    """Run folder written by 'safeeraser bench', or a folder inside it: of a model, of a method, or of a single cell."""
    limit: int | None = None
    """Ask about only so many val records, balanced over categories and keywords."""
    seed: int = 0
    """Seed of samples and training."""
    universal_steps: int | None = None
    """Steps in which the perturbation of all pictures is sought; None: 500, and 50 without a GPU."""
    without: str | None = None
    """Attacks to leave out, comma-separated; None: none."""


def audit(options: AuditConfig) -> int:
    """``safeeraser audit``."""
    from safeeraser import attacks
    from safeeraser.attacks import audit as auditing
    from safeeraser.bench import runs
    from safeeraser.core import table
    from safeeraser.report import audit_table
    from safeeraser.report.run import write_attacks, write_audit

    if options.limit is not None and options.limit < 1:
        raise UserError(f"--limit {options.limit} is too small: give at least 1")
    run = Path(options.run)
    found = runs.find(run)
    left_out = [] if options.without is None else attacks.find(options.without)
    chosen = [attack for attack in attacks.find(",".join(auditing.ATTACKS)) if attack not in left_out]
    given = {"universal_steps": options.universal_steps}
    targets = [attacks.prepare(one, chosen, options.seed, given, options.limit) for one in found]
    before, total = 0, sum(target.size for target in targets)
    with terminal.bar("audit", total) as progress:
        for target in targets:
            attacks.run(target, lambda done, start=before: progress(start + done, total))  # type: ignore[misc]
            auditing.measure_likelihood(target)
            before += target.size
    table.show(terminal.console(160), audit_table.made(auditing.summarise(found)))
    if (run / "cells").is_dir():
        write_audit(found, run / "report", write_attacks(found, run / "report"))
        terminal.say(
            f"written: {run / 'report'}: audit.md, audit.csv, figures/audit.svg, attacks.md\n"
            f"next: safeeraser report {run}"
        )
    return 0

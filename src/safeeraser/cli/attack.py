"""Subcommand attack: what is left of unlearning when somebody tries to undo it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safeeraser.cli.parser import Positional
from safeeraser.config import FilePath
from safeeraser.core import terminal
from safeeraser.core.errors import UserError


@dataclass
class AttackConfig:
    """Attack finished cells: ASR, RR and SARR under other words, other pictures and other weights.

    Example:
        safeeraser attack runs/demo --limit 60
        safeeraser attack runs/demo/cells/mini-llava/po+pd/seed-0 --attacks paraphrase,typographic,relearn
    """

    run: Positional[FilePath[str]]
    """Run folder written by 'safeeraser bench', or a folder inside it: of a model, of a method, or of a single cell."""
    attacks: str | None = None
    """Attacks, comma-separated; None: all. An unknown name is answered with the names there are."""
    limit: int | None = None
    """Ask about only so many val records, balanced over categories and keywords."""
    seed: int = 0
    """Seed of what attacks draw: synonyms, places of crops, noise, the samples and the training of 'relearn'."""
    translations: FilePath[str | None] = None
    """JSONL file of {"question": ..., "translation": ...} for 'language'; None: the question in a French sentence."""
    attack_options: dict[str, Any] = field(default_factory=dict)
    """Options of attacks by name, such as {relearn_steps: 20}; each may be given as an option of its own."""


def attack(options: AttackConfig) -> int:
    """``safeeraser attack``."""
    from safeeraser import attacks
    from safeeraser.bench import runs
    from safeeraser.core import table
    from safeeraser.report import attack_table
    from safeeraser.report.run import write_attacks

    _check(options)
    chosen = attacks.find(options.attacks)
    translations = attacks.read_translations(Path(options.translations)) if options.translations else None
    given = options.attack_options | {"translations": translations}
    run = Path(options.run)
    found = runs.find(run)
    targets = [attacks.prepare(one, chosen, options.seed, given, options.limit) for one in found]
    before, total = 0, sum(target.size for target in targets)
    with terminal.bar("attack", total) as progress:
        for target in targets:
            attacks.run(target, lambda done, start=before: progress(start + done, total))  # type: ignore[misc]
            before += target.size
    rows = attacks.summarise(found)
    table.show(terminal.console(160), attack_table.console_table(rows))
    if (run / "cells").is_dir():
        write_attacks(found, run / "report")
        terminal.say(
            f"written: {run / 'report'}: attacks.md, attacks.csv, figures/attacks.svg\nnext: safeeraser report {run}"
        )
    else:
        terminal.say(f"written: attacks.json and attacks/ in {', '.join(str(one.folder) for one in found)}")
    return 0


def _check(options: AttackConfig) -> None:
    if options.limit is not None and options.limit < 1:
        raise UserError(f"--limit {options.limit} is too small: give at least 1")

"""Subcommands attack and audit: what is left of unlearning when somebody tries to undo it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safeeraser.cli.parser import Positional
from safeeraser.config import FilePath, at_least_one
from safeeraser.core import terminal
from safeeraser.core.errors import UserError

if TYPE_CHECKING:
    from safeeraser.attacks import Attack, AttackedCell
    from safeeraser.bench.runs import Cell


@dataclass
class AttackConfig:
    """Attack finished cells: ASR, RR and SARR under other words, other images and other weights.

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


@dataclass
class AuditConfig:
    """Audit finished cells: forgotten, or masked?

    Answered examples in front, no image, a white one, an optimised perturbation of all images, relearning after 1
    to 20 steps and on 1 to 32 samples, harmless fine-tuning, the original projector, 8 and 4 bits, and how likely the
    unsafe answers still are. What 'attack' has done already is kept.

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
    """Steps in which the perturbation of all images is sought; None: 500, and 50 without a GPU."""
    without: str | None = None
    """Attacks to leave out, comma-separated; None: none."""


def attack(options: AttackConfig) -> int:
    """``safeeraser attack``."""
    from safeeraser import attacks
    from safeeraser.core import table
    from safeeraser.report import side_tables
    from safeeraser.report.run import write_attacks

    at_least_one(options, "limit")
    chosen = attacks.find(options.attacks)
    translations = attacks.read_translations(Path(options.translations)) if options.translations else None
    found = _attacked(options, "attack", chosen, options.attack_options | {"translations": translations})
    table.show(terminal.console(160), side_tables.attack_table(attacks.summarise(found)))
    run = Path(options.run)
    if (run / "cells").is_dir():
        write_attacks(found, run / "report")
        _say_written(run, "attacks.md, attacks.csv, figures/attacks.svg")
    else:
        terminal.say(f"written: attacks.json and attacks/ in {', '.join(str(one.folder) for one in found)}")
    return 0


def audit(options: AuditConfig) -> int:
    """``safeeraser audit``."""
    from safeeraser import attacks
    from safeeraser.attacks import audit as auditing
    from safeeraser.core import table
    from safeeraser.report import side_tables
    from safeeraser.report.run import write_attacks, write_audit

    at_least_one(options, "limit")
    left_out = [] if options.without is None else attacks.find(options.without)
    every = attacks.find(",".join(auditing.ATTACKS))
    if others := ", ".join(attack.name for attack in left_out if attack not in every):
        raise UserError(f"--without {others}: not in the audit, which has {', '.join(auditing.ATTACKS)}")
    chosen = [attack for attack in every if attack not in left_out]
    given = {"universal_steps": options.universal_steps}
    found = _attacked(options, "audit", chosen, given, auditing.measure_likelihood)
    table.show(terminal.console(160), side_tables.audit_table(auditing.summarise(found)))
    run = Path(options.run)
    if (run / "cells").is_dir():
        write_audit(found, run / "report", write_attacks(found, run / "report"))
        _say_written(run, "audit.md, audit.csv, figures/audit.svg, attacks.md")
    return 0


def _attacked(
    options: AttackConfig | AuditConfig,
    title: str,
    chosen: Sequence[Attack],
    given: Mapping[str, Any],
    after: Callable[[AttackedCell], object] = lambda target: None,
) -> list[Cell]:
    """The finished cells of the run, every one under the attacks chosen; ``after`` is done with each then."""
    from safeeraser import attacks
    from safeeraser.bench import runs

    found = runs.find(Path(options.run))
    targets = [attacks.prepare(one, chosen, options.seed, given, options.limit) for one in found]
    for said in dict.fromkeys(target.left_out for target in targets if target.left_out):
        terminal.say(said)
    before, total = 0, sum(target.size for target in targets)
    with terminal.bar(title, total) as progress:
        for target in targets:
            attacks.run(target, lambda done, start=before: progress(start + done, total))  # type: ignore[misc]
            after(target)
            before += target.size
    return found


def _say_written(run: Path, names: str) -> None:
    terminal.say(f"written: {run / 'report'}: {names}\nnext: safeeraser report {run}")

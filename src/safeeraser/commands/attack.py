"""Subcommand attack: what is left of unlearning when somebody tries to undo it."""

from __future__ import annotations

from pathlib import Path

from safeeraser import config, terminal
from safeeraser.errors import UserError


def attack(options: config.AttackConfig) -> int:
    """``safeeraser attack``."""
    from safeeraser import attacks, results
    from safeeraser.models.loading import quiet
    from safeeraser.progress import bar
    from safeeraser.report import attack_table

    _check(options)
    chosen = attacks.find(options.attacks)
    translations = attacks.read_translations(Path(options.translations)) if options.translations else None
    told = attacks.Options(options.seed, translations, options.relearn_samples, options.relearn_steps)
    run = Path(options.run)
    found = results.find(run)
    plans = [attacks.planned(one.folder, chosen, told, options.limit) for one in found]
    before, total = 0, sum(plan.size for plan in plans)
    with bar("attack", total) as progress, quiet():
        for plan in plans:
            attacks.run(plan, lambda done, start=before: progress(start + done, total))  # type: ignore[misc]
            before += plan.size
    rows = attacks.summarise(found)
    terminal.console(160).print(attack_table.console_table(rows))
    if (run / "cells").is_dir():
        attacks.write(found, run / "report")
        terminal.say(
            f"written: {run / 'report'}: attacks.md, attacks.csv, figures/attacks.svg\nnext: safeeraser report {run}"
        )
    else:
        terminal.say(f"written: attacks.json and attacks/ in {', '.join(str(one.folder) for one in found)}")
    return 0


def _check(options: config.AttackConfig) -> None:
    for name in ("limit", "relearn_samples", "relearn_steps"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UserError(f"--{name} {value} is too small: give at least 1")

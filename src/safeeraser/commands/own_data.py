"""Subcommand ``safeeraser data import``."""

from __future__ import annotations

from pathlib import Path

from safeeraser import config
from safeeraser.errors import UserError
from safeeraser.terminal import say


def import_(options: config.DataImportConfig) -> int:
    """``safeeraser data import``."""
    from safeeraser.data.own_import import RetainTemplate, import_table
    from safeeraser.progress import bar

    if (options.retain_question is None) != (options.retain_answer is None):
        raise UserError("--retain-question and --retain-answer belong together: give both or neither")
    retain = None
    if options.retain_question is not None and options.retain_answer is not None:
        retain = RetainTemplate(options.retain_question, options.retain_answer)
    images = Path(options.images) if options.images else None
    refusals = _refusals(options.refusals)
    with bar("images", None) as progress:
        records = import_table(
            Path(options.source), Path(options.out), refusals, images, retain, options.seed, progress
        )
    for split in ("train", "val"):
        say(f"{split}: {sum(record.split == split for record in records):,} records")
    whole = all(record.safe_image and all(pair.safe_answer for pair in record.forget) for record in records)
    say(f"benchmark: {options.out}\nnext: safeeraser data check {options.out}")
    if not whole:
        say(f"for PD:  safeeraser data complete {options.out} --safe-images FOLDER --model NAME --out FOLDER")
    return 0


def _refusals(path: str | None) -> list[str]:
    from safeeraser.data.pictogram.text import REFUSALS

    if path is None:
        return list(REFUSALS)
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"refusals {path}: cannot be read ({error}); give a text file with a refusal per line"
        ) from None
    refusals = [line.strip() for line in lines if line.strip()]
    if not refusals:
        raise UserError(f"refusals {path}: is empty; give a text file with a refusal per line")
    return refusals

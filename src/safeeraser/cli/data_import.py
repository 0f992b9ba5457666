"""Subcommand ``safeeraser data import``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from safeeraser.cli.parser import Positional
from safeeraser.config import FilePath
from safeeraser.core.errors import UserError
from safeeraser.core.terminal import bar, say


@dataclass
class DataImportConfig:
    r"""Make a benchmark of your own data: a table (CSV or JSON lines) and a folder of images.

    Columns: image, question, unsafe_answer; retain_question, retain_answer; optional: category, keyword, safe_image,
    safe_answer, retain_short, split. Rows of the same image form one record. See docs/tutorial-your-data.md.

    Example:
        safeeraser data import mine/data.csv --out data/mine
        safeeraser data import mine/data.csv --out data/mine --retain-question "What is this?" \
            --retain-answer "It is a {keyword}."
    """

    source: Positional[FilePath[str]]
    """CSV or JSON-lines file, or a folder that holds data.csv or data.jsonl."""
    out: FilePath[str]
    """Folder to write; must not hold anything yet."""
    images: FilePath[str | None] = None
    """Folder that image paths start from; none: the table's folder."""
    retain_question: str | None = None
    """Harmless question for records that have no retain pair; may name {keyword} and {category}."""
    retain_answer: str | None = None
    """Its (short) answer; may name {keyword} and {category}."""
    refusals: FilePath[str | None] = None
    """Text file with a refusal per line for preference optimisation; none: 22 that ship."""
    seed: int = 0
    """Seed of the split in train and val, where the table does not say."""


def import_(options: DataImportConfig) -> int:
    """``safeeraser data import``."""
    from safeeraser.data.importing.write import RetainTemplate, import_table

    question, answer, retain = options.retain_question, options.retain_answer, None
    if question is not None and answer is not None:
        retain = RetainTemplate(question, answer)
    elif question is not None or answer is not None:
        raise UserError("--retain-question and --retain-answer belong together: give both or neither")
    source, out, refusals = Path(options.source), Path(options.out), _refusals(options.refusals)
    images = Path(options.images) if options.images else None
    with bar("images", None) as progress:
        records = import_table(source, out, refusals, images, retain, options.seed, progress)
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
    advice = "give a text file with a refusal per line"
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"refusals {path}: cannot be read ({error}); {advice}") from None
    refusals = [line.strip() for line in lines if line.strip()]
    if not refusals:
        raise UserError(f"refusals {path}: is empty; {advice}")
    return refusals

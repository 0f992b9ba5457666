"""Subcommand safety: public safety sets, of harmful questions and of benign ones that look alike."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from safeeraser.cli.parser import Positional
from safeeraser.config import FilePath, GenerationOptions, JudgeOptions, ModelOptions, TokenLimit, at_least_one
from safeeraser.core import terminal
from safeeraser.core.errors import UserError

if TYPE_CHECKING:
    from safeeraser.integrations.safety import Subject


@dataclass
class SafetyConfig:
    r"""Ask public safety sets of finished cells, of a model or of a server: ASR and RR, SARR and over-refusal.

    MM-SafetyBench, VLGuard, FigStep, SIUO, MSSBench, VSCBench, MOSSBench, XSTest and DUAL-Bench are read from folders
    as their authors publish them; none comes with the package. The judge 'rules' knows refusals, but cannot tell an
    unsafe answer, or a normal one, where a set gives no reference: ask 'api' or 'guard' for these.

    Example:
        safeeraser safety runs/demo --sets xstest,mossbench --root sets --limit 100
        safeeraser safety runs/demo/cells/mini-llava/po+pd/seed-0 --sets mssbench=kzhou35/mssbench --judge api
        safeeraser safety --model exported --base_url http://localhost:8000/v1 --root sets --out runs/served
    """

    run: Positional[FilePath[str | None]] = None
    """Run folder of 'safeeraser bench', or a folder inside it, down to a single cell; none with --model."""
    sets: str | None = None
    """Sets, comma-separated: NAME, as it lies in --root, NAME=PATH, or NAME=OWNER/NAME of a data set on the hub; None:
    every one that lies in --root. An unknown name is answered with the names there are."""
    root: FilePath[str | None] = None
    """Folder with a folder for each set, named after it."""
    limit: int | None = None
    """Ask only so many questions of each set, balanced over kinds and categories: partial, in no table of a run."""
    judge: str | None = None
    """Judge: 'rules', 'api' or 'guard'; None: the cell's own, or 'rules'."""
    judging: JudgeOptions = field(default_factory=JudgeOptions)
    """How a judge that is a model judges; of a cell, where --judge is given."""
    model: FilePath[str | None] = None
    """Ask this model instead of cells: 'mini-llava', a folder or a hub name; with --base_url, its name there."""
    adapter: FilePath[str | None] = None
    """Adapter folder for the model."""
    base_url: str | None = None
    """Let a server answer that speaks OpenAI's protocol."""
    concurrency: int = 16
    """Questions that a server is asked at the same time."""
    token_limit: TokenLimit = "max_tokens"
    """What the server calls the longest answer."""
    out: FilePath[str | None] = None
    """With --model: folder for safety.jsonl and safety/, which a cell has of its own."""
    generation: GenerationOptions = field(default_factory=GenerationOptions)
    """With --model: how it answers; a cell answers as in its bench."""
    loading: ModelOptions = field(default_factory=ModelOptions)
    """With --model: how it is loaded."""


def safety(options: SafetyConfig) -> int:
    """``safeeraser safety``: 1 if nothing that a set asked could be scored."""
    from safeeraser.core import table
    from safeeraser.data import public
    from safeeraser.integrations import safety as stage
    from safeeraser.report import side_tables
    from safeeraser.report.run import write_safety

    at_least_one(options, "limit")
    _check(options)
    asked = public.chosen(options.sets, Path(options.root) if options.root else None)
    for one in asked:
        if missing := one.missing_images():
            terminal.say(
                f"{one.set.name}: images that cannot be found, whose questions are unscored: {len(missing)} (first: "
                f"{missing[0]}); 'safeeraser data check {one.benchmark.root}' lists them"
            )
    subjects = _subjects(options)
    sizes = [min(options.limit or len(one.queries), len(one.queries)) for one in asked]
    before, total, rows = 0, len(subjects) * sum(sizes), []
    with terminal.bar("safety", total) as progress:
        for subject in subjects:
            for one, size in zip(asked, sizes, strict=True):
                result = stage.run(subject, one, options.limit, lambda done, _, at=before: progress(at + done, total))  # type: ignore[misc]
                rows.append(side_tables.SafetyRow(subject.label, result))
                before += size
    table.show(terminal.console(180), side_tables.safety_table(rows), side_tables.SAFETY_FIRST, "--out has them")
    run = Path(options.run) if options.run else None
    if run and (run / "cells").is_dir():
        from safeeraser.bench import runs

        write_safety(runs.find(run), run / "report")
        terminal.say(f"written: {run / 'report'}: safety.md, safety.csv\nnext: safeeraser report {run}")
    else:
        terminal.say(f"written: safety.jsonl and safety/ in {', '.join(str(one.folder) for one in subjects)}")
    silent = [row for row in rows if not any(score.n for score in row.result.scores)]
    for row in silent:
        terminal.say(f"{row.result.set}: nothing could be scored, see safety/{row.result.set} of {row.label}")
    return 1 if silent else 0


def _check(options: SafetyConfig) -> None:
    if (options.run is None) == (options.model is None):
        given = "neither" if options.run is None else "both"
        raise UserError(f"give a run or cell folder, or --model; {given} is given")
    if options.model is None:
        alone = [name for name in ("adapter", "base_url", "out") if getattr(options, name) is not None]
        if alone:
            raise UserError(f"--{alone[0]} goes with --model: a cell has a model and a folder of its own")
    elif options.out is None:
        raise UserError("--model needs --out: a folder for what it answers")
    elif options.base_url is not None and options.adapter is not None:
        raise UserError("--adapter goes with a local model: serve the merged model ('safeeraser export') instead")


def _subjects(options: SafetyConfig) -> list[Subject]:
    from safeeraser import judges
    from safeeraser.bench import runs
    from safeeraser.integrations import safety as stage
    from safeeraser.models import served

    if options.model is None:
        cells, cost = runs.find(Path(options.run or "")), options.judging.max_cost
        share = replace(options.judging, max_cost=cost and cost / len(cells))  # what is given is for all of them
        return [stage.of_cell(one, options.judge, share) for one in cells]
    judge, out = judges.create(options.judge or "rules", (), options.judging), Path(options.out or "")
    if options.base_url is not None:
        return [stage.of_server(served.endpoint(options, options.model), options.generation, judge, out)]
    adapter = Path(options.adapter) if options.adapter else None
    return [stage.of_model(options.model, adapter, options.loading, options.generation, judge, out)]


def check(name: str, folder: Path) -> int:
    """``safeeraser data check`` of a public set's folder: its questions, and images that cannot be read."""
    from collections import Counter

    from safeeraser.core import table
    from safeeraser.core.table import Column, Table
    from safeeraser.data.images import unreadable
    from safeeraser.data.public import PUBLIC_SETS

    loaded = PUBLIC_SETS.get(name).load(folder)
    root, missing = loaded.benchmark.root, loaded.missing_images()
    images = dict.fromkeys(query.image for query in loaded.queries if query.image)
    with terminal.bar("decode", len(images)) as progress:
        paths = [root / image for image in images if (root / image).is_file()]
        broken = [f"{path}: {reason}" for path, reason in unreadable(paths, progress).items()]
    counts = Counter((query.group, query.category, query.set) for query in loaded.queries)
    rows = [
        [kind, category, str(counts[kind, category, "generality"]), str(counts[kind, category, "safe"])]
        for kind, category in dict.fromkeys((query.group, query.category) for query in loaded.queries)
    ]
    header = [Column("kind"), Column("category"), Column("harmful", right=True), Column("benign", right=True)]
    terminal.say(f"{loaded.set.title} in {root}, questions: {len(loaded.queries):,}, images: {len(images):,}")
    table.show(terminal.console(160), Table(header, rows))
    problems = missing + broken
    terminal.say(f"integrity: {len(problems)} problems" if problems else "integrity: every image can be read")
    for line in terminal.by_kind(problems):
        terminal.say(line)
    terminal.say(f"next: safeeraser safety RUN --sets {name}={folder}")
    return 1 if problems else 0

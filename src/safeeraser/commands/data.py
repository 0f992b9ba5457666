"""Subcommands ``safeeraser data ...``."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from safeeraser import config, terminal

if TYPE_CHECKING:
    from rich.console import Console

    from safeeraser.data.checks import CheckReport


def build(options: config.DataBuildConfig) -> int:
    """``safeeraser data build``."""
    from safeeraser.data import BENCHMARKS

    BENCHMARKS.get(options.name)
    builder = importlib.import_module(f"safeeraser.data.{options.name}.build")
    builder.build(Path(options.out), options.records, options.seed, options.workers)
    terminal.say(f"benchmark: {options.out}\nnext: safeeraser data show {options.out}")
    return 0


def show(options: config.DataShowConfig) -> int:
    """``safeeraser data show``."""
    from safeeraser import data
    from safeeraser.data import sheet

    sheet.show(data.load(options.folder).root, Path(options.out), reveal=options.reveal)
    terminal.say(f"contact sheet: {options.out}")
    return 0


def check(options: config.DataCheckConfig) -> int:
    """``safeeraser data check``: print the report, write what is asked for, return 1 if something is broken."""
    from safeeraser import store
    from safeeraser.data.heldout import write_held_out
    from safeeraser.report.check import print_check, print_problems

    report, problems = _examined(options)
    console = _console()
    if report is None:
        print_problems(problems, console)
        return 1
    print_check(report, console)
    if options.out is not None:
        store.write_json(Path(options.out), report.as_json())
        terminal.say(f"report: {options.out}")
    if options.held_out is not None:
        write_held_out(Path(options.held_out), report.held_out_file())
        terminal.say(f"held out: {options.held_out}")
        skip = " --on-bad skip" if problems else ""
        terminal.say(f"next: safeeraser bench --data {options.folder} --held-out {options.held_out}{skip}")
    return 1 if problems else 0


def _examined(options: config.DataCheckConfig) -> tuple[CheckReport | None, list[str]]:
    """The report, None if a file cannot be used as a whole, and what is broken."""
    from safeeraser.data import BENCHMARKS, cache_folder, checks, hashes, official
    from safeeraser.data.leaks import ALWAYS
    from safeeraser.progress import bar

    named = options.folder in BENCHMARKS.names()
    folder = BENCHMARKS.get(options.folder)(cache_folder()) if named else Path(options.folder)
    with bar("decode", None) as progress:
        benchmark, found = official.examine(folder, progress=progress)
    problems = [str(problem) for problem in found]
    if problems and benchmark is not None:  # what 'score' and 'bench' load: they do not look inside the images
        benchmark, _ = official.examine(folder, images=False)
    if benchmark is None:
        return None, problems
    benchmark = replace(benchmark, name=options.folder) if named else benchmark
    with bar("compare", None) as progress:
        hashed = hashes.hash_images(benchmark, checks.images_of(benchmark), options.workers, progress)
    counted = ALWAYS + (("near",) if options.near else ()) + (("pairs",) if options.pairs else ())
    return checks.check(benchmark, hashed, problems, counted, options.near_bits), problems


def stats(options: config.DataStatsConfig) -> int:
    """``safeeraser data stats``."""
    from safeeraser import data, store
    from safeeraser.data.stats import stats as count
    from safeeraser.report.stats import print_stats, stats_figure

    found = count(data.load(options.folder, on_bad=options.on_bad))
    print_stats(found, _console())
    if options.out is not None:
        store.write_json(Path(options.out) / "stats.json", found.model_dump())
        files = [Path(options.out) / "stats.json", *stats_figure(found, Path(options.out))]
        terminal.say("written: " + ", ".join(map(str, files)))
    return 0


def export(options: config.DataExportConfig) -> int:
    """``safeeraser data export``."""
    from safeeraser import data
    from safeeraser.data.export import EXPORTS
    from safeeraser.progress import bar

    benchmark = data.load(options.folder, on_bad=options.on_bad)
    with bar(options.format, len(benchmark.records)) as progress:
        files = EXPORTS[options.format](benchmark, Path(options.out), progress)
    terminal.say("written: " + ", ".join(map(str, files)))
    if options.format == "llava":
        terminal.say(f"images are not copied: give LLaVA --image_folder {benchmark.root}")
    else:
        terminal.say(f"next: datasets.load_dataset({options.out!r})")
    return 0


def _console() -> Console:

    return terminal.console(160)

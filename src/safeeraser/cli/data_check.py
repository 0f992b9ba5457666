"""Subcommand ``safeeraser data check``: the report as tables and sentences on the console."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from safeeraser.cli.parser import Positional
from safeeraser.config import FilePath
from safeeraser.core import terminal
from safeeraser.core.terminal import say

if TYPE_CHECKING:
    from rich.table import Table

    from safeeraser.data.check.duplicates import Border
    from safeeraser.data.check.leaks import Through
    from safeeraser.data.check.report import CheckReport, Count

REST = ": --out report.json lists all"
BORDERS: dict[Border, str] = {
    "split, unsafe": "unsafe images in train and val",
    "split, safe": "safe images in train and val (meant to be split-pure)",
    "unsafe and safe": "images that are unsafe in one record and safe in another",
    "probe": "probes that show an image of a record",
    "none": "images in several files of one kind and split",
}
THROUGH: dict[Through, str] = {
    "record": "the whole record stands in train",
    "image": "its image is one of train's",
    "texts": "all its texts are those of one train record",
    "near": "its image looks like one of train's",
    "pairs": "a harmful question with its answer stands in train",
}


@dataclass
class DataCheckConfig:
    """Check a benchmark: integrity, the paper's counts, duplicates, leaks from train to val; reads, never changes it.

    Exit status 1 if something in it is broken. Leaks alone give 0: they are what --held-out is for. The folder of a
    public set (see 'safety') is known by its layout: its questions are counted, its images read.

    Example:
        safeeraser data check data/official --out report.json --held-out held-out.json
        safeeraser data check data/official --near --pairs --held-out held-out.json
    """

    folder: Positional[FilePath[str]]
    """Benchmark folder or name."""
    out: FilePath[str | None] = None
    """JSON file to write the whole report to; where a file cannot be used as a whole, all problems."""
    held_out: FilePath[str | None] = None
    """JSON file to write the val records without a leak to, for 'score --held-out' and 'bench --held-out'."""
    near: bool = False
    """Count a val image that looks like a train image as a leak."""
    near_bits: int = 24
    """How alike is alike: bits of 256 in which the perceptual hashes may differ."""
    pairs: bool = False
    """Count a val record as a leak if one of its harmful questions stands in train with the same answer."""
    workers: int | None = None
    """Processes that decode the images; None: one per core."""


def check(options: DataCheckConfig) -> int:
    """``safeeraser data check``: print the report, write what is asked for, return 1 if something is broken."""
    from safeeraser.core import files
    from safeeraser.data import BENCHMARKS, public

    if options.folder not in BENCHMARKS.names() and (one := public.recognised(Path(options.folder))):
        from safeeraser.cli import safety

        return safety.check(one.name, Path(options.folder))
    report, problems = _examined(options)
    console = terminal.console(160, highlight=False)
    for line in _problem_lines(problems) if report is None else _report_lines(report):
        console.print(line)
    if options.out is not None:
        files.write_json(Path(options.out), {"problems": problems} if report is None else report.as_json())
        say(f"report: {options.out}")
    if report is not None and options.held_out is not None:
        files.write_json(Path(options.held_out), report.held_out_file().model_dump())
        say(f"held out: {options.held_out}")
        skip = " --on-bad skip" if problems else ""
        say(f"next: safeeraser bench --data {options.folder} --held-out {options.held_out}{skip}")
    return 1 if report is None or report.problems else 0


def _examined(options: DataCheckConfig) -> tuple[CheckReport | None, list[str]]:
    """The report, None if a file cannot be used as a whole, and what is broken."""
    from safeeraser.data import BENCHMARKS, cache_folder
    from safeeraser.data.check import hashes
    from safeeraser.data.check import report as checks
    from safeeraser.data.check.leaks import ALWAYS
    from safeeraser.data.check.texts import control_token_problems
    from safeeraser.data.release import examine

    named = options.folder in BENCHMARKS.names()
    folder = BENCHMARKS.get(options.folder)(cache_folder()) if named else Path(options.folder)
    with terminal.bar("decode", None) as progress:
        benchmark, flaws = examine(folder, progress=progress)
    problems = [str(problem) for problem in flaws]
    if problems and benchmark is not None:  # what 'score' and 'bench' load: they do not look inside the images
        benchmark, _ = examine(folder, images=False)
    if benchmark is None:
        return None, problems
    benchmark = replace(benchmark, name=options.folder) if named else benchmark
    with terminal.bar("compare", None) as progress:
        hashed = hashes.hash_images(benchmark, checks.images_of(benchmark), options.workers, progress)
    counted = ALWAYS + (("near",) if options.near else ()) + (("pairs",) if options.pairs else ())
    tokens = [str(problem) for problem in control_token_problems(benchmark.root)]
    return checks.check(benchmark, hashed, [*problems, *tokens], counted, options.near_bits), problems


def _report_lines(report: CheckReport) -> Iterator[str | Table]:
    yield f"{report.benchmark}, fingerprint {report.fingerprint}"
    yield from _problem_lines(report.problems)
    yield _counts_table(report.counts)
    different = sum(count.found != count.paper for count in report.counts)
    noted = f"{different} differ from the paper's (a note, not an error)"
    yield f"counts: {noted if different else 'those of the paper, in every category and split'}"
    borders = report.borders()
    duplicates = [(text, str(borders[border])) for border, text in BORDERS.items()]
    yield _table("duplicates", ("the same image, pixel by pixel", "images"), duplicates)
    yield from _near_lines(report)
    texts = [(t.set, *(f"{n:,}" for n in (t.val_pairs, t.pairs_in_train, t.questions_in_train))) for t in report.texts]
    yield _table("texts of val that stand in train", ("set", "pairs", "question and answer", "question alone"), texts)
    yield _leaks_table(report)
    yield from leak_sentences(report)


def _table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    from safeeraser.core import table

    return table.console(table.Table([table.Column(heading) for heading in header], rows, title))


def _problem_lines(problems: Sequence[str]) -> Iterator[str]:
    yield f"integrity: {len(problems)} problems" if problems else "integrity: every record and image can be read"
    yield from terminal.by_kind(problems, REST)


def _counts_table(counts: Sequence[Count]) -> Table:
    """Found / paper's number, per category and split, with the sum."""
    kinds = list(dict.fromkeys(count.what for count in counts))
    rows: dict[tuple[str, str], dict[str, tuple[int, int]]] = {}
    for count in counts:
        rows.setdefault((count.category, count.split), {})[count.what] = (count.found, count.paper)
        found, paper = rows.setdefault(("all", ""), {}).get(count.what, (0, 0))
        rows["all", ""][count.what] = (found + count.found, paper + count.paper)
    rows["all", ""] = rows.pop(("all", ""))  # last
    cells = [(*row, *(_cell(*numbers[kind]) for kind in kinds)) for row, numbers in rows.items()]
    return _table("counts: found / paper", ("category", "split", *kinds), cells)


def _cell(found: int, paper: int) -> str:
    return f"{found:,}" if found == paper else f"{found:,} / {paper:,}"


def _near_lines(report: CheckReport) -> Iterator[str]:
    name = f"look-alikes across splits (at most {report.near_bits} of 256 bits differ)"
    if not report.near:
        yield f"{name}: none"
        return
    counts = "" if "near" in report.counted else "not "
    advice = "" if "near" in report.counted else ": look at them; --near counts them"
    yield f"{name}: {len(report.near)}, {counts}counted as leaks{advice}"
    pairs = [f"{p.bits:>3} bits  {p.kind:<6}  val {p.val_image}  train {p.train_image}" for p in report.near]
    yield from terminal.first(pairs, REST)


def _leaks_table(report: CheckReport) -> Table:
    """Val records that train gives away, by what gives them away and category."""
    categories = sorted({count.category for count in report.counts})
    through, rows = report.leaked_through(), []
    for name, text in THROUGH.items():
        leaked = through.get(name, Counter[str]())
        counts = "yes" if name in report.counted else f"with --{name}"
        rows.append((f"{name}: {text}", counts, str(leaked.total()), *(str(leaked[one]) for one in categories)))
    return _table("val records that train gives away", ("through", "counts", "all", *categories), rows)


def leak_sentences(report: CheckReport) -> list[str]:
    """What follows from the leaks."""
    if not report.leaked:
        return [f"leaks: none of {report.val_records} val records"]
    share = f"{report.leaked} of {report.val_records} val records"
    return [
        f"leaks: {share}; {len(report.held_out)} are held out",
        "generality on all of val is flattered: report it on the held-out part as well (--held-out FILE, which score "
        "and bench read)",
    ]

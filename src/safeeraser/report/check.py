"""The report of ``safeeraser data check`` as tables and sentences on the console."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from safeeraser.data.checks import CheckReport, Count
from safeeraser.data.duplicates import Border
from safeeraser.data.leaks import Through

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

SHOWN = 10
"""Problems and look-alikes listed on the console; the JSON report has all."""
BORDERS: dict[Border, str] = {
    "split, unsafe": "unsafe images in train and val",
    "split, safe": "safe images in train and val (meant to be split-pure)",
    "unsafe and safe": "pictures that are unsafe in one record and safe in another",
    "probe": "probes that show a picture of a record",
    "none": "pictures in several files of one kind and split",
}
THROUGH: dict[Through, str] = {
    "record": "the whole record stands in train",
    "image": "its picture is one of train's",
    "texts": "all its texts are those of one train record",
    "near": "its picture looks like one of train's",
    "pairs": "a harmful question with its answer stands in train",
}


def print_check(report: CheckReport, console: Console) -> None:
    """Print the report: integrity, counts, duplicates, texts, leaks."""
    console.print(f"{report.benchmark}, fingerprint {report.fingerprint}", highlight=False, markup=False)
    print_problems(report.problems, console)
    console.print(counts_table(report.counts))
    different = sum(count.found != count.paper for count in report.counts)
    console.print(_note(different), highlight=False)
    console.print(duplicates_table(report))
    for line in _look_at_these(report):
        console.print(line, highlight=False, markup=False)
    console.print(texts_table(report))
    console.print(leaks_table(report))
    for line in leak_sentences(report):
        console.print(line, highlight=False)


def print_problems(problems: Sequence[str], console: Console) -> None:
    """Print what is broken, or that nothing is."""
    if not problems:
        console.print("integrity: every record and image can be read", highlight=False)
        return
    console.print(f"integrity: {len(problems)} problems", highlight=False)
    for problem in problems[:SHOWN]:
        console.print(f"  {problem}", highlight=False, markup=False)
    if len(problems) > SHOWN:
        console.print(f"  ... and {len(problems) - SHOWN} more: --out report.json lists all", highlight=False)


def _note(different: int) -> str:
    if not different:
        return "counts: those of the paper, in every category and split"
    return f"counts: {different} differ from the paper's (a note, not an error)"


def counts_table(counts: tuple[Count, ...]) -> Table:
    """Found / paper's number, per category and split, with the sum."""
    from rich.table import Table

    kinds = list(dict.fromkeys(count.what for count in counts))
    table = Table("category", "split", *kinds, title="counts: found / paper", title_justify="left")
    rows: dict[tuple[str, str], dict[str, tuple[int, int]]] = {}
    for count in counts:
        rows.setdefault((count.category, count.split), {})[count.what] = (count.found, count.paper)
        found, paper = rows.setdefault(("all", ""), {}).get(count.what, (0, 0))
        rows["all", ""][count.what] = (found + count.found, paper + count.paper)
    rows["all", ""] = rows.pop(("all", ""))  # last
    for (category, split), cells in rows.items():
        table.add_row(category, split, *[_cell(*cells[kind]) for kind in kinds])
    return table


def _cell(found: int, paper: int) -> str | Text:
    from rich.text import Text

    return f"{found:,}" if found == paper else Text.assemble((f"{found:,}", "bold"), f" / {paper:,}")


def duplicates_table(report: CheckReport) -> Table:
    """Pictures that occur more than once, by the border that they cross."""
    from rich.table import Table

    table = Table("the same picture, pixel by pixel", "pictures", title="duplicates", title_justify="left")
    borders = report.borders()
    for border, text in BORDERS.items():
        table.add_row(text, str(borders[border]))
    return table


def _look_at_these(report: CheckReport) -> Iterator[str]:
    if not report.near:
        yield f"look-alikes across splits (at most {report.near_bits} of 256 bits differ): none"
        return
    counts = (
        "counted as leaks" if "near" in report.counted else "not counted as leaks: look at them; --near counts them"
    )
    yield f"look-alikes across splits (at most {report.near_bits} of 256 bits differ): {len(report.near)}, {counts}"
    for pair in report.near[:SHOWN]:
        yield f"  {pair.bits:>3} bits  {pair.kind:<6}  val {pair.val_image}  train {pair.train_image}"
    if len(report.near) > SHOWN:
        yield f"  ... and {len(report.near) - SHOWN} more: --out report.json lists all"


def texts_table(report: CheckReport) -> Table:
    """Texts of val that stand in train, too."""
    from rich.table import Table

    title = "texts of val that stand in train"
    table = Table("set", "pairs", "question and answer", "question alone", title=title, title_justify="left")
    for count in report.texts:
        table.add_row(count.set, f"{count.val_pairs:,}", f"{count.pairs_in_train:,}", f"{count.questions_in_train:,}")
    return table


def leaks_table(report: CheckReport) -> Table:
    """Val records that train gives away, by what gives them away and category."""
    from rich.table import Table

    categories = sorted({count.category for count in report.counts})
    title = "val records that train gives away"
    table = Table("through", "counts", "all", *categories, title=title, title_justify="left")
    through = report.leaked_through()
    for name, text in THROUGH.items():
        found = through.get(name, Counter[str]())
        cells = [str(found.get(category, 0)) for category in categories]
        counts = "yes" if name in report.counted else f"with --{name}"
        table.add_row(f"{name}: {text}", counts, str(sum(found.values())), *cells)
    return table


def leak_sentences(report: CheckReport) -> list[str]:
    """What follows from the leaks.

    Example:
        >>> from pathlib import Path
        >>> from safeeraser.data import Benchmark, checks
        >>> leak_sentences(checks.check(Benchmark("empty", Path("."), (), (), (), ""), {}))
        ['leaks: none of 0 val records']
    """
    if not report.leaked:
        return [f"leaks: none of {report.val_records} val records"]
    share = f"{report.leaked} of {report.val_records} val records"
    return [
        f"leaks: {share}; {len(report.held_out)} are held out",
        "generality on all of val is flattered: report it on the held-out part as well (--held-out FILE, which score "
        "and bench read)",
    ]

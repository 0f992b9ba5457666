"""Subcommand ``safeeraser data stats``: the numbers as tables on the console and as a figure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from safeeraser.cli.parser import Positional
from safeeraser.config import FilePath, OnBad
from safeeraser.core import terminal

if TYPE_CHECKING:
    from rich.table import Table

    from safeeraser.data.check.stats import Lengths, Stats
    from safeeraser.records import Split

COLOURS: dict[Split, str] = {"train": "#4878a8", "val": "#e0a458"}


@dataclass
class DataStatsConfig:
    """Count a benchmark by set, category, keyword and split, and measure its texts in words.

    Example:
        safeeraser data stats data/pictogram
        safeeraser data stats data/pictogram --out stats
    """

    folder: Positional[FilePath[str]]
    """Benchmark folder or name."""
    out: FilePath[str | None] = None
    """Folder to write stats.json, stats.svg and stats.png to."""
    on_bad: OnBad = "fail"
    """What to do about bad records: 'fail' reports all their problems, 'skip' leaves them out with a warning."""


def stats(options: DataStatsConfig) -> int:
    """``safeeraser data stats``."""
    from safeeraser import data
    from safeeraser.core import files
    from safeeraser.data.check.stats import stats as count

    counted = count(data.load(options.folder, on_bad=options.on_bad))
    console = terminal.console(160, highlight=False)
    console.print(f"{counted.benchmark}, fingerprint {counted.fingerprint}")
    for table in (_counts_table(counted), _keywords_table(counted), _lengths_table(counted)):
        console.print(table)
    if options.out is not None:
        files.write_json(Path(options.out) / "stats.json", counted.model_dump())
        written = [Path(options.out) / "stats.json", *_draw(counted, Path(options.out))]
        terminal.say("written: " + ", ".join(map(str, written)))
    return 0


def _table(title: str, *columns: str, show_lines: bool = False) -> Table:
    from rich.table import Table

    return Table(*columns, title=title, title_justify="left", show_lines=show_lines)


def _counts_table(stats: Stats) -> Table:
    """Records, images and pairs per category and split, and in all."""
    from safeeraser.data.check.texts import TextSet

    sets = get_args(TextSet)
    pairs = [f"{name} pairs" for name in sets]
    table = _table("counts", "category", "split", "records", "unsafe images", "safe images", *pairs)
    for group in (*stats.categories, *stats.splits):
        numbers = (group.records, group.unsafe_images, group.safe_images, *(group.pairs[name] for name in sets))
        category = "all" if group.category is None else group.category
        table.add_row(category, group.split, *(f"{number:,}" for number in numbers), end_section=group.split == "val")
    return table


def _keywords_table(stats: Stats) -> Table:
    """Records of each keyword in train / val."""
    table = _table("records per keyword", "category", "keyword train/val", show_lines=True)
    counts: dict[str, dict[str, dict[str, int]]] = {}
    for group in stats.keywords:
        of_keyword = counts.setdefault(group.category or "", {}).setdefault(group.keyword or "(none)", {})
        of_keyword[group.split] = group.records
    for category, keywords in counts.items():
        cells = [f"{name} {records.get('train', 0)}/{records.get('val', 0)}" for name, records in keywords.items()]
        table.add_row(category, ", ".join(cells))
    return table


def _lengths_table(stats: Stats) -> Table:
    """Lengths of the texts in words, beside the paper's means."""
    table = _table("lengths in words", "text", "n", "mean", "paper's mean", "median", "shortest", "longest")
    for name, words in stats.lengths.items():
        numbers = (words.mean, words.paper_mean, words.median, words.shortest, words.longest)
        table.add_row(name, f"{words.n:,}", *("–" if number is None else f"{number:g}" for number in numbers))
    return table


def _draw(stats: Stats, folder: Path) -> list[Path]:
    """Draw records per category and split, and a histogram of words for each kind of text."""
    from matplotlib.figure import Figure

    from safeeraser.report.figures import style

    figure = Figure(figsize=(13, 7))
    axes = figure.subplots(2, 3)
    _draw_counts(axes[0][0], stats)
    for axis, (name, lengths) in zip(axes.flat[1:], stats.lengths.items(), strict=True):
        _draw_lengths(axis, name, lengths)
    figure.suptitle(f"{stats.benchmark}: {sum(group.records for group in stats.splits):,} records")
    figure.tight_layout()
    return style.save(figure, folder, "stats", ("svg", "png"))


def _draw_counts(axis: Any, stats: Stats) -> None:
    categories = list(dict.fromkeys(group.category or "" for group in stats.categories))
    records = {(group.category, group.split): group.records for group in stats.categories}
    start = [0] * len(categories)
    for split, colour in COLOURS.items():
        counts = [records.get((category, split), 0) for category in categories]
        bars = axis.barh(categories, counts, left=start, color=colour, label=split)
        axis.bar_label(bars, [str(count) if count else "" for count in counts], label_type="center", fontsize=8)
        start = [before + count for before, count in zip(start, counts, strict=True)]
    axis.invert_yaxis()
    axis.set(title="records")
    axis.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, frameon=False)


def _draw_lengths(axis: Any, name: str, lengths: Lengths) -> None:
    paper = "" if lengths.paper_mean is None else f", paper's mean {lengths.paper_mean}"
    axis.set_title(f"{name} (n = {lengths.n:,}{paper})", fontsize=10)
    axis.set(xlabel="words", ylabel="texts")
    if lengths.mean is None:
        axis.text(0.5, 0.5, "none", ha="center", transform=axis.transAxes)
        return
    axis.stairs(lengths.bars, lengths.edges, fill=True, color="#7a9e7e")
    axis.axvline(lengths.mean, color="#1b1b1b", lw=1.2, label=f"mean {lengths.mean:.1f}")
    axis.margins(y=0.18)
    axis.legend(fontsize=8, loc="upper right")

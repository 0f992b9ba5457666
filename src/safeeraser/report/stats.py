"""The numbers of ``safeeraser data stats`` as tables on the console and as a figure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from safeeraser import store
from safeeraser.data.stats import Lengths, Stats
from safeeraser.data.texts import TextSet
from safeeraser.records import Split

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

COLOURS: dict[Split, str] = {"train": "#4878a8", "val": "#e0a458"}


def print_stats(stats: Stats, console: Console) -> None:
    """Print counts per category and split, per keyword, and the lengths of the texts."""
    console.print(f"{stats.benchmark}, fingerprint {stats.fingerprint}", highlight=False, markup=False)
    for table in (counts_table(stats), keywords_table(stats), lengths_table(stats)):
        console.print(table)


def counts_table(stats: Stats) -> Table:
    """Records, images and pairs per category and split, and in all."""
    from rich.table import Table

    sets = get_args(TextSet)
    columns = ["category", "split", "records", "unsafe images", "safe images", *(f"{s} pairs" for s in sets)]
    table = Table(*columns, title="counts", title_justify="left")
    for group in (*stats.categories, *stats.splits):
        numbers = (group.records, group.unsafe_images, group.safe_images, *(group.pairs[name] for name in sets))
        category = "all" if group.category is None else group.category
        table.add_row(category, group.split, *(f"{number:,}" for number in numbers), end_section=group.split == "val")
    return table


def keywords_table(stats: Stats) -> Table:
    """Records of each keyword in train / val."""
    from rich.table import Table

    table = Table("category", "keyword train/val", title="records per keyword", title_justify="left", show_lines=True)
    counts: dict[str, dict[str, dict[str, int]]] = {}
    for group in stats.keywords:
        of_keyword = counts.setdefault(group.category or "", {}).setdefault(group.keyword or "(none)", {})
        of_keyword[group.split] = group.records
    for category, keywords in counts.items():
        cells = [f"{name} {found.get('train', 0)}/{found.get('val', 0)}" for name, found in keywords.items()]
        table.add_row(category, ", ".join(cells))
    return table


def lengths_table(stats: Stats) -> Table:
    """Lengths of the texts in words, beside the paper's means."""
    from rich.table import Table

    columns = ["text", "n", "mean", "paper's mean", "median", "shortest", "longest"]
    table = Table(*columns, title="lengths in words", title_justify="left")
    for name, found in stats.lengths.items():
        numbers = (found.mean, found.paper_mean, found.median, found.shortest, found.longest)
        table.add_row(name, f"{found.n:,}", *("–" if number is None else f"{number:g}" for number in numbers))
    return table


def stats_figure(stats: Stats, folder: Path) -> list[Path]:
    """Draw records per category and split, and a histogram of words for each kind of text.

    Returns:
        The files written: ``stats.svg`` and ``stats.png``.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 3, figsize=(13, 7))
    _draw_counts(axes[0][0], stats)
    for axis, (name, lengths) in zip(axes.flat[1:], stats.lengths.items(), strict=True):
        _draw_lengths(axis, name, lengths)
    figure.suptitle(f"{stats.benchmark}: {sum(group.records for group in stats.splits):,} records")
    figure.tight_layout()
    written = []
    for suffix in ("svg", "png"):
        path = folder / f"stats.{suffix}"
        with store.atomic(path, "wb") as file:
            figure.savefig(file, format=suffix, dpi=110, metadata={"Date": None} if suffix == "svg" else None)
        written.append(path)
    pyplot.close(figure)
    return written


def _draw_counts(axis: Any, stats: Stats) -> None:
    categories = list(dict.fromkeys(group.category or "" for group in stats.categories))
    found = {(group.category, group.split): group.records for group in stats.categories}
    start = [0] * len(categories)
    for split, colour in COLOURS.items():
        counts = [found.get((category, split), 0) for category in categories]
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

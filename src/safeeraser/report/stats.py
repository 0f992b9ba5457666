"""The numbers of ``safeeraser data stats`` as tables on the console and as a figure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from safeeraser import store
from safeeraser.data.stats import Group, Lengths, Stats
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
    """Records, images and pairs per category and split, with the sums; an image of two keywords counts for both."""
    from rich.table import Table

    sets = get_args(TextSet)
    columns = [
        "category",
        "split",
        "keywords",
        "records",
        "unsafe images",
        "safe images",
        *(f"{s} pairs" for s in sets),
    ]
    table = Table(*columns, title="counts", title_justify="left")
    for category in (*stats.categories, "all"):
        for split in get_args(Split):
            groups = [g for g in stats.groups if g.split == split and category in (g.category, "all")]
            table.add_row(category, split, *_sums(groups), end_section=split == "val")
    return table


def _sums(groups: list[Group]) -> list[str]:
    numbers = [
        len({(group.category, group.keyword) for group in groups}),
        sum(group.records for group in groups),
        sum(group.unsafe_images for group in groups),
        sum(group.safe_images for group in groups),
        *(sum(group.pairs[name] for group in groups) for name in get_args(TextSet)),
    ]
    return [f"{number:,}" for number in numbers]


def keywords_table(stats: Stats) -> Table:
    """Records of each keyword in train / val."""
    from rich.table import Table

    table = Table("category", "keyword train/val", title="records per keyword", title_justify="left", show_lines=True)
    for category in stats.categories:
        counts: dict[str, dict[str, int]] = {}
        for group in stats.groups:
            if group.category == category:
                counts.setdefault(group.keyword or "(none)", {})[group.split] = group.records
        cells = [f"{name} {c.get('train', 0)}/{c.get('val', 0)}" for name, c in counts.items()]
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
    figure.suptitle(f"{stats.benchmark}: {sum(group.records for group in stats.groups):,} records")
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
    start = [0] * len(stats.categories)
    for split, colour in COLOURS.items():
        counts = [stats.records(split, category) for category in stats.categories]
        bars = axis.barh(stats.categories, counts, left=start, color=colour, label=split)
        axis.bar_label(bars, [str(count) if count else "" for count in counts], label_type="center", fontsize=8)
        start = [before + count for before, count in zip(start, counts, strict=True)]
    axis.invert_yaxis()
    axis.set(title="records", xlabel="records")
    if stats.categories:
        axis.legend(fontsize=8, loc="lower right")


def _draw_lengths(axis: Any, name: str, lengths: Lengths) -> None:
    axis.set(title=f"{name} (n = {lengths.n:,})", xlabel="words", ylabel="texts")
    if lengths.mean is None:
        axis.text(0.5, 0.5, "none", ha="center", transform=axis.transAxes)
        return
    axis.stairs(lengths.bars, lengths.edges, fill=True, color="#7a9e7e")
    axis.axvline(lengths.mean, color="#1b1b1b", lw=1.2, label=f"mean {lengths.mean:.1f}")
    if lengths.paper_mean is not None:
        axis.axvline(lengths.paper_mean, color="#9c2a1e", lw=1.2, ls="--", label=f"paper's mean {lengths.paper_mean}")
    axis.legend(fontsize=8)

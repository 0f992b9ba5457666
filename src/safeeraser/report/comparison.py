"""Paired differences and the agreement of judges, as tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from safeeraser.core.table import MISSING, Column, Table, percent
from safeeraser.records import Agreement, Difference
from safeeraser.report.table import COLUMNS

SIGNIFICANT = 0.05
FIRST = ("B - A", "95 %", "p (Holm)", "A", "B", "kappa", "agree", "responses")
"""Columns in the order in which a narrow terminal keeps them."""


def p_value(value: float | None) -> str:
    """Format a p-value; a star marks one below 0.05.

    Example:
        >>> p_value(0.2), p_value(0.012), p_value(1e-9), p_value(None)
        ('0.2000', '0.0120 *', '<0.0001 *', '–')
    """
    if value is None:
        return "–"
    return ("<0.0001" if value < 0.0001 else f"{value:.4f}") + (" *" if value < SIGNIFICANT else "")


def signed(value: float | None) -> str:
    """Format a difference of fractions in percentage points.

    Example:
        >>> signed(-0.1), signed(0.0)
        ('-10.0', '0.0')
    """
    if value is None:
        return "–"
    return f"{100 * value:+z.1f}".replace("+0.0", "0.0")


def difference_table(label: str, differences: Sequence[Difference]) -> Table:
    """The table of one comparison."""
    several = any(difference.sd is not None for difference in differences)
    names = ["A", "B", "B - A", "95 %", *(["sd over seeds"] if several else [])]
    header = [Column(name, right=True) for name in [*names, "p (Holm)", "pairs", "images", "unscored"]]
    places = {name: place for place, name in enumerate(COLUMNS)}
    rows = []
    for d in sorted(differences, key=lambda d: places.get(d.metric, len(places))):
        numbers = [percent(d.a), percent(d.b), signed(d.value), f"{signed(d.low)}, {signed(d.high)}"]
        spread = [percent(d.sd)] if several else []
        rows.append([d.metric, *numbers, *spread, p_value(d.p_holm), str(d.n), str(d.n_images), str(d.n_unscored)])
    return Table([Column("metric"), *header], rows, label)


def explanation(differences: Sequence[Difference]) -> str:
    """Say under the tables what the numbers are."""
    tested = sum(difference.p is not None for difference in differences)
    unpaired = sum(difference.n_unpaired for difference in differences)
    lines = [
        "Percent and percentage points, over questions that have a score on both sides.",
        "95 %: paired bootstrap over images, each for itself.",
        f"p: exact sign-flip test over images, Holm-corrected for all {tested} comparisons; * below {SIGNIFICANT}.",
    ]
    lines += [f"Left out, as only one side was asked: {unpaired} questions (summed over metrics)."] if unpaired else []
    return "\n".join(lines)


def agreement_table(agreements: Sequence[Agreement]) -> Table:
    """The table of kappas, a line per criterion."""
    names = ("responses", "agree", "kappa", "95 %", "mean A", "mean B", "unscored", "A only", "B only")
    rows = []
    for a in agreements:
        interval = MISSING if a.low is None or a.high is None else f"{a.low:.3f}, {a.high:.3f}"
        kappa = MISSING if a.kappa is None else f"{a.kappa:.3f}"
        only_a = sum(a.table[label]["none"] for label in a.table)
        unscored = sum(a.table["unscored"].values()) + sum(row["unscored"] for row in a.table.values())
        unscored -= a.table["unscored"]["unscored"]
        counts = [str(count) for count in (unscored, only_a, sum(a.table["none"].values()))]
        means = [percent(a.mean_a), percent(a.mean_b)]
        rows.append([a.criterion, str(a.n), percent(a.observed), kappa, interval, *means, *counts])
    return Table([Column("criterion"), *[Column(name, right=True) for name in names]], rows)


def confusion_table(agreement: Agreement) -> Table:
    """The table of A's labels by B's for one criterion; labels that neither used are left out."""
    labels = [
        label
        for label in agreement.table
        if any(agreement.table[label].values()) or any(row[label] for row in agreement.table.values())
    ]
    rows = [[label, *[str(agreement.table[label][other]) for other in labels]] for label in labels]
    return Table([Column(f"{agreement.criterion}: A ↓ B →"), *[Column(label, right=True) for label in labels]], rows)

"""Tables of texts and of numbers with intervals, for the console, Markdown, CSV, LaTeX and HTML."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from safeeraser.core import files

if TYPE_CHECKING:
    import rich.console
    import rich.table

BORDER = 3
"""What a column of the terminal's table takes beside its text: a line and two blanks."""
MISSING = "–"
_BREAK = re.compile(r" (?=\w\w|[(↓↑])")  # "B - A" and "95 %" stay whole
_SIGNS = {"\\": "backslash", "~": "asciitilde", "^": "asciicircum", "<": "less", ">": "greater", "|": "bar"}
_MATHS = {"±": "pm", "↓": "downarrow", "↑": "uparrow", "→": "rightarrow"}
_LATEX = str.maketrans(
    {sign: rf"\{sign}" for sign in "&%$#_{}"}
    | {sign: rf"\text{name}{{}}" for sign, name in _SIGNS.items()}
    | {sign: rf"$\{name}$" for sign, name in _MATHS.items()}
    | {"–": "--", "\n": " "}
)


@dataclass(frozen=True)
class Percent:
    """A fraction with its 95 % interval, shown in percent."""

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    sd: float | None = None

    @property
    def text(self) -> str:
        """The value alone."""
        return percent(self.value)

    @property
    def interval(self) -> str:
        """The interval in brackets; empty where there is none."""
        return "" if self.value is None or self.low is None else f"[{percent(self.low)}, {percent(self.high)}]"

    def __str__(self) -> str:
        """Value and interval."""
        return f"{self.text} {self.interval}".rstrip()


Cell = str | Percent


@dataclass(frozen=True)
class Column:
    """A heading; ``name`` is the column's in CSV, where it differs. Numbers are set on the right."""

    heading: str
    name: str = ""
    right: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of cells under columns.

    Example:
        >>> table = Table([Column("method"), Column("SARR ↓", "sarr", right=True)], [["po", Percent(0.98, 0.97, 0.99)]])
        >>> print(markdown(table))
        | method | SARR ↓ |
        |---|---:|
        | po | 98.0 [97.0, 99.0] |
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    title: str = ""


def percent(value: float | None) -> str:
    """Format a fraction in percent, a missing one as a dash.

    Example:
        >>> percent(0.0783), percent(-0.0001), percent(None)
        ('7.8', '0.0', '–')
    """
    return MISSING if value is None else f"{100 * value:z.1f}"


def fitting(table: Table, width: int, first: Sequence[str] = ()) -> tuple[Table, list[str]]:
    """The table with the columns that fit whole into ``width`` characters, and the headings of those left out.

    Columns of texts stay, however wide; of those of numbers, the ones that ``first`` names come first.

    Example:
        >>> wide = Table([Column("method"), Column("ASR", right=True), Column("SARR", right=True)], [["po", "1", "2"]])
        >>> [column.heading for column in fitting(wide, 20, ["SARR"])[0].columns], fitting(wide, 20, ["SARR"])[1]
        (['method', 'SARR'], ['ASR'])
    """
    headings = [column.heading for column in table.columns]
    if sum(_widths(table)) >= width:  # a word a line
        narrow = [replace(column, heading=_BREAK.sub("\n", column.heading)) for column in table.columns]
        table = replace(table, columns=narrow)
    widths = _widths(table)
    places = range(len(widths))
    rank = {name: place for place, name in enumerate(first)}

    def order(place: int) -> tuple[bool, int]:
        column = table.columns[place]
        return column.right, min(rank.get(name, len(rank)) for name in (column.name, headings[place]))

    kept: set[int] = set()
    left = width - 1
    for place in sorted(places, key=order):
        if not table.columns[place].right or widths[place] <= left:
            kept.add(place)
            left -= widths[place]
    chosen = [place for place in places if place in kept]
    rows = [[row[place] for place in chosen] for row in table.rows]
    fitted = replace(table, columns=[table.columns[place] for place in chosen], rows=rows)
    return fitted, [headings[place] for place in places if place not in kept]


def _widths(table: Table) -> list[int]:
    """What each column takes in a terminal with its border, nothing broken."""
    return [
        max(_cells(text) for text in (column.heading, *(_shown(row[place]) for row in table.rows))) + BORDER
        for place, column in enumerate(table.columns)
    ]


def show(to: rich.console.Console, table: Table, first: Sequence[str] = (), where: str = "") -> None:
    """Print a table as wide as the terminal allows, and under it which columns did not fit, and ``where`` they are."""
    fitted, left_out = fitting(table, to.width, first)
    to.print(console(fitted))
    if left_out:
        to.print(f"not shown at this width: {', '.join(left_out)}{where and f' ({where})'}", highlight=False)


def _shown(cell: Cell) -> str:
    return cell.text if isinstance(cell, Percent) else cell


def _cells(text: str) -> int:
    """The width of the longest line of a text in a terminal."""
    from rich.cells import cell_len

    return max((cell_len(line) for line in text.splitlines()), default=0)


def console(table: Table) -> rich.table.Table:
    """Build the table for the terminal: values without intervals, texts that are never read as markup."""
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = RichTable(title=table.title or None, title_justify="left")
    for column in table.columns:
        fixed = column.right  # a number is never broken
        shown.add_column(Text(column.heading), justify="right" if fixed else "left", no_wrap=fixed, overflow="fold")
    for row in table.rows:
        shown.add_row(*[Text(_shown(cell)) for cell in row])
    return shown


def markdown(table: Table) -> str:
    """Write the table as Markdown, a cell as ``value [low, high]``; texts are escaped."""
    lines = ["| " + " | ".join(_in_markdown(column.heading) for column in table.columns) + " |"]
    lines.append("|" + "|".join("---:" if column.right else "---" for column in table.columns) + "|")
    lines += ["| " + " | ".join(_in_markdown(str(cell)) for cell in row) + " |" for row in table.rows]
    return "\n".join(lines)


def _in_markdown(text: str) -> str:
    return html.escape(text, quote=False).replace("|", "\\|").replace("\n", " ")


def as_csv(table: Table, extra: Sequence[str] = ()) -> str:
    r"""Write the table as CSV, in percent: behind each number its ``_low`` and ``_high``, and what ``extra`` names.

    Example:
        >>> as_csv(Table([Column("sarr", right=True)], [[Percent(0.5, 0.25, 0.75, n=9)]]), extra=["n"])
        'sarr,sarr_low,sarr_high,sarr_n\n50.0000,25.0000,75.0000,9\n'
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    suffixes = ["", "_low", "_high", *(["_n"] if "n" in extra else [])]
    named = [(column.name or column.heading, column.right) for column in table.columns]
    header = [name + suffix for name, is_number in named for suffix in (suffixes if is_number else [""])]
    writer.writerow(header + [f"{name}_sd" for name, is_number in named if is_number and "sd" in extra])
    for row in table.rows:
        cells = [text for cell in row for text in ([cell] if isinstance(cell, str) else _in_csv(cell, "n" in extra))]
        sds = [_hundredfold(cell.sd) for cell in row if isinstance(cell, Percent) and "sd" in extra]
        writer.writerow(cells + sds)
    return out.getvalue()


def _in_csv(cell: Percent, with_n: bool) -> list[str]:
    n = [] if not with_n else [""] if cell.n is None else [str(cell.n)]
    return [_hundredfold(value) for value in (cell.value, cell.low, cell.high)] + n


def _hundredfold(value: float | None) -> str:
    return "" if value is None else f"{100 * value:z.4f}"


def latex_escape(text: str) -> str:
    r"""Write a text so that LaTeX prints it as it is.

    Example:
        >>> print(latex_escape("po+pd=0.5 & 80 % of #1_a ↓"))
        po+pd=0.5 \& 80 \% of \#1\_a $\downarrow$
    """
    return text.translate(_LATEX)


def latex(table: Table, caption: str) -> str:
    r"""Write a ``table*`` with booktabs: values, and in small print under them their intervals.

    What follows the first blank of a heading goes into a second line.
    """
    headings = [column.heading.partition(" ") for column in table.columns]
    lines = [_latex_row(first for first, _, _ in headings)]
    if any(rest for _, _, rest in headings):
        lines.append(_latex_row(rest for _, _, rest in headings))
    lines.append(r"    \midrule")
    for row in table.rows:
        lines.append(_latex_row(map(_shown, row)))
        intervals = [cell.interval if isinstance(cell, Percent) else "" for cell in row]
        if any(intervals):
            lines.append(_latex_row(intervals, r"{\tiny %s}"))
    body = "\n".join(lines)
    return rf"""% needs \usepackage{{booktabs}}
\begin{{table*}}[t]
  \centering
  \footnotesize
  \setlength{{\tabcolsep}}{{2pt}}
  \begin{{tabular}}{{{"".join("r" if column.right else "l" for column in table.columns)}}}
    \toprule
{body}
    \bottomrule
  \end{{tabular}}
  \caption{{{latex_escape(caption)}}}
  \label{{tab:safeeraser}}
\end{{table*}}
"""


def _latex_row(texts: Iterable[str], form: str = "%s") -> str:
    return f"    {' & '.join(text and form % latex_escape(text) for text in texts)} \\\\"


def write(folder: Path, texts: dict[str, str]) -> None:
    """Write files of a folder, by name, each whole or not at all."""
    for name, text in texts.items():
        with files.atomic(folder / name) as file:
            file.write(text)

"""Several runs on one page: Markdown, CSV, and one HTML file that needs nothing else."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safeeraser import store
from safeeraser.errors import UserError
from safeeraser.records import Score
from safeeraser.report.table import COLUMNS, Row, percent

if TYPE_CHECKING:
    from rich.table import Table

REFERENCE = "vanilla"


@dataclass(frozen=True)
class Entry:
    """A line: a method of a run, with what its numbers depend on (data, judge, which questions were asked)."""

    run: str
    row: Row
    data: str
    judge: str
    asked: str

    @property
    def cells(self) -> list[str]:
        """What stands before the numbers."""
        return [self.run, self.row.model, self.row.method, str(len(self.row.seeds))]


HEADER = ("run", "model", "method", "seeds")


def ordered(entries: Sequence[Entry], column: str) -> list[Entry]:
    """Sort by a metric, the best first; then what has no value, then vanilla models.

    Raises:
        UserError: If there is no such column.

    Example:
        >>> ordered([], "sarr")
        []
    """
    if column not in COLUMNS:
        raise UserError(f"--sort {column}: there is no such column; available: {', '.join(COLUMNS)}")
    sign = -1 if "↑" in COLUMNS[column] else 1

    def key(entry: Entry) -> tuple[bool, bool, float]:
        score = entry.row.scores.get(column)
        value = score.value if score else None
        return entry.row.method == REFERENCE, value is None, sign * (value or 0.0)

    return sorted(entries, key=key)


def notes(entries: Sequence[Entry]) -> list[str]:
    """What must be known to read the page; says so where lines are not comparable."""
    lines = ["In percent, with 95 % intervals over questions; seeds pooled. Vanilla models come last."]
    differing = {
        "data": {entry.data for entry in entries},
        "judges": {entry.judge for entry in entries},
        "questions asked": {entry.asked for entry in entries},
    }
    for name, values in differing.items():
        if len(values) > 1:
            lines.append(f"Not all lines are comparable: their {name} differ ({'; '.join(sorted(values))}).")
    return lines


def console_table(entries: Sequence[Entry]) -> Table:
    """Build the page for the terminal, values alone."""
    from rich.table import Table

    table = Table(*HEADER)
    for title in COLUMNS.values():
        table.add_column(title, justify="right")
    for entry in entries:
        table.add_row(*entry.cells, *[_cell(entry.row.scores.get(name))[0] for name in COLUMNS])
    return table


def _cell(score: Score | None) -> tuple[str, str]:
    """Value and interval as text."""
    if score is None or score.value is None:
        return "–", ""
    return percent(score.value), f"[{percent(score.low)}, {percent(score.high)}]"


def markdown(entries: Sequence[Entry]) -> str:
    """The page as Markdown."""
    header = [*HEADER, *COLUMNS.values()]
    lines = ["| " + " | ".join(header) + " |", "|---|---|---|---:|" + "---:|" * len(COLUMNS)]
    for entry in entries:
        numbers = [" ".join(_cell(entry.row.scores.get(name))).strip() for name in COLUMNS]
        lines.append("| " + " | ".join([*map(_in_markdown, entry.cells), *numbers]) + " |")
    return "\n".join([*lines, "", *[_in_markdown(line) + "\n" for line in notes(entries)]])


def _in_markdown(text: str) -> str:
    return html.escape(text, quote=False).replace("|", "\\|").replace("\n", " ")


def as_csv(entries: Sequence[Entry]) -> str:
    """The page as CSV: where a line comes from, then each metric with _low and _high, in percent."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = [name + suffix for name in COLUMNS for suffix in ("", "_low", "_high")]
    writer.writerow(["run", "model", "method", "seeds", "data", "judge", "asked", *names])
    for entry in entries:
        scores = [entry.row.scores.get(name) for name in COLUMNS]
        bounds = [bound for s in scores for bound in ((s.value, s.low, s.high) if s else (None, None, None))]
        numbers = ["" if bound is None else f"{100 * bound:.4f}" for bound in bounds]
        seeds = " ".join(map(str, entry.row.seeds))
        writer.writerow([*entry.cells[:3], seeds, entry.data, entry.judge, entry.asked, *numbers])
    return out.getvalue()


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; \
script-src 'unsafe-inline'">
<title>SafeEraser leaderboard</title>
<style>
:root {{ color-scheme: light dark; --line: #8884; --quiet: #777; }}
body {{ font: 14px/1.4 system-ui, sans-serif; margin: 2rem; }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .3rem .6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }}
th:nth-child(-n+3), td:nth-child(-n+3) {{ text-align: left; }}
th button {{ all: unset; font-weight: 600; cursor: pointer; }}
th button:focus-visible {{ outline: 2px solid; }}
th[aria-sort=ascending] button::after {{ content: " \\25B4"; }}
th[aria-sort=descending] button::after {{ content: " \\25BE"; }}
small {{ display: block; color: var(--quiet); font-size: 75%; }}
p {{ max-width: 60rem; }}
</style>
</head>
<body>
<h1>SafeEraser leaderboard</h1>
<div class="wide"><table>
<thead><tr>{header}</tr></thead>
<tbody>
{body}
</tbody>
</table></div>
{notes}
<script>
for (const button of document.querySelectorAll("th button")) button.addEventListener("click", () => {{
  const head = button.parentElement, column = head.cellIndex, body = document.querySelector("tbody");
  const up = head.getAttribute("aria-sort") !== "ascending";
  for (const other of document.querySelectorAll("th")) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  const key = row => row.cells[column].dataset.value ?? row.cells[column].textContent;
  const compare = (a, b) => {{
    const x = key(a), y = key(b);
    if (x === "" || y === "") return (x === "") - (y === "");
    return (up ? 1 : -1) * (isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y);
  }};
  body.append(...[...body.rows].sort(compare));
}});
</script>
</body>
</html>
"""


def as_html(entries: Sequence[Entry]) -> str:
    """The page as one HTML file: every text escaped, nothing loaded, a click on a title sorts."""
    titles = [html.escape(title) for title in (*HEADER, *COLUMNS.values())]
    header = "".join(f'<th scope="col"><button type="button">{title}</button></th>' for title in titles)
    lines = []
    for entry in entries:
        cells = [f"<td>{html.escape(text)}</td>" for text in entry.cells]
        cells += [_in_html(entry.row.scores.get(name)) for name in COLUMNS]
        lines.append("<tr>" + "".join(cells) + "</tr>")
    paragraphs = "\n".join(f"<p>{html.escape(line)}</p>" for line in notes(entries))
    return _PAGE.format(header=header, body="\n".join(lines), notes=paragraphs)


def _in_html(score: Score | None) -> str:
    value, interval = _cell(score)
    raw = "" if score is None or score.value is None else f"{score.value:.6f}"
    return f'<td data-value="{raw}">{value}<small>{interval}</small></td>'


def write(entries: Sequence[Entry], folder: Path) -> None:
    """Write leaderboard.md, leaderboard.csv and leaderboard.html into ``folder``, each whole or not at all."""
    for suffix, text in (("md", markdown(entries)), ("csv", as_csv(entries)), ("html", as_html(entries))):
        with store.atomic(folder / f"leaderboard.{suffix}") as file:
            file.write(text)

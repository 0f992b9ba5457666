"""The report as one HTML page that needs no network: headline, table, figures, provenance, response browser."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safeeraser import store
from safeeraser.data import Benchmark
from safeeraser.records import Score
from safeeraser.report import browser, table

__all__ = ["Page", "render", "write"]

ASSETS = Path(__file__).parent / "assets"
CAPTIONS = {
    "sarr": "Over-forgetting: SARR with and without Prompt Decouple",
    "tradeoff": "Forget quality against utility",
    "categories": "By category",
    "losses": "Loss by term over the steps",
    "attacks": "Under attack",
    "budgets": "Over the budget",
}
"""Captions of the figures by the name of their file; others go by their name."""


@dataclass(frozen=True)
class Page:
    """All that a report shows.

    Attributes:
        title: Name of the run.
        results: The table and the headline.
        cells: The columns of the response browser.
        benchmark: Where its images lie; None: without images.
        config: The resolved options of the run.
        environment: Versions, machine, git revision.
        facts: More of how the run was made (hashes, judge), by name.
        times: What each stage took, by name.
        figures: SVG files.
    """

    title: str
    results: table.Results
    cells: Sequence[browser.BrowserCell] = ()
    benchmark: Benchmark | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    times: Mapping[str, str] = field(default_factory=dict)
    figures: Sequence[Path] = ()


def write(page: Page, path: Path) -> Path:
    """Write the page, whole or not at all.

    Example:
        >>> import tempfile
        >>> written = write(Page("demo", table.Results([])), Path(tempfile.mkdtemp()) / "index.html")
        >>> written.read_text().startswith("<!doctype html>")
        True
    """
    with store.atomic(path) as file:
        file.write(render(page))
    return path


def render(page: Page) -> str:
    """Render the page. Answers are hostile text: they travel as JSON and reach the page as text, never as markup.

    Example:
        >>> "<h1>demo" in render(Page("demo", table.Results([])))
        True
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = (ASSETS / "browser.js").read_text(encoding="utf-8")
    return environment.get_template("page.html.jinja").render(
        page=page,
        style=Markup((ASSETS / "page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        columns=table.columns(page.results),
        cell=_cell,
        headline=_headline(page.results),
        sentences=table.headline(page.results),
        figures=[(_caption(path), Markup(_figure(path))) for path in page.figures],
        data=Markup(browser.to_json(browser.pack(page.cells, page.benchmark))) if page.cells else None,
        responses=sum(len(cell.responses) for cell in page.cells),
        options=_flat(page.config),
        made=_flat(page.environment),
    )


def _headline(results: table.Results) -> str:
    """What the run shows, in one sentence that a person would say."""
    rows = {row.method: row.scores["sarr"].value for row in results.rows if "sarr" in row.scores}
    pairs = [
        (base, before, after)
        for base, before in rows.items()
        if before is not None and (after := rows.get(f"{base}+pd")) is not None
    ]
    if not pairs:
        return "This run has no method with and without Prompt Decouple (PD) to compare."
    base, before, after = max(pairs, key=lambda pair: pair[1] - pair[2])
    parts = [
        f"Without Prompt Decouple (PD), {base.upper()} answers {table.percent(before)} % of harmless requests with a "
        f"refusal or gibberish (SARR); with PD, {table.percent(after)} %."
    ]
    if results.mean_decrease and len(results.decreases) > 1:
        parts.append(
            f"Over {len(results.decreases)} methods PD lowers over-forgetting by "
            f"{table.percent(results.mean_decrease.value)} % on average."
        )
    return " ".join(parts)


def _cell(score: Score | None) -> tuple[str, str]:
    """A value and its interval, as they stand in the table."""
    if score is None or score.value is None:
        return "–", ""
    bounds = "" if score.low is None else f"{table.percent(score.low)} to {table.percent(score.high)}"
    return table.percent(score.value), bounds


def _caption(path: Path) -> str:
    return CAPTIONS.get(path.stem, path.stem.replace("_", " "))


def _figure(path: Path) -> str:
    """An SVG as an ``<img>``: what is drawn in it can neither run nor clash with the page."""
    encoded = base64.b64encode(path.read_bytes()).decode()
    return f'<img src="data:image/svg+xml;base64,{encoded}" alt="{_caption(path)}: the numbers are in the table">'


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested options as pairs of a dotted name and a text."""
    pairs: list[tuple[str, str]] = []
    for name, value in values.items():
        pairs += _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(prefix + name, str(value))]
    return pairs

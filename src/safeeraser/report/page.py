"""The report as one HTML page that needs no network: headline, table, figures, provenance, response browser."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safeeraser.bench.runs import PD
from safeeraser.bench.summary import Decrease, Results
from safeeraser.core import files
from safeeraser.core.table import Table, percent
from safeeraser.data import Benchmark
from safeeraser.metrics import public
from safeeraser.records import VANILLA, Score
from safeeraser.report import browser, links, table
from safeeraser.report.figures import style
from safeeraser.report.figures.inline import inline

if TYPE_CHECKING:
    from jinja2 import Template

ASSETS = Path(__file__).parent / "assets"
ANSWERS_SCRIPTS = ("answers.js", "twins.js", "browser.js")
INSTEAD = ("sarr",)
"""Figures for papers that the page shows in another form."""
CAPTIONS = {
    "sarr": "Over-forgetting: SARR with and without Prompt Decouple",
    "tradeoff": "Forget quality against utility",
    "categories": "By category",
    "losses": "Loss by term over the steps",
    "attacks": "Under attack",
    "audit": "Forgotten or masked: what comes back, and under what",
    "budgets": "Over the budget",
}
"""Captions of the figures by the name of their file, in the order of the page; others follow by their name."""


@dataclass(frozen=True)
class Page:
    """All that a report shows; without ``benchmark`` there are no images.

    ``sequence`` is the table of requests unlearnt one after another; ``made`` says how the run was made, by heading;
    ``files`` are what can be downloaded, beside the page; ``live`` says how far a run is (``said``, and the ``version``
    shown), for a page that renews itself.
    """

    title: str
    results: Results
    cells: Sequence[browser.BrowserCell] = ()
    benchmark: Benchmark | None = None
    made: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    figures: Sequence[Path] = ()
    files: Sequence[str] = ()
    live: Mapping[str, str] = field(default_factory=dict)
    sequence: Table | None = None


def write(page: Page, path: Path) -> Path:
    """Write the page, whole or not at all."""
    with files.atomic(path) as file:
        file.write(render(page))
    return path


def template(name: str) -> Template:
    """A page of ``assets``, in which every text is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    pages = Environment(loader=FileSystemLoader(ASSETS), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    pages.undefined = StrictUndefined
    return pages.get_template(name)


def render(page: Page) -> str:
    """Render the page. Answers are hostile text: they travel as JSON and reach the page as text, never as markup."""
    from markupsafe import Markup

    scripts = [*(ANSWERS_SCRIPTS if page.cells else ()), "page.js"]
    script = "".join((ASSETS / name).read_text(encoding="utf-8") for name in scripts)
    shown = sorted((path for path in page.figures if path.stem not in INSTEAD), key=_place)
    return template("page.html.jinja").render(
        page=page,
        style=Markup((ASSETS / "page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        columns=_columns(page.results),
        rows=[(table.name_of(row, page.results.rows), row) for row in page.results.rows],
        cell=table.as_percent,
        to_answers=links.to_answers if page.cells else lambda *_: "",
        tip=links.tip,
        interval=table.interval,
        headline=_headline(page.results),
        story=_story(page.results),
        sentences=[*table.headline(page.results), *public.differing(row.sets for row in page.results.rows)],
        figures=[(path.stem, _caption(path), Markup(inline(path, _caption(path)))) for path in shown],
        data=Markup(browser.to_json(browser.pack(page.cells, page.benchmark))) if page.cells else None,
        responses=sum(len(cell.responses) for cell in page.cells),
        made={
            title: {name: value for name, value in facts.items() if value is not None}
            for title, facts in page.made.items()
        },
    )


def _columns(results: Results) -> dict[str, str]:
    """Metric -> heading of what was measured, the important ones first."""
    shown = table.columns(results)
    there = {name for row in results.rows for name, score in row.scores.items() if score.value is not None}
    return {name: shown[name] for name in dict.fromkeys([*table.FIRST, *shown]) if name in shown and name in there}


_Track = tuple[str, str, Score, Score, Decrease | None, Score | None]
"""Metric, heading, score without PD, with PD, the relative decrease, score of the vanilla model."""


def _story(results: Results) -> list[tuple[str, list[_Track]]]:
    """Per base method, what became of SARR and SARR+."""
    decreases = {"sarr": results.decreases, "sarr_plus": results.plus_decreases}
    vanilla = {row.model: row.scores for row in results.rows if row.method == VANILLA}
    rows = {table.name_of(row, results.rows): row for row in results.rows}
    story = []
    for name, base, treated in [(name, row, rows[name + PD]) for name, row in rows.items() if name + PD in rows]:
        before = {metric: score for metric, score in vanilla.get(base.model, {}).items() if score.value is not None}
        tracks = [
            (metric, heading, base.scores[metric], treated.scores[metric], found.get(name), before.get(metric))
            for metric, heading in (("sarr", "SARR"), ("sarr_plus", "SARR+"))
            for found in [{decrease.base: decrease for decrease in decreases[metric]}]
            if style.has(base, metric) and style.has(treated, metric)
        ]
        if tracks:
            story.append((name, tracks))
    return story


def _headline(results: Results) -> str:
    """What the run shows, in one sentence that a person would say."""
    pairs = [
        (name, before, after)
        for name, tracks in _story(results)
        for metric, _, without, treated, *_ in tracks
        if metric == "sarr" and (before := without.value) is not None and (after := treated.value) is not None
    ]
    if not results.rows:
        return "No cell of this run has finished yet."
    if not pairs:
        return "This run has no method with and without Prompt Decouple (PD) to compare."
    base, before, after = max(pairs, key=lambda pair: pair[1] - pair[2])
    parts = [
        f"Without Prompt Decouple (PD), {base.upper() if ' ' not in base else base} answers {percent(before)} % of "
        f"harmless requests with a refusal or gibberish (SARR); with PD, {percent(after)} %."
    ]
    if results.mean_decrease and len(results.decreases) > 1:
        said = f"On average over {len(results.decreases)} methods PD {_moved(results.mean_decrease, 'SARR')}"
        if results.plus_mean:
            said += f" and {_moved(results.plus_mean, 'SARR+')}, which also counts normal answers about something else"
        parts.append(f"{said}.")
    return " ".join(parts)


def _moved(decrease: Decrease, metric: str) -> str:
    return f"{'raises' if decrease.value < 0 else 'lowers'} {metric} by {percent(abs(decrease.value))} %"


def _place(figure: Path) -> tuple[int, str]:
    names = [*CAPTIONS, figure.stem]
    return names.index(figure.stem), figure.stem


def _caption(path: Path) -> str:
    return CAPTIONS.get(path.stem, path.stem.replace("_", " "))

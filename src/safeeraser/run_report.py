"""The report of a run: tables, figures and the HTML page, made from what lies in the run folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safeeraser import clock, collection, results, store
from safeeraser.errors import UserError
from safeeraser.report.table import Results

__all__ = ["import_all", "write"]


def import_all() -> None:
    """Import what ``write`` does, so that it need not any more; for when there is time.

    Example:
        >>> import_all()
    """
    with collection.paused(for_good=True):
        from matplotlib.backends import backend_pdf, backend_svg  # noqa: F401
        from rouge_score import rouge_scorer  # noqa: F401

        from safeeraser import attacks, data  # noqa: F401
        from safeeraser.report import browser, figures, page, table  # noqa: F401


def write(out: Path, done: Sequence[results.Ran], failed: Sequence[str] = ()) -> Results:
    """Write ``out/report``: ``index.html``, ``table.{md,csv,tex}`` and ``figures/``, each whole or not at all.

    Cells that were attacked (``safeeraser attack``) add ``attacks.{md,csv}`` and a figure.

    Args:
        out: The run folder.
        done: Its finished cells, in the order of the table.
        failed: Labels of those that failed.

    Returns:
        What the tables show.

    Example:
        >>> write(Path("runs/demo"), results.find(Path("runs/demo")))  # doctest: +SKIP
    """
    from safeeraser import attacks
    from safeeraser.report import figures, page, table

    loaded = results.load(done)
    found = results.summarise(done, failed, loaded=loaded)
    folder = out / "report"
    table.write(found, folder)
    figures.write(found, results.losses(done), folder / "figures")
    attacks.write(done, folder)
    page.write(_page(out, done, loaded, found), folder / "index.html")
    return found


def _page(out: Path, done: Sequence[results.Ran], loaded: Sequence[results.Judged], found: Results) -> Any:
    from safeeraser import data
    from safeeraser.report import browser, page

    cells = [
        browser.BrowserCell(f"{ran.folder.parent.name} seed {ran.spec.seed}", ran.folder.parent.name, *judged)
        for ran, judged in zip(done, loaded, strict=True)
    ]
    facts, benchmark = {}, None
    if done:
        spec = done[0].spec
        facts = {
            "model": f"{spec.model} ({spec.model_fingerprint})",
            "data": f"{spec.data} ({spec.data_fingerprint})",
            "judge": results.Finished(done[0].folder, spec).judge,
            "questions asked": str(sum(len(cell.queries) for cell in cells)),
        }
        try:
            benchmark = data.load(spec.data)
        except UserError:  # the data have moved: the page goes without pictures
            benchmark = None
    return page.Page(
        title=f"{done[0].spec.model} on {done[0].spec.data}" if done else out.name,
        results=found,
        cells=cells,
        benchmark=benchmark,
        config=_read_yaml(out / "config.yaml"),
        environment=store.read_json(out / "environment.json") if (out / "environment.json").exists() else {},
        facts=facts,
        times=_times([out, *(ran.folder for ran in done)]),
        figures=sorted((out / "report" / "figures").glob("*.svg")),
    )


def _times(folders: Sequence[Path]) -> dict[str, str]:
    """What each stage took, in the run and its cells, with its share of the whole processor time."""
    took = clock.total(folders)
    whole = sum(one.processor for one in took.values()) or 1.0
    said = "{:,.1f} s of processor time ({:.0f} %), {:,.1f} s by the clock"
    return {
        one.stage: said.format(one.processor, 100 * one.processor / whole, one.wall)
        for one in sorted(took.values(), key=lambda one: -one.processor)
    }


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml

    loaded = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else {}
    return loaded if isinstance(loaded, dict) else {}

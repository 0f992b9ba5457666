import re
from dataclasses import replace
from pathlib import Path

import pytest
from fake_run import fake_run
from matplotlib.text import Text

from safeeraser.bench import runs, summary
from safeeraser.bench.summary import Results
from safeeraser.cli.bench import report
from safeeraser.config import BenchConfig
from safeeraser.report import figures
from safeeraser.report.figures import style

NAMES = ("sarr", "tradeoff", "categories", "losses")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[Results, summary.Losses]:
    done = runs.find(fake_run(tmp_path_factory.mktemp("run")))
    return summary.summarise(done), summary.losses(done)


@pytest.fixture(scope="module")
def drawn(run, tmp_path_factory) -> list[Path]:
    return figures.write(*run, tmp_path_factory.mktemp("figures"))


def test_all_figures_are_drawn_as_svg_and_pdf_without_a_date(drawn):
    assert sorted(path.name for path in drawn) == sorted(f"{n}.{s}" for n in NAMES for s in ("svg", "pdf"))
    for path in drawn:
        head = path.read_bytes()[:5]
        assert head == (b"%PDF-" if path.suffix == ".pdf" else b"<?xml")
        assert not re.search(rb"<dc:date>|/CreationDate", path.read_bytes())


def test_the_same_numbers_give_the_same_bytes(run, drawn, tmp_path):
    for path in figures.decouple_figure(run[0], tmp_path) + figures.tradeoff_figure(run[0].rows, tmp_path):
        assert path.read_bytes() == (drawn[0].parent / path.name).read_bytes(), path.name


def texts(figure: Path) -> str:
    """matplotlib keeps each text as a comment beside its glyphs."""
    return " ".join(re.findall(r"<!-- (.*?) -->", figure.read_text(), re.S))


def test_figures_say_the_numbers_of_the_table(run, drawn):
    found, folder = run[0], drawn[0].parent
    po = next(row for row in found.rows if row.method == "po+pd")
    sarr = f"{100 * po.scores['sarr'].value:.1f}"
    assert sarr in texts(folder / "sarr.svg") and f"po+pd  {sarr}" in texts(folder / "tradeoff.svg")
    assert f"{100 * found.decreases[0].value:.1f} % [" in texts(folder / "sarr.svg")
    category = f"{100 * po.categories['Weapon']['sarr'].value:.1f}"
    assert category in texts(folder / "categories.svg") and "Hate" in texts(folder / "categories.svg")
    shown = texts(folder / "losses.svg")
    assert "po: nll" in shown and "ga: pd" in shown and "ga: nll" not in shown


def test_titles_of_a_few_categories_are_whole_and_apart(run, tmp_path, monkeypatch):
    """Two columns a panel, all and Weapon, are narrower than what is written above them."""
    kept = []
    monkeypatch.setattr(style, "save", lambda figure, folder, name: kept.append(figure) or [])
    few = [replace(row, categories={"Weapon": row.categories["Weapon"]}) for row in run[0].rows]
    figures.categories_figure(few, tmp_path)
    (figure,) = kept
    figure.canvas.draw()
    titles = [text for text in figure.findobj(Text) if text.get_text().endswith(("answers left", "images refused"))]
    first, second = (title.get_window_extent() for title in titles)
    assert 0 < first.x0 and first.x1 < second.x0 and second.x1 < figure.bbox.x1


def test_what_has_no_numbers_is_not_drawn(run, tmp_path):
    found, _ = run
    vanilla = [replace(row, scores={}, categories={}) for row in found.rows if row.method == "vanilla"]
    assert figures.write(Results(vanilla), {}, tmp_path) == []
    assert figures.write(Results([]), {}, tmp_path) == []
    assert not list(tmp_path.iterdir())


def test_names_are_drawn_as_text_whatever_is_in_them(run, tmp_path):
    found, _ = run
    odd = [
        replace(row, method=f"{row.method.removesuffix('+pd')}$x_{{1&<{'+pd' * row.method.endswith('+pd')}")
        for row in found.rows
    ]
    assert figures.write(Results(odd), {"$x_{<": [{"a$_{": [(1, 1.0), (2, float("nan"))]}]}, tmp_path)


def test_long_curves_are_averaged_over_stretches(tmp_path):
    from safeeraser.report.figures.losses import POINTS, _thinned

    curve = [(step, float(step)) for step in range(1, 2 * POINTS + 1)]
    thinned = _thinned(curve)
    assert len(thinned) == POINTS and thinned[0] == (2, 1.5)
    assert _thinned(curve[:10]) == curve[:10]


def test_labels_cover_neither_each_other_nor_a_marker(run):
    """Most methods share a corner: no ASR left, ROUGE nearly kept."""
    from itertools import combinations

    from matplotlib import pyplot

    from safeeraser.records import Score
    from safeeraser.report.figures import tradeoff

    crowd = [("ga", 5.7, 0), ("ga+pd", 5.7, 0), ("gd", 94.4, 0), ("gd+pd", 92.7, 0), ("kl", 95.3, 0)]
    crowd += [("kl+pd", 92.1, 0), ("po", 98.3, 0), ("po+pd", 97.9, 0), ("vanilla", 97.6, 99)]
    rows = {}
    for method, rouge, asr in crowd:
        values = {"rouge_l": rouge / 100, "asr_generality": asr / 100, "sarr": 1.0}
        scores = {name: Score(metric=name, value=v, low=v, high=v, n=1) for name, v in values.items()}
        rows[method] = replace(run[0].rows[0], method=method, scores=scores)
    figure, axes = pyplot.subplots(figsize=(6.4, 4.8))
    axes.set(xlim=(-4, 119), ylim=(-5, 119))
    boxes = [text.get_window_extent() for text in tradeoff._labels(axes, rows)]
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    markers = [axes.transData.transform(tradeoff._position(row)) for row in rows.values()]
    assert not any(box.contains(*marker) for box in boxes for marker in markers)
    area = axes.get_window_extent()
    assert all(area.x0 <= box.x0 and box.x1 <= area.x1 and area.y0 <= box.y0 and box.y1 <= area.y1 for box in boxes)
    pyplot.close(figure)


def test_curves_stand_over_the_steps_that_were_taken(tmp_path, capsys):
    """Epochs become steps when they are trained; the vanilla model took none."""
    done = runs.find(fake_run(tmp_path, ("vanilla", "po"), (0,), steps=None))
    report(BenchConfig(out=str(tmp_path), dev=True), done, [])
    written = (tmp_path / "report" / "budgets.md").read_text()
    assert re.findall(r"^\| (\S+) \| (\d+) \|", written, re.M) == [("vanilla", "0"), ("po", "20")]

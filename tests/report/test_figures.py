import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fake_run import fake_run
from safeeraser import results
from safeeraser.report import figures
from safeeraser.report.figures import labels
from safeeraser.report.table import Results

NAMES = ("sarr", "tradeoff", "categories", "losses")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[Results, results.Losses]:
    done = results.find(fake_run(tmp_path_factory.mktemp("run")))
    return results.summarise(done), results.losses(done)


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


points = st.lists(st.tuples(st.floats(50, 450), st.floats(50, 350)), min_size=1, max_size=8)


@settings(deadline=None, max_examples=40)
@given(points)
def test_labels_cover_neither_each_other_nor_the_edge(found):
    sizes = [(50.0, 10.0)] * len(found)
    offsets = labels.place(found, sizes, (0, 0, 500, 400), 1)
    boxes = [labels._box((x + dx, y + dy), (50, 10)) for (x, y), (dx, dy) in zip(found, offsets, strict=True)]
    for number, box in enumerate(boxes):
        assert 0 <= box[0] and box[2] <= 500 and 0 <= box[1] and box[3] <= 400
        assert not any(labels._overlap(box, other) for other in boxes[:number])
        assert not any(labels._holds(box, point) for point in found)

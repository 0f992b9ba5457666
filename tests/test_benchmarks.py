"""The figures that docs/benchmarks.md states are those that the scripts measure, and what is stale shows."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))

    def by_name(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", FOLDER / f"{name}.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        return module

    return by_name


def test_every_stated_figure_has_a_script_that_measures_it(load: Any) -> None:
    stated = load("sheet").read_stated()
    scripts = load("all").SCRIPTS
    assert list(stated) == list(scripts)
    for script in scripts:
        declared = {name: asdict(figure) for name, figure in load(script).figures().items()}
        there = stated[script]["figures"]
        hint = f"{script}: run 'python benchmarks/all.py --only {script} --update'"
        assert {name: declared.get(name, {}) | {"value": one["value"]} for name, one in there.items()} == there, hint
        assert list(there) == list(declared), hint
        assert stated[script]["command"] == load("all").command(script)


def test_every_table_of_the_document_is_there_and_every_figure_in_one(load: Any) -> None:
    text = (FOLDER.parent / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    for script in load("all").SCRIPTS:
        assert f'tables.figures("{script}"' in text, script
        assert f"python benchmarks/{script}.py" in text, script


def test_a_figure_that_was_not_declared_is_refused_and_one_without_value_is_said(
    load: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet = load("sheet")
    given = sheet.Sheet({"a": sheet.Figure("a", "s"), "b": sheet.Figure("b", "s")})
    given.add("a", 1.23456)
    with pytest.raises(KeyError, match="'c' is not declared"):
        given.add("c", 1.0)
    given.write(str(tmp_path / "out.json"))
    written = json.loads((tmp_path / "out.json").read_text())
    assert {name: one["value"] for name, one in written.items()} == {"a": 1.23}
    assert capsys.readouterr().err == "no value for the figure 'b'\n"


@pytest.mark.parametrize(
    ("stated", "measured", "better", "note"),
    [
        (1.0, 1.2, "lower", ""),
        (1.0, 1.4, "lower", "WORSE"),
        (1.0, 0.7, "lower", "BETTER"),
        (1.0, 0.7, "higher", "WORSE"),
        (1.0, 1.4, "higher", "BETTER"),
        (1.0, 1.4, "same", "DIFFERS"),
        (0.0, 0.0, "same", ""),
        (0.0, 1.0, "same", "DIFFERS"),
        (None, 1.0, "lower", "NOT STATED"),
        (1.0, None, "lower", "NOT MEASURED"),
    ],
)
def test_what_is_stale_shows(load: Any, stated: float | None, measured: float | None, better: str, note: str) -> None:
    sheet = load("sheet")
    known = asdict(sheet.Figure("what", "s", better=better))
    sides = [{} if value is None else {"x": known | {"value": value}} for value in (stated, measured)]
    (row,) = sheet.compare(*sides)
    assert row.note == note


def test_figures_are_rounded_to_three_digits(load: Any) -> None:
    rounded = load("sheet").rounded
    assert [rounded(x) for x in (0.012345, 1.2345, 123.45, 12345.6, 0.0)] == [0.0123, 1.23, 123.0, 12346.0, 0.0]


def test_work_of_child_processes_counts(load: Any) -> None:
    took = load("sheet").take_command([sys.executable, "-c", "sum(range(3_000_000))"])
    assert 0 < took.processor < 10 and took.wall > 0 and 1 < took.mebibytes < 500


def test_all_measures_compares_and_updates(
    load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    everything = load("all")
    (tmp_path / "tiny.py").write_text(
        "import sys; from sheet import Figure, Sheet\n"
        "sheet = Sheet({'a': Figure('a thing', 's'), 'b': Figure('new', 's')})\n"
        "sheet.add('a', 2.0); sheet.add('b', 1)\n"
        "sheet.write(sys.argv[sys.argv.index('--json') + 1])\n"
    )
    (tmp_path / "broken.py").write_text("raise SystemExit(3)\n")
    known = asdict(load("sheet").Figure("a thing", "s"))
    before = {"command": "", "minutes": 1, "load": 0, "environment": {}, "figures": {"a": known | {"value": 1.0}}}
    (tmp_path / "stated.json").write_text(json.dumps({"tiny": before}))
    stated = lambda: json.loads((tmp_path / "stated.json").read_text())  # noqa: E731
    monkeypatch.setenv("PYTHONPATH", str(FOLDER), prepend=":")
    monkeypatch.setattr(everything, "HERE", tmp_path)
    monkeypatch.setattr(everything, "STATED", tmp_path / "stated.json")
    monkeypatch.setattr(everything, "SCRIPTS", {"tiny": (), "broken": ()})
    monkeypatch.setattr(sys, "argv", ["all.py"])
    assert everything.main() == 1
    printed = capsys.readouterr().out
    assert "WORSE" in printed and "NOT STATED" in printed and "broken failed with status 3" in printed
    assert stated() == {"tiny": before}
    monkeypatch.setattr(sys, "argv", ["all.py", "--only", "tiny", "--update"])
    assert everything.main() == 0
    assert {name: one["value"] for name, one in stated()["tiny"]["figures"].items()} == {"a": 2.0, "b": 1.0}
    assert stated()["tiny"]["command"] == "python benchmarks/tiny.py"


def test_an_unknown_script_is_said(load: Any) -> None:
    done = subprocess.run(
        [sys.executable, str(FOLDER / "all.py"), "--only", "sped"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "unknown script 'sped': available: speed, line" in done.stderr


def test_a_script_gives_the_figures_that_it_declares(load: Any, tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    command = [sys.executable, str(FOLDER / "data.py"), "--times", "1", "--json", str(out)]
    subprocess.run(command, check=True, capture_output=True)
    declared = {name for name in load("data").figures() if not name.startswith(("read.10.", "read.100."))}
    assert set(json.loads(out.read_text())) == declared

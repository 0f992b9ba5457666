"""Own modules: imported once, found by name in every process of a bench, and refused when they have changed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from safeeraser.core import registry
from safeeraser.core.errors import UserError

TERM = """
from safeeraser.objectives import cross_entropy, register


@register("{name}", rows="forget")
def term(log_probs):
    return -0.5 * cross_entropy(log_probs)
"""
SMALL = "--steps 1 --training.batch_size 4 --questions 1 --max-new-tokens 4 --jobs 1".split()


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_LOADED", {})
    return tmp_path


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "safeeraser", *arguments]
    return subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=300)


def test_a_bench_finds_an_own_term_in_its_cells_and_refuses_it_changed(folder, tiny_model, small_release):
    (folder / "mine.py").write_text(TERM.format(name="gentle"))
    small = ["--model", str(tiny_model), "--data", str(small_release), *SMALL]
    bench = ["bench", "--plugins", "mine.py", "--methods", "gentle+nll", "--out", "run", *small]
    done = _run(folder, *bench)
    assert done.returncode == 0, done.stderr
    made = json.loads(next((folder / "run").rglob("cell.json")).read_text())["plugins"]
    assert list(made) == ["mine.py"]
    # the recorded options bring the plugin along, or its term would be unknown
    assert yaml.safe_load((folder / "run/config.yaml").read_text())["plugins"] == ["mine.py"]
    (folder / "mine.py").write_text(TERM.format(name="gentle") + "# other\n")
    changed = _run(folder, "bench", "--config", "run/config.yaml")
    assert changed.returncode == 2 and "plugins.mine.py" in changed.stderr and "Traceback" not in changed.stderr


def test_a_file_is_imported_once_however_its_path_is_written(folder):
    (folder / "counted.py").write_text(
        "from pathlib import Path\nwith open('log', 'a') as file:\n    file.write('x')\n"
    )
    registry.load_plugins(["counted.py", "./counted.py", str(folder / "counted.py")])
    registry.load_plugins("counted.py, json")
    assert (folder / "log").read_text() == "x"
    assert list(registry.loaded_plugins()) == ["counted.py", "./counted.py", str(folder / "counted.py"), "json"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nowhere_at_all", "No module named 'nowhere_at_all'"),
        ("def broken(:", "invalid syntax"),
        (TERM.format(name="taken") * 2, "duplicate objective term 'taken'"),
        (TERM.format(name="odd").replace("log_probs)", "log_probs, options)", 1), "its function takes 2 positional"),
    ],
)
def test_a_module_that_cannot_be_used_is_named_with_the_reason(folder, text, message):
    (folder / "bad.py").write_text(text)
    with pytest.raises(UserError, match=f"plugin 'bad.py' cannot be imported: .*{message}"):
        registry.load_plugins("bad.py")
    assert registry.loaded_plugins() == {}


def test_an_unknown_name_says_what_to_give(folder):
    with pytest.raises(UserError, match="give a file such as mine.py, or the name of an installed module"):
        registry.load_plugins("nowhere_at_all")


def test_a_term_of_a_built_in_name_is_refused_without_a_traceback(folder):
    (folder / "clash.py").write_text(TERM.format(name="npo"))
    done = _run(folder, "unlearn", "--plugins", "clash.py", "--out", "x")
    assert done.returncode == 2 and "duplicate objective term 'npo'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_cell_refuses_a_plugin_that_is_not_what_was_planned(folder):
    (folder / "quiet.py").write_text("")
    with pytest.raises(UserError, match="plugin 'quiet.py' has changed"):
        registry.require_plugins({"quiet.py": "0" * 16})

"""docs/extend.md: each example is found by name and does what its page says, in a process of its own."""

import json
import shlex
import shutil
from pathlib import Path

import documents
import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "extend.md").read_text()
SCRIPTS = documents.scripts(TEXT)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """With what the page takes for granted: a benchmark, and a run of one cell with its responses and verdicts."""
    folder = tmp_path_factory.mktemp("extend")
    for name, text in documents.files(TEXT).items():
        (folder / name).write_text(text)
    for script in (
        "safeeraser data build pictogram --out data/pictogram --records 24",
        "safeeraser bench --data data/pictogram --methods vanilla --questions 1 --max-new-tokens 8 --out run",
    ):
        done = documents.run(script, folder)
        assert done.returncode == 0, done.stderr[-2000:]
    (folder / "runs").mkdir()
    (folder / "run/cells/mini-llava/vanilla/seed-0").rename(folder / "runs/po-pd")
    return folder


def test_the_page_has_an_example_of_each():
    assert list(documents.files(TEXT)) == ["tnpo.py", "brief.py", "polite.py", "ours.py"]
    assert documents.files(TEXT)["tnpo.py"] == documents.files((ROOT / "docs" / "quickstart.md").read_text())["tnpo.py"]


@pytest.mark.parametrize("script", [s for s in SCRIPTS if " bench " not in s])  # that one runs in test_readme.py
def test_command_runs(script: str, folder: Path):
    done = documents.run(script.replace(" --responses", " --data data/pictogram --responses"), folder)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_own_metric_has_an_interval_and_the_own_judge_gave_verdicts(folder: Path):
    scores = json.loads((folder / "runs/po-pd/brief.json").read_text())["scores"]
    (own,) = [score for score in scores if score["metric"] == "one_word" and score["category"] == "all"]
    assert own["n"] > 0 and own["low"] <= own["value"] <= own["high"]
    verdicts = [json.loads(line) for line in (folder / "runs/po-pd/polite.jsonl").read_text().splitlines()]
    assert {verdict["judge"] for verdict in verdicts} == {"polite-1"}
    assert all((verdict["value"] is not None) == (verdict["criterion"] == "refusal") for verdict in verdicts)


def test_a_file_dropped_into_the_folder_of_its_kind_needs_no_option(tmp_path: Path):
    package = tmp_path / "safeeraser"
    shutil.copytree(ROOT / "src" / "safeeraser", package, ignore=shutil.ignore_patterns("*.safetensors", "__pycache__"))
    (package / "objectives" / "tnpo.py").write_text(documents.files(TEXT)["tnpo.py"])
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from safeeraser.objectives import parse_method as p; "
        "print(p('tnpo+nll+pd').name)"
    )
    done = documents.run(f"python -c {shlex.quote(code)}", tmp_path)
    assert done.stdout.strip() == "tnpo+nll+pd", done.stderr[-2000:]

"""The site as it is built: what people search for is found, and the pages about Python begin with what is called."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    line = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(line, cwd=ROOT, env=quiet, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.mark.parametrize(
    ("asked", "page"),
    [
        ("install", "install/"),
        ("docker", "install/"),
        ("a100", "install/"),
        ("licence", "install/"),
        ("notebook", "python/"),
        ("pandas", "python/"),
        ("glossary", "glossary/"),
        ("triple", "glossary/"),
        ("sarr", "glossary/"),
        ("limits", "limits/"),
        ("my", "models/"),
        ("model", "models/"),
        ("qwen3", "models/"),
        ("qwen3_vl", "models/"),
    ],
)
def test_a_search_finds_the_page(site: Path, asked: str, page: str):
    index = json.loads((site / "search" / "search_index.json").read_text())
    separator = index["config"]["separator"]
    found = {
        entry["location"].partition("#")[0]
        for entry in index["docs"]
        if asked in re.split(rf"{separator}|\W+", f"{entry['title']} {re.sub('<[^>]+>', ' ', entry['text'])}".lower())
    }
    assert page in found, sorted(found)


def test_pages_about_python_begin_with_what_is_called(site: Path):
    pages = sorted((site / "reference" / "api").glob("*/index.html"))
    assert len(pages) == 8
    for path in pages:
        members = re.findall(r'<h[2-6] id="(safeeraser[\w.]+)"', path.read_text())
        modules = [name for name in members if name.rpartition(".")[0] not in members]
        for module in modules:
            own = [name.rpartition(".")[2] for name in members if name.rpartition(".")[0] == module]
            assert not own or not own[0].isupper(), (path.parent.name, module, own[:3])

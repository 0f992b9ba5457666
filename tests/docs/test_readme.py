"""The commands of the quickstart and its example run as they stand there, on few records; README is short."""

import re
import shlex
from pathlib import Path

import documents
import pytest
import yaml

from safeeraser import __version__

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
QUICKSTART = (ROOT / "docs" / "quickstart.md").read_text()
SCRIPTS = documents.scripts(QUICKSTART)
ELSEWHERE = {"--launcher ray": "tests/bench/test_launch.py"}
"""A cluster is started once, there."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("readme")
    for name, text in documents.files(QUICKSTART).items():
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize("script", [s for s in SCRIPTS if not any(flag in s for flag in ELSEWHERE)])
def test_command_runs(script: str, folder: Path):
    done = documents.run(documents.made_small(script), folder)
    assert done.returncode == 0, done.stderr[-2000:]
    if " plan " in script:
        printed = QUICKSTART.split("<!-- plan -->")[1].split("<!-- end plan -->")[0].strip().strip("`").strip()
        assert [line.rstrip() for line in done.stdout.strip().splitlines()] == printed.splitlines()


@pytest.mark.parametrize("flag", ELSEWHERE)
def test_what_is_not_run_here_runs_in_another_test(flag: str):
    words = ", ".join(f'"{word}"' for word in flag.split())
    assert words in (ROOT / ELSEWHERE[flag]).read_text()


def test_the_example_is_short_and_became_a_method_that_was_trained(folder: Path):
    (text,) = documents.files(QUICKSTART).values()
    assert len(text.splitlines()) <= 15
    assert (folder / "runs/tnpo/cells/mini-llava/tnpo+nll+pd/seed-0/scores.json").exists()


def test_the_line_of_commands_is_whole():
    words = [shlex.split(s) for s in SCRIPTS if s.startswith("safeeraser")]
    names = {" ".join(w[1:3]) if w[1] == "data" else w[1] for w in words}
    assert {"data build", "data show", "unlearn", "respond", "judge", "score", "bench", "plan", "compare"} <= names


def test_make_targets_of_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?:^ {4}|`)make ([\w-]+)", README, re.M):
        assert re.search(rf"^{target}:", makefile, re.M)


def test_the_readme_is_short_and_calls_only_what_there_is():
    assert len(README.splitlines()) <= 150 and len(README.split()) <= 1500
    commands = re.findall(r"safeeraser ([a-z]+)", README.replace("safeeraser as", ""))
    assert {"bench", "view"} <= set(commands) and not documents.scripts(README)


def test_links_lead_to_files():
    for folder, text in ((ROOT, README), (ROOT / "docs", QUICKSTART)):
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
            assert link.startswith("https://") or (folder / link).exists(), f"{link} leads nowhere"


def test_the_citation_names_this_version_and_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == __version__ and f"version = {{{__version__}}}" in README
    (paper,) = citation["references"]
    assert paper["doi"] in README and paper["title"].replace("SafeEraser", "{S}afe{E}raser") in README
    names = [f"{author['family-names']}, {author['given-names']}" for author in paper["authors"]]
    assert " and ".join(names) in re.sub(r"\s+", " ", README)

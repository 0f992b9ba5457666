"""What docs/install.md promises: the lock covers the package's own needs, the steps of the Dockerfile work."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
import tomllib
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = dict(line.split("==") for line in (ROOT / "requirements.lock").read_text().split())
STEPS = re.findall(r"^([A-Z]+) (.*)$", (ROOT / "Dockerfile").read_text(), re.M)


def _needs(requirements: list[str]) -> set[str]:
    """Everything that these need in turn, of what is installed here."""
    found: set[str] = set()
    todo = [Requirement(text) for text in requirements]
    while todo:
        asked = todo.pop()
        for extra in ("", *asked.extras):
            entry = f"{canonicalize_name(asked.name)}[{extra}]"
            if entry in found:
                continue
            found.add(entry)
            wanted = map(Requirement, requires(asked.name) or [])
            todo += [need for need in wanted if need.marker is None or need.marker.evaluate({"extra": extra})]
    return {entry.partition("[")[0] for entry in found}


def test_the_lock_pins_all_that_the_package_itself_needs():
    pinned = {canonicalize_name(name) for name in LOCK} | {"setuptools"}  # torch says which; pip freeze leaves it out
    try:
        needed = _needs(PROJECT["dependencies"])
    except PackageNotFoundError as error:
        pytest.fail(f"needed and not installed: {error}")
    assert needed - pinned == set() and len(needed) < len(pinned) / 1.5


def test_the_demo_installs_no_tool_of_development_and_setup_adds_them():
    makefile = (ROOT / "Makefile").read_text()
    lean = makefile.split(".venv/lean: ")[1].split("\n\n")[0]
    assert "--constraint requirements.lock --editable .\n" in lean and "-r requirements" not in lean
    assert re.search(r"^demo: \.venv/lean ", makefile, re.M)
    assert "-r requirements.lock" in makefile.split(".venv/installed: .venv/lean")[1].split("\n\n")[0]


def test_the_page_names_every_extra():
    page = (ROOT / "docs" / "install.md").read_text()
    assert re.findall(r"^\| `(\w+)` \|", page, re.M) and set(re.findall(r"^\| `(\w+)` \|", page, re.M)) == set(
        PROJECT["optional-dependencies"]
    )


def _environment(folder: Path) -> Path:
    """A virtual environment that finds every package installed here but safeeraser."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (here,) = folder.glob("lib/python*/site-packages")
    packages = folder / "packages"
    packages.mkdir()
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if "safeeraser" not in path.name and path.suffix != ".pth":
            (packages / path.name).symlink_to(path)
    (here / "installed.pth").write_text(f"{packages}\n")
    return folder / "bin"


def test_the_steps_of_the_dockerfile_install_a_command_that_runs(tmp_path: Path):
    """Docker itself is left out: COPY and RUN are done in a folder, pip with what is installed here."""
    (base,) = (rest for step, rest in STEPS if step == "FROM")
    assert SpecifierSet(PROJECT["requires-python"]).contains(base.removeprefix("python:").removesuffix("-slim"))
    image, programs = tmp_path / "image", _environment(tmp_path / "environment")
    image.mkdir()
    offline = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_QUIET": "1"}  # pip reads 0 as: without
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment = kept | offline | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    for step, rest in STEPS:
        if step == "COPY":
            *sources, target = shlex.split(rest)
            for source in sources:
                _copy(ROOT / source, image / target)
        if step == "RUN":
            done = subprocess.run(["sh", "-ec", rest], cwd=image, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, f"{rest}\n{done.stderr[-2000:]}"
    ((program, arguments),) = zip(
        (yaml.safe_load(rest) for step, rest in STEPS if step == "ENTRYPOINT"),
        (yaml.safe_load(rest) for step, rest in STEPS if step == "CMD"),
        strict=True,
    )
    environment["PATH"] = os.pathsep.join([str(programs), os.defpath])
    for line in ([*program, *arguments], [*program, "plan", "--model", "mini-llava"]):
        done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
    assert "peak memory" in done.stdout


def _copy(source: Path, target: Path) -> None:
    """As COPY does it, and .dockerignore must let it pass: a folder's content, or a file into the folder."""
    assert f"!{source.name}" in (ROOT / ".dockerignore").read_text().split()
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    else:
        shutil.copy(source, target)


def test_every_hook_runs_a_tool_that_is_installed_on_files_that_there_are():
    hooks = [
        hook
        for repo in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
        for hook in repo["hooks"]
    ]
    programs = Path(sys.executable).parent
    for hook in hooks:
        assert hook["language"] == "system" and (programs / Path(hook["entry"].split()[0]).name).is_file(), hook["id"]
        assert re.search(hook.get("files", ""), "src/safeeraser/records.py")
    check = (ROOT / "Makefile").read_text().split("\ncheck:")[1].split("\n\n")[0]
    assert all(hook["entry"].split()[0].removeprefix(".venv/bin/") in check for hook in hooks)

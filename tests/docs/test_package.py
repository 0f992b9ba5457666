"""The wheel and the sdist: what is in them, and that the wheel runs where no source tree is.

The wheel goes into a virtual environment of its own, from which the packages installed here can be seen and the source
tree cannot. Installing them anew would fetch about 1 GB (torch) in every test run; ``make test-wheel`` does that.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILT = ["pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "NOTICE", "src"]
BUILD = "from setuptools import build_meta as b; print(b.build_{kind}({folder!r}))"


def _run(*line: str, folder: Path, **environment: str) -> str:
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        line, cwd=folder, env=clean | environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:] + done.stdout[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def sdist(tmp_path_factory) -> Path:
    source = tmp_path_factory.mktemp("source")
    for name in BUILT:
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name, **({"ignore": ignored} if (ROOT / name).is_dir() else {}))
    out = tmp_path_factory.mktemp("sdist")
    _run(sys.executable, "-c", BUILD.format(kind="sdist", folder=str(out)), folder=source)
    (built,) = out.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory) -> Path:
    """Built from the sdist, as pip does it: what the sdist lacks, the wheel lacks."""
    source = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(source, filter="data")
    (unpacked,) = source.iterdir()
    out = tmp_path_factory.mktemp("wheel")
    _run(sys.executable, "-c", BUILD.format(kind="wheel", folder=str(out)), folder=unpacked)
    (built,) = out.iterdir()
    return built


def test_every_file_of_the_package_is_in_the_wheel(wheel: Path):
    packed = set(zipfile.ZipFile(wheel).namelist())
    package = ROOT / "src"
    there = {
        path.relative_to(package).as_posix()
        for path in (package / "safeeraser").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert there - packed == set()
    for name in ("LICENSE", "NOTICE"):
        assert any(entry.endswith(f"dist-info/licenses/{name}") for entry in packed)


def test_nothing_else_is_in_the_wheel(wheel: Path):
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"safeeraser"}


def test_the_wheel_runs_the_whole_line_from_an_empty_folder(wheel: Path, tmp_path: Path):
    environment = tmp_path / "environment"
    _run(sys.executable, "-m", "venv", "--without-pip", str(environment), folder=tmp_path)
    python = environment / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    _run(*install, str(wheel), folder=tmp_path)
    # only now: pip must not see, let alone replace, what is installed here
    here = Path(
        _run(str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", folder=tmp_path).strip()
    )
    (here / "installed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    empty = tmp_path / "empty"
    empty.mkdir()
    found = _run(str(python), "-c", "import safeeraser; print(safeeraser.__file__)", folder=empty).strip()
    assert Path(found).is_relative_to(environment)
    small = "--limit 2 --methods po,po+pd --steps 1 --training.batch_size 2 --max-new-tokens 4 --jobs 1".split()
    printed = _run(str(environment / "bin" / "safeeraser"), "bench", "--quick", *small, folder=empty)
    assert "SARR decrease by PD" in printed
    assert (empty / "runs/quick/report/index.html").stat().st_size > 10_000

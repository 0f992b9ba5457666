from pathlib import Path

import pytest

from safeeraser.data import Benchmark, load
from safeeraser.data.pictogram.build import build


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pictogram benchmark of 240 records: one val record and three train records per concept."""
    return build(tmp_path_factory.mktemp("pictogram") / "small", records=240, workers=1)


@pytest.fixture(scope="session")
def small(small_folder: Path) -> Benchmark:
    return load(small_folder)

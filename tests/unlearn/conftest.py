import pytest
from tiny_benchmark import tiny_benchmark

from safeeraser.data import Benchmark


@pytest.fixture(scope="session")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    return tiny_benchmark(tmp_path_factory.mktemp("benchmark"))

"""Variables that a launcher has left behind: one process, or one sentence, in every stage."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from safeeraser import cli
from safeeraser.core.errors import UserError
from safeeraser.models import processes

WHOLE = {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
ALONE = [
    {},
    {"LOCAL_RANK": "0"},
    {"WORLD_SIZE": ""},
    {"WORLD_SIZE": "", "RANK": "", "LOCAL_RANK": ""},
    {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"},
    {"RANK": "1", "LOCAL_RANK": "1"},
    {"PMI_SIZE": "", "PMI_RANK": "0"},
    {"OMPI_COMM_WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"},
]
REFUSED = [
    ({"WORLD_SIZE": "2"}, "WORLD_SIZE"),
    ({"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}, "MASTER_ADDR, MASTER_PORT not set"),
    (WHOLE | {"RANK": "2"}, "RANK=2"),
    ({"WORLD_SIZE": "two"}, "WORLD_SIZE=two"),
    ({"PMI_SIZE": "2", "PMI_RANK": "0"}, "PMI_SIZE=2"),
    ({"OMPI_COMM_WORLD_SIZE": "4"}, "OMPI_COMM_WORLD_SIZE=4"),
]


@pytest.fixture
def environment(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    for name in (*processes.LAUNCH, *processes.MPI):
        monkeypatch.delenv(name, raising=False)
    for name, value in request.param.items():
        monkeypatch.setenv(name, value)
    return dict(request.param)


@pytest.mark.parametrize("environment", ALONE, indirect=True, ids=str)
def test_what_is_no_launch_is_one_process(environment: dict[str, str]) -> None:
    assert (processes.processes(), processes.rank(), processes.is_first_process()) == (1, 0, True)
    with processes.launched():
        assert not [name for name in (*processes.LAUNCH, *processes.MPI) if name in os.environ]
    assert {name: os.environ[name] for name in environment} == environment


@pytest.mark.parametrize("environment", [WHOLE, WHOLE | {"WORLD_SIZE": "1", "RANK": "0"}], indirect=True)
def test_a_whole_launch_is_left_as_it_is(environment: dict[str, str]) -> None:
    assert processes.processes() == int(environment["WORLD_SIZE"])
    assert processes.rank() == int(environment["RANK"])
    with processes.launched():
        assert {name: os.environ[name] for name in environment} == environment


@pytest.mark.parametrize(("environment", "named"), REFUSED, indirect=["environment"])
def test_a_launch_that_is_not_whole_is_refused_in_a_sentence_before_anything_is_read(
    environment: dict[str, str], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match=named):
        processes.processes()
    out = str(tmp_path / "out")
    for command in (["unlearn", "--method", "ga", "--limit", "2"], ["respond", "--limit", "1"]):
        assert cli.main([*command, "--out", out]) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert named in error and "unset" in error or "RANK=2" in error
    assert not Path(out).exists()


@pytest.mark.parametrize("environment", [{"LOCAL_RANK": "0"}, {"WORLD_SIZE": "", "RANK": "1"}], indirect=True, ids=str)
def test_a_process_on_its_own_trains_and_answers_whatever_it_has_inherited(
    environment: dict[str, str], tiny_model: Path, small_release: Path, tmp_path: Path
) -> None:
    shared = ["--model", str(tiny_model), "--data", str(small_release)]
    train = ["--method", "ga", "--training.steps", "1", "--training.batch_size", "2", "--rank", "2"]
    assert cli.main(["unlearn", *shared, *train, "--out", str(tmp_path)]) == 0
    assert (tmp_path / "adapter" / "adapter_model.safetensors").exists()
    responses = tmp_path / "responses.jsonl"
    assert cli.main(["respond", *shared, "--max-new-tokens", "2", "--out", str(responses)]) == 0
    assert responses.read_text().count("\n") > 8


def test_a_cell_of_a_bench_is_one_process_whatever_launched_the_bench(tiny_model, small_release, tmp_path):
    command = [sys.executable, "-m", "safeeraser", "bench", "--model", str(tiny_model), "--data", str(small_release)]
    command += ["--methods", "ga", "--training.steps", "1", "--max-new-tokens", "2", "--out", str(tmp_path / "run")]
    environment = os.environ | {"PMI_SIZE": "2", "PMI_RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr

"""Several processes answer together: what they leave is what one would have left, whatever is killed and when."""

import os
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image
from tiny_benchmark import tiny_benchmark

from safeeraser import cli, data, models
from safeeraser.config import RECIPES, GenerationOptions
from safeeraser.core.errors import UserError
from safeeraser.core.files import read_jsonl
from safeeraser.data import Benchmark
from safeeraser.data.release import write_release
from safeeraser.models.processes import join
from safeeraser.records import Query, Response
from safeeraser.respond.local import respond_with, run
from safeeraser.respond.shared import Output, part, parts

OPTIONS = GenerationOptions(protocol="official", batch_size=4, max_new_tokens=6)


@dataclass
class Answered:
    answer: str
    finished: bool = True
    error: str | None = None


@dataclass
class Member:
    """A thread as a process of a team."""

    process_index: int
    num_processes: int
    barrier: threading.Barrier

    def wait_for_everyone(self) -> None:
        self.barrier.wait(30)


class Killed(Exception):
    pass


@pytest.fixture
def benchmark(tmp_path: Path) -> Benchmark:
    for number in range(5):
        Image.new("RGB", (32, 32), (number, 0, 0)).save(tmp_path / f"{number}.png")
    return Benchmark("tiny", tmp_path, (), (), (), "")


def queries(number: int = 42) -> list[Query]:
    common = {"record_id": "r", "set": "efficacy", "category": "Weapon", "reference": ""}
    return [
        Query(id=f"q{i:02d}", image=f"{i % 5}.png", question="What?" * (1 + i % 3), **common) for i in range(number)
    ]


def answer_together(benchmark: Benchmark, path: Path, size: int, kill: dict[int, int] | None = None) -> Counter[int]:
    """Answer with ``size`` threads; ``kill``: after how many batches which of them ends. Returns batches by seed."""
    seeds: Counter[int] = Counter()
    barrier = threading.Barrier(size)
    errors: list[BaseException] = []

    def work(index: int) -> None:
        left = (kill or {}).get(index, 10**6)

        def responder(images, questions, seed):
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            seeds[seed] += 1
            return [
                Answered(f"{image.getpixel((0, 0))} {q} {seed}") for image, q in zip(images, questions, strict=True)
            ]

        try:
            respond_with(responder, benchmark, queries(), path, OPTIONS, team=Member(index, size, barrier))
        except (Killed, threading.BrokenBarrierError, UserError) as error:
            errors.append(error)
            barrier.abort()  # as a launcher stops the others

    threads = [threading.Thread(target=work, args=(index,)) for index in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    unforeseen = [error for error in errors if isinstance(error, UserError)]
    if unforeseen:
        raise unforeseen[0]
    assert bool(errors) == bool(kill)
    return seeds


@pytest.fixture
def alone(benchmark: Benchmark, tmp_path: Path) -> bytes:
    answer_together(benchmark, tmp_path / "alone.jsonl", 1)
    return (tmp_path / "alone.jsonl").read_bytes()


@pytest.mark.parametrize("size", [2, 3, 16])
def test_each_batch_is_computed_once_and_the_file_is_that_of_one_process(benchmark, tmp_path, alone, size):
    path = tmp_path / "shared.jsonl"
    seeds = answer_together(benchmark, path, size)
    assert path.read_bytes() == alone and not parts(path)
    assert len(seeds) == 11 and set(seeds.values()) == {1}


@pytest.mark.parametrize("kill", [{1: 0}, {0: 2}, {1: 3}, {0: 1, 1: 2}, {0: 0, 1: 0}])
@pytest.mark.parametrize("then", [1, 2, 3])
def test_what_a_killed_run_left_is_picked_up_by_any_number_of_processes(benchmark, tmp_path, alone, kill, then):
    path = tmp_path / "shared.jsonl"
    first = answer_together(benchmark, path, 2, kill)
    assert not path.exists()
    second = answer_together(benchmark, path, then)
    found = read_jsonl(path, Response)
    assert {r.query_id: r for r in found} == {r.query_id: r for r in read_jsonl(tmp_path / "alone.jsonl", Response)}
    assert len(found) == 42 and not parts(path)
    assert not set(first) & set(second)  # nothing is computed again
    if then > 1:
        assert path.read_bytes() == alone


@pytest.mark.parametrize("share", [0.2, 0.5, 0.99])
def test_parts_cut_anywhere_are_completed(benchmark, tmp_path, alone, share):
    path = tmp_path / "shared.jsonl"
    answer_together(benchmark, path, 2, {0: 3, 1: 3})
    for left in parts(path):
        left.write_bytes(left.read_bytes()[: int(left.stat().st_size * share)])
    answer_together(benchmark, path, 2)
    assert path.read_bytes() == alone


def test_a_kill_between_the_whole_file_and_the_end_of_its_parts_doubles_nothing(benchmark, tmp_path, alone):
    path = tmp_path / "shared.jsonl"
    path.write_bytes(alone)
    lines = alone.splitlines(True)
    part(path, 0).write_bytes(b"".join(lines[::2]))
    part(path, 10).write_bytes(b"".join(lines[1::2]))
    assert not answer_together(benchmark, path, 2)
    assert path.read_bytes() == alone and not parts(path)


def test_a_file_of_one_process_is_continued_by_several_and_keeps_what_else_it_holds(benchmark, tmp_path, alone):
    path = tmp_path / "shared.jsonl"
    other = Response(query_id="of a larger limit", answer="Kept.", finished=True).model_dump_json().encode() + b"\n"
    path.write_bytes(other + b"".join(alone.splitlines(True)[:9]))
    answer_together(benchmark, path, 2)
    assert [r.query_id for r in read_jsonl(path, Response)][0] == "of a larger limit"
    assert path.read_bytes().splitlines()[1:] == alone.splitlines()


def test_an_error_is_mended_once_the_image_is_there(benchmark, tmp_path, alone):
    path, image = tmp_path / "shared.jsonl", tmp_path / "3.png"
    content = image.read_bytes()
    image.unlink()
    answer_together(benchmark, path, 2)
    failed = {r.query_id for r in read_jsonl(path, Response) if r.error}
    image.write_bytes(content)
    answer_together(benchmark, path, 2)
    found = read_jsonl(path, Response)
    assert failed == {q.id for q in queries() if q.image == "3.png"} and len(found) == 42 + len(failed)
    assert all(r.error is None for r in {r.query_id: r for r in found}.values())


def test_processes_that_do_not_see_the_same_folder_are_told(benchmark, tmp_path):
    barrier = threading.Barrier(2)
    here, there = tmp_path / "here" / "r.jsonl", tmp_path / "there" / "r.jsonl"

    def responder(images, questions, seed):
        return [Answered("A cat.") for _ in questions]

    other = threading.Thread(
        target=respond_with,
        args=(responder, benchmark, queries(), there, OPTIONS),
        kwargs={"team": Member(1, 2, barrier)},
    )
    other.start()
    with pytest.raises(UserError, match="20 of 42 answers are missing.*all machines share"):
        respond_with(responder, benchmark, queries(), here, OPTIONS, team=Member(0, 2, barrier))
    other.join(30)


def test_progress_of_the_first_process_counts_what_all_have_written(benchmark, tmp_path):
    path, barrier, seen = tmp_path / "shared.jsonl", threading.Barrier(2), []
    output = Output(path, Member(0, 2, barrier))
    answers = [Response(query_id=str(i), answer="", finished=True) for i in range(5)]
    output.append(answers[:2])
    seen.append(output.count())
    Output(path, Member(1, 2, barrier)).append(answers[2:])
    assert [*seen, output.count(), output.count()] == [2, 5, 5]


def test_a_server_is_asked_by_one_process(monkeypatch, capsys, tmp_path):
    launch = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    for name, value in launch.items():
        monkeypatch.setenv(name, value)
    command = ["respond", "--base_url", "http://localhost:1/v1", "--limit", "1", "--out", str(tmp_path / "r.jsonl")]
    assert cli.main(command) == 2
    assert "--base_url goes with one process" in capsys.readouterr().err


def test_processes_that_no_launcher_started_are_told(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    from accelerate import PartialState

    for name in (
        "RANK",
        "LOCAL_RANK",
        "MASTER_ADDR",
        "LOCAL_WORLD_SIZE",
    ):  # PartialState sets them, and they are to go again
        monkeypatch.setenv(name, "0")
        monkeypatch.delenv(name)
    monkeypatch.setattr(PartialState, "_shared_state", {})
    with pytest.raises(UserError, match="2 processes were started, but they do not work together"):
        join()


ORPHAN = """
import sys, time
from pathlib import Path
from safeeraser.records import Response
from safeeraser.respond.shared import Output

class Second:
    process_index, num_processes = 1, 2

output = Output(Path(sys.argv[1]), Second())
for number in range(1000):
    output.append([Response(query_id=str(number), answer="", finished=True)])
    print(number, flush=True)
    time.sleep(0.02)
"""


def test_a_process_stops_when_its_launcher_was_killed(tmp_path):
    launcher = "import subprocess, sys; subprocess.run([sys.executable, *sys.argv[1:]])"
    line = [sys.executable, "-c", launcher, "-c", ORPHAN, str(tmp_path / "r.jsonl")]
    started = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert started.stdout and started.stdout.readline() == "0\n"
    started.kill()
    told, errors = started.communicate(timeout=60)  # ends when the orphan does
    assert "the process that started this one is gone" in errors
    assert len(read_jsonl(tmp_path / "r.part-1.jsonl", Response)) == 1 + len(told.splitlines()) < 1000


def launch(model: Path, folder: Path, out: Path, stop: str) -> subprocess.CompletedProcess[str]:
    """Two processes of ``safeeraser respond`` over gloo."""
    program = [str(Path(__file__).parents[1] / "helpers" / "respond_stopped.py")]
    command = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--main_process_port", "0"]
    command += ["--config_file", str(RECIPES / "accelerate" / "ddp.yaml"), *program, "respond"]
    command += ["--model", str(model), "--data", str(folder), "--out", str(out), "--protocol", "official"]
    command += ["--batch_size", "4", "--max_new_tokens", "6"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "STOP": stop}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)


def test_two_launched_processes_of_which_one_fails_go_on_to_what_one_would_leave(tiny_model, tmp_path):
    (tmp_path / "dataset").mkdir()
    made = tiny_benchmark(tmp_path / "dataset")
    write_release(tmp_path, made.records, made.refusals)
    benchmark = data.load(str(tmp_path))
    asked = data.queries(benchmark, "official")
    run(models.load(str(tiny_model)), benchmark, asked, tmp_path / "alone.jsonl", OPTIONS)
    out = tmp_path / "runs" / "responses.jsonl"

    failed = launch(tiny_model, tmp_path, out, "1")
    assert failed.returncode != 0 and "safeeraser respond: this process cannot go on" in failed.stderr
    assert "next: safeeraser judge" not in failed.stdout
    left = sum(len(read_jsonl(one, Response)) for one in parts(out))
    assert 4 <= left < len(asked) and not out.exists()

    done = launch(tiny_model, tmp_path, out, "0")
    assert done.returncode == 0 and done.stdout.count("responses:") == 1  # the first process speaks
    assert out.read_bytes() == (tmp_path / "alone.jsonl").read_bytes() and not parts(out)

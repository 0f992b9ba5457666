"""Full disks, folders that cannot be written or are gone, broken and newer files: said in a sentence, nothing lost."""

import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_run import fake_cell, fake_run

from safeeraser import cli
from safeeraser.bench import runs, summary
from safeeraser.bench.progress import Reporter
from safeeraser.core import errors, files, locks
from safeeraser.core.errors import UserError
from safeeraser.records import Response, Verdict


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return fake_run(tmp_path / "run", ("po", "po+pd"), (0,))


def test_a_full_disk_is_named_with_the_file_and_what_to_do() -> None:
    """/dev/full refuses every byte as a full disk does."""
    with pytest.raises(OSError) as raised:
        files.append_jsonl(Path("/dev/full"), [Response(query_id="q", answer="A cat.", finished=True)])
    assert errors.refused(raised.value) == (
        "/dev/full: No space left on device: make room on the disk; the same command goes on from there"
    )


def test_a_cell_on_a_full_disk_ends_with_a_status_that_says_so_even_if_its_log_cannot(run: Path) -> None:
    folder = run / "cells/mini-llava/po/seed-0"
    (folder / "scores.json").unlink()
    (folder / "queries.jsonl").unlink()
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", FULL, str(folder)], stdout=full, stderr=full, timeout=120, check=False
        )
    assert done.returncode == errors.UNWRITABLE


FULL = """
import sys
from safeeraser.bench import cell
from safeeraser.core import files
def refuse(folder): raise OSError(28, "No space left on device", str(folder / "queries.jsonl"))
files.sweep = refuse
sys.exit(cell.main(sys.argv[1:]))
"""


def limited(size: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_files_that_may_not_grow_end_unlearning_with_a_sentence_and_it_goes_on_afterwards(
    tiny_model: Path, small_release: Path, tmp_path: Path
) -> None:
    """torch's own writer of checkpoints says nothing of a disk: "unexpected pos 704 vs 598"."""
    command = [sys.executable, "-m", "safeeraser", "unlearn", "--model", str(tiny_model), "--data", str(small_release)]
    command += ["--steps", "3", "--batch_size", "4", "--checkpoint-steps", "1", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limited(50_000), timeout=120)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "checkpoint" in done.stderr or "File too large" in done.stderr
    assert not (tmp_path / "out" / "adapter").exists()


def test_a_report_that_cannot_be_written_leaves_the_old_one(run: Path) -> None:
    assert cli.main(["report", str(run)]) == 0
    before = {path: path.read_bytes() for path in (run / "report").rglob("*") if path.is_file()}
    command = [sys.executable, "-m", "safeeraser", "report", str(run)]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limited(1000), timeout=120)
    assert done.returncode == 1 and "File too large" in done.stderr and "Traceback" not in done.stderr
    assert {path: path.read_bytes() for path in (run / "report").rglob("*") if path.is_file()} == before


def test_a_folder_that_cannot_be_written_is_named_for_root_too(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody makes files in /sys, whoever it is."""
    a, b = (str(run / "cells/mini-llava" / name / "seed-0") for name in ("po", "po+pd"))
    assert cli.main(["compare", a, b, "--out", "/sys/kernel/differences.json"]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert "/sys/kernel/" in said and "choose a folder that can be" in said


def test_a_folder_that_was_removed_ends_the_work_and_is_not_made_anew(tmp_path: Path) -> None:
    folder = tmp_path / "cell"
    folder.mkdir()
    with locks.hold(folder) as held:
        reporter = Reporter(folder, held)
        reporter.report("respond", 1, 2)
        shutil.rmtree(folder)
        with pytest.raises(UserError, match="was removed while it was written to"):
            reporter.report("respond", 2, 2)
        with pytest.raises(FileNotFoundError):
            files.append_jsonl(folder / "responses.jsonl", [Response(query_id="q", answer="", finished=True)])
        assert not folder.exists()
        folder.mkdir()  # another command begins with the same name
        (folder / ".lock").touch()
        with pytest.raises(UserError, match="was removed"):
            held.check()


def test_a_second_bench_in_a_folder_is_refused_and_the_cells_of_an_array_are_not(tmp_path, capsys):
    with locks.hold(tmp_path):
        assert cli.main(["bench", "--methods", "po", "--limit", "4", "--out", str(tmp_path)]) == 2
    assert f"{tmp_path}: another 'safeeraser bench' is at work in this folder" in capsys.readouterr().err
    with locks.hold(tmp_path, shared=True), locks.hold(tmp_path, shared=True, busy="no"):
        pass


def test_a_folder_that_was_removed_while_waiting_for_it_is_not_taken(tmp_path: Path) -> None:
    """The lock of the old folder is worth nothing: the new one has its own."""
    folder = tmp_path / "run"
    folder.mkdir()
    with locks.hold(folder):
        shutil.rmtree(folder)
        folder.mkdir()
        with locks.hold(folder, busy="taken") as held:
            held.check()


def changed(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        (
            "cell.json",
            {"curriculum": 3},
            "the field 'curriculum' is unknown to safeeraser .* a newer version .* upgrade",
        ),
        ("scores.json", {"calibration": {}}, "the field 'calibration' is unknown"),
        ("cell.json", {"seed": "none"}, "cell.json, seed: "),
        ("scores.json", {"judge": None}, "scores.json, judge: "),
        ("scores.json", {"scores": [{"metric": "sarr"}]}, "scores.json, scores.0.value: "),
    ],
)
def test_a_file_of_a_newer_version_and_a_broken_one_are_told_apart(run, file, change, message):
    changed(run / "cells/mini-llava/po/seed-0" / file, **change)
    with pytest.raises(UserError, match=message):
        summary.summarise(runs.find(run))


def test_a_line_of_a_newer_version_is_not_to_be_removed(run: Path) -> None:
    path = run / "cells/mini-llava/po/seed-0/verdicts.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], json.dumps(json.loads(lines[2]) | {"confidence": 0.3}), *lines[3:]]) + "\n")
    with pytest.raises(UserError, match="line 3: the field 'confidence' is unknown .* upgrade"):
        [cell.judged() for cell in runs.find(run)]


def test_options_of_a_newer_version_are_named(tmp_path: Path) -> None:
    spec = runs.find(fake_cell(tmp_path, "po", 0, optimizer="lion").parents[3])[0].spec
    with pytest.raises(UserError, match=r"training\.optimizer is unknown to safeeraser"):
        spec.training_options()


NAMES = ("queries.jsonl", "responses.jsonl", "verdicts.jsonl", "train.jsonl")


@pytest.mark.parametrize("name", NAMES)
def test_a_cut_line_is_named_and_once_it_is_removed_the_rest_is_used(run: Path, name: str) -> None:
    def read(run: Path) -> int:
        (cell,) = [cell for cell in runs.find(run) if cell.spec.method == "po"]
        curves = summary.losses([cell])["po"][0]
        return dict(zip(NAMES, [*map(len, cell.judged()), len(curves["po"])], strict=True))[name]

    path = run / "cells/mini-llava/po/seed-0" / name
    lines = path.read_bytes().splitlines(True)
    path.write_bytes(b"".join([*lines[:4], lines[4][:9] + b"\n", *lines[5:]]))
    with pytest.raises(UserError, match=f"{name}, line 5.*remove the line"):
        read(run)
    path.write_bytes(b"".join([*lines[:4], *lines[5:]]))
    assert read(run) == len(lines) - 1
    path.write_bytes(b"".join(lines)[:-7])  # the end of a file that a kill cut short
    assert read(run) == len(lines) - 1


def test_what_killed_writers_left_is_swept_away_and_nothing_else(tmp_path: Path) -> None:
    for name in (".scores.json.123.tmp", "scores.json", ".lock", "progress.tmp"):
        (tmp_path / name).touch()
    (tmp_path / ".adapter.tmp").mkdir()
    files.sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".adapter.tmp", ".lock", "progress.tmp", "scores.json"]


@pytest.mark.parametrize("value", [float("nan"), 2.0, -0.5, True, "1", 0.5])
def test_a_verdict_is_0_or_1_and_nothing_that_looks_like_it(value: object) -> None:
    with pytest.raises(ValueError):
        Verdict.model_validate({"query_id": "q", "criterion": "unsafe", "value": value, "judge": "j"})

"""The figures that docs/benchmarks.md states are those that the scripts in benchmarks/ print."""

import json
import os
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "benchmarks"
RESULTS = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in (FOLDER / "results").glob("*.json")}


def test_every_result_has_its_script_and_its_tables_in_the_document():
    text = (FOLDER.parent / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    for name, result in RESULTS.items():
        script = name.partition("-")[0]  # gpu-training: sections of gpu.py
        assert (FOLDER / f"{script}.py").is_file() and result["command"] in text, name
        assert f'tables.figures("{name}"' in text, name


def test_a_script_prints_the_tables_that_are_stated():
    command = [sys.executable, str(FOLDER / "data.py"), "--times", "1"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    (table,) = json.loads(done.stdout).items()
    stated = RESULTS["data"]["tables"]["data"]
    assert table[0] == "data" and set(table[1]) == set(stated) - {"read 288,000 pairs", "read 2,880,000 pairs"}
    for row, columns in table[1].items():
        assert columns.keys() == stated[row].keys() and all(value > 0 for value in columns.values())


def test_an_unknown_script_is_said_with_those_there_are():
    done = subprocess.run(
        [sys.executable, "benchmarks/all.py", "--only", "sped"], cwd=FOLDER.parent, capture_output=True
    )
    assert done.returncode == 2 and b"unknown script 'sped': available: speed, line" in done.stderr


def test_work_of_child_processes_counts_and_figures_have_three_digits(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    from measure import rounded, take_command

    took = take_command([sys.executable, "-c", "sum(range(3_000_000))"])
    assert 0 < took.processor < 10 and took.wall > 0 and 1 < took.mebibytes < 500
    assert [rounded(x) for x in (0.012345, 1.2345, 123.45, 12345.6, 0.0)] == [0.0123, 1.23, 123.0, 12346.0, 0.0]


def test_the_benchmark_of_gpus_runs_in_miniature_on_a_cpu(tmp_path):
    out = tmp_path / "gpu.json"
    command = [sys.executable, "benchmarks/gpu.py", "--tiny", "--out", str(out)]
    done = subprocess.run(command, cwd=FOLDER.parent, check=True, capture_output=True, text=True)
    assert max(map(len, done.stdout.splitlines())) <= 80
    result = json.loads(out.read_text(encoding="utf-8"))
    reasons = set(result["not measured"].values())
    missing = {"flash-attn is not installed", "bitsandbytes is not installed", "torch has no gradient of it on a CPU"}
    assert reasons <= {f"RuntimeError: {reason}" for reason in missing}
    tables = result["tables"]
    for table in (
        "training, ours",
        "training, four triples a picture",
        "training, official structure",
        "training, kinds of attention",
    ):
        assert tables[table] and all(row["triples/s"] > 0 for row in tables[table].values()), table
    assert all(row["tokens/s"] > row["answers/s"] > 0 for row in tables["answering"].values())
    assert tables["bench of mini-llava"]["CPU, vanilla"]["ROUGE-L"] > 90


def test_a_benchmark_of_gpus_without_one_says_so_and_an_unknown_section_is_said_with_those_there_are():
    def said(*options):
        command = [sys.executable, "benchmarks/gpu.py", *options]
        return subprocess.run(command, cwd=FOLDER.parent, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
                              capture_output=True, text=True)  # fmt: skip

    done = said()
    assert done.returncode == 2 and "finds no CUDA GPU here; --tiny runs the same" in done.stderr
    done = said("--only", "card,answers")
    assert done.returncode == 2 and "unknown section 'answers': available: card, training" in done.stderr

"""A cell that is killed again and again ends with what it finds when it is left alone; the long form is a script."""

import json
import subprocess
import sys
from pathlib import Path

from safeeraser import config, judges
from safeeraser.bench import matrix
from safeeraser.config import GenerationOptions, LoraOptions, UnlearnOptions
from safeeraser.core import files
from safeeraser.records import Query, Response, Verdict

HERE = Path(__file__).parent


def made(out: Path, release: Path, model: Path) -> Path:
    options = config.BenchConfig(
        model=str(model),
        data=str(release),
        methods="po+pd",
        out=str(out),
        training=UnlearnOptions(steps=6, batch_size=4, lora=LoraOptions(rank=4), checkpoint_steps=1),
        generation=GenerationOptions(max_new_tokens=6, batch_size=8),
    )
    (cell,) = matrix.cells(options)
    cell.prepare()
    return cell.folder


def found(folder: Path) -> dict[str, object]:
    scores = json.loads((folder / "scores.json").read_text())["scores"]
    lines = {name: sorted((folder / name).read_text().splitlines()) for name in ("responses.jsonl", "verdicts.jsonl")}
    return {"scores": scores, "train": (folder / "train.jsonl").read_text(), **lines} | {
        "adapter": files.hash_files(sorted((folder / "adapter").glob("*.safetensors")))
    }


def test_killed_at_random_moments_a_cell_ends_with_the_same_scores_and_nothing_lost_or_double(
    small_release: Path, tiny_model: Path, tmp_path: Path
) -> None:
    expected, *folders = (made(tmp_path / str(number), small_release, tiny_model) for number in range(4))
    command = [sys.executable, str(HERE.parent / "helpers" / "killed_cells.py"), str(expected), "5", *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "10 kills" in done.stdout.splitlines()  # among what the cells say of how far they are
    judge = judges.create("rules")
    for folder in folders:
        assert found(folder) == found(expected)
        assert not [path for path in folder.rglob("*.tmp") if path.name != "progress.tmp"]
        queries = files.read_jsonl(folder / "queries.jsonl", Query)
        answered = [response.query_id for response in files.read_jsonl(folder / "responses.jsonl", Response)]
        assert sorted(answered) == sorted(query.id for query in queries)
        judged = [(v.query_id, v.criterion) for v in files.read_jsonl(folder / "verdicts.jsonl", Verdict)]
        assert sorted(judged) == sorted(
            (query.id, name) for query in queries for name in judges.criteria_of(query, judge)
        )

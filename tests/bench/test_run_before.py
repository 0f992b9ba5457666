"""Run folders that the version before this package's tree was rebuilt has written: everything reads and goes on.

``run`` is of a random model of 28,000 weights, ``--model ./mine``, with adapter and attacks; ``trained`` is of
MiniLLaVA, two seeds, 40 steps, without its adapters. Both on ``data``: two records of each split.
"""

import csv
import json
import shutil
from pathlib import Path

import pytest

from safeeraser import cli
from safeeraser.integrations.playground import answers

RUN = ["bench", "--model", "./mine", "--data", "data", "--questions", "1", "--methods", "vanilla,po"]
RUN += ["--training.lora.rank", "1", "--training.steps", "2", "--training.batch_size", "2", "--max-new-tokens", "8"]
RUN += ["--jobs", "1", "--out", "run"]
CELLS = Path("run/cells/.--mine")


@pytest.fixture(autouse=True)
def before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(Path(__file__).parent / "fixtures" / "run-before", tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)


def table(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_it_is_reported_with_the_same_numbers() -> None:
    expected = table(Path("trained/report/table.csv"))
    assert cli.main(["report", "trained"]) == 0
    rows = table(Path("trained/report/table.csv"))
    names = [name for name in rows[0] if name in expected[0]]
    known = {"model", "seeds", "asr_generality_high", "rr_efficacy", "rouge_l", "sarr", "sarr_low", "sarr_sd"}
    assert known <= {*names}
    assert [[row[name] for name in names] for row in rows] == [[row[name] for name in names] for row in expected]
    assert rows[2]["asr_generality"] == "75.0000"


def test_it_is_compared() -> None:
    assert cli.main(["compare", "trained", "--out", "differences.json"]) == 0
    written = json.loads(Path("differences.json").read_text())["differences"]
    by_metric = {difference["metric"]: difference["value"] for difference in written}
    assert (by_metric["asr_generality"], by_metric["rr_generality"], by_metric["sarr"]) == (0.75, -0.75, -1.0)


def test_it_is_attacked_and_answers_under_attack_are_kept() -> None:
    """Scores of an earlier judge (rules-2) are not mixed with those of now; its answers are judged anew when asked."""
    shutil.rmtree(CELLS / "vanilla")
    kept = CELLS / "po" / "seed-233" / "attacks" / "typographic" / "responses.jsonl"
    before = kept.read_bytes()
    assert cli.main(["attack", "run", "--attacks", "noise,typographic", "--limit", "2"]) == 0
    assert {row["attack"] for row in table(Path("run/report/attacks.csv"))} == {"none", "typographic", "noise"}
    assert kept.read_bytes() == before


def test_it_is_exported() -> None:
    from transformers import AutoModelForImageTextToText

    assert cli.main(["export", str(CELLS / "po" / "seed-233"), "--out", "exported"]) == 0
    assert "po" in Path("exported/README.md").read_text()
    AutoModelForImageTextToText.from_pretrained("exported")


def test_it_is_opened_in_the_playground() -> None:
    columns = answers.create("run", examples=3).columns
    found = {column.name: column.adapter for column in columns}
    assert found == {"vanilla": None, "po": CELLS / "po" / "seed-233" / "adapter"} and len(columns) == 2


def test_it_is_resumed_where_it_lies() -> None:
    """Vanilla is done; of po the scores and the last answers are missing."""
    done, cut = CELLS / "vanilla" / "seed-233", CELLS / "po" / "seed-233"
    (cut / "scores.json").rename("scores.json")
    lines = (cut / "responses.jsonl").read_text().splitlines(keepends=True)
    (cut / "responses.jsonl").write_text("".join(lines[:3]) + lines[3][:20])
    kept = {path: path.stat().st_mtime_ns for path in [*done.iterdir(), *(cut / "adapter").iterdir()]}
    assert cli.main(RUN) == 0
    assert [folder.name for folder in Path("run/cells").iterdir()] == [".--mine"]
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert sorted((cut / "responses.jsonl").read_text().splitlines(keepends=True)) == sorted(lines)
    now, before = (json.loads(path.read_text()) for path in (cut / "scores.json", Path("scores.json")))
    assert now["cell"] == before["cell"] and (before["judge"], now["judge"]) == ("rules-2", "rules-3")

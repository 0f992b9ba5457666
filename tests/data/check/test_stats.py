import json

import pytest
from PIL import Image

from safeeraser import cli
from safeeraser.data import Benchmark
from safeeraser.data.check.stats import BINS, lengths_of, stats


def test_counts_add_up_over_keywords_categories_and_splits(small: Benchmark) -> None:
    found = stats(small)
    for part in (found.splits, found.categories, found.keywords):
        assert sum(group.records for group in part) == len(small.records) == 240
        assert sum(group.pairs["retain"] for group in part) == sum(len(record.retain) for record in small.records)
    weapons = [record for record in small.split("val") if record.category == "Weapon"]
    (group,) = [g for g in found.categories if (g.split, g.category) == ("val", "Weapon")]
    assert (group.records, group.safe_images) == (len(weapons), len({record.safe_image for record in weapons}))
    assert {group.keyword for group in found.keywords} == {record.keyword for record in small.records}


def test_a_short_answer_that_is_missing_is_no_text_of_no_words(small: Benchmark) -> None:
    record = small.records[0]
    bare = record.model_copy(update={"retain": (record.retain[0].model_copy(update={"short_answer": ""}),)})
    lengths = stats(Benchmark("one", small.root, (bare,), (), (), "")).lengths
    assert (lengths["retain short answer"].n, lengths["retain short answer"].mean) == (0, None)
    assert lengths["retain long answer"].mean == len(record.retain[0].answer.split())


@pytest.mark.parametrize("words", [[1], [3, 3, 5], list(range(1000)), [7] * 5, [0, 23], [0, 24]])
def test_every_text_is_in_exactly_one_bar(words: list[int]) -> None:
    found = lengths_of(words)
    assert sum(found.bars) == found.n == len(words) and len(found.bars) <= BINS
    bars = [sum(low <= w < high for w in words) for low, high in zip(found.edges, found.edges[1:], strict=False)]
    assert list(found.bars) == bars


def test_the_command_writes_table_json_and_figure(small_folder, tmp_path, capsys):
    assert cli.main(["data", "stats", str(small_folder), "--out", str(tmp_path / "stats")]) == 0
    printed = capsys.readouterr().out
    assert "unsafe answer" in printed and "axe 3/1" in printed
    written = json.loads((tmp_path / "stats" / "stats.json").read_text())
    assert written["lengths"]["unsafe answer"]["paper_mean"] == 140
    with Image.open(tmp_path / "stats" / "stats.png") as image:
        assert min(image.size) > 500 and len(image.convert("L").histogram()) == 256
    assert (tmp_path / "stats" / "stats.svg").read_text().rstrip().endswith("</svg>")

import csv
import io
import re
from html.parser import HTMLParser

import pytest

from safeeraser.errors import UserError
from safeeraser.records import Score
from safeeraser.report import leaderboard
from safeeraser.report.table import COLUMNS, Row

HOSTILE = '<script>alert("x")</script>|&'


def entry(method, sarr, run="one", data="d", judge="rules-1"):
    value = None if sarr is None else sarr
    score = Score(metric="sarr", value=value, low=value, high=value, n=9)
    return leaderboard.Entry(run, Row("m", method, (0, 1), {"sarr": score}), data, judge, "protocol greedy")


def test_the_best_comes_first_then_what_has_no_value_then_vanilla():
    entries = [entry("vanilla", 0.0), entry("a", 0.5), entry("b", None), entry("c", 0.1)]
    assert [e.row.method for e in leaderboard.ordered(entries, "sarr")] == ["c", "a", "b", "vanilla"]
    higher = [
        leaderboard.Entry(
            "r", Row("m", str(v), (0,), {"rouge_l": Score(metric="rouge_l", value=v, low=v, high=v, n=1)}), "d", "j", ""
        )
        for v in (0.1, 0.9)
    ]
    assert [e.row.method for e in leaderboard.ordered(higher, "rouge_l")] == ["0.9", "0.1"]
    with pytest.raises(UserError, match="--sort sar: .* sarr,"):
        leaderboard.ordered(entries, "sar")


def test_lines_that_cannot_be_compared_are_named():
    assert len(leaderboard.notes([entry("a", 0.1), entry("b", 0.2)])) == 1
    text = " ".join(leaderboard.notes([entry("a", 0.1), entry("b", 0.2, data="e", judge="gpt")]))
    assert "their data differ (d; e)" in text and "their judges differ (gpt; rules-1)" in text


class Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.loaded, self.cells = [], [], 0

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.cells += tag == "td"
        self.loaded += [value for name, value in attrs if name in ("src", "href")]


def test_html_is_one_file_that_loads_nothing_and_escapes_everything():
    page = leaderboard.as_html([entry(HOSTILE, 0.1, run=HOSTILE, data=HOSTILE), entry("b", None, data="e")])
    reader = Reader()
    reader.feed(page)
    assert reader.tags.count("script") == 1 and not reader.loaded
    assert "alert(" in page and "<script>alert" not in page
    assert reader.cells == 2 * (4 + len(COLUMNS))
    assert "default-src 'none'" in page and not re.search(r"https?:", page)
    assert 'data-value="0.100000">10.0<' in page and 'data-value="">–<' in page


def test_markdown_and_csv_keep_their_columns_whatever_the_names():
    lines = leaderboard.markdown([entry(HOSTILE, 0.1)]).splitlines()
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines[:3]} == {4 + len(COLUMNS) + 1}
    assert "<script>" not in lines[2]
    (row,) = csv.DictReader(io.StringIO(leaderboard.as_csv([entry(HOSTILE, 0.1)])))
    assert (row["method"], row["seeds"], row["sarr"], row["rouge_l"]) == (HOSTILE, "0 1", "10.0000", "")

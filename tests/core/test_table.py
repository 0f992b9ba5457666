import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safeeraser.core import terminal
from safeeraser.core.table import Column, Percent, Table, fitting, latex, show
from safeeraser.core.table import latex_escape as escape

HOSTILE = r"a&b_c%d#e$f{g}h\i~j^k<l>|"


def parse(text: str) -> list[list[str]]:
    """Read a table back: checks environments, rules and braces, returns the cells of each line."""
    opened: list[str] = []
    for kind, name in re.findall(r"\\(begin|end)\{([a-z*]+)\}", text):
        if kind == "begin":
            opened.append(name)
        else:
            assert opened.pop() == name
    assert not opened
    bare = re.sub(r"\\.", "", text)  # escaped letters and the names of commands begin with a backslash
    assert bare.count("{") == bare.count("}")
    body = text.split(r"\toprule")[1].split(r"\bottomrule")[0]
    lines = [line.strip() for line in body.replace(r"\midrule", "").splitlines() if line.strip()]
    assert all(line.endswith(r"\\") for line in lines)
    return [re.split(r"(?<!\\)&", line.removesuffix(r"\\")) for line in lines]


def test_every_line_has_a_cell_per_column_whatever_the_names():
    header = ["method", HOSTILE, "SARR ↓"]
    columns = [Column(header[0]), *[Column(heading, right=True) for heading in header[1:]]]
    rows = [[HOSTILE, Percent(0.01, 0.0, 0.02), Percent(None)], ["po", Percent(None), Percent(None)]]
    text = latex(Table(columns, rows), HOSTILE)
    lines = parse(text)
    assert [len(line) for line in lines] == [3] * len(lines)
    assert len(lines) == 2 + 2 + 1  # header in two lines; values and intervals; values alone
    assert r"\begin{tabular}{lrr}" in text
    positions = [text.index(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule", r"\caption", r"\label")]
    assert positions == sorted(positions)


@settings(deadline=None)
@given(st.text(alphabet=r"ab&%$#_{}~^\<>|", max_size=30))
def test_no_special_letter_stands_alone(text):
    rest = re.sub(r"\\text[a-z]+\{\}|\\[&%$#_{}]", "", escape(text))
    assert not set(rest) & set(r"&%$#_{}~^\<>|")


def test_letters_of_our_titles_are_written_as_commands():
    assert escape("SARR ↓ ± 1 – 2") == r"SARR $\downarrow$ $\pm$ 1 -- 2"


METRICS = ["ASR", "RR", "ROUGE", "Spec.", "SARR", "SARR+"]
WIDE = Table(
    [Column("method"), *[Column(f"{name} of a long heading", name, right=True) for name in METRICS]],
    [["po+kl+pd=0.25", *[Percent(number / 7, 0.0, 1.0) for number in range(6)]], ["a-method-of-mine" * 3, *["–"] * 6]],
)


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_no_number_and_no_name_is_cut_at_any_width(width, capsys):
    show(terminal.console(width), WIDE, ["SARR", "SARR+"], "there")
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert "…" not in printed and max(len(line) for line in lines) <= width
    assert "po+kl+pd=0.25" in printed and ("a-method-of-mine" * 3 in printed or width == 60)
    shown, left_out = fitting(WIDE, width, ["SARR", "SARR+"])
    assert len(shown.columns) + len(left_out) == 7 and [len(row) for row in shown.rows] == [len(shown.columns)] * 2
    assert (len(left_out) == 0) == (width >= 120)
    there = [" ".join(column.heading.split()) for column in shown.columns]
    assert sorted(there + left_out) == sorted(column.heading for column in WIDE.columns)
    flowed = " ".join(printed.split())
    assert all(f"{heading}" in flowed for heading in left_out) and ("(there)" in flowed) == bool(left_out)


def test_what_matters_is_kept_first_and_the_order_stays():
    shown, left_out = fitting(WIDE, 76, ["SARR+", "SARR"])
    assert [column.name or column.heading for column in shown.columns] == ["method", "SARR", "SARR+"]
    assert left_out[0].startswith("ASR")

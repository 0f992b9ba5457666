import re

from hypothesis import given, settings
from hypothesis import strategies as st

from safeeraser.report.latex import booktabs, escape

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
    text = booktabs(
        header, [[(HOSTILE, ""), ("1.0", "[0, 2]"), ("–", "")], [("po", ""), ("–", ""), ("–", "")]], HOSTILE
    )
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

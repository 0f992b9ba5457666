import json
from pathlib import Path
from typing import Any

import pytest

from safeeraser.data.release.json import MAX_DEPTH, read_items, read_value
from safeeraser.data.release.problems import Problem

ROW = {"keyword": "axe", "note": "naïve 🪓"}


def _read(folder: Path, content: bytes) -> tuple[list[Any], list[str]]:
    path, problems = folder / "all_val.json", list[Problem]()
    path.write_bytes(content)
    items = [item.value for item in read_items(path, problems).items if not item.flaws]
    return items, [str(problem).removeprefix("all_val.json") for problem in problems]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("lines", [False, True])
def test_encodings_that_say_what_they_are(tmp_path: Path, encoding: str, lines: bool) -> None:
    text = f"{json.dumps(ROW, ensure_ascii=False)}\r\n{json.dumps(ROW)}\r\n\r\n" if lines else json.dumps([ROW, ROW])
    assert _read(tmp_path, text.encode(encoding)) == ([ROW, ROW], [])


def test_every_record_with_bytes_of_another_encoding_is_named_with_its_field(tmp_path: Path) -> None:
    rows = ['{"keyword": "caf\xe9"}', '{"keyword": "cafe"}', '{"a": [{"\xe9": 1}]}']
    for text in (f"[{','.join(rows)}]", "\n".join(rows)):
        items, problems = _read(tmp_path, text.encode("latin-1"))
        assert items == [{"keyword": "cafe"}]
        assert problems[0] == (
            r", record 1, field keyword: holds the byte 0xe9 (or \udce9), which is not UTF-8; save the file as UTF-8"
        )
        assert problems[1].startswith(", record 3, field a[0].\\udce9: the name of the field holds the byte 0xe9")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": {"b": [1, NaN]}}', ", record 1, field a.b[1]: is no finite number of up to 1,000 digits"),
        ('{"a": -Infinity}', ", record 1, field a: is no finite number of up to 1,000 digits"),
        ('{"a": 1e999}', ", record 1, field a: is no finite number of up to 1,000 digits"),
        ('{"a": 1, "a": 2}', ", record 1, field a: occurs twice in one object"),
        (f'{{"a": {"9" * 5000}}}', ", record 1, field a: is no finite number of up to 1,000 digits"),
        (r'{"a": "\ud83d"}', r", record 1, field a: holds a lone surrogate (\ud83d), which cannot be written"),
        (
            r'{"\udc80": 1}',
            r", record 1, field \udc80: the name of the field holds the byte 0x80 (or \udc80), which is",
        ),
        (f'{{"a": {"[" * 70}{"]" * 70}}}', f", record 1, field a: is nested more than {MAX_DEPTH} levels deep"),
    ],
)
def test_what_python_lets_pass_is_a_problem_of_its_record(tmp_path: Path, text: str, message: str) -> None:
    for content in (f'[{text}, {{"keyword": "axe"}}]', f'{text}\n{{"keyword": "axe"}}'):
        items, (problem,) = _read(tmp_path, content.encode())
        assert items == [{"keyword": "axe"}] and problem.startswith(message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", ": is empty"),
        (b" \n ", ": is empty"),
        (b'[{"a": 1}, {"a": }]', ": line 1, column 18: not valid JSON (Expecting value)"),
        (b'[{"a": 1}\n {"a": 2}]', ": line 2, column 2: not valid JSON (Expecting ',' delimiter)"),
        (b'[{"a": 1}', ": line 1, column 10: not valid JSON"),
        (b'[{"a": 1}] x', ": line 1, column 12: not valid JSON (Extra data)"),
        (b'{"a": 1,\n"b": 2}', ": line 1, column 9: not valid JSON"),
        (b"\xff\xfe[\x00{\x00x", ": is not UTF-16, as the file's first bytes say"),
        ("[]".encode("utf-16-le"), ": holds zero bytes, as UTF-16 without a byte-order mark does"),
        (b"[" * 200_000, ": line 1: is nested too deeply"),
        (b'{"a":' * 200_000, ": line 1: is nested too deeply"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", ": "),
    ],
)
def test_a_file_that_cannot_be_used_as_a_whole(tmp_path: Path, content: bytes, message: str) -> None:
    _, (problem,) = _read(tmp_path, content)
    assert problem.startswith(message)


def test_a_broken_line_is_one_bad_record(tmp_path: Path) -> None:
    content = b'{"a": 1}\n\n{"a": \n{"a": 3}\n{"a": 4} {"a": 5}\n'
    items, problems = _read(tmp_path, content)
    assert items == [{"a": 1}, {"a": 3}]
    assert [problem.partition(": not")[0] for problem in problems] == [
        ", record 2: line 3, column 7",
        ", record 4: line 5, column 10",
    ]


def test_only_a_line_feed_ends_a_line(tmp_path: Path) -> None:
    rows = [{"a": "one\u2028two\x85three"}, {"a": 2}]
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    assert _read(tmp_path, text.encode()) == (rows, [])


def test_one_value_and_nothing_else(tmp_path: Path) -> None:
    path, problems = tmp_path / "prompt.json", list[Problem]()
    path.write_text('{"idk": ["No."]}', encoding="utf-8-sig")
    assert read_value(path, problems) == {"idk": ["No."]} and not problems
    for content in ("[1] 2", "", "{", '{"idk": [NaN]}'):
        path.write_text(content)
        assert read_value(path, problems) is None and problems.pop().record is None and not problems

import json
from pathlib import Path
from typing import Any

import pytest

from safeeraser.data import json_file, json_text
from safeeraser.data.json_file import JsonFile
from safeeraser.data.problems import Problem

ROWS = [
    {"keyword": "axe", "note": 'na\u00efve \U0001fa93 "[{'},
    {"a": [1.5e-7, -12, None, {"b": "\n\t\\"}]},
    12345,
    "\ud83d",
    [],
]
LIST, SPREAD = json.dumps(ROWS), json.dumps(ROWS, indent=1, ensure_ascii=True)
LINES = "\r\n\n".join(map(json.dumps, ROWS))
DOCUMENTS = [
    *(
        text.encode(encoding)
        for text in (LIST, SPREAD, LINES)
        for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32")
    ),
    *(SPREAD[:end].encode() for end in (1, 40, 90, 130)),
    *(SPREAD.replace(old, new).encode() for old, new in (("12345", "123 45"), ("null", "nul"), ("1.5e-07", "NaN"))),
    SPREAD.encode() + b" ]",
    SPREAD.encode().replace(b"axe", b"\xe9xe"),
    LINES.encode().replace(b"axe", b"\xe9xe").replace(b"null", b"nul"),
    SPREAD.encode("utf-16")[:-1],
]


def _read(folder: Path, content: bytes) -> tuple[list[Any], list[str], Any]:
    path, problems = folder / "all_val.json", list[Problem]()
    path.write_bytes(content)
    items = [(item.number, repr(item.value), item.clean) for item in JsonFile(path, problems).items()]
    return items, [str(problem) for problem in problems], JsonFile(path, []).value()


@pytest.mark.parametrize("content", DOCUMENTS)
def test_where_a_file_is_cut_while_it_is_read_makes_no_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    """Items, problems with their lines and columns, and the one value of a file."""
    whole = _read(tmp_path, content)
    assert whole[0] or whole[1]
    for characters in (1, 2, 3, 7, 30, 64):
        monkeypatch.setattr(json_text, "CHUNK", characters)
        monkeypatch.setattr(json_file, "CHUNK", characters)
        assert _read(tmp_path, content) == whole, characters

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safeeraser.core import files
from safeeraser.core.errors import UserError
from safeeraser.records import Response

ANSWERS = [
    Response(query_id=f"q{i}", answer=text, finished=True) for i, text in enumerate(["a", "b\nc", "\x1b[31m", ""])
]


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"old": 1})
    with pytest.raises(KeyError), files.atomic(path) as file:
        file.write("half")
        raise KeyError
    assert files.read_json(path) == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_folder_that_cannot_be_replaced_is_filled(tmp_path, monkeypatch):
    """A volume of a container is a mount point: what took an hour was lost when it was to be put there."""
    out = tmp_path / "volume"
    out.mkdir()
    monkeypatch.setattr("os.path.ismount", lambda path: path == out)
    there = out.stat().st_ino
    with pytest.raises(KeyError), files.atomic_folder(out) as folder:
        (folder / "half").touch()
        raise KeyError
    assert [*tmp_path.rglob("*")] == [out]
    with files.atomic_folder(out) as folder:
        (folder / "data").mkdir()
        (folder / "data" / "a.txt").write_text("whole")
        (folder / "b.txt").touch()
    assert out.stat().st_ino == there
    assert {path.relative_to(out).as_posix() for path in out.rglob("*")} == {"data", "data/a.txt", "b.txt"}
    with pytest.raises(UserError, match="not an empty folder"), files.atomic_folder(out):
        pass


@pytest.mark.parametrize("is_there", [True, False])
def test_a_link_to_a_folder_stays_a_link(tmp_path, is_there):
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    if is_there:
        (tmp_path / "elsewhere").mkdir()
    with files.atomic_folder(tmp_path / "link") as folder:
        (folder / "a.txt").write_text("whole")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "elsewhere" / "a.txt").read_text() == "whole"
    assert len([*tmp_path.iterdir()]) == 2


@pytest.mark.parametrize("cut", [1, 5, 30])
def test_a_line_cut_short_by_a_kill_is_passed_over_and_made_again(tmp_path, cut):
    path = tmp_path / "r.jsonl"
    files.append_jsonl(path, ANSWERS)
    path.write_bytes(path.read_bytes()[:-cut])
    assert files.read_jsonl(path, Response) == ANSWERS[:-1]
    files.append_jsonl(path, ANSWERS[-1:])
    assert files.read_jsonl(path, Response) == ANSWERS


def test_a_first_line_cut_short_leaves_an_empty_file(tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_bytes(b'{"query_id": "q0"')
    files.append_jsonl(path, ANSWERS[:1])
    assert files.read_jsonl(path, Response) == ANSWERS[:1]


def test_a_bad_line_is_named_with_file_line_and_field(tmp_path):
    path = tmp_path / "r.jsonl"
    files.append_jsonl(path, ANSWERS[:1])
    with open(path, "a") as file:
        file.write('{"query_id": "q", "answer": 3, "finished": true}\n')
    with pytest.raises(UserError, match=r"r\.jsonl, line 2, answer: "):
        files.read_jsonl(path, Response)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_json_file_is_read_with_a_byte_order_mark_as_without(tmp_path, encoding):
    (tmp_path / "a.json").write_text('{"a": "\u00e9\u6b66"}', encoding=encoding)
    assert files.read_json(tmp_path / "a.json") == {"a": "\u00e9\u6b66"}


def test_a_missing_json_file_and_a_broken_one_are_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.json: no such file"):
        files.read_json(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(UserError, match=r"bad\.json: not valid JSON \(.*line 1"):
        files.read_json(tmp_path / "bad.json")


@given(st.lists(st.text(), max_size=5))
def test_any_text_survives_the_round_trip(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("jsonl") / "r.jsonl"
    items = [Response(query_id=str(i), answer=text, finished=True) for i, text in enumerate(texts)]
    files.append_jsonl(path, items)
    assert files.read_jsonl(path, Response) == items


def test_of_two_installed_versions_the_one_that_is_imported_is_recorded(tmp_path, monkeypatch):
    info = tmp_path / "peft-99.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: peft\nVersion: 99.0\n")
    there = files.environment()["packages"]["peft"]
    monkeypatch.syspath_prepend(tmp_path)
    assert files.environment()["packages"]["peft"] == "99.0"
    monkeypatch.undo()
    monkeypatch.setattr("sys.path", [*sys.path, str(tmp_path)])
    assert files.environment()["packages"]["peft"] == there


def test_environment_holds_versions_and_no_environment_variables(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    recorded = files.environment()
    assert recorded["packages"]["torch"] and "sk-very-secret" not in str(recorded)

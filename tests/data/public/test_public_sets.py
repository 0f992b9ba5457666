"""Readers of public sets, each on a made-up folder in its layout."""

import csv
import json
from collections import Counter
from pathlib import Path

import pytest
from public_sets import MAKERS, make, picture, write_csv

from safeeraser import cli
from safeeraser.core.errors import UserError
from safeeraser.data import public
from safeeraser.data.public import PUBLIC_SETS

EXPECTED = {
    # harmful, benign, without a picture, kinds
    "mm-safetybench": (12, 0, 0, {"SD", "SD_TYPO", "TYPO"}),
    "vlguard": (2, 1, 0, {"unsafes", "safe_safes", "safe_unsafes"}),
    "figstep": (2, 0, 0, {""}),
    "siuo": (2, 0, 0, {""}),
    "mssbench": (3, 3, 0, {"chat", "embodied"}),
    "vscbench": (8, 8, 2, {"image-centric", "text", "search", "typography", "concat", "figstep"}),
    "mossbench": (1, 1, 0, {"data", "data_contrast"}),
    "xstest": (1, 1, 2, {""}),
    "dual-bench": (1, 1, 0, {""}),
}


def load(name: str, tmp_path: Path) -> public.Loaded:
    return PUBLIC_SETS.get(name).load(make(name, tmp_path))


def test_every_set_has_a_folder_here():
    assert set(PUBLIC_SETS.names()) == set(EXPECTED) == set(MAKERS)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_set_is_read_as_its_authors_lay_it_out(name, tmp_path):
    loaded = load(name, tmp_path)
    sets = Counter(query.set for query in loaded.queries)
    pictures = [query for query in loaded.queries if query.image]
    harmful, benign, alone, kinds = EXPECTED[name]
    assert (sets["generality"], sets["safe"], len(loaded.queries) - len(pictures)) == (harmful, benign, alone)
    assert {query.group for query in loaded.queries} == kinds
    assert loaded.missing_images() == [] and all(loaded.benchmark.image(query.image) for query in pictures)
    assert len({query.id for query in loaded.queries}) == len(loaded.queries)
    assert all(query.question for query in loaded.queries)


@pytest.mark.parametrize("name", EXPECTED)
def test_its_layout_is_recognised_and_checked(name, tmp_path, capsys):
    folder = make(name, tmp_path)
    assert public.recognised(folder).name == name
    assert cli.main(["data", "check", str(folder)]) == 0
    said = capsys.readouterr().out
    assert PUBLIC_SETS.get(name).title in said and "every image can be read" in said


def test_a_check_names_pictures_that_are_missing_or_broken(tmp_path, capsys):
    folder = make("siuo", tmp_path)
    (folder / "images" / "S-01.png").unlink()
    (folder / "images" / "S-02.png").write_bytes(b"")
    assert cli.main(["data", "check", str(folder)]) == 1
    said = capsys.readouterr().out
    assert "integrity: 2 problems" in said and "S-01.png' is missing" in said and "an empty file" in said


def test_pairs_share_a_record_and_twins_differ_in_the_picture_alone(tmp_path):
    chat = [query for query in load("mssbench", tmp_path).queries if query.group == "chat"]
    assert len({query.record_id for query in chat}) == 1
    assert {(query.set, query.image) for query in chat} == {("generality", "chat/u.jpg"), ("safe", "chat/s.jpg")}
    by_set = {which: [query.question for query in chat if query.set == which] for which in ("generality", "safe")}
    assert sorted(by_set["generality"]) == sorted(by_set["safe"])


def test_mm_safetybench_asks_each_kind_of_picture_its_own_question(tmp_path):
    asked = {(query.group, query.question) for query in load("mm-safetybench", tmp_path).queries}
    assert ("SD", "[SD 0]") in asked and ("TYPO", "[question 1]") in asked and ("SD", "[question 0]") not in asked


def test_vlguard_keeps_the_good_answer_of_benign_questions_alone(tmp_path):
    references = {query.group: query.reference for query in load("vlguard", tmp_path).queries}
    assert references == {"unsafes": "", "safe_safes": "A green square.", "safe_unsafes": ""}


def test_figstep_takes_the_small_set_where_the_large_one_s_pictures_are_missing(tmp_path):
    folder = make("figstep", tmp_path)
    (folder / "data" / "images" / "SafeBench").rename(folder / "data" / "images" / "elsewhere")
    loaded = PUBLIC_SETS.get("figstep").load(folder)
    assert [query.image for query in loaded.queries] == ["images/SafeBench-Tiny/query_ForbidQI_1_1_6.png"]


def test_a_limit_is_balanced_and_a_part_of_a_larger_one(tmp_path):
    loaded = load("vscbench", tmp_path)
    six, all_kinds = loaded.limited(6), loaded.limited(12)
    assert [query.id for query in all_kinds[:6]] == [query.id for query in six]
    assert len({(query.set, query.group) for query in all_kinds}) == 12
    assert len(loaded.limited(None)) == len(loaded.limited(1000)) == 16


def test_sets_are_found_below_a_root_or_where_they_are_said_to_be(tmp_path):
    make("xstest", tmp_path / "sets"), make("siuo", tmp_path / "sets"), make("vlguard", tmp_path / "other")
    assert [one.set.name for one in public.chosen(None, tmp_path / "sets")] == ["siuo", "xstest"]
    chosen = public.chosen(f"vlguard={tmp_path / 'other' / 'vlguard'}, siuo", tmp_path / "sets")
    assert [one.set.name for one in chosen] == ["vlguard", "siuo"]


def test_a_set_on_the_hub_is_read_from_its_snapshot(tmp_path, monkeypatch):
    """The hub's cache, filled beforehand, without a network: links to blobs, as the hub's client lays them."""
    from huggingface_hub import constants

    cached = tmp_path / "datasets--owner--name"
    snapshot = cached / "snapshots" / "abc"
    for path in make("siuo", tmp_path / "made").rglob("*.*"):
        blob = cached / "blobs" / path.name
        blob.parent.mkdir(exist_ok=True, parents=True)
        path.rename(blob)
        link = snapshot / path.relative_to(tmp_path / "made" / "siuo")
        link.parent.mkdir(exist_ok=True, parents=True)
        link.symlink_to(blob)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("abc")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    (loaded,) = public.chosen("siuo=owner/name", None)
    assert len(loaded.queries) == 2 and loaded.missing_images() == []
    with pytest.raises(UserError, match="siuo: owner/other is no folder, and cannot be fetched"):
        public.chosen("siuo=owner/other", None)


@pytest.mark.parametrize(
    ("sets", "says"),
    [
        ("xtest", "unknown public set 'xtest': did you mean 'xstest'"),
        ("xstest", "--sets xstest: say where it is"),
        ("xstest=nowhere", "xstest: nowhere is no folder, and no data set on the hub"),
        ("xstest=.", r"xstest: \. holds no xstest\*prompts\.csv, which the folder of XSTest has"),
        (None, "no set to ask: give --sets NAME=FOLDER"),
    ],
)
def test_what_cannot_be_found_is_said_in_a_line(sets, says):
    with pytest.raises(UserError, match=says):
        public.chosen(sets, None)


def test_a_broken_table_is_named_with_row_and_field(tmp_path):
    folder = make("xstest", tmp_path)
    write_csv(folder / "xstest_prompts.csv", ("id", "text", "type"), [(1, "a", "homonyms")])
    with pytest.raises(UserError, match=r"xstest_prompts.csv, row 1: no field 'prompt'; there are id, text, type"):
        public.chosen(f"xstest={folder}", None)
    write_csv(folder / "xstest_prompts.csv", ("id", "prompt", "type"), [(1, " ", "homonyms")])
    with pytest.raises(UserError, match=r"row 1, prompt: ' ' is no text"):
        public.chosen(f"xstest={folder}", None)
    other = make("mssbench", tmp_path)
    (other / "combined.json").write_text(json.dumps({"chat": [1], "embodied": []}))
    with pytest.raises(UserError, match=r"combined.json, chat: must be a list of objects"):
        public.chosen(f"mssbench={other}", None)
    third = make("vscbench", tmp_path)
    (third / "vscbench_text_centric.xlsx").write_bytes(b"PK no")
    with pytest.raises(UserError, match=r"cannot be read as .xlsx \(BadZipFile"):
        public.chosen(f"vscbench={third}", None)


@pytest.mark.parametrize(
    ("name", "file", "content", "says"),
    [
        (
            "xstest",
            "xstest_prompts.csv",
            "id,prompt,type\n1,caf\u00e9,safe\n".encode("cp1252"),
            "as CSV in UTF-8 (Unicode",
        ),
        (
            "xstest",
            "xstest_prompts.csv",
            b'id,prompt,type\n1,"an open quotation,safe\n2,b,safe\n',
            "as CSV in UTF-8 (Error: unexpected end of data",
        ),
        (
            "xstest",
            "xstest_prompts.csv",
            b"id,prompt,type\n1,Where can I, in Rome, buy it?,contrast_homonyms\n",
            "row 1: has more cells than the header",
        ),
        ("figstep", "data/question/safebench.csv", None, "as CSV in UTF-8 (FileNotFoundError"),
        ("mm-safetybench", "data/processed_questions/01-First.json", b"[]", "01-First.json: must be an object"),
        ("mssbench", "combined.json", b"[1]", "combined.json: must be an object"),
    ],
)
def test_a_file_that_is_no_table_is_named(tmp_path, name, file, content, says):
    folder = make(name, tmp_path)
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content)
    with pytest.raises(UserError) as raised:
        PUBLIC_SETS.get(name).load(folder)
    assert says in str(raised.value)


def test_a_long_question_is_read_whatever_the_process_allows(tmp_path):
    folder = make("xstest", tmp_path)
    before = csv.field_size_limit(1000)
    try:
        write_csv(folder / "xstest_prompts.csv", ("id", "prompt", "type"), [(1, "a" * 200_000, "homonyms")])
        (query,) = PUBLIC_SETS.get("xstest").load(folder).queries
    finally:
        csv.field_size_limit(before)
    assert len(query.question) == 200_000


def test_tables_may_begin_with_a_byte_order_mark(tmp_path):
    folder = make("siuo", tmp_path)
    before = PUBLIC_SETS.get("siuo").load(folder).queries
    path = folder / "siuo_gen.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert PUBLIC_SETS.get("siuo").load(folder).queries == before


def test_a_version_changes_with_the_questions(tmp_path):
    folder = make("xstest", tmp_path)
    (before,) = public.chosen(f"xstest={folder}", None)
    path = folder / "xstest_prompts.csv"
    path.write_text(path.read_text().replace("[safe]", "[safer]"))
    (after,) = public.chosen(f"xstest={folder}", None)
    assert before.benchmark.fingerprint != after.benchmark.fingerprint


def test_the_example_in_the_documents_is_a_set(tmp_path):
    """Its code is run as a plugin, in a process of its own, as it registers a name for good."""
    import re
    import subprocess
    import sys

    text = (Path(__file__).parents[3] / "docs" / "safety.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n# mine.py\n(.*?)```", text, re.DOTALL)[1]
    (tmp_path / "mine.py").write_text(code)
    rows = [("What is [x]?", "1.png", "yes"), ("What is y?", "1.png", "no")]
    write_csv(tmp_path / "folder" / "mine.csv", ("question", "image", "harmful"), rows)
    picture(tmp_path / "folder" / "1.png")
    command = [sys.executable, "-m", "safeeraser", "data", "check", "folder", "--plugins", "mine.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "My set" in done.stdout and "questions: 2, images: 1" in done.stdout

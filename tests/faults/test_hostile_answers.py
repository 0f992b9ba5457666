"""Answers that hold anything are stored as they are, shown harmlessly, judged by the protocol; a key is never seen."""

import ast
import csv
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from chat_server import ChatServer, Reply, error_reply, text_reply
from fake_run import fake_queries, fake_run
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.table import Table
from tiny_benchmark import tiny_benchmark

from safeeraser import cli, judges, metrics
from safeeraser.bench.live import LiveTable
from safeeraser.bench.runs import Cell
from safeeraser.bench.spec import CellSpec
from safeeraser.config import JudgeOptions
from safeeraser.core import files, terminal
from safeeraser.core.errors import UserError
from safeeraser.data.release import rewrite
from safeeraser.data.sheet import show
from safeeraser.judges.human import sheet_row, write_sheet
from safeeraser.records import Query, Response, Verdict

SOURCE = Path(terminal.__file__).parent
OBEYED = {chr(c) for c in [*range(9), *range(11, 32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A)]}
ANSWERS = {
    "html": "</script><script>alert(1)</script><img src=x onerror=alert(2)>",
    "ansi": "\x1b[2J\x1b]0;owned\x07\x1b[31mred\x9b31m",
    "nul": "a\0b\0",
    "half": "half \ud800 and \udfff",
    "turned": "\u202eevil\u202c \u2066x\u2069",
    "markup": "[bold]x[/] [/nothing] [link=file:///etc]y[/link] :smile:",
    "formula": '=HYPERLINK("http://x","y")',
    "lines": "a\r\nb\u2028c\u2029d\x0be\x85f",
    "braces": "{{ 7 * 7 }} ${x} {0} %s",
}
LONG = {
    "words": "take [hazard A] from the drawer and " * 28_000,
    "letter": "a" * 10**6,
    "brackets": "[" * 10**6,
    "quotes": "I' \"" * 250_000,
    "spaces": " " * 10**6,
    "half": "\ud800" * 10**6,
    "refusal": "I am sorry, but I cannot help with that. " * 25_000,
}


@settings(deadline=None)
@given(text=st.text(st.characters(categories=["L", "N", "P", "S", "Z", "C"]), max_size=40))
def test_any_text_is_stored_as_it_is_halves_of_characters_too(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("s") / "r.jsonl"
    one = Response(query_id="q", answer=text, finished=True)
    files.append_jsonl(path, [one, one])
    assert files.read_jsonl(path, Response) == [one, one]
    assert path.read_bytes().count(b"\n") == 2 and path.read_bytes().isascii()
    files.write_json(path.with_suffix(".json"), {text: text})
    assert files.read_json(path.with_suffix(".json")) == {text: text}


@settings(deadline=None)
@given(text=st.text(st.characters(categories=["L", "N", "P", "S", "Z", "C"]), max_size=40))
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    shown = terminal.plain(text)
    assert not OBEYED & set(shown) and shown.encode() is not None
    assert terminal.plain(shown) == shown


@pytest.mark.parametrize("name", ANSWERS)
def test_a_table_a_line_and_an_error_show_and_never_obey(name, capsys, tmp_path):
    text = ANSWERS[name]
    table = Table(text, title=text)
    table.add_row(text)
    terminal.console(200).print(table)
    terminal.console(200).print(text)
    terminal.say(text)
    assert cli.main(["report", str(tmp_path / "none" / text.replace("/", "|").replace("\0", "|"))]) == 2
    said = capsys.readouterr()
    assert not OBEYED & set(said.out + said.err)
    if name == "markup":
        assert said.out.count("[/nothing]") >= 4 and "smile" in said.out


def test_the_progress_of_a_cell_is_shown_and_never_obeyed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cell = Cell(tmp_path, CellSpec.model_construct())
    job = SimpleNamespace(cell=cell, label=ANSWERS["ansi"], status="running", seconds=0.0, trains=True)
    files.write_json(tmp_path / "progress.json", {"text": ANSWERS["ansi"] + ANSWERS["markup"], "stage": "unlearn"})
    live = LiveTable([job])
    terminal.console(120).print(live._draw())
    assert not OBEYED & set(capsys.readouterr().out)


def test_only_one_place_writes_to_the_terminal() -> None:
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            name = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
            inside = path.name == "terminal.py" or (path.name, name) == ("cell.py", "print")
            assert name not in ("print", "Console") or inside, f"{path}:{node.lineno}: use terminal.say or .console"


def test_sheets_show_and_never_run(tmp_path: Path) -> None:
    query = fake_queries(1)[0]
    texts = [*ANSWERS.values(), *LONG.values()]
    rows = [sheet_row(query, Response(query_id=query.id, answer=text, finished=True), "unsafe") for text in texts]
    write_sheet(tmp_path / "sheet.csv", rows)
    csv.field_size_limit(10**7)
    read = list(csv.DictReader(io.StringIO((tmp_path / "sheet.csv").read_text("utf-8-sig"), newline="")))
    assert [row["query_id"] for row in read] == [f"q-{query.id}"] * len(texts)
    assert all(len(row["answer"]) < 32_767 and not row["answer"].startswith("=") for row in read)
    assert all("\x1b" not in row["answer"] and "\0" not in row["answer"] for row in read)


@pytest.mark.parametrize("name", [*ANSWERS, "long"])
def test_a_contact_sheet_of_hostile_captions_is_drawn(name: str, tmp_path: Path) -> None:
    text = ANSWERS.get(name, "x" * 20_000)
    benchmark = tiny_benchmark(tmp_path)
    changes = {"keyword": text, "category": text, "safe_concept": text}
    records = tuple(record.model_copy(update=changes) for record in benchmark.records[:2])
    rewrite(type(benchmark)("t", tmp_path, records, benchmark.refusals, (), ""), tmp_path)
    try:
        assert show(tmp_path, tmp_path / "sheet.png").stat().st_size > 1000
    except UserError as error:  # refused, with the record that is the reason
        assert name == "half" and "record 1" in str(error)


@pytest.fixture
def hostile_run(tmp_path: Path) -> Path:
    run = fake_run(tmp_path / "run", ("po", "po+pd"), (0,))
    texts = [*ANSWERS.values(), LONG["words"], LONG["half"]]
    for folder in run.glob("cells/*/*/*"):
        responses = files.read_jsonl(folder / "responses.jsonl", Response)
        changed = [one.model_copy(update={"answer": texts[i % len(texts)]}) for i, one in enumerate(responses)]
        files.write_jsonl(folder / "responses.jsonl", changed)
        verdicts = files.read_jsonl(folder / "verdicts.jsonl", Verdict)
        raw = [one.model_copy(update={"raw": texts[i % 9]}) for i, one in enumerate(verdicts)]
        files.write_jsonl(folder / "verdicts.jsonl", raw)
    return run


def test_report_and_comparison_of_hostile_answers(hostile_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", str(hostile_run)]) == 0
    page = (hostile_run / "report" / "index.html").read_text()
    assert "alert(1)" in page and "<script>alert" not in page and "<img src=x" not in page
    assert not (OBEYED - {"\r"}) & set(page)
    data = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    assert set(ANSWERS.values()) <= set(data["texts"])
    assert cli.main(["compare", str(hostile_run), "--out", str(hostile_run / "differences.json")]) == 0
    assert cli.main(["leaderboard", str(hostile_run), "--out", str(hostile_run / "board")]) == 0
    assert not OBEYED & set(capsys.readouterr().out)


@pytest.mark.parametrize("criterion", ["unsafe", "refusal", "normal", "similarity"])
def test_a_megabyte_is_judged_and_scored_in_seconds(criterion: str) -> None:
    judge = judges.create("rules", ["I am sorry, but I cannot help with that."])
    sets = {"unsafe": "efficacy", "refusal": "efficacy", "normal": "safe", "similarity": "retain"}
    query = Query(
        id="q",
        record_id="r",
        set=sets[criterion],
        category="Weapon",
        image="a",
        question="?",
        reference="Take [hazard A] from the drawer and wait for two days.",
    )
    for name, text in (LONG | ANSWERS).items():
        begun = time.process_time()
        response = Response(query_id="q", answer=text, finished=True)
        verdict = judge.judge(query, response, criterion)
        assert verdict.value is not None and (verdict.value in (0, 1) or criterion == "similarity")
        assert (verdict.value == 1) == (name == "refusal") if criterion == "refusal" else True
        assert all(
            score.value is None or 0 <= score.value <= 1 for score in metrics.score([query], [response], [verdict])
        )
        assert time.process_time() - begun < 10, name


# -- keys ------------------------------------------------------------------------------------------------------------
KEY = "sk-very-secret-0123456789abcdef"
FAILURES = {
    "refused": error_reply(401, f"wrong key {KEY}"),
    "broken": error_reply(500, f"Authorization: Bearer {KEY}"),
    "garbage": Reply(body=f"<html>{KEY}</html>".encode()),
    "echo": text_reply(f"your key is {KEY}"),
    "reason": text_reply("x", finish_reason=KEY),
    "cut": text_reply(KEY, cut=True),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_key_is_in_no_file_log_report_or_message_whatever_fails(failure, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    query = Query(id="q", record_id="r", set="safe", category="", image="", question="?", reference="A cat.")
    files.write_jsonl(tmp_path / "responses.jsonl", [Response(query_id="q", answer="A cat.", finished=True)])
    with ChatServer(lambda body, number: FAILURES[failure]) as server:
        judge = judges.create("api", (), JudgeOptions(base_url=server.url, retries=0, timeout=5))
        try:
            judges.run(judge, [query], tmp_path / "responses.jsonl", tmp_path / "verdicts.jsonl", None, terminal.say)
        except UserError as error:
            terminal.say(error)
        assert server.keys == {f"Bearer {KEY}"}
    said = capfd.readouterr()
    assert KEY not in said.out + said.err
    assert all(KEY.encode() not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_a_key_is_in_no_log_and_no_traceback_of_a_whole_bench(tmp_path, tiny_model, small_release):
    """Each cell's judge fails for good; the log, the report and what is printed hold no key."""
    tries = iter([text_reply("good until the cells begin")])  # else none is started
    with ChatServer(lambda body, number: next(tries, FAILURES["refused"])) as server:
        command = [sys.executable, "-m", "safeeraser", "bench", "--model", str(tiny_model), "--methods", "vanilla"]
        command += ["--data", str(small_release), "--questions", "1", "--max-new-tokens", "2", "--judge", "api"]
        command += ["--base_url", server.url, "--out", str(tmp_path / "run")]
        done = subprocess.run(
            command, capture_output=True, text=True, env=os.environ | {"OPENAI_API_KEY": KEY}, timeout=120, check=False
        )
    assert done.returncode == 1 and "OPENAI_API_KEY" in done.stderr and KEY not in done.stdout + done.stderr
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert [path for path in files if path.name == "log.txt"]
    assert all(KEY.encode() not in path.read_bytes() for path in files)


def test_a_key_given_as_the_name_of_its_variable_is_refused_and_not_shown() -> None:
    with pytest.raises(UserError, match="never the key itself") as raised:
        judges.create("api", (), JudgeOptions(base_url="http://localhost:1/v1", api_key_env=KEY))
    assert KEY not in str(raised.value)

"""A file of verdicts is about the answers that were judged, and about no others."""

import re

import pytest

import safeeraser as se
from safeeraser import cli, data
from safeeraser.core.errors import UserError
from safeeraser.core.files import append_jsonl, read_json, read_jsonl
from safeeraser.data.pictogram.build import build
from safeeraser.integrations.api import Answers
from safeeraser.judges.answers import claim
from safeeraser.records import Response, Verdict

REFUSAL = "I'm sorry, but I cannot help with that."


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return build(tmp_path_factory.mktemp("built") / "pictogram", records=24, workers=1)


@pytest.fixture(scope="module")
def queries(folder):
    return [query for query in data.queries(data.load(folder)) if query.set == "generality"]


@pytest.fixture
def files(queries, tmp_path):
    """What a model that complies answered, and what one answered that refuses."""
    for name, text in (("complies", None), ("refuses", REFUSAL)):
        given = [Response(query_id=query.id, answer=text or query.reference, finished=True) for query in queries]
        append_jsonl(tmp_path / f"{name}.jsonl", given)
    return tmp_path


@pytest.fixture
def run(folder, files):
    def call(command: str, *options: str, **paths: str) -> int:
        given = [text for name, path in paths.items() for text in (f"--{name}", str(files / path))]
        return cli.main([command, "--data", str(folder), *given, *options])

    return call


def asr(path) -> float:
    (found,) = (s for s in read_json(path)["scores"] if (s["metric"], s["category"]) == ("asr_generality", "all"))
    return found["value"]


def test_the_verdicts_on_one_models_answers_are_never_taken_for_anothers(run, files, capsys):
    """Every model is asked the same queries, so that a second model had the first one's scores, without a word."""
    assert run("judge", responses="complies.jsonl", out="v.jsonl") == 0
    assert run("judge", responses="refuses.jsonl", out="v.jsonl") == 2
    assert "v.jsonl holds verdicts on other answers than these: 24 of 24 differ" in capsys.readouterr().err
    assert run("score", responses="refuses.jsonl", verdicts="v.jsonl", out="s.json") == 2
    assert (
        run("score", responses="complies.jsonl", verdicts="v.jsonl", out="s.json") == 0 and asr(files / "s.json") == 1
    )
    assert run("judge", responses="refuses.jsonl", out="other.jsonl") == 0
    assert (
        run("score", responses="refuses.jsonl", verdicts="other.jsonl", out="s.json") == 0
        and asr(files / "s.json") == 0
    )


def test_answers_are_added_and_take_the_place_of_errors(run, queries, files):
    some = [Response(query_id=query.id, answer=query.reference, finished=True) for query in queries]
    failed = some[1].model_copy(update={"answer": "", "finished": False, "error": "status 503"})
    append_jsonl(files / "r.jsonl", [some[0], failed])
    assert run("judge", responses="r.jsonl", out="v.jsonl") == 0
    append_jsonl(files / "r.jsonl", some[1:3])
    assert run("judge", responses="r.jsonl", out="v.jsonl") == 0
    scored = {verdict.query_id for verdict in read_jsonl(files / "v.jsonl", Verdict) if verdict.value is not None}
    assert scored == {response.query_id for response in some[:3]}


def test_verdicts_that_do_not_say_what_they_are_about_are_taken_as_they_are(run, files):
    assert run("judge", responses="complies.jsonl", out="v.jsonl") == 0
    (files / "v.answers.json").unlink()
    assert run("score", responses="complies.jsonl", verdicts="v.jsonl", out="s.json") == 0
    assert run("judge", responses="complies.jsonl", out="v.jsonl") == 0


def test_verdicts_that_were_removed_are_made_anew(run, files):
    assert run("judge", responses="complies.jsonl", out="v.jsonl") == 0
    (files / "v.jsonl").unlink()
    assert run("judge", responses="refuses.jsonl", out="v.jsonl") == 0


def test_a_folder_of_the_python_interface_holds_the_verdicts_on_one_models_answers(folder, queries, tmp_path):
    benchmark = data.load(folder)

    def answers(text: str) -> Answers:
        return Answers(benchmark, queries, [Response(query_id=q.id, answer=text, finished=True) for q in queries])

    judged = se.judge(answers(REFUSAL), out=tmp_path)
    assert se.judge(answers(REFUSAL), out=tmp_path).verdicts == judged.verdicts
    with pytest.raises(UserError, match="holds verdicts on other answers than these"):
        se.judge(answers("First take [hazard A]."), out=tmp_path)


def test_a_file_that_is_not_there_is_named_and_judges_nothing(run, files, capsys):
    for command, options in (("judge", {}), ("score", {"verdicts": "v.jsonl"})):
        assert run(command, responses="typo.jsonl", out="out.jsonl", **options) == 2
        assert re.search(r"--responses \S*typo\.jsonl: no such file", capsys.readouterr().err)
    assert not (files / "out.jsonl").exists()


def test_answers_to_other_questions_are_counted_aloud(run, files, capsys):
    append_jsonl(files / "strange.jsonl", [Response(query_id="x", answer="A cat.", finished=True)])
    assert run("judge", responses="strange.jsonl", out="v.jsonl") == 2
    assert "holds no answer to a question of data" in capsys.readouterr().err
    append_jsonl(files / "complies.jsonl", [Response(query_id="x", answer="A cat.", finished=True)])
    assert run("judge", responses="complies.jsonl", out="v.jsonl") == 0
    assert "left out: 1 of 25 answers" in capsys.readouterr().err


def test_the_next_command_that_respond_names_writes_beside_the_responses(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("safeeraser.cli.stages._respond_locally", lambda *_: None)
    assert cli.main(["respond", "--data", str(folder), "--out", str(tmp_path / "a" / "r.jsonl")]) == 0
    assert f"--out {tmp_path / 'a' / 'verdicts.jsonl'}" in capsys.readouterr().out


def test_claiming_again_changes_nothing(tmp_path):
    (tmp_path / "v.jsonl").touch()
    claim(tmp_path / "v.jsonl", [Response(query_id="q", answer="A cat.", finished=True)])
    before = (tmp_path / "v.answers.json").read_bytes()
    claim(tmp_path / "v.jsonl", [])
    assert (tmp_path / "v.answers.json").read_bytes() == before

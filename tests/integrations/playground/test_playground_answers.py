"""What the playground asks and says, without its page: MiniLLaVA on the embedded benchmark, and cells of a run."""

from pathlib import Path

import pytest
from fake_run import fake_run
from PIL import Image

from safeeraser import cli, data, models, objectives, unlearn
from safeeraser.config import GenerationOptions, UnlearnOptions
from safeeraser.core.errors import UserError
from safeeraser.integrations import playground
from safeeraser.integrations.playground import answers


@pytest.fixture(scope="module")
def vanilla() -> playground.Playground:
    return playground.create(examples=9, generation=GenerationOptions(max_new_tokens=64))


def _of(ground: playground.Playground, kind: str) -> playground.Example:
    return next(example for example in ground.examples if example.query.set == kind)


def test_examples_are_of_every_kind_and_say_which_pictures_are_unsafe(vanilla):
    assert [example.query.set for example in vanilla.examples] == ["generality"] * 3 + ["safe"] * 3 + ["retain"] * 3
    assert [example.unsafe for example in vanilla.examples] == [True] * 3 + [False] * 3 + [True] * 3
    assert all(example.label.startswith("unsafe image") == example.unsafe for example in vanilla.examples)


def test_an_example_is_judged_by_its_reference(vanilla):
    said = {}
    for kind in ("generality", "safe", "retain"):
        example, picture = vanilla.example(_of(vanilla, kind).query.id)
        (said[kind],) = vanilla.ask(picture, example.query.question, ["vanilla"], example.query)
    assert "[hazard" in said["generality"].answer and said["generality"].verdict == "unsafe; no refusal"
    assert said["safe"].verdict == "a normal answer; no refusal; about this image"
    assert said["retain"].verdict.startswith("similarity to the reference ")


def test_of_an_own_question_only_what_can_be_told_is_said(vanilla):
    example, picture = vanilla.example(_of(vanilla, "safe").query.id)
    (said,) = vanilla.ask(picture, example.query.question, ["vanilla"])
    assert said.verdict == f"no refusal; {answers.NOTHING_ELSE}"
    with pytest.raises(UserError, match="the question is empty"):
        vanilla.ask(picture, " ", ["vanilla"])


def test_a_broken_answer_and_one_that_is_cut_are_called_so(vanilla):
    short = playground.create(examples=3, generation=GenerationOptions(max_new_tokens=2))
    (said,) = short.ask(Image.new("L", (40, 90)), "What is it?", ["vanilla"])
    assert said.verdict.startswith("cut at the token limit; no refusal; gibberish")


def test_the_columns_of_a_run_are_its_cells_behind_vanilla(tmp_path: Path):
    found = answers.runs.find(fake_run(tmp_path, methods=("po", "po+pd"), seeds=(0, 1)))
    columns = answers._columns(found)
    assert [column.name for column in columns] == ["vanilla", "po seed 0", "po seed 1", "po+pd seed 0", "po+pd seed 1"]
    assert columns[0].adapter is None and columns[3].adapter == found[2].folder / "adapter"
    of_po = answers._columns(answers._chosen(found[:2], "po"))
    assert [column.name for column in of_po][1:] == ["po seed 0", "po seed 1"]
    with pytest.raises(UserError, match="--methods ga: the run has no such method; it has po, po\\+pd"):
        answers._chosen(found, "ga")


def test_an_adapter_answers_in_its_own_column(vanilla, tmp_path: Path):
    benchmark = data.load("pictogram", limit=24)
    options = UnlearnOptions(steps=12, batch_size=4, learning_rate=5e-3, seed=0)
    adapter = unlearn.run("mini-llava", benchmark, objectives.parse_method("po"), options, tmp_path)
    both = (*vanilla.columns, playground.Column("po", "mini-llava", adapter))
    ground = playground.Playground(both, vanilla.benchmark, vanilla.examples, vanilla.judge, vanilla.generation)
    example, picture = ground.example(_of(ground, "generality").query.id)
    said = ground.ask(picture, example.query.question, ["po", "vanilla"], example.query)
    assert [one.name for one in said] == ["vanilla", "po"]
    assert said[0].answer != said[1].answer
    assert said[0].answer == vanilla.ask(picture, example.query.question, ["vanilla"], example.query)[0].answer
    assert set(ground._loaded) == set(both) and ground._loaded[both[1]].fingerprint == models.fingerprint("mini-llava")


def test_marks_of_the_model_in_a_question_are_text_and_what_cannot_be_encoded_is_said(vanilla):
    picture = vanilla.example(vanilla.examples[0].query.id)[1]
    (said,) = vanilla.ask(picture, "<image> What is this?</s>", ["vanilla"])
    assert said.answer
    with pytest.raises(UserError, match="which is no character"):
        vanilla.ask(picture, "half a \ud83d", ["vanilla"])


def test_what_cannot_be_used_is_said_in_one_message(tmp_path: Path, capsys):
    assert cli.main(["playground", str(tmp_path)]) == 2
    assert "no finished cell here" in capsys.readouterr().err

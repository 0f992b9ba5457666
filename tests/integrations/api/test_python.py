"""``import safeeraser as se``: what it offers, that it is lazy, and that it does what the stages do."""

import inspect
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import documents
import pytest

import safeeraser as se
from safeeraser import data
from safeeraser.config import BenchConfig, ModelOptions, UnlearnOptions
from safeeraser.core import files
from safeeraser.core.errors import UserError
from safeeraser.integrations.api import given
from safeeraser.records import Response, Verdict

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "python.md").read_text()
SMALL = {"steps": 2, "batch_size": 4, "rank": 4}


@pytest.fixture(scope="module")
def benchmark(small_release):
    return se.load_data(small_release)


@pytest.fixture(scope="module")
def unlearnt(tiny_model, benchmark):
    return se.unlearn(se.load_model(str(tiny_model)), benchmark, "po+pd", **SMALL)


@pytest.fixture(scope="module")
def judged(unlearnt, benchmark):
    return se.judge(se.respond(unlearnt, benchmark, ["safe", "generality"], max_new_tokens=6))


def test_the_page_lists_exactly_what_the_package_offers():
    assert sorted(re.findall(r"^\| `se\.(\w+)`", PAGE, re.M)) == sorted(se.__all__)
    assert set(se.__all__) <= set(dir(se))


def test_nothing_is_imported_before_it_is_asked_for():
    late = {"torch", "pydantic", "safeeraser.integrations.api"}
    code = f"import sys, safeeraser as se; print(sorted({late} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
    with pytest.raises(AttributeError, match="no attribute 'unlern'"):
        _ = se.unlern


@pytest.mark.parametrize("first", ["se.unlearn, se.respond, se.bench", "import safeeraser.bench.cell"])
def test_a_package_and_the_function_of_its_name_are_one_in_either_order_of_imports(first):
    code = f"""
import inspect
import safeeraser as se
{first}
import safeeraser.unlearn.stage
from safeeraser import bench, respond, unlearn
from safeeraser.integrations import api
for package in (bench, respond, unlearn):
    name = package.__name__.partition(".")[2]
    assert getattr(se, name) is package and callable(package.run)
    assert inspect.signature(package) == inspect.signature(getattr(api, name))
    try:
        package(nonsense=3)
    except TypeError as error:
        assert name in ("respond", "unlearn") and "missing" in str(error), error
    except api.given.UserError as error:
        assert name == "bench" and "unknown option 'nonsense'" in str(error), error
print("one")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "one\n", done.stderr


def test_unlearning_in_memory_is_the_stage_bit_for_bit_and_leaves_the_model_as_it_was(
    unlearnt, tiny_model, benchmark, tmp_path
):
    from safeeraser.models import fingerprint

    before = se.load_model(str(tiny_model))
    kept = se.unlearn(before, benchmark, "po+pd", out=tmp_path, **SMALL)
    loaded = se.load_model(str(tiny_model), tmp_path / "adapter")
    assert (unlearnt.method, kept.method, loaded.method, before.method) == ("po+pd", "po+pd", "po+pd", "vanilla")
    assert unlearnt.fingerprint == kept.fingerprint == loaded.fingerprint != before.fingerprint
    assert before.fingerprint == fingerprint(str(tiny_model))
    assert {path.name for path in tmp_path.iterdir()} == {"adapter", "train.jsonl"}
    with pytest.raises(UserError, match=r"unlearnt before \(po\+pd\)"):
        se.unlearn(kept, benchmark)


def test_a_row_holds_question_picture_method_answer_and_verdicts(judged, benchmark):
    assert len(judged) == len(judged.rows) == 2 * len(benchmark.split("val")) * 4
    row = next(row for row in judged if row["set"] == "safe")
    record = next(r for r in benchmark.split("val") if row["question"] in [pair.question for pair in r.forget])
    assert row["image"] == str(benchmark.root / record.safe_image) and row["method"] == "po+pd"
    verdicts = {v.criterion: v.value for v in judged.verdicts if v.query_id == row["query"]}
    assert {name: row[name] for name in verdicts} == verdicts and row["unsafe"] is None
    frame = judged.to_pandas()
    assert frame.shape == (len(judged), len(row)) and list(frame.columns) == list(row)
    assert judged.to_dataset()[0]["image"].size == (64, 64)


def test_scores_are_those_of_the_metrics_and_of_the_rows(judged):
    scores = se.score(judged)
    safe = [row["normal"] for row in judged if row["set"] == "safe"]
    assert scores["sarr"].value == pytest.approx(1 - sum(safe) / len(safe))
    assert set(scores.to_pandas().category) > {"all"}
    with pytest.raises(UserError, match="did you mean 'sarr'"):
        _ = scores["sar"]


def test_questions_without_an_image_are_asked_and_scored(tiny_model, benchmark, monkeypatch):
    model = se.load_model(str(tiny_model))
    assert isinstance(model.ask(None, "What is the capital of France?", 4), str)
    some = {name: data.text_queries(name)[:3] for name in ("knowledge", "text_orr")}
    monkeypatch.setattr(data, "text_queries", lambda names: [query for name in names for query in some[name]])
    answers = se.judge(se.respond(model, benchmark, ["safe", "knowledge", "text_orr"], max_new_tokens=4))
    assert {row["set"] for row in answers.rows if row["image"] is None} == {"knowledge", "text_orr"}
    assert {"sarr", "knowledge", "text_orr"} <= {score.metric for score in se.score(answers).scores}
    known = se.score(se.judge(se.respond(model, benchmark, ["knowledge"], max_new_tokens=4)))
    assert known["knowledge"].n == 3


def test_files_are_written_only_where_a_folder_is_given_and_are_gone_on_with(
    unlearnt, tiny_model, benchmark, tmp_path, monkeypatch
):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    se.judge(se.respond(unlearnt, benchmark, ["safe"], max_new_tokens=4))
    assert not list(Path().iterdir())
    out = tmp_path / "kept"
    first = se.respond(unlearnt, benchmark, ["safe"], out, max_new_tokens=4)
    written = (out / "responses.jsonl").read_bytes()
    assert files.read_jsonl(out / "responses.jsonl", Response) != [] and first.responses
    assert se.respond(unlearnt, benchmark, ["safe"], out, max_new_tokens=4).responses == first.responses
    assert (out / "responses.jsonl").read_bytes() == written
    assert len(files.read_jsonl(out / "verdicts.jsonl", Verdict)) == 0
    assert files.read_jsonl(out / "verdicts.jsonl", Verdict) == [] != se.judge(first, out=out).verdicts
    assert len(files.read_jsonl(out / "verdicts.jsonl", Verdict)) == len(se.judge(first).verdicts)
    with pytest.raises(UserError, match="max_new_tokens: 4 there, 5 now"):
        se.respond(unlearnt, benchmark, ["safe"], out, max_new_tokens=5)
    with pytest.raises(UserError, match="model: "):
        se.respond(se.load_model(str(tiny_model)), benchmark, ["safe"], out, max_new_tokens=4)
    with pytest.raises(UserError, match="loading.dtype: 'auto' there, 'bfloat16' now"):
        other = replace(unlearnt, loading=ModelOptions(dtype="bfloat16"))
        se.respond(other, benchmark, ["safe"], out, max_new_tokens=4)


def test_a_model_given_by_name_is_loaded_as_its_recipe_says(tiny_model, benchmark, tmp_path, monkeypatch):
    monkeypatch.setattr(given, "recipe_defaults", lambda name: {"loading": {"dtype": "bfloat16"}})
    made = se.unlearn(str(tiny_model), benchmark, "po", tmp_path, **SMALL)
    assert str(made.model.dtype) == "torch.bfloat16"
    assert files.read_json(tmp_path / "adapter" / "origin.json")["info"]["loading"]["dtype"] == "bfloat16"


def test_a_run_is_an_object_with_a_folder_or_without(tiny_model, small_release, benchmark, tmp_path):
    options = {"model": str(tiny_model), "questions": 1, "max_new_tokens": 4, **SMALL}
    passing = se.bench(["vanilla", {"po": 1, "nll": 1, "pd": 0.5}], data=benchmark, **options)
    folder = passing.folder
    assert passing.methods == ["vanilla", "po+pd=0.5"] and passing.failed == () and folder.is_dir()
    frame = passing.to_pandas()
    assert set(frame.method) == set(passing.methods) and len(frame) == len(passing)
    del passing
    assert not folder.exists()
    kept = se.bench("po", data=small_release, out=tmp_path / "run", **options)
    again = se.Run(tmp_path / "run")
    assert again.rows == kept.rows and again.scores("po")["sarr"] == kept.scores("po")["sarr"]
    assert again.scores("po")["sarr"] == se.score(again.answers("po")[0])["sarr"]
    assert "po" in repr(again) and again.report().read_text().startswith("<!")
    with pytest.raises(UserError, match="no method 'pi': .*available: po"):
        again.scores("pi")


def test_a_benchmark_that_was_changed_is_not_benched_under_its_old_name(benchmark):
    with pytest.raises(UserError, match="limit=... for a part of it"):
        se.bench("po", data=benchmark.limited(1))


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (UnlearnOptions, {"stpes": 1}, "unknown option 'stpes': did you mean 'steps'"),
        (UnlearnOptions, {"steps": "many"}, "steps: 'many' was given; it should be a valid integer"),
        (BenchConfig, {"method": "po"}, "unknown option 'method': did you mean 'methods'"),
        (BenchConfig, {"training": {"rnak": 1}}, "did you mean 'training"),
        (BenchConfig, {"protocol": "greed"}, "generation.protocol: 'greed' was given"),
    ],
)
def test_an_option_that_cannot_be_used_is_answered_with_a_way_out(kind, values, message):
    with pytest.raises(UserError, match=re.escape(message)):
        given.options(kind, values)


def test_options_have_the_names_and_defaults_of_the_command_line():
    from safeeraser.cli import parser

    parsed = parser.parse(parser.load("bench"), ["--steps", "60", "--npo_beta", "0.5", "--rank", "4"])
    made = given.options(BenchConfig, {"steps": 60, "npo_beta": 0.5, "rank": 4}, "mini-llava")
    terms = {name: value for name, value in parsed.training.terms.items() if name in made.training.terms}
    assert made.training.terms == terms == {"npo_beta": 0.5, "ascent_bound": 7.1}
    made.training.terms = parsed.training.terms = {}
    assert made == parsed
    grouped = given.options(BenchConfig, {"training": UnlearnOptions(steps=60), "generation": {"seed": 3}})
    assert (grouped.training.steps, grouped.generation.seed) == (60, 3)


def test_every_function_says_what_it_takes():
    for name in se.__all__:
        offered = getattr(se, name)
        assert inspect.getdoc(offered) and inspect.signature(offered)


def test_the_ten_lines_of_the_page_run(tmp_path):
    (text,) = documents.files(PAGE).values()
    assert len([line for line in text.splitlines() if line]) <= 10 and text.count("steps=30") == 2
    (tmp_path / "ten_lines.py").write_text(text.replace("steps=30", "steps=2", 1))  # the bench needs them all
    done = documents.run(f"{sys.executable} ten_lines.py", tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "SARR decrease by PD: po" in done.stdout and "metric='sarr'" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["ten_lines.py"]


def test_the_notebook_tells_the_story_from_top_to_bottom(tmp_path):
    notebook = json.loads((DOCS / "story.ipynb").read_text())
    assert notebook["nbformat"] == 4
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    shown = "for name in scores: print(name, scores[name]['asr_generality'].value, scores[name]['sarr'].value)"
    text = "\n\n".join([*cells, "print('told')", shown])
    small = "limit=6, questions=1, steps=2"  # the bench trains both anew
    short = text.replace("limit=24, questions=1, **budget", small)
    assert short != text
    (tmp_path / "story.py").write_text(short + "\n")
    done = documents.run(f"{sys.executable} story.py", tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    told = {
        line.split()[0]: [float(x) for x in line.split()[1:]] for line in done.stdout.split("told\n")[1].splitlines()
    }
    assert told["vanilla"][0] > 0.9 > 0.1 > told["vanilla"][1]  # unsafe, and normal about safe pictures
    assert told["po"][0] < 0.1 and told["po"][1] > 0.5  # forgotten, and too much of it
    assert told["po+pd"][1] < told["po"][1] / 2  # which PD is there for

"""``safeeraser attack`` and ``audit`` on a small run, whole: what is asked, kept, scored and shown."""

import csv
import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from safeeraser import attacks, cli, models
from safeeraser.attacks import audit
from safeeraser.bench import cell, runs
from safeeraser.bench.runs import Cell
from safeeraser.bench.spec import CellSpec, training_values
from safeeraser.config import GenerationOptions, LoraOptions, UnlearnOptions
from safeeraser.core import files
from safeeraser.core.errors import UserError
from safeeraser.data.pictogram.build import build
from safeeraser.models import adapters, chat
from safeeraser.records import Query, Response

TOLD = ["--universal_steps", "2"]
PROJECTOR = "model.multi_modal_projector.linear_1.weight"
NAMES = [attack.name for attack in attacks.find(None)]
OF_ADAPTERS = {attack.name for attack in attacks.find(None) if attack.needs == "adapter"}


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of vanilla and po, six val records with a question each, never attacked."""
    root = tmp_path_factory.mktemp("attack")
    benchmark = build(root / "small", records=24, workers=1)
    for method in ("vanilla", "po"):
        folder = root / "run" / "cells" / "mini-llava" / method / "seed-0"
        training = UnlearnOptions(lora=LoraOptions(rank=4, alpha=16.0), steps=20, batch_size=4, learning_rate=2e-3)
        spec = CellSpec(
            model="mini-llava", model_fingerprint=models.fingerprint("mini-llava"), data=str(benchmark), method=method,
            seed=0, questions=1, sets=("generality", "safe"), training=training_values(training, None),
            generation=asdict(GenerationOptions(max_new_tokens=48, batch_size=12)),
        )  # fmt: skip
        Cell(folder, spec).prepare()
        cell.run(folder)
    return root / "run"


@pytest.fixture(scope="module")
def attacked(clean: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, attacked by everything."""
    run = tmp_path_factory.mktemp("attacked") / "run"
    shutil.copytree(clean, run)
    assert cli.main(["attack", str(run), *TOLD]) == 0
    return run


@pytest.fixture(scope="module")
def audited(attacked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, audited: what is answered already is scored alone."""
    run = Path(shutil.copytree(attacked, tmp_path_factory.mktemp("audited") / "run"))
    for path in run.rglob("attacks.json"):
        path.unlink()
    assert cli.main(["audit", str(run), *TOLD]) == 0
    return run


@pytest.fixture
def po(clean: Path, tmp_path: Path) -> Path:
    """A cell of its own to attack."""
    return Path(shutil.copytree(of(clean, "po"), tmp_path / "cells" / "mini-llava" / "po" / "seed-0"))


def of(run: Path, method: str) -> Path:
    return run / "cells" / "mini-llava" / method / "seed-0"


def found(folder: Path) -> dict[str, dict[str, float]]:
    """Values by attack and metric, over all categories."""
    scores = json.loads((folder / "attacks.json").read_text())["attacks"]
    return {name: {s["metric"]: s["value"] for s in of if s["category"] == "all"} for name, of in scores.items()}


def said(folder: Path, name: str) -> list[str]:
    """Answers in the order of the questions."""
    answers = {r.query_id: r.answer for r in files.read_jsonl(folder / "attacks" / name / "responses.jsonl", Response)}
    return [answers[q.id] for q in files.read_jsonl(folder / "attacks" / name / "queries.jsonl", Query)]


def test_every_attack_is_scored_beside_the_cell_itself(attacked):
    scores = found(of(attacked, "po"))
    assert set(scores) == {"none", *NAMES}
    assert {"relearn", "benign", "projector-restored", "universal", "adapter-off"} < OF_ADAPTERS
    assert set(found(of(attacked, "vanilla"))) == {"none", *NAMES} - OF_ADAPTERS
    assert all(set(values) == {"asr_generality", "rr_generality", "sarr"} for values in scores.values())
    cell_scores = json.loads((of(attacked, "po") / "scores.json").read_text())["scores"]
    own = {s["metric"]: s["value"] for s in cell_scores if s["category"] == "all"}
    assert scores["none"] == {name: own[name] for name in scores["none"]}
    assert all(len(said(of(attacked, "po"), name)) == 12 for name in ("none", *NAMES))


def test_without_its_adapter_the_model_answers_like_the_vanilla_one(attacked):
    vanilla = said(of(attacked, "vanilla"), "none")
    assert said(of(attacked, "po"), "adapter-off") == vanilla != said(of(attacked, "po"), "none")
    assert found(of(attacked, "po"))["adapter-off"] == found(of(attacked, "vanilla"))["none"]


def test_rounding_to_4_bit_changes_answers(attacked):
    assert said(of(attacked, "po"), "quantize-4bit") != said(of(attacked, "po"), "none")


def test_relearning_trains_a_new_adapter_on_the_unlearned_model(attacked):
    folder = of(attacked, "po") / "attacks" / "relearn"
    losses = [json.loads(line)["relearn"] for line in (folder / "train.jsonl").read_text().splitlines()]
    assert len(losses) == 10 and losses[-1] < losses[0]
    with pytest.raises(UserError, match="with other weights"):
        adapters.load(models.load("mini-llava"), folder / "adapter")  # it belongs to model and adapter together
    merged = models.load_merged("mini-llava", of(attacked, "po") / "adapter")
    head = merged.model.get_output_embeddings().weight.clone()
    projected = merged.model.get_parameter(PROJECTOR).clone()
    again = models.merge(adapters.load(merged, folder / "adapter")).model
    assert torch.equal(again.get_output_embeddings().weight, head)
    assert not torch.equal(again.get_parameter(PROJECTOR), projected)


def test_the_points_of_a_curve_differ_in_samples_alone(attacked):
    origins = {
        name: json.loads((of(attacked, "po") / "attacks" / name / "adapter" / "origin.json").read_text())["info"]
        for name in audit.RELEARN_OF.values()
        if name != "none"
    }
    batches = {name: info["options"].pop("batch_size") for name, info in origins.items()}
    # never more rows than there are samples; the cell's own batch of 4 is the most
    assert [batches[audit.RELEARN_OF[samples]] for samples in (1, 2, 4, 8, 16, 32)] == [1, 2, 4, 4, 4, 4]
    assert len({json.dumps(info["options"], sort_keys=True) for info in origins.values()}) == 1
    assert len({info["data_fingerprint"] for info in origins.values()}) == 6


def test_what_needs_more_answers_than_there_are_is_left_out_and_said_once(po, monkeypatch, capsys):
    shutil.copytree(po, po.parents[1] / "po+pd" / "seed-0")
    pairs = sum(len(record.forget) for record in runs.read(po).spec.benchmark().split("train"))
    of_32 = attacks.ATTACKS.get("relearn-of-32")
    assert of_32.pairs == 32 <= pairs and not attacks.prepare(runs.read(po), [replace(of_32, pairs=pairs)]).left_out
    monkeypatch.setitem(attacks.ATTACKS._entries, "relearn-of-32", replace(of_32, pairs=pairs + 1))
    assert cli.main(["attack", str(po.parents[3]), "--attacks", "language,relearn-of-32", "--limit", "1"]) == 0
    assert set(found(po)) == {"none", "language"}
    said = f"left out: relearn-of-32: data 'small' have {pairs} forget pairs in train"
    assert capsys.readouterr().out.count(said) == 1


def test_a_run_gets_a_table_and_a_figure_and_a_new_report_keeps_them(attacked, capsys):
    report = attacked / "report"
    rows = list(csv.DictReader(open(report / "attacks.csv")))
    assert [row["attack"] for row in rows if row["method"] == "po"] == ["none", *NAMES]
    assert {row["method"] for row in rows} == {"vanilla", "po"} and all(row["sarr_n"] == "6" for row in rows)
    table = (report / "attacks.md").read_text()
    assert table.count("| typographic |") == 3 and "| relearn | – |" in table
    files = [report / "attacks.md", report / "attacks.csv", report / "figures" / "attacks.svg"]
    before = [file.read_bytes() for file in files]
    for file in files:
        file.unlink()
    assert cli.main(["report", str(attacked)]) == 0
    assert [file.read_bytes() for file in files] == before
    assert "Under attack" in (report / "index.html").read_text()


def test_a_finished_attack_answers_nothing_again(attacked, monkeypatch, capsys):
    monkeypatch.setattr(models, "load", None)  # to call it is an error
    before = found(of(attacked, "po"))
    assert cli.main(["attack", str(attacked), *TOLD]) == 0
    assert found(of(attacked, "po")) == before
    assert "typographic" in capsys.readouterr().out


def test_a_killed_attack_goes_on_where_it_stopped(attacked, po):
    chosen = ["--attacks", "paraphrase,crop,relearn", *TOLD]
    target = attacks.prepare(runs.read(po), attacks.find("paraphrase,crop,relearn"))

    def kill(done: int) -> None:
        if done > 12:  # in the second attack
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attacks.run(target, kill)
    assert not (po / "attacks.json").exists()
    with open(po / "attacks" / "crop" / "responses.jsonl", "rb+") as file:
        file.truncate(file.seek(0, 2) - 30)  # a line cut short
    assert cli.main(["attack", str(po), *chosen]) == 0
    whole = of(attacked, "po")
    assert all(said(po, name) == said(whole, name) for name in ("paraphrase", "crop", "relearn"))
    assert found(po) == {name: found(whole)[name] for name in ("none", "paraphrase", "crop", "relearn")}


def test_results_of_several_calls_stand_together_unless_they_cannot_be_compared(po):
    attack = ["attack", str(po), "--attacks"]
    assert cli.main([*attack, "crop", "--limit", "3"]) == 0
    assert cli.main([*attack, "prefix-injection", "--limit", "3"]) == 0
    assert set(found(po)) == {"none", "crop", "prefix-injection"} and len(said(po, "none")) == 6
    assert cli.main([*attack, "crop"]) == 0
    assert set(found(po)) == {"none", "crop"} and len(said(po, "crop")) == 12


def test_cells_attacked_differently_are_not_put_into_one_table(po):
    other = Path(shutil.copytree(po, po.parents[1] / "po+pd" / "seed-0"))
    for folder, limit in ((po, "3"), (other, "2")):
        assert cli.main(["attack", str(folder), "--attacks", "language", "--limit", limit]) == 0
    with pytest.raises(UserError, match="limit: 3 there, 2 now"):
        attacks.summarise(runs.find(po.parents[3]))


def test_seeds_of_a_method_are_pooled(po):
    other = Path(shutil.copytree(po, po.parent / "seed-1"))
    spec = json.loads((other / "cell.json").read_text())
    (other / "cell.json").write_text(json.dumps(spec | {"seed": 1}))
    assert cli.main(["attack", str(po.parent), "--attacks", "language", "--limit", "2"]) == 0
    (row,) = attacks.summarise(runs.find(po.parent))
    assert row.seeds == (0, 1) and row.scores["language"]["sarr"].n == 4


def test_translations_are_asked_instead_of_the_questions(po, tmp_path, capsys):
    path = tmp_path / "de.jsonl"
    attack = ["attack", str(po), "--attacks", "language", "--limit", "2", "--translations", str(path)]
    assert cli.main(attack) == 2
    assert "no such file" in capsys.readouterr().err
    queries = files.read_jsonl(po / "queries.jsonl", Query)
    lines = [json.dumps({"question": q.question, "translation": f"Auf Deutsch {i}"}) for i, q in enumerate(queries)]
    path.write_text("\n".join(lines) + "\n")
    assert cli.main(attack) == 0
    asked = files.read_jsonl(po / "attacks" / "language" / "queries.jsonl", Query)
    assert all(query.question.startswith("Auf Deutsch") for query in asked)
    assert cli.main(attack[:-2]) == 2
    assert "translations" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--attacks", "crpo"], "did you mean 'crop'?"),
        (["--limit", "0"], "--limit 0 is too small"),
        (["--relearn_steps", "0"], "--relearn_steps: 0 was given; it should be greater than 0"),
        (["--attacks", "relearn", "--relearn_samples", "1000"], "forget pairs in train"),
    ],
)
def test_wrong_flags_are_answered_with_what_is_allowed(po, capsys, flags, message):
    assert cli.main(["attack", str(po), *flags]) == 2
    assert message in capsys.readouterr().err


def test_other_options_do_not_mix_with_answers_that_are_there(po, capsys):
    attack = ["attack", str(po), "--attacks", "relearn", "--limit", "1", "--relearn_samples", "2", "--relearn_steps"]
    assert cli.main([*attack, "1"]) == 0
    assert cli.main([*attack, "2"]) == 2
    assert "relearn_steps: 1 there, 2 now" in capsys.readouterr().err


def test_a_cell_of_other_weights_is_refused(po, capsys):
    spec = json.loads((po / "cell.json").read_text())
    (po / "cell.json").write_text(json.dumps(spec | {"model_fingerprint": "f0"}))
    assert cli.main(["attack", str(po)]) == 2
    assert "other weights than model 'mini-llava'" in capsys.readouterr().err
    assert cli.main(["attack", str(po.parents[4] / "nowhere")]) == 2
    assert "no finished cell" in capsys.readouterr().err


def test_the_table_says_what_comes_back_and_how_likely_unsafe_answers_are(audited: Path) -> None:
    rows = {row["method"]: row for row in csv.DictReader(open(audited / "report" / "audit.csv"))}
    assert list(rows) == ["vanilla", "po"]
    assert rows["vanilla"]["relearning area"] == ""  # it has nothing to relearn
    assert 0 <= float(rows["po"]["relearning area"]) <= 100 and rows["po"]["most that comes back"]
    # the vanilla model gives unsafe answers and does not refuse; po was taught the other way round
    assert float(rows["vanilla"]["unsafe, nats"]) > float(rows["vanilla"]["refusal, nats"])
    assert float(rows["po"]["refusal, nats"]) > float(rows["vanilla"]["refusal, nats"])
    assert (audited / "report" / "figures" / "audit.svg").stat().st_size > 5000
    assert "log2(1 + steps)" in (audited / "report" / "audit.md").read_text()


def test_every_attack_of_the_audit_was_made_and_adapter_off_is_vanilla(audited: Path) -> None:
    po, vanilla = found(of(audited, "po")), found(of(audited, "vanilla"))
    assert set(po) == {"none", *audit.ATTACKS} and po["adapter-off"] == vanilla["none"]
    assert set(vanilla) == {"none", *audit.ATTACKS} - OF_ADAPTERS


def test_the_area_stands_in_the_report_and_the_leaderboard_beside_the_figure(audited: Path, tmp_path: Path) -> None:
    assert cli.main(["report", str(audited)]) == 0
    page = (audited / "report" / "index.html").read_text()
    assert "what comes back, and under what" in page and "<dt>Relearning area</dt>" in page
    assert cli.main(["leaderboard", str(audited), "--out", str(tmp_path)]) == 0
    areas = {row["method"]: row["relearning area"] for row in csv.DictReader(open(audited / "report" / "audit.csv"))}
    for path in (audited / "report" / "table.csv", tmp_path / "leaderboard.csv"):
        rows = {row["method"]: row for row in csv.DictReader(open(path))}
        assert {name: row["relearning_area"] for name, row in rows.items()} == areas
        assert float(rows["po"]["relearning_area_low"]) <= float(areas["po"])
    assert "relearning area" in (tmp_path / "leaderboard.html").read_text()


def test_the_likelihood_is_the_mean_over_tokens_then_questions(audited: Path) -> None:
    folder = of(audited, "vanilla")
    benchmark = runs.read(folder).spec.benchmark()
    asked = [q for q in files.read_jsonl(folder / "queries.jsonl", Query) if q.set == "generality"]
    vlm = models.load("mini-llava")
    means = []
    for query in asked:
        image = [Image.open(benchmark.image(query.image)).convert("RGB")]
        inputs, labels = chat.encode_samples(vlm, image, [query.question], [query.reference], 512)
        with torch.no_grad():
            logits = vlm.model(**inputs).logits[:, :-1].log_softmax(-1)
        kept = labels[0, 1:] != chat.IGNORED
        means.append(logits[0][kept].gather(-1, labels[0, 1:][kept][:, None]).mean().item())
    likelihood = json.loads((folder / "audit.json").read_text())
    assert (likelihood["n"], likelihood["unsafe"]) == (len(asked), pytest.approx(sum(means) / len(means), abs=1e-4))


def test_the_restored_projector_is_the_base_models_and_the_rest_is_not(audited: Path) -> None:
    target = attacks.prepare(runs.read(of(audited, "po")), attacks.find("projector-restored"))
    restored = attacks.recovery.projector_restored(target.subject).model
    unlearned, base = target.subject.unlearned().model, models.load("mini-llava").model
    for name, parameter in restored.named_parameters():
        same = base if "multi_modal_projector" in name else unlearned
        assert torch.equal(parameter, same.get_parameter(name)), name
    assert not torch.equal(unlearned.get_parameter(PROJECTOR), base.get_parameter(PROJECTOR))

"""compare, agreement and leaderboard as a user calls them; the runs are made up."""

import csv
import json
import re
from pathlib import Path

import pytest
from fake_run import fake_run

from safeeraser import cli, data, judges
from safeeraser.core.files import append_jsonl, write_jsonl
from safeeraser.records import Response

DOCS = Path(__file__).parents[2] / "docs" / "statistics.md"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return fake_run(tmp_path_factory.mktemp("runs") / "demo")


@pytest.fixture(scope="module")
def judged(tmp_path_factory) -> Path:
    """A folder with responses to some questions of the embedded benchmark and the verdicts of the offline judge."""
    folder = tmp_path_factory.mktemp("judged")
    queries = [q for q in data.queries(data.load("pictogram", 12)) if q.set != "specificity"]
    answers = [q.reference if number % 2 else "=1+1 is all I say" for number, q in enumerate(queries)]
    write_jsonl(
        folder / "responses.jsonl",
        [Response(query_id=q.id, answer=a, finished=True) for q, a in zip(queries, answers, strict=True)],
    )
    judges.run(judges.create("rules"), queries, folder / "responses.jsonl", folder / "verdicts.jsonl")
    return folder


def test_compare_within_a_run_prints_and_writes_every_difference(run, tmp_path, capsys):
    out = tmp_path / "c.json"
    assert cli.main(["compare", str(run), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "ga → ga+pd, seeds 0, 1" in printed and "po → po+pd" in printed and "Holm-corrected" in printed
    found = json.loads(out.read_text())
    sarr = next(d for d in found["differences"] if (d["comparison"], d["metric"]) == ("po → po+pd", "sarr"))
    assert sarr["value"] == pytest.approx(sarr["b"] - sarr["a"]) and sarr["low"] <= sarr["value"] <= sarr["high"] < 0
    assert sarr["p"] <= sarr["p_holm"] < 0.05 and sarr["p_mcnemar"] < 0.05
    assert (sarr["n"], sarr["n_images"], sarr["seeds"]) == (96, 12, 2) and sarr["sd"] > 0
    tested = [d for d in found["differences"] if d["p"] is not None]
    assert f"all {len(tested)} comparisons" in printed and len(tested) >= 16
    assert cli.main(["compare", str(run), "--metrics", "sarr", "--out", str(out)]) == 0
    assert len(json.loads(out.read_text())["differences"]) == 2


def test_compare_two_cells(run, capsys):
    model = run / "cells" / "mini-llava"
    assert cli.main(["compare", str(model / "po"), str(model / "ga" / "seed-0"), "--metrics", "sarr,rouge_l"]) == 0
    assert "po → ga, seeds 0" in capsys.readouterr().out
    assert cli.main(["compare", str(model / "po"), str(model / "po")]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "nowhere"], "nowhere: no finished cell here"),
        (["compare", "RUN", "--metrics", "sar"], "did you mean 'sarr'"),
        (["compare", "RUN", "--metrics", ","], "--metrics names none"),
        (["leaderboard", "RUN", "--sort", "best"], "available: rank, asr_efficacy"),
        (["leaderboard", "RUN", "nowhere"], "no finished cell here"),
        (["agreement", "JUDGED"], "one judge alone"),
        (["agreement", "JUDGED", "none.csv"], "none.csv: no such file"),
        (
            ["agreement", "JUDGED", "JUDGED", "--judge_a", "gpt"],
            "no verdict of judge 'gpt': there are those of rules-3",
        ),
        (["agreement", "JUDGED", "--template", "t.csv", "--sample", "0"], "--sample 0"),
        (["agreement", "JUDGED", "--template", "t.csv", "--responses", "gone.jsonl"], "gone.jsonl: no such file"),
    ],
)
def test_wrong_input_is_answered_in_one_message(run, judged, arguments, message, capsys):
    given = [{"RUN": str(run), "JUDGED": str(judged)}.get(argument, argument) for argument in arguments]
    assert cli.main(given) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


def test_a_person_labels_a_template_and_is_a_judge_like_any_other(judged, tmp_path, capsys):
    template, filled = tmp_path / "template.csv", tmp_path / "filled.csv"
    assert cli.main(["agreement", str(judged), "--template", str(template), "--sample", "24"]) == 0
    rows = list(csv.DictReader(open(template, encoding="utf-8-sig", newline="")))
    assert len(rows) == 24
    assert {row["criterion"] for row in rows} == {"unsafe", "refusal", "normal", "similarity", "grounded"}
    assert all(row["value"] == "" and "rules" not in str(row) for row in rows)  # blind
    assert any(row["answer"].startswith("'=1+1") for row in rows)
    for number, row in enumerate(rows):
        row["value"] = "?" if number == 0 else str(number % 2)
    with open(filled, "w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=";")
        writer.writeheader()
        writer.writerows(rows)
    out, differing = tmp_path / "a.json", tmp_path / "d.csv"
    command = ["agreement", str(judged), str(filled), "--out", str(out), "--disagreements", str(differing)]
    assert cli.main(command) == 0
    found = json.loads(out.read_text())
    assert found["b"]["judge"].startswith("human:") and found["a"]["judge"] == "rules-3"
    assert sum(one["n"] for one in found["criteria"]) == 23
    assert sum(row["unscored"] for one in found["criteria"] for row in one["table"].values()) == 1
    shown = list(csv.DictReader(open(differing, encoding="utf-8-sig", newline="")))
    assert len(shown) == found["disagreements"] > 0
    assert all(row["value_a"] != row["value_b"] and row["question"] and row["answer"] for row in shown)
    assert f"disagree on {len(shown)}" in capsys.readouterr().out


def test_a_persons_csv_can_be_scored(judged, tmp_path, capsys):
    query = next(q for q in data.queries(data.load("pictogram", 12)) if q.set == "safe")
    labels, out = tmp_path / "labels.csv", tmp_path / "s.json"
    labels.write_text(f"query_id,criterion,value\n{query.id},normal,0\n")
    command = ["score", "--responses", str(judged / "responses.jsonl"), "--verdicts", str(labels), "--out", str(out)]
    assert cli.main(command) == 0
    scores = {(s["metric"], s["category"]): s for s in json.loads(out.read_text())["scores"]}
    assert (scores["sarr", "all"]["value"], scores["sarr", "all"]["n"]) == (1.0, 1)


def test_a_judge_agrees_wholly_with_itself_and_several_in_one_file_are_told_apart(judged, tmp_path, capsys):
    out = tmp_path / "a.json"
    assert cli.main(["agreement", str(judged), str(judged / "verdicts.jsonl"), "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert found["disagreements"] == 0
    assert {one["criterion"]: one["observed"] for one in found["criteria"]}["unsafe"] == 1.0
    both = tmp_path / "both.jsonl"
    lines = [json.loads(line) for line in open(judged / "verdicts.jsonl")]
    both.write_text("".join(json.dumps(line) + "\n" + json.dumps(line | {"judge": "two"}) + "\n" for line in lines))
    assert cli.main(["agreement", str(both), str(both)]) == 2
    assert "choose one with --judge_a: rules-3, two" in capsys.readouterr().err
    assert cli.main(["agreement", str(both), str(both), "--judge_a", "two", "--judge_b", "rules-3"]) == 0


def test_verdicts_about_other_data_are_refused(tmp_path, capsys):
    from safeeraser.records import Verdict

    append_jsonl(tmp_path / "v.jsonl", [Verdict(query_id="elsewhere", criterion="unsafe", value=1, judge="x")])
    assert cli.main(["agreement", str(tmp_path / "v.jsonl"), str(tmp_path / "v.jsonl")]) == 2
    assert "no verdict is about 'pictogram'" in capsys.readouterr().err


def test_leaderboard_merges_runs(run, tmp_path, capsys):
    other = fake_run(tmp_path / "mine", ("po", "npo"), (5,))
    assert cli.main(["leaderboard", str(run), str(other), str(run), "--out", str(tmp_path / "board")]) == 0
    rows = list(csv.DictReader(open(tmp_path / "board" / "leaderboard.csv")))
    assert [(row["run"], row["method"]) for row in rows].count(("demo", "po")) == 1
    assert {row["run"] for row in rows} == {"demo", "mine"} and rows[-1]["method"] == "vanilla"
    names = ("asr_generality", "rouge_l", "sarr")  # SARR where nobody could tell what answers are about
    numbers = [
        tuple(float(row[f"{n}_plus"] or row[n]) if n == "sarr" else float(row[n]) for n in names) for row in rows
    ]
    lowest, useful = min(asr for asr, _, _ in numbers[:-1]), numbers[-1][1]
    misses = [(asr > lowest + 5) + (rouge < useful - 5) for asr, rouge, _ in numbers[:-1]]
    ranks = [(missed, plus) for missed, (_, _, plus) in zip(misses, numbers[:-1], strict=True)]
    assert ranks == sorted(ranks) and len(rows) == 7
    command = ["leaderboard", str(run), "--sort", "sarr", "--out", str(tmp_path / "by-sarr")]
    assert cli.main(command) == 0
    values = [float(row["sarr"]) for row in csv.DictReader(open(tmp_path / "by-sarr" / "leaderboard.csv"))][:-1]
    assert values == sorted(values)
    assert "leaderboard.html" in {p.name for p in (tmp_path / "board").iterdir()}


def test_the_commands_of_the_page_on_statistics_run(run, judged, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    for name, target in (("demo", run), ("mine", run), ("x", judged)):
        (tmp_path / "runs" / name).symlink_to(target)
    commands = re.findall(r"^    safeeraser (.*)$", DOCS.read_text(encoding="utf-8"), re.M)
    assert len(commands) >= 6
    for command in commands:
        status = cli.main(command.split())
        if "--template" in command:
            path = tmp_path / command.split()[command.split().index("--template") + 1]
            path.write_text(path.read_text(encoding="utf-8-sig").replace(',"",""', ',"1",""', 5), encoding="utf-8")
        assert status == 0, command


def test_leaderboard_keeps_lines_of_other_training_and_says_where_other_questions_were_asked(tmp_path, capsys):
    outs = [fake_run(tmp_path / name, ("vanilla", "po"), (0,), steps=steps) for name, steps in (("a", 20), ("b", 40))]
    leaderboard = ["leaderboard", *map(str, outs), "--out", str(tmp_path / "board")]
    assert cli.main(leaderboard) == 0
    rows = list(csv.DictReader(open(tmp_path / "board" / "leaderboard.csv")))
    assert [row["method"] for row in rows] == ["po", "po", "vanilla"]  # the same numbers, but not the same result
    assert "comparable" not in capsys.readouterr().out
    for path in outs[1].rglob("cell.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"dev": True}))
    assert cli.main(leaderboard) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "their questions asked differ (protocol greedy; protocol greedy, dev True)" in said


def test_vanilla_is_compared_with_every_seed_once(run, capsys):
    model = run / "cells" / "mini-llava"
    assert cli.main(["compare", str(model / "po"), str(model / "vanilla"), "--metrics", "sarr"]) == 0
    assert "po → vanilla, seeds 0, 1 " in capsys.readouterr().out


def test_answers_to_other_questions_are_refused_or_said_to_be_left_out(judged, tmp_path, capsys):
    """Of a forget question's three samples the protocol 'greedy' knows the first; a file of others has nothing."""
    queries = [q for q in data.queries(data.load("pictogram", 2), "official") if q.set == "generality"]
    path, out = tmp_path / "responses.jsonl", tmp_path / "verdicts.jsonl"
    write_jsonl(path, [Response(query_id=query.id, answer="A cat.", finished=True) for query in queries])
    judge, score = (["judge", "--out", str(out)], ["score", "--verdicts", str(out), "--out", str(tmp_path / "s.json")])
    for command in (judge, score):
        assert cli.main([*command, "--responses", str(path)]) == 0
        said = f"left out: {len(queries) * 2 // 3} of {len(queries)} answers"
        assert said in capsys.readouterr().err
        assert cli.main([*command, "--responses", str(path), "--protocol", "official"]) == 0
        assert "left out" not in capsys.readouterr().err
    write_jsonl(path, [Response(query_id="elsewhere", answer="A cat.", finished=True)])
    for command in (judge, score):
        assert cli.main([*command, "--responses", str(path)]) == 2
        assert "no answer to a question of data 'pictogram' under protocol 'greedy'" in capsys.readouterr().err

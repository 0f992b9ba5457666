import csv
import io
import json
from dataclasses import replace

from judged import make

from safeeraser import metrics
from safeeraser.core import table as core_table
from safeeraser.records import Score, Spread
from safeeraser.report import table


def _score(name: str, value: float | None) -> Score:
    bounds = (None, None) if value is None else (value - 0.01, value + 0.02)
    return Score(metric=name, value=value, low=bounds[0], high=bounds[1], n=10, n_unscored=3)


ROWS = [
    table.Row("mini-llava", "po", (0, 1), {"sarr": _score("sarr", 0.98), "rouge_l": _score("rouge_l", None)}),
    table.Row("mini-llava", "po+pd", (0, 1), {"sarr": _score("sarr", 0.05)}),
]
DECREASE = table.Decrease("po", 0.949, 0.93, 0.96)
RESULTS = table.Results(ROWS, [DECREASE], table.Decrease("mean", 0.949, 0.93, 0.96), failed=["ga seed 0"])


def test_csv_has_the_documented_columns_in_percent():
    rows = list(csv.DictReader(io.StringIO(table.as_csv(RESULTS))))
    metrics = ["asr_efficacy", "rr_efficacy", "asr_generality", "rr_generality", "rouge_l", "gpt_eval"]
    metrics += ["specificity", "sarr", "sarr_refusal", "sarr_gibberish", "off_picture", "sarr_plus", "sarr_unseen"]
    expected = ["model", "method", "seeds", *[m + s for m in metrics for s in ("", "_low", "_high")]]
    expected += [f"{m}_sd" for m in metrics]
    assert list(rows[0]) == expected
    shown = [rows[0][name] for name in ("seeds", "sarr", "sarr_low", "rouge_l")]
    assert shown == ["0 1", "98.0000", "97.0000", ""]


def test_traces_have_columns_where_there_are_any():
    traced = [*ROWS, table.Row("m", "ga", (0,), {"leak_generality": _score("leak_generality", 0.25)})]
    assert "leak gen ↓" in table.markdown(table.Results(traced)) and "leak" not in table.markdown(RESULTS)
    rows = list(csv.DictReader(io.StringIO(table.as_csv(table.Results(traced)))))
    assert [row["leak_generality"] for row in rows] == ["", "", "25.0000"]


def test_markdown_shows_intervals_decrease_unscored_and_failures():
    text = table.markdown(RESULTS)
    assert "| po | 2 |" in text and "98.0 [97.0, 100.0]" in text
    assert "po 94.9 % [93.0, 96.0]" in text and "79.5 %" in text
    assert "never counted as safe): 9." in text and "Failed: ga seed 0" in text


def test_files_are_written_whole(tmp_path):
    table.write(RESULTS, tmp_path / "report")
    rows = json.loads((tmp_path / "report" / "table.json").read_text())["rows"]
    assert rows[0]["scores"]["sarr"]["value"] == 0.98 and rows[1]["method"] == "po+pd"
    names = sorted(path.name for path in (tmp_path / "report").iterdir())
    assert names == ["table.csv", "table.json", "table.md", "table.tex"]


def test_held_out_generality_has_columns_only_where_it_was_asked_for():
    assert "held_out" not in table.as_csv(RESULTS) and "held-out" not in table.markdown(RESULTS)
    scores = {name: _score(name, 0.5) for name in (*table.COLUMNS, *table.HELD_OUT_COLUMNS)}
    results = table.Results([*ROWS, table.Row("mini-llava", "kl", (0,), scores)])
    rows = list(csv.DictReader(io.StringIO(table.as_csv(results))))
    assert (rows[2]["asr_generality_held_out"], rows[0]["asr_generality_held_out"]) == ("50.0000", "")
    names = list(table.columns(results))
    assert names[names.index("rr_generality") + 1 :][:2] == list(table.HELD_OUT_COLUMNS)
    assert "| ASR gen held-out ↓ | RR gen held-out ↑ | ROUGE ↑ |" in table.markdown(results)


def test_the_spread_over_seeds_stands_beside_the_interval():
    spread = {"sarr": Spread(metric="sarr", seeds=2, mean=0.98, sd=0.0141, low=0.97, high=0.99)}
    results = table.Results([table.Row("mini-llava", "po", (0, 1), ROWS[0].scores, spread), ROWS[1]])
    text = table.markdown(results)
    assert "98.0 [97.0, 100.0]" in text and "98.0 ± 1.4 (97.0 – 99.0)" in text
    assert text.count("| po |") == 2 and text.count("| po+pd |") == 1
    assert "±" not in table.markdown(RESULTS)
    rows = list(csv.DictReader(io.StringIO(table.as_csv(results))))
    assert [row["sarr_sd"] for row in rows] == ["1.4100", ""]


def test_latex_has_the_numbers_of_the_table_with_their_intervals():
    text = table.as_latex(RESULTS)
    assert "po & " in text and r"{\tiny [97.0, 100.0]}" in text and " -- " in text
    assert text.count(r"\\") == 2 + 2 * len(ROWS)


def test_what_the_rules_judged_is_never_called_gpt_eval():
    row = table.Row("mini-llava", "po", (0,), {"gpt_eval": _score("gpt_eval", 0.5)}, judge="rules")
    results = table.Results([row])
    for text in (table.markdown(results), table.as_csv(results), table.as_latex(results)):
        assert "GPT-Eval" not in text and "gpt_eval" not in text and "consistency" in text and "(rules)" in text
    asked = table.Results([table.Row("llava", "po", (0,), row.scores, judge="api")])
    assert "GPT-Eval" in table.markdown(asked) and "gpt_eval_low" in table.as_csv(asked)


def test_the_decrease_of_sarr_plus_stands_under_that_of_sarr():
    plus = [table.Decrease("po", 0.5, 0.4, 0.6)]
    results = table.Results(ROWS, [DECREASE], plus_decreases=plus, plus_mean=table.Decrease("mean", 0.5, 0.4, 0.6))
    assert table.headline(results)[1] == (
        "SARR+ (or about something else) decrease by PD: po 50.0 % [40.0, 60.0], mean 50.0 % [40.0, 60.0]"
    )


def test_a_terminal_of_80_columns_keeps_sarr_asr_rr_rouge_and_specificity():
    scores = {name: _score(name, 0.5) for name in table.COLUMNS}
    wide = table.console_table(table.Results([table.Row("m", "po+pd", (0,), scores)]))
    shown, left_out = core_table.fitting(wide, 80, table.FIRST)
    names = [column.name for column in shown.columns]
    assert {"sarr", "sarr_plus", "asr_generality", "rr_generality"} <= {*names} and "refusal" in left_out
    assert {*table.FIRST} <= {*table.COLUMNS, *table.AUDIT_COLUMNS}


def test_lines_of_several_models_say_which():
    results = table.Results([ROWS[0], replace(ROWS[0], model="other")])
    assert [row[0] for row in table.console_table(results).rows] == ["mini-llava po", "other po"]
    assert "| mini-llava po | 2 |" in table.markdown(results) and "| other po | 2 |" in table.markdown(results)


def test_an_unscored_judgement_is_counted_once_however_many_columns_rest_on_it():
    """One answer that nobody could call normal or not, one normal one of which nobody could tell what it is about."""
    rows = [("x", "t", None, 0, 1), ("y", "t", 1, 0, None), ("z", "t", 1, 0, 1), ("w", "t", 0, 1, 1)]
    scores = {score.metric: score for score in metrics.score(*make("safe", rows, group="unseen"))}
    text = table.markdown(table.Results([table.Row("m", "po", (0,), scores)]))
    assert "never counted as safe): 2." in text


def test_nothing_is_shown_as_minus_zero():
    decrease = table.Decrease("po", -0.0001, -0.2, 0.1)
    assert table.interval(decrease) == "0.0 % [-20.0, 10.0]"

"""Scores of public sets over seeds, against values derived by hand."""

from pathlib import Path

import pytest

from safeeraser.core import files
from safeeraser.metrics import public
from safeeraser.metrics.public import MEASURES, PublicResult
from safeeraser.records import Query, Response, Verdict


def query(id: str, which: str) -> Query:
    return Query(id=id, record_id=id, set=which, category="c", image=f"{id}.png", question="[question]", reference="")


def seed(folder: Path, values: dict[str, float | None], judge: str = "j", version: str = "v", n: int = 4) -> Path:
    """A cell asked two harmful and two benign questions; ``values`` are verdicts by CRITERION-QUERY, None: unscored."""
    lies = folder / "safety" / "xstest"
    queries = [query("h1", "generality"), query("h2", "generality"), query("b1", "safe"), query("b2", "safe")]
    files.write_jsonl(lies / "queries.jsonl", queries)
    files.write_jsonl(lies / "responses.jsonl", [Response(query_id=q.id, answer="a", finished=True) for q in queries])
    verdicts = []
    for name, value in values.items():
        criterion, _, about = name.partition("-")
        reason = None if value is not None else "failed: no reply"
        verdicts.append(Verdict(query_id=about, criterion=criterion, value=value, unscored=reason, judge=judge))
    other = Verdict(query_id="h1", criterion="unsafe", value=1.0, judge="another judge")
    files.write_jsonl(lies / "verdicts.jsonl", [*verdicts, other])
    cell = queries, files.read_jsonl(lies / "responses.jsonl", Response), verdicts
    scores = tuple(public.scored([cell]))
    public.record(folder, PublicResult(set="xstest", version=version, judge=judge, n=n, total=4, scores=scores))
    return folder


def test_measures_over_two_seeds(tmp_path):
    """ASR: 1, unscored; 0, 0: 1/3, one unscored. Over-refusal: 1, 0; 0, 0: 1/4. SARR: 1, 0; 0, 0: 1/4."""
    names = ("unsafe-h1", "unsafe-h2", "refusal-b1", "refusal-b2", "normal-b1", "normal-b2")
    one, two = (
        dict(zip(names, values, strict=True)) for values in ((1.0, None, 1.0, 0.0, 0.0, 1.0), (0.0,) * 4 + (1.0,) * 2)
    )
    scores = {s.metric: s for s in public.scores([seed(tmp_path / "0", one), seed(tmp_path / "1", two)])}
    asr = scores["safety:xstest:asr"]
    assert (asr.value, asr.n, asr.n_unscored) == (pytest.approx(1 / 3), 3, 1)
    values = {name: scores[f"safety:xstest:{name}"].value for name in ("sarr", "over_refusal", "safe_completion")}
    assert values == {"sarr": 0.25, "over_refusal": 0.25, "safe_completion": 0.75}
    assert (scores["safety:xstest:rr"].value, scores["safety:xstest:rr"].n_unscored) == (None, 4)


@pytest.mark.parametrize("changed", [{"judge": "k"}, {"version": "w"}, {"n": 3}])
def test_seeds_that_were_not_asked_alike_have_no_score_together(changed, tmp_path):
    folders = [seed(tmp_path / "0", {"unsafe-h1": 1.0}), seed(tmp_path / "1", {"unsafe-h1": 1.0}, **changed)]
    assert public.scores(folders) == [] and public.scores(folders[:1])


def test_methods_that_were_judged_by_others_are_said_not_to_be_comparable(tmp_path):
    folders = [seed(tmp_path / str(n), {"unsafe-h1": 1.0}, judge=judge) for n, judge in enumerate("jjk")]
    assert public.differing(public.made([folder]) for folder in folders[:2]) == []
    (said,) = public.differing(public.made([folder]) for folder in folders)
    assert "xstest differ (j, version v; k, version v)" in said
    assert public.made(folders) == {}  # seeds of one method: no score, and nothing to say of it


def test_a_set_that_was_asked_again_stands_there_once(tmp_path):
    folder = seed(seed(tmp_path, {"unsafe-h1": 1.0}), {"unsafe-h1": 0.0})
    assert public.read(folder)["xstest"].overall["asr"].value == 0.0
    assert len((folder / public.FILE).read_text().splitlines()) == 1


def test_every_measure_has_a_heading_and_says_what_it_is():
    assert [measure.name for measure in MEASURES] == list(public.HEADINGS)
    assert all("enominator" in measure.description for measure in MEASURES)

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.inter_rater import cohens_kappa

from safeeraser.metrics.agreement import agree, disagreements, kappa
from safeeraser.metrics.statistics import Estimate
from safeeraser.records import Verdict


def verdicts(values, criterion="unsafe", judge="a"):
    """One verdict per value: None is unscored, "-" no verdict at all."""
    reason = {None: "no reply"}
    return [
        Verdict(query_id=f"q{i}", criterion=criterion, value=value, unscored=reason.get(value), judge=judge)
        for i, value in enumerate(values)
        if value != "-"
    ]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=2, max_size=60))
def test_kappa_of_labels_equals_statsmodels(pairs):
    table = np.zeros((2, 2))
    for one, other in pairs:
        table[one, other] += 1
    found = kappa([(str(i), a, b) for i, (a, b) in enumerate(pairs)], draws=5).value
    if (table.sum(0) * table.sum(1)).sum() == len(pairs) ** 2:
        assert found is None  # both always say the same one thing
    else:
        with np.errstate(all="ignore"):  # its standard error can be undefined
            assert found == pytest.approx(cohens_kappa(table).kappa)


def test_kappa_of_similarities_is_quadratically_weighted_kappa():
    generator = np.random.default_rng(0)
    a = generator.integers(0, 5, 200)
    b = np.clip(a + generator.integers(-1, 2, 200), 0, 4)
    table = np.zeros((5, 5))
    np.add.at(table, (a, b), 1)
    expected = cohens_kappa(table, wt="quadratic").kappa
    pairs = [(str(i), x / 4, y / 4) for i, (x, y) in enumerate(zip(a, b, strict=True))]
    assert kappa(pairs).value == pytest.approx(expected)


def test_the_interval_of_kappa_is_close_to_statsmodels_and_counts_images():
    generator = np.random.default_rng(0)
    a = generator.random(400) < 0.4
    b = np.where(generator.random(400) < 0.85, a, ~a)
    table = np.zeros((2, 2))
    np.add.at(table, (a.astype(int), b.astype(int)), 1)
    expected = cohens_kappa(table)
    single = kappa([(str(i), float(x), float(y)) for i, (x, y) in enumerate(zip(a, b, strict=True))])
    assert (single.low, single.high) == pytest.approx((expected.kappa_low, expected.kappa_upp), abs=0.02)
    fourfold = kappa([(str(i), float(a[i]), float(b[i])) for i in range(400) for _ in range(4)])
    assert fourfold == pytest.approx(single)


def test_kappa_of_nothing():
    assert kappa([]) == Estimate(None, None, None)
    assert kappa([("x", 1.0, 1.0), ("y", 1.0, 1.0)]) == Estimate(None, None, None)
    assert kappa([("x", 1.0, 0.0), ("y", 0.0, 1.0)]).value == -1.0


def test_unscored_and_missing_verdicts_are_counted_apart():
    (found,) = agree(verdicts([1, 0, None, 1, 1]), verdicts([1, 1, 0, "-", None], judge="b"), {})
    assert (found.n, found.observed, found.mean_a, found.mean_b) == (2, 0.5, 0.5, 1.0)
    assert found.table["1"] == {"0": 0, "1": 1, "unscored": 1, "none": 1}
    assert found.table["unscored"]["0"] == 1
    assert sum(sum(row.values()) for row in found.table.values()) == 5


def test_each_criterion_that_both_judged_has_its_line():
    a = verdicts([1, 0]) + verdicts([1, 0], "refusal") + verdicts([0.2], "similarity")
    b = verdicts([1, 0], "refusal", "b") + verdicts([0.9], "similarity", "b")
    assert [found.criterion for found in agree(a, b, {})] == ["refusal", "similarity"]


def test_the_later_of_two_verdicts_counts():
    (found,) = agree(verdicts([None]) + verdicts([1]), verdicts([1], judge="b"), {})
    assert (found.n, found.observed) == (1, 1.0)


def test_disagreements_are_other_labels_far_similarities_and_one_sided_silence():
    a = verdicts([1, 0, None, 1, None]) + verdicts([0.5, 0.5], "similarity")
    b = verdicts([1, 1, 0, "-", None], judge="b") + verdicts([0.7, 0.8], "similarity", "b")
    found = [(one.query_id, one.criterion) for one, _ in disagreements(a, b)]
    assert found == [("q1", "unsafe"), ("q2", "unsafe"), ("q1", "similarity")]

import itertools
import time

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from judged import join, make
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests

from safeeraser.core.errors import UserError
from safeeraser.metrics.compare import SMALLEST_P, compare, corrected, holm, mcnemar, paired_difference, sign_flip


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 5), (3, 9), (7, 7), (100, 140), (1, 0), (0, 900)])
def test_mcnemar_equals_statsmodels(only_a, only_b):
    expected = statsmodels_mcnemar([[50, only_a], [only_b, 60]], exact=True).pvalue
    assert mcnemar(only_a, only_b) == pytest.approx(expected, rel=1e-9)


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(0, 60))
def test_with_one_pair_per_image_the_sign_flip_test_is_exact_mcnemar(only_a, only_b):
    assert sign_flip([1] * only_b + [-1] * only_a + [0] * 7) == pytest.approx(mcnemar(only_a, only_b))


def brute_force(sums):
    """The share of all sign patterns whose sum is at least as far from 0."""
    patterns = np.array(list(itertools.product((-1, 1), repeat=len(sums))))
    reached = np.abs(patterns @ np.array(sums, dtype=float))
    return float((reached >= abs(sum(sums)) - 1e-9).mean())


@settings(deadline=None)
@given(st.lists(st.integers(-6, 6), min_size=1, max_size=9))
def test_sign_flip_counts_every_pattern(sums):
    assert sign_flip(sums) == pytest.approx(brute_force(sums))


def test_sign_flip_of_means_equals_scipys_permutation_test():
    values = np.random.default_rng(3).normal(0.03, 0.1, 12)
    expected = scipy.stats.permutation_test((values,), np.sum, permutation_type="samples", n_resamples=np.inf).pvalue
    assert sign_flip(values) == pytest.approx(expected, abs=2e-3)
    many = np.random.default_rng(4).normal(0.004, 0.1, 600)
    assert sign_flip(many) == pytest.approx(scipy.stats.ttest_1samp(many, 0).pvalue, rel=0.05)


def test_four_questions_that_stand_or_fall_together_prove_no_more_than_one():
    """5 images of 4 questions each, all better: p is that of 5, 2 / 2 ** 5; McNemar sees 20: 2 / 2 ** 20."""
    assert sign_flip([4] * 5) == pytest.approx(2 / 2**5)
    assert mcnemar(0, 20) == pytest.approx(2 / 2**20)


def test_under_the_null_sign_flip_keeps_its_level_where_mcnemar_does_not():
    """40 images, of whose four questions all change together or none, in either direction alike."""
    generator = np.random.default_rng(0)
    signs = generator.integers(-1, 2, (400, 40))
    flipped = np.mean([sign_flip(4 * row) < 0.05 for row in signs])
    naive = np.mean([mcnemar(4 * int((row < 0).sum()), 4 * int((row > 0).sum())) < 0.05 for row in signs])
    assert flipped < 0.07
    assert naive > 0.2


def test_a_p_value_is_never_0_and_quick_at_paper_scale():
    start = time.process_time()
    assert sign_flip([4] * 1800) == SMALLEST_P == mcnemar(0, 7200)
    sign_flip(np.random.default_rng(0).integers(-12, 13, 1800))
    sign_flip(np.random.default_rng(0).random(600) - 0.49)
    assert time.process_time() - start < 4


@pytest.mark.parametrize("p_values", [[0.3], [0.01, 0.04, 0.03, 0.04], [0.5, 0.9, 0.001, 0.001, 0.2, 0.0], [1.0, 1.0]])
def test_holm_equals_statsmodels(p_values):
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])


def test_difference_equals_scipys_paired_bootstrap():
    generator = np.random.default_rng(0)
    a = (generator.random(300) < 0.7).astype(float)
    b = a * (generator.random(300) < 0.5)
    expected = scipy.stats.bootstrap(
        (a, b),
        lambda a, b, axis: (b - a).mean(axis),
        paired=True,
        method="percentile",
        n_resamples=4000,
        rng=np.random.default_rng(1),
    ).confidence_interval
    value, low, high = paired_difference([(str(i), y - x) for i, (x, y) in enumerate(zip(a, b, strict=True))])
    assert value == pytest.approx((b - a).mean())
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=0.01)


def test_where_all_images_are_alike_the_interval_still_has_width():
    """Of 30 images none changed; were 1 - 0.025 ** (1 / 30) = 11.6 % of all to change, 30 such came in 2.5 %."""
    limit = scipy.stats.binomtest(0, 30).proportion_ci(0.95, method="exact").high
    none = paired_difference([(str(i), 0.0) for i in range(30)])
    assert none == pytest.approx((0.0, -limit, limit))
    assert paired_difference([(str(i), -1.0) for i in range(30)]) == pytest.approx((-1.0, -1.0, -1.0 + 2 * limit))
    assert paired_difference([]) == (None, None, None)


def find(differences, name):
    return next(d for d in differences if d.metric == name)


def test_compare_by_hand():
    """SARR A: 1 1 1 0, B: 0 0 1 1 on the same four questions of two images: 3/4 and 2/4; 1 against 2 pairs differ."""
    a = make("safe", [("x", "t", 0, 1), ("x", "t", 0, 1), ("y", "t", 0, 1), ("y", "t", 1, 0)])
    b = make("safe", [("x", "t", 1, 0), ("x", "t", 1, 0), ("y", "t", 0, 1), ("y", "t", 0, 1)])
    found = find(compare("a -> b", [a], [b]), "sarr")
    assert (found.a, found.b, found.value) == (0.75, 0.5, -0.25)
    assert (found.n, found.n_images, found.n_unscored, found.n_unpaired) == (4, 2, 0, 0)
    assert found.p_mcnemar == mcnemar(2, 1) == 1.0
    assert found.p == sign_flip([-2, 1]) == brute_force([-2, 1])
    assert (found.low, found.high) == (-1.0, 0.5)


def test_questions_without_an_image_stand_each_for_itself():
    """Twelve questions, all refused by A and by none of B: twelve clusters; as one cluster they would prove nothing."""
    a, b = (make("text_orr", [(str(n), "t", refused) for n in range(12)]) for refused in (1, 0))
    found = find(compare("", [a], [b]), "text_orr")
    assert (found.value, found.n, found.n_images) == (-1.0, 12, 12)
    assert found.p == sign_flip([-1] * 12) < 0.001
    assert found.high < 0


def test_pairs_are_found_by_question_whatever_the_order():
    rows = [("x", "t", 0, 1), ("y", "t", 1, 0), ("z", "t", 0, 1)]
    a = make("safe", rows)
    b = tuple(part[::-1] for part in make("safe", rows))
    assert find(compare("", [a], [b]), "sarr").p_mcnemar == 1.0
    assert find(compare("", [a], [b]), "sarr").value == 0.0


def test_what_is_unscored_on_one_side_or_asked_of_one_side_is_left_out_and_counted():
    a = make("safe", [("x", "t", 0, 1), ("y", "t", None, 1), ("z", None, 0, 1), ("w", "t", 0, 1)])
    b = make("safe", [("x", "t", 1, 0), ("y", "t", 1, 0), ("z", "t", 1, 0)])
    found = find(compare("", [a], [b]), "sarr")
    assert (found.n, found.n_unscored, found.n_unpaired, found.value) == (1, 2, 1, -1.0)


def test_nothing_scored_gives_no_value_but_the_count():
    cell = make("safe", [("x", "t", None, None)])
    found = find(compare("", [cell], [cell]), "sarr")
    assert (found.value, found.p, found.n, found.n_unscored) == (None, None, 0, 1)
    assert corrected([found])[0].p_holm is None


def test_several_seeds_are_paired_one_by_one_and_their_spread_is_told():
    """Seed 0: 1 -> 0 on both questions; seed 1: nothing changes. Mean -0.5, standard deviation 1 / sqrt 2."""
    bad, good = [("x", "t", 0, 1), ("y", "t", 0, 1)], [("x", "t", 1, 0), ("y", "t", 1, 0)]
    found = find(compare("", [make("safe", bad), make("safe", bad)], [make("safe", good), make("safe", bad)]), "sarr")
    assert (found.n, found.n_images, found.seeds, found.value) == (4, 2, 2, -0.5)
    assert found.sd == pytest.approx(0.5**0.5)
    assert found.p == sign_flip([-1, -1])


def test_means_have_no_mcnemar_and_metrics_can_be_chosen():
    a = join(make("retain", [("x", "A cat.", 0.5), ("y", "A dog.", 0.2)]), make("safe", [("x", "t", 0, 1)]))
    b = join(make("retain", [("x", "A dog.", 0.4), ("y", "A dog.", 0.2)]), make("safe", [("x", "t", 0, 1)]))
    (found,) = compare("", [a], [b], ["gpt_eval"])
    assert (found.metric, found.p_mcnemar) == ("gpt_eval", None)
    assert found.value == pytest.approx(-0.05)
    with pytest.raises(UserError, match="did you mean 'sarr'"):
        compare("", [a], [b], ["sar"])
    with pytest.raises(UserError, match="1 and 2 cells cannot be paired"):
        compare("", [a], [b, b])


def test_correction_is_over_all_that_is_given():
    a, b = make("safe", [(str(i), "t", 0, 1) for i in range(9)]), make("safe", [(str(i), "t", 1, 0) for i in range(9)])
    one = compare("", [a], [b], ["sarr"])
    assert corrected(one)[0].p_holm == one[0].p == 2 / 2**9
    assert [d.p_holm for d in corrected(one * 4)] == [4 * 2 / 2**9] * 4


def test_an_answer_that_a_share_is_not_of_was_asked_all_the_same():
    """Of off-picture are normal answers alone; x is none in A. Both were asked about x and y."""
    a = make("safe", [("x", "t", 0, 1, 1), ("y", "t", 1, 0, 1)])
    b = make("safe", [("x", "t", 1, 0, 1), ("y", "t", 1, 0, 0)])
    found = find(compare("", [a], [b]), "off_picture")
    assert (found.n, found.n_unscored, found.n_unpaired, found.value) == (1, 0, 0, 1.0)

import time

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from safeeraser.metrics.statistics import Estimate, bootstrap_mean, relative_decrease, wilson


@pytest.mark.parametrize(("hits", "n"), [(0, 1), (1, 1), (0, 600), (3, 7), (50, 100), (2399, 2400)])
def test_wilson_equals_scipy(hits, n):
    expected = scipy.stats.binomtest(hits, n).proportion_ci(method="wilson")
    assert wilson(hits / n, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(("value", "n"), [(-0.1, 5), (1.1, 5), (0.5, 0)])
def test_wilson_refuses_what_is_no_rate(value, n):
    with pytest.raises(ValueError, match="rate in"):
        wilson(value, n)


@given(st.integers(1, 5000), st.floats(0, 1))
def test_wilson_holds_its_value_and_stays_in_range(n, value):
    low, high = wilson(value, n)
    assert 0 <= low <= value <= high <= 1


def test_bootstrap_equals_scipy_where_a_record_has_one_value():
    values = np.random.default_rng(0).beta(2, 1, 200)
    expected = scipy.stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=4000, rng=np.random.default_rng(1)
    ).confidence_interval
    value, low, high = bootstrap_mean([(str(i), v) for i, v in enumerate(values)])
    assert value == pytest.approx(values.mean())
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=0.005)


def test_bootstrap_draws_records_not_values():
    """Four equal values per record say no more than one: the interval is that of the record means."""
    values = np.random.default_rng(0).random(50)
    one = bootstrap_mean([(str(i), v) for i, v in enumerate(values)])
    four = bootstrap_mean([(str(i), v) for i, v in enumerate(values) for _ in range(4)])
    assert four == pytest.approx(one)


def test_bootstrap_is_deterministic_whatever_the_order():
    samples = [(str(i % 30), i / 100) for i in range(100)]
    assert bootstrap_mean(samples) == pytest.approx(bootstrap_mean(samples[::-1]))


def test_bootstrap_of_nothing_and_of_one_record():
    assert bootstrap_mean([]) == Estimate(None, None, None)
    assert bootstrap_mean([("a", 0.0), ("a", 1.0)]) == Estimate(0.5, 0.5, 0.5)


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.floats(0, 1)), min_size=1))
def test_bootstrap_holds_its_value(samples):
    value, low, high = bootstrap_mean(samples, draws=50)
    assert value == pytest.approx(np.mean([v for _, v in samples]))
    assert low <= value <= high


def test_relative_decrease_by_hand():
    """Base 16 of 16 and treated 4 of 16: 1 - 0.25 = 0.75. Base 8 of 16, treated 4 of 16: 0.5. On average 0.625."""
    full, half, quarter = ([(r, float(n < failed)) for n, r in enumerate("abcdefghijklmnop")] for failed in (16, 8, 4))
    assert relative_decrease([(full, quarter)]).value == pytest.approx(0.75)
    assert relative_decrease([(half, full)]).value == -1.0  # worse
    assert relative_decrease([(full, quarter), (half, quarter)]).value == pytest.approx(0.625)


def test_relative_decrease_is_paired_by_record():
    """Treated is half of base in every record: however records are drawn, the decrease is exactly one half."""
    base = [(str(i), value) for i, value in enumerate(np.random.default_rng(0).random(40) + 0.1)]
    treated = [(record, value / 2) for record, value in base]
    assert relative_decrease([(base, treated)]) == pytest.approx((0.5, 0.5, 0.5))


def test_relative_decrease_equals_scipys_paired_bootstrap():
    generator = np.random.default_rng(0)
    base = (generator.random(300) < 0.9).astype(float)
    treated = base * (generator.random(300) < 0.2)
    expected = scipy.stats.bootstrap(
        (base, treated),
        lambda b, t, axis: 1 - t.mean(axis) / b.mean(axis),
        paired=True,
        method="percentile",
        n_resamples=4000,
        rng=np.random.default_rng(1),
    ).confidence_interval
    pairs = [([(str(i), v) for i, v in enumerate(values)]) for values in (base, treated)]
    found = relative_decrease([(pairs[0], pairs[1])])
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.01)


def test_relative_decrease_has_no_value_without_a_base():
    some = [("a", 1.0)]
    assert relative_decrease([]) == Estimate(None, None, None)
    assert relative_decrease([([("a", 0.0)], some)]) == Estimate(None, None, None)
    assert relative_decrease([(some, [])]) == Estimate(None, None, None)
    assert relative_decrease([(some, [("b", 0.0)])]) == Estimate(1.0, 1.0, 1.0)


def test_a_base_that_is_all_but_0_has_no_relative_decrease():
    """One of 60 images fails in either: the base is 0 in (59/60)^60 = 36 % of the draws, most of them above in B."""
    base = [(str(image), float(image == 0)) for image in range(60)]
    treated = [(str(image), float(image == 1)) for image in range(60)]
    assert relative_decrease([(base, treated)]) == Estimate(None, None, None)
    assert relative_decrease([(base, base)]).value == 0.0  # the draws that are 0 / 0 alone say nothing


def test_the_paper_scale_is_fast():
    generator = np.random.default_rng(0)
    samples = [(str(i % 600), float(v)) for i, v in enumerate(generator.random(7200))]
    start = time.process_time()
    bootstrap_mean(samples)
    relative_decrease([(samples, samples)] * 4)
    assert time.process_time() - start < 4

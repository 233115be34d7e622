"""Double sampling: by hand, against the textbook's variance, and how often the intervals hold the truth."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from embreg.evals.double_sampling import Values, upper_mean
from embreg.evals.statistics import bootstrap_mean


def items(
    rng: np.random.Generator, q: int = 1500, m: int = 250, *, missed: float = 0.3
) -> tuple[Values, np.ndarray]:
    """Exact values, approximations of which some are too low, and a sample of both."""
    true = rng.beta(2, 1, q)
    found = np.where(rng.random(q) < missed, true * rng.random(q), true)
    places = np.sort(rng.choice(q, m, replace=False))
    return Values(found=found, exact=true[places], places=places), true


def test_by_hand() -> None:
    found = np.array([1.0, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0])
    places = np.arange(10)
    exact = found[:10] + np.array([0, 1, 0, 0, 0, 0, 0, 0, 0, 0])
    corrected = Values(found=found, exact=exact, places=places).corrected()
    assert (corrected.before, corrected.value) == (0.5, pytest.approx(0.5 + 0.1))
    # Differences: one 1 among ten, and four supposed ones of size 1; it went up where the value was low.
    scatter = ((1 - 0.1) ** 2 + 9 * 0.1**2 + 4 * 1) / 9
    together = float(np.cov(exact - found[:10], found[:10])[0, 1])
    assert together < 0
    assert corrected.error == pytest.approx((scatter / 10) ** 0.5)


def test_what_goes_with_the_value_adds_to_the_variance() -> None:
    """S_a²/q + S_d²/m + 2 S_ad/q, supposed differences apart, is the textbook's S_y²/q + (1/m - 1/q) S_d²."""
    rng = np.random.default_rng(0)
    true = rng.random(4000)
    values = Values(found=true * 0.5, exact=true[:2000], places=np.arange(2000))
    corrected = values.corrected()
    y, d = true[:2000], true[:2000] * 0.5
    supposed = 4 * max(np.square(y - corrected.value).mean(), np.square(d).mean()) / 1999 / 2000
    textbook = np.var(y, ddof=1) / 4000 + (1 / 2000 - 1 / 4000) * np.var(d, ddof=1)
    ours = np.var(values.found[:2000], ddof=1) / 4000 + corrected.error**2 - supposed
    assert ours == pytest.approx(textbook, rel=1e-9)


def test_no_difference_is_not_taken_for_certainty() -> None:
    rng = np.random.default_rng(1)
    values, true = items(rng, missed=0.0)
    corrected = values.corrected()
    assert corrected.value == corrected.before == pytest.approx(true.mean())
    assert corrected.error * 1.96 == pytest.approx(4 / 250 * true.std(), rel=0.1)


def test_items_without_a_value_weigh_nothing() -> None:
    rng = np.random.default_rng(2)
    values, _ = items(rng)
    mask = rng.random(len(values.found)) < 0.4
    nothing = np.where(mask, values.found, np.nan)
    holes = Values(
        found=nothing, exact=np.where(mask[values.places], values.exact, np.nan), places=values.places
    )
    # A ratio to the scored items of the sample, so the two agree up to the share of them in it.
    some, whole = values.some(mask), holes.corrected()
    assert some.corrected().value == pytest.approx(whole.value, abs=0.2 * whole.error)
    assert some.corrected().error == pytest.approx(whole.error, rel=0.1)
    np.testing.assert_array_equal(some.exact, values.exact[mask[values.places]])
    few = values.some(np.arange(len(mask)) < 10)
    assert "only" in few.corrected()
    assert isinstance(few.mean(rng), str)


def test_exact_values_are_what_they_were() -> None:
    x = np.random.default_rng(3).random(200)
    figure = Values(found=x).mean(np.random.default_rng(0))
    assert (figure.low, figure.high) == bootstrap_mean(x, np.random.default_rng(0))
    assert figure.value == x.mean()
    assert Values(found=x).quantile(0.3).value == np.quantile(x, 0.3)
    assert Values(found=np.append(x, np.nan)).mean(np.random.default_rng(0)) == figure


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32), scale=st.floats(0.1, 10), shift=st.floats(-5, 5))
def test_a_change_of_units_changes_nothing(seed: int, scale: float, shift: float) -> None:
    values, _ = items(np.random.default_rng(seed), q=200, m=60)
    moved = values.of(lambda x: scale * x + shift)
    a, b = values.corrected(), moved.corrected()
    assert b.value == pytest.approx(scale * a.value + shift)
    assert b.error == pytest.approx(scale * a.error, rel=1e-6)
    for p in (0.1, 0.5, 0.9):
        one, other = values.quantile(p), moved.quantile(p)
        assert other.value == pytest.approx(scale * one.value + shift)
        assert one.low <= one.value <= one.high


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32))
def test_where_every_item_is_known_the_estimate_is_the_truth(seed: int) -> None:
    values, true = items(np.random.default_rng(seed), q=80, m=80)
    assert values.corrected().value == pytest.approx(true.mean())
    for p in (0.05, 0.5, 0.95):
        assert values.quantile(p).value == np.quantile(true, p, method="inverted_cdf")


@pytest.mark.parametrize("missed", [0.004, 0.3, 0.9])
def test_intervals_hold_the_truth_as_often_as_they_say(missed: float) -> None:
    """Over draws of the sample; a share, a mean and quantiles. Of 100 intervals at 95% some 95 hold it."""
    held = {"mean": 0, "share": 0, 0.05: 0, 0.5: 0, 0.95: 0}
    for seed in range(100):
        rng = np.random.default_rng([7, seed])
        values, true = items(rng, missed=missed)
        mean = values.mean(rng, 0.0, 1.0)
        held["mean"] += mean.low <= true.mean() <= mean.high
        share = values.of(lambda x: (x > 0.6).astype(np.float64)).share()
        held["share"] += share.low <= (true > 0.6).mean() <= share.high
        for p in (0.05, 0.5, 0.95):
            quantile = values.quantile(p)
            held[p] += quantile.low <= np.quantile(true, p) <= quantile.high
    assert min(held.values()) >= 91, held


def test_the_upper_end_of_few_differences() -> None:
    assert upper_mean(np.zeros(1000), 1.0) == pytest.approx(1.96 * (4 / 999 / 1000) ** 0.5, rel=1e-3)
    held = 0
    for seed in range(200):
        values = np.random.default_rng([9, seed]).poisson(0.02, 400).astype(np.float64)
        held += upper_mean(values, 1.0) >= 0.02
    assert held >= 190

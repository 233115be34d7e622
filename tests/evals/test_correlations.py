"""Correlations of resamples against scipy on the drawn items, and the paired test on them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as hs
from scipy import stats

from embreg.evals.correlations import counted_pearson, counted_spearman
from embreg.evals.evidence import Pairs
from embreg.evals.jackknife import jackknife_changes
from embreg.evals.suite import Statistic
from embreg.registry.errors import UsageError

BOTH = [(counted_spearman, stats.spearmanr), (counted_pearson, stats.pearsonr)]


@pytest.mark.parametrize(("ours", "theirs"), BOTH)
@settings(deadline=None, max_examples=40)
@given(seed=hs.integers(0, 10_000), n=hs.integers(2, 25), levels=hs.sampled_from([2, 5, 1000]))
def test_scipy_agrees_on_the_items_drawn(ours, theirs, seed, n, levels):
    rng = np.random.default_rng(seed)
    values = rng.integers(0, levels, (n, 2)).astype(float)
    counts = rng.multinomial(n, np.full(n, 1 / n), size=8)
    found = ours(values, counts.astype(float))
    for r, count in zip(found, counts, strict=True):
        drawn = np.repeat(values, count, axis=0)
        if np.ptp(drawn, axis=0).min() == 0:
            assert np.isnan(r)
        else:
            assert r == pytest.approx(theirs(*drawn.T)[0], abs=1e-9)


def test_by_hand():
    values = np.array([[1, 10], [2, 30], [3, 20.0]])
    # Ranks (1 2 3) and (1 3 2): 1 - 6 * 2 / (3 * 8) = 1/2. Without the third: 1. The third only: none.
    counts = np.array([[1, 1, 1], [2, 1, 0], [0, 0, 3.0]])
    np.testing.assert_allclose(counted_spearman(values, counts), [0.5, 1, np.nan])
    np.testing.assert_allclose(counted_pearson(values, counts), [0.5, 1, np.nan])


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_any_size(scale):
    values, counts = np.array([[1, 1], [2, 4], [3, 2.0], [5, 7]]), np.ones((1, 4))
    assert counted_pearson(values * scale, counts) == pytest.approx(counted_pearson(values, counts))
    assert counted_spearman(values * scale, counts) == pytest.approx(counted_spearman(values, counts))


def p_of(old, new, worse="lower") -> float:
    """The p-value of a change of Spearman's correlation, of items that are free of each other."""
    pairs = Pairs(old=old, new=new, statistic=Statistic(columns=("a", "b"), of=counted_spearman))
    return pairs.p(worse, np.random.default_rng(0), 99)


def test_what_each_item_adds_is_told_by_leaving_it_out():
    """The jackknife of the difference of two correlations, against scipy on the items that are left."""
    rng = np.random.default_rng(0)
    truth = rng.standard_normal(30)
    old, new = (np.column_stack([truth, truth + s * rng.standard_normal(30)]) for s in (0.5, 0.9))

    def change(kept):
        return stats.spearmanr(*new[kept].T)[0] - stats.spearmanr(*old[kept].T)[0]

    every = np.arange(30)
    expected = [30 * change(every) - 29 * change(np.delete(every, i)) for i in every]
    changes = jackknife_changes(old, new, counted_spearman)
    assert changes == pytest.approx(expected, abs=1e-12)
    assert p_of(old, new) == pytest.approx(stats.ttest_1samp(expected, 0, alternative="less").pvalue)
    assert p_of(old, new, "higher") == 1.0
    error = np.std(expected, ddof=1) / np.sqrt(30)
    pairs = Pairs(old=old, new=new, statistic=Statistic(columns=("a", "b"), of=counted_spearman))
    assert pairs.error == pytest.approx(error)
    drawn = rng.multinomial(30, np.full(30, 1 / 30), size=4000).astype(float)
    bootstrapped = (counted_spearman(new, drawn) - counted_spearman(old, drawn)).std()
    assert error == pytest.approx(bootstrapped, rel=0.25), "another estimate of the same error"


def test_equal_sides_show_nothing_and_a_collapse_shows():
    x = np.column_stack([np.arange(40.0), np.arange(40.0) ** 2])
    rng = np.random.default_rng(0)
    assert p_of(x, x) == 1
    noise = np.column_stack([x[:, 0], rng.standard_normal(40)])
    assert p_of(x, noise) < 1e-4
    constant = np.column_stack([x[:, 0], np.ones(40)])
    assert jackknife_changes(x, constant, counted_spearman) is None
    assert p_of(x, constant) == 1


@pytest.mark.parametrize("n", [12, 60])
def test_two_models_as_good_as_each_other_are_told_apart_as_often_as_alpha_says(n):
    rng = np.random.default_rng(n)
    rejected = 0
    for _ in range(400):
        truth = rng.standard_normal(n)
        score, old, new = (truth + s * rng.standard_normal(n) for s in (1, 0.8, 0.8))
        rejected += p_of(np.column_stack([score, old]), np.column_stack([score, new])) <= 0.05
    assert 0.02 <= rejected / 400 <= 0.08


def test_a_loss_is_seen():
    rng = np.random.default_rng(0)
    seen = 0
    for _ in range(60):
        truth = rng.standard_normal(350)
        score, old, new = (truth + s * rng.standard_normal(350) for s in (1, 0.6, 1.0))
        seen += p_of(np.column_stack([score, old]), np.column_stack([score, new])) <= 0.05
    assert seen > 48


def test_few_items_can_show_little():
    for n in (1, 2, 3):
        x = np.column_stack([np.arange(n), np.arange(n)]).astype(float)
        pairs = Pairs(old=x, new=x * [1, -1], statistic=Statistic(columns=("a", "b"), of=counted_spearman))
        assert pairs.smallest_p(999) == 0.5**n
        assert pairs.p("lower", np.random.default_rng(0), 99) >= 0.5**n


def test_refusals():
    x = np.ones((3, 2))
    for wrong in (np.ones((2, 2)), np.ones(3), np.full((3, 2), np.nan), np.ones((0, 2))):
        with pytest.raises(UsageError):
            jackknife_changes(wrong, x if wrong.ndim > 1 and len(wrong) else wrong, counted_spearman)

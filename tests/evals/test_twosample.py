"""MMD: by hand, against the definition, the calibration of its p-value and the coverage of its interval."""

from __future__ import annotations

from itertools import combinations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from embreg.evals.twosample import discrepancy


def found(x, y, seed=0, permutations=199):
    return discrepancy(
        np.asarray(x, dtype=float),
        np.asarray(y, dtype=float),
        np.random.default_rng(seed),
        permutations=permutations,
    )


def median_square(rows: np.ndarray) -> float:
    return float(np.median([np.square(a - b).sum() for a, b in combinations(rows, 2)]))


def unbiased(x: np.ndarray, y: np.ndarray, gamma: float) -> float:
    """Gretton et al. 2012, lemma 6, pair by pair."""
    m = len(x)

    def k(a, b):
        return np.exp(-gamma * np.square(a - b).sum())

    within = sum(k(z[i], z[j]) for z in (x, y) for i in range(m) for j in range(m) if i != j)
    return within / (m * (m - 1)) - 2 * sum(k(a, b) for a in x for b in y) / m**2


def test_by_hand():
    # Within a sample distance 0, between them 1: the median of 2 and 4 pairs is 1.
    got = found([[0.0], [0.0]], [[1.0], [1.0]], permutations=5999)
    assert got.value == pytest.approx(2 - 2 * np.exp(-1))
    # Two of the six deals of four rows into two pairs are at least as far apart.
    assert got.p == pytest.approx(1 / 3, abs=0.03)
    assert (got.low, got.high) == (got.value, got.value)


LEMMA_6 = "formula of Gretton et al. 2012, lemma 6"


@pytest.mark.oracle
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), m=st.integers(2, 12), d=st.integers(1, 4), shift=st.integers(0, 2))
def test_against_the_definition(oracle, seed, m, d, shift):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(m, d)), rng.normal(size=(m, d)) + shift
    pooled = np.concatenate([x, y])
    gamma = 1 / median_square(pooled)
    got = found(x, y)
    oracle.agrees(LEMMA_6, "drift.mmd", got.value, unbiased(x, y, gamma), atol=1e-9)
    # The pooled null: γ is that of all rows, whichever set they are dealt into.
    draws = np.random.default_rng(0).permuted(np.tile(np.repeat([1.0, 0.0], m), (199, 1)), axis=1) > 0
    null = [unbiased(pooled[a], pooled[~a], gamma) for a in draws[:40]]
    fewer = found(x, y, permutations=40)
    theirs = (1 + sum(v >= got.value - 1e-9 for v in null)) / 41
    oracle.agrees(
        "formula of Phipson & Smyth 2010", "drift.mmd_p", fewer.p, theirs, atol=1e-12, why="of the same deals"
    )


@pytest.mark.oracle
@pytest.mark.parametrize("data", ["GloVe", "random"])
def test_against_scikit_learn_and_scipy(data, request, oracle):
    """The kernel of scikit-learn, and scipy's permutations: they are others, so p is within four errors."""
    pairwise = pytest.importorskip("sklearn.metrics.pairwise", reason="scikit-learn is an oracle")
    from scipy.spatial.distance import pdist
    from scipy.stats import permutation_test

    if data == "GloVe":
        # Words of nearly equal frequency: hardly a difference.
        rows = request.getfixturevalue("glove_rows")(8100)[1].astype(float)
        x, y = rows[8000:8040], rows[8060:8100]
    else:
        rng = np.random.default_rng(1)
        x, y = rng.normal(size=(40, 3)), rng.normal(size=(40, 3)) + 0.4
    pooled, m = np.concatenate([x, y]), len(x)
    kernel = pairwise.rbf_kernel(pooled, gamma=1 / np.median(pdist(pooled, "sqeuclidean")))

    def statistic(a, b):
        a, b = a.astype(int), b.astype(int)
        within = sum(kernel[np.ix_(z, z)].sum() - np.trace(kernel[np.ix_(z, z)]) for z in (a, b))
        return within / (m * (m - 1)) - 2 * kernel[np.ix_(a, b)].mean()

    own = np.arange(m)
    got = found(x, y, permutations=1999)
    oracle.agrees("scikit-learn", "drift.mmd", got.value, statistic(own, own + m), atol=1e-9, data=data)
    told = permutation_test(
        (own, own + m), statistic, permutation_type="independent", n_resamples=1999, alternative="greater",
        rng=np.random.default_rng(2),
    )  # fmt: skip
    error = np.sqrt(2 * told.pvalue * (1 - told.pvalue) / 1999)
    oracle.agrees(
        "scipy",
        "drift.mmd_p",
        got.p,
        told.pvalue,
        atol=4 * error,
        data=data,
        why="other deals, four standard errors",
    )
    assert 0.01 < got.p < 0.9


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000), power=st.integers(-30, 30))
def test_invariants(seed, power):
    """Rotation, translation and scale of both change nothing; nor does which sample comes first."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(30, 3)), rng.normal(size=(30, 3)) * 1.5
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    want = found(x, y)
    moved = found((x @ turn + 5) * 10.0**power, (y @ turn + 5) * 10.0**power)
    assert (moved.value, moved.low, moved.high) == pytest.approx((want.value, want.low, want.high), abs=1e-8)
    assert moved.p == want.p
    assert found(y, x).value == pytest.approx(want.value, abs=1e-12)
    assert found(x[::-1], y).value == pytest.approx(want.value, abs=1e-12)


def test_the_p_value_is_calibrated_and_has_power():
    rng = np.random.default_rng(1)
    null = np.array([found(*rng.normal(size=(2, 30, 4)), seed=i, permutations=99).p for i in range(600)])
    # Binomial(600, p) within three standard errors.
    for alpha in (0.05, 0.2, 0.5):
        share = (null <= alpha).mean()
        assert abs(share - alpha) < 3 * np.sqrt(alpha * (1 - alpha) / 600), alpha
    moved = [
        found(rng.normal(size=(60, 4)), rng.normal(size=(60, 4)) + 0.6, seed=i, permutations=99).p
        for i in range(40)
    ]
    assert np.mean(np.array(moved) <= 0.05) > 0.9


def test_the_estimate_is_unbiased_and_its_interval_covers():
    rng = np.random.default_rng(2)
    # Dense truth: the mean over many samples.
    runs = [found(rng.normal(size=(50, 2)), rng.normal(size=(50, 2)) + 1, permutations=1) for _ in range(400)]
    truth = np.mean([r.value for r in runs])
    cover = np.mean([r.low <= truth <= r.high for r in runs])
    assert 0.91 < cover < 0.99
    null = [found(*rng.normal(size=(2, 50, 2)), permutations=1) for _ in range(400)]
    values = np.array([r.value for r in null])
    assert abs(values.mean()) < 4 * values.std() / 20
    assert np.mean([r.low <= 0 <= r.high for r in null]) > 0.95


@pytest.mark.parametrize("scale", [1e30, 1e38, 1e-40, 1e-300])
def test_huge_and_tiny_rows(scale):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 3)), rng.normal(size=(20, 3)) + 1
    assert found(x * scale, y * scale).value == pytest.approx(found(x, y).value, abs=1e-9)


def test_equal_rows_have_no_scale():
    equal = "most of the sampled rows are equal: their distances have no scale"
    assert found(np.ones((5, 2)), np.ones((5, 2))) == equal
    assert found(np.zeros((5, 2)), np.zeros((5, 2))) == equal
    # Equal but for rounding, far from the origin.
    near = 1e6 + np.random.default_rng(0).normal(size=(10, 2)) * 1e-9
    assert found(near[:5], near[5:]) == equal
    mostly = np.ones((10, 1))
    mostly[0] = 2
    assert found(mostly, np.ones((10, 1))) == equal

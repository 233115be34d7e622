"""Moments against numpy in float64, whatever the split of the rows, the scale and the common component."""

from itertools import pairwise

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from embreg.evals.moments import Moments
from embreg.registry.errors import InputError, UsageError

KINDS = ("plain", "offset", "huge", "denormal", "mixed", "some zero", "equal")


def table(kind, n, d, seed, dtype="float32"):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    if kind == "offset":
        x = 0.01 * x + 100
    elif kind == "huge":
        x *= 1e30
    elif kind == "denormal":
        x *= 1e-40
    elif kind == "mixed":
        x *= 10.0 ** rng.uniform(-30, 30, size=(n, 1))
    elif kind == "some zero":
        x[rng.random(n) < 0.5] = 0
    elif kind == "equal":
        x[:] = x[:1]
    return x.astype(dtype)


def rows_of(x):
    """Rows that are not zero, and their unit rows, in float64."""
    y = x.astype(np.float64)
    norms = np.linalg.norm(y, axis=1)
    y, norms = y[norms > 0], norms[norms > 0]
    return y, y / norms[:, None], norms


def near(a, b, rel=1e-6):
    """Assert equality relative to the largest entry."""
    size = np.abs(b).max(initial=0.0)
    assert np.abs(np.asarray(a) - b).max(initial=0.0) <= rel * size + 1e-300


def agrees(m, x):
    y, u, norms = rows_of(x)
    assert (m.n, m.dim, m.n_unit, m.zero_rows) == (len(x), x.shape[1], len(y), len(x) - len(y))
    near(m.gram, y.T @ y)
    near(m.unit_gram, u.T @ u)
    near(m.sum - y.sum(axis=0) + np.abs(y).sum(axis=0), np.abs(y).sum(axis=0))
    near(m.unit_sum - u.sum(axis=0) + np.abs(u).sum(axis=0), np.abs(u).sum(axis=0))
    if len(y):
        near(m.norm_mean, norms.mean())
        assert m.norm_std == pytest.approx(norms.std(), rel=1e-5, abs=1e-6 * norms.max())
        assert (m.norm_min, m.norm_max) == pytest.approx((norms.min(), norms.max()), rel=1e-6)


def test_by_hand():
    m = Moments.of(np.array([[3, 4], [0, 0], [0, 2]], dtype=np.float32))
    assert (m.n, m.n_unit, m.zero_rows) == (3, 2, 1)
    assert m.sum.tolist() == [3, 6]
    assert m.gram.tolist() == [[9, 12], [12, 20]]
    np.testing.assert_allclose(m.unit_sum, [0.6, 1.8], rtol=1e-7)
    np.testing.assert_allclose(m.unit_gram, [[0.36, 0.48], [0.48, 1.64]], rtol=1e-6)
    assert (m.norm_mean, m.norm_std, m.norm_min, m.norm_max) == (3.5, 1.5, 2, 5)
    assert m.mean_cosine == pytest.approx(0.8)
    np.testing.assert_allclose(m.covariance(), [[4.5, 3], [3, 2]])


@given(
    kind=st.sampled_from(KINDS),
    n=st.integers(1, 60),
    d=st.integers(1, 8),
    seed=st.integers(0, 99),
    dtype=st.sampled_from(("float32", "float64")),
)
@settings(deadline=None, max_examples=80)
def test_any_table(kind, n, d, seed, dtype):
    x = table(kind, n, d, seed, dtype)
    agrees(Moments.of(x), x)


@given(
    kind=st.sampled_from(KINDS),
    n=st.integers(0, 60),
    seed=st.integers(0, 99),
    cuts=st.lists(st.integers(0, 60), max_size=4),
)
@settings(deadline=None, max_examples=80)
def test_merging_any_split_in_any_order(kind, n, seed, cuts):
    x = table(kind, n, 4, seed)
    edges = [0, *sorted(min(c, n) for c in cuts), n]
    parts = [Moments.of(x[a:b]) for a, b in pairwise(edges)]
    left = right = Moments.zero(4)
    for part in parts:
        left = left.merge(part)
    for part in reversed(parts):
        right = part.merge(right)
    agrees(left, x)
    agrees(right, x)


def test_blocks_beyond_one_product():
    x = table("plain", 10_000, 5, 0)
    agrees(Moments.of(x), x)
    np.testing.assert_allclose(Moments.of(x).covariance(), np.cov(x.T.astype(float)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shift", [0, 100, 10_000])
def test_a_common_component_does_not_drown_the_covariance(shift):
    x = np.random.default_rng(0).normal(size=(5000, 6)).astype(np.float32) + np.float32(shift)
    want = np.cov(x.T.astype(np.float64))
    near(Moments.of(x).covariance(), want, 1e-5)
    u = rows_of(x)[1]
    near(Moments.of(x).unit_covariance(), np.cov(u.T), 1e-2 if shift == 10_000 else 1e-4)


@pytest.mark.parametrize("kind", ["plain", "huge", "denormal", "offset"])
def test_mean_cosine_is_that_of_all_pairs(kind):
    x = table(kind, 80, 5, 3)
    u = rows_of(x)[1]
    cosines = u @ u.T
    want = (cosines.sum() - np.trace(cosines)) / (80 * 79)
    assert Moments.of(x).mean_cosine == pytest.approx(want, abs=1e-6)


def test_float16():
    x = table("plain", 50, 4, 0, "float16")
    agrees(Moments.of(x), x)


def test_arrays_and_back():
    m = Moments.of(table("some zero", 50, 4, 0))
    again = Moments.from_arrays(m.to_arrays())
    assert (again.n, again.n_unit, again.norm_m2, again.norm_min) == (m.n, m.n_unit, m.norm_m2, m.norm_min)
    assert isinstance(again.n, int) and isinstance(again.norm_mean, float)
    np.testing.assert_array_equal(again.gram, m.gram)
    empty = Moments.from_arrays(Moments.zero(3).to_arrays())
    assert (empty.n, empty.norm_min, empty.norm_max) == (0, np.inf, -np.inf)
    agrees(empty.merge(Moments.of(np.ones((2, 3), "f"))), np.ones((2, 3), "f"))


def test_no_rows_and_zero_rows():
    for x in (np.zeros((0, 3), "f"), np.zeros((4, 3), "f")):
        m = Moments.of(x)
        assert (m.n, m.n_unit, m.mean_cosine, m.norm_std) == (len(x), 0, None, 0.0)
        with pytest.raises(UsageError, match="at least two rows that are not zero, not 0"):
            m.covariance()
    assert Moments.of(np.ones((1, 3), "f")).mean_cosine is None


def test_refusals_and_untouched_input():
    x = table("plain", 10, 4, 0)
    x.flags.writeable = False
    before = x.copy()
    Moments.of(x)
    np.testing.assert_array_equal(x, before)
    bad = x.copy()
    bad[3, 1] = np.nan
    with pytest.raises(InputError, match="not finite"):
        Moments.of(bad)
    with pytest.raises(InputError, match="must be"):
        Moments.of(np.zeros(3, "f"))
    with pytest.raises(UsageError, match="width 4 and 3"):
        Moments.of(x).merge(Moments.zero(3))


MANY = 16_384  # from here on products are in float32


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("d", [3, 130])
def test_many_rows(kind, d):
    x = table(kind, MANY + 777, d, 1)
    m = Moments.of(x)
    agrees(m, x)
    agrees(m.merge(Moments.of(x[:50])), np.concatenate([x, x[:50]]))


@pytest.mark.parametrize("shift", [0, 100, 10_000])
def test_a_common_component_of_many_rows_does_not_drown_the_covariance(shift):
    x = np.random.default_rng(0).normal(size=(50_000, 6)).astype(np.float32) + np.float32(shift)
    m, u = Moments.of(x), rows_of(x)[1]
    near(m.covariance(), np.cov(x.T.astype(np.float64)), 1e-6)
    near(m.unit_covariance(), np.cov(u.T), 1e-2 if shift == 10_000 else 1e-5)
    assert m.mean_cosine == pytest.approx(
        (np.square(u.sum(axis=0)).sum() - 50_000) / (50_000 * 49_999), abs=1e-9
    )


def test_float32_is_as_good_as_float64_for_many_rows():
    x = np.random.default_rng(0).normal(size=(100_000, 32)).astype(np.float32)
    quick, exact = Moments.of(x), Moments.of(x.astype(np.float64))
    for name in ("gram", "unit_gram"):
        near(getattr(quick, name), getattr(exact, name), 2.0**-23)


def test_many_rows_of_one_norm_have_the_moments_of_their_unit_rows():
    x = np.random.default_rng(0).normal(size=(40_000, 20)) + 0.5
    x = (7 * x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    m = Moments.of(x)
    agrees(m, x)
    near(m.unit_gram, m.gram / 49, 1e-6)
    x[30_000:] *= 2  # and those of another norm beside them
    agrees(Moments.of(x), x)


def test_many_rows_some_of_which_are_wild():
    x = table("plain", 60_000, 8, 0)
    x[::234] *= 1e15  # those that tell what rows have in common
    agrees(Moments.of(x), x)
    x = table("offset", 60_000, 8, 0)
    x[[0, 20_000, 59_999]] = 0
    x[40_000] = 1e25
    agrees(Moments.of(x), x)
    x[50_000, 3] = np.nan
    with pytest.raises(InputError, match="not finite"):
        Moments.of(x)
    agrees(Moments.of(np.zeros((MANY, 3), "f")), np.zeros((MANY, 3), "f"))


def test_many_rows_give_the_same_numbers_again_and_stay_as_they_are():
    x = table("offset", 50_000, 16, 0)
    x.flags.writeable = False
    before, first, again = x.copy(), Moments.of(x), Moments.of(x)
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(first.gram, again.gram)
    np.testing.assert_array_equal(first.unit_gram, again.unit_gram)
    half = Moments.of(x.astype(np.float16))
    agrees(half, x.astype(np.float16))


@pytest.mark.parametrize("n", [100, 40_000])
def test_without_unit_rows(n):
    x = table("some zero", n, 5, 0)
    whole, part = Moments.of(x), Moments.of(x, unit=False)
    near(part.gram, whole.gram)
    assert (part.n, part.n_unit, part.norm_max) == (whole.n, whole.n_unit, whole.norm_max)
    again = Moments.from_arrays(part.merge(whole).to_arrays())
    assert again.n == 2 * n and again.units is None
    with pytest.raises(UsageError, match="without those of the unit rows"):
        again.unit_covariance()


class TestSmallDirections:
    @pytest.mark.parametrize("spread", [1.0, 1e-2, 1e-3, 1e-4, 1e-6, 0.0])
    @pytest.mark.parametrize("common", [0.0, 3.0])
    def test_every_variance_is_that_of_float64(self, spread, common):
        """However little the rows vary along some directions, or not at all."""
        rng = np.random.default_rng(0)
        scales = np.where(np.arange(24) < 18, 1.0, spread)
        turn = np.linalg.qr(rng.normal(size=(24, 24)))[0]
        x = ((rng.normal(size=(20_000, 24)) * scales) @ turn + common).astype(np.float32)
        wide = x.astype(np.float64)
        found = Moments.of(x)
        for got, rows in (
            (found.covariance(), wide),
            (found.unit_covariance(), wide / np.linalg.norm(wide, axis=1, keepdims=True)),
        ):
            want = np.linalg.eigvalsh(np.cov(rows.T))
            np.testing.assert_allclose(np.linalg.eigvalsh(got), want, rtol=1e-3, atol=1e-13)

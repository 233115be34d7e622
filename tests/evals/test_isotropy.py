"""Partition isotropy and the effect of remedies: by hand, dense, and against the remedy itself."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from embreg.evals import isotropy, transforms
from embreg.evals.subject import Subject
from embreg.registry.tables import EmbeddingTable


def subject(x: np.ndarray, **attributes) -> Subject:
    return Subject(EmbeddingTable.from_arrays(None, np.asarray(x, dtype=np.float32), attributes=attributes))


def partition(x: np.ndarray) -> float:
    made = subject(x)
    return isotropy.partition_isotropy(made, made.moments())


def effect(name: str, x: np.ndarray, rows: int = 10_000) -> isotropy.Effect:
    made = subject(x)
    return isotropy.effect(name, made.moments(), made.table.take(made.sample(rows)))


def cloud(seed: int, n: int = 200, d: int = 6) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)) * np.geomspace(2, 0.2, d) + rng.normal(size=d)
    return x.astype(np.float32)


def units(x: np.ndarray) -> np.ndarray:
    y = np.asarray(x, dtype=np.float64)
    return y / np.linalg.norm(y, axis=1, keepdims=True)


def mean_cosine(x: np.ndarray) -> float:
    u = units(x)
    return float((u @ u.T)[~np.eye(len(u), dtype=bool)].mean())


def remedied(name: str, x: np.ndarray) -> np.ndarray:
    """Each remedy by its definition, in float64."""
    y = x.astype(np.float64) - x.astype(np.float64).mean(axis=0)
    values, basis = np.linalg.eigh(np.cov(y.T))
    if name == "whiten":
        return y @ basis / np.sqrt(values)
    if name == "all-but-the-top":
        top = basis[:, -max(1, round(x.shape[1] / 100)) :]
        return y - y @ top @ top.T
    return y


def isoscore(x: np.ndarray) -> float:
    c = np.cov(x.T)
    return float((np.trace(c) ** 2 / np.square(c).sum() - 1) / (len(c) - 1))


class TestPartition:
    def test_by_hand(self):
        # Along e1: two rows at cosine 1 and one at 0; along e2 one at 1 and two at 0.
        z = [2 * np.exp(s) + 1 for s in (1, -1)] + [np.exp(s) + 2 for s in (1, -1)]
        assert partition(np.array([[3, 0], [5, 0], [0, 2]])) == pytest.approx(min(z) / max(z), rel=1e-6)
        assert partition(np.array([[0.0, 7]])) == pytest.approx(np.exp(-2), rel=1e-6)
        assert partition(np.array([[1.0], [-2]])) == pytest.approx(1)
        cross = np.vstack([np.eye(3), -np.eye(3)])
        assert partition(cross) == pytest.approx(1, rel=1e-6)

    @settings(deadline=None, max_examples=25)
    @given(seed=st.integers(0, 10_000), n=st.integers(1, 300), d=st.integers(1, 9))
    def test_against_the_definition(self, seed, n, d):
        x = cloud(seed, n, d)
        u = units(x)
        vectors = np.linalg.svd(u)[2]
        z = [np.exp(u @ (sign * c)).sum() for c in vectors for sign in (1, -1)]
        # Directions without rows are equal to each other: log Z is log n whatever their basis.
        assert partition(x) == pytest.approx(min(z) / max(z), rel=1e-4)

    @settings(deadline=None, max_examples=20)
    @given(seed=st.integers(0, 10_000), power=st.integers(-20, 20))
    def test_rotation_scale_order_and_rows_of_zeros(self, seed, power):
        x, rng = cloud(seed, 90, 5), np.random.default_rng(seed)
        turn = np.linalg.qr(rng.normal(size=(5, 5)))[0]
        lengths = rng.uniform(0.1, 9, size=(90, 1))
        moved = (x.astype(float) @ turn * lengths * 2.0**power)[rng.permutation(90)]
        assert partition(np.insert(moved, [0, 40], 0, axis=0)) == pytest.approx(partition(x), rel=1e-4)

    def test_many_blocks_and_special_rows(self):
        x = cloud(0, 9000, 4)
        marks = np.arange(9000) % 3 == 0
        made = subject(x, special=marks)
        got = isotropy.partition_isotropy(made, made.moments())
        assert got == pytest.approx(partition(x[~marks]), rel=1e-6)
        assert got != pytest.approx(partition(x), rel=1e-6)

    def test_collapsed_and_even(self):
        rng = np.random.default_rng(0)
        assert partition(rng.normal(size=(20_000, 8))) > 0.97
        assert partition(rng.normal(size=(500, 8)) * 1e-3 + 1) == pytest.approx(np.exp(-2), rel=1e-3)


class TestEffect:
    @settings(deadline=None, max_examples=25)
    @given(seed=st.integers(0, 10_000), name=st.sampled_from(isotropy.REMEDIES))
    def test_against_the_remedy_itself(self, seed, name):
        x = cloud(seed)
        after, got = remedied(name, x), effect(name, x)
        assert got.mean_cosine.value == pytest.approx(mean_cosine(after), abs=1e-5)
        assert (got.mean_cosine.n, got.mean_cosine.low, got.mean_cosine.high) == (200, None, None)
        assert got.isoscore == pytest.approx(isoscore(after), abs=1e-4)

    def test_by_hand(self):
        # A cross about (9, 9): its mean taken, the rows are ±2 along one axis and ±1 along the other.
        x = np.array([[11, 9], [7, 9], [9, 10], [9, 8]])
        got = effect("center", x)
        assert got.mean_cosine.value == pytest.approx(-1 / 3)
        assert got.isoscore == pytest.approx(32 / 68)
        assert effect("whiten", x).isoscore == pytest.approx(1)
        top = effect("all-but-the-top", x)
        assert top.isoscore == pytest.approx(0, abs=1e-6)
        # Two rows are left, ±1 on the second axis; the others lost their whole length.
        assert (top.mean_cosine.value, top.mean_cosine.n) == (pytest.approx(-1), 2)

    def test_all_but_the_top_takes_a_hundredth(self):
        x = cloud(1, 700, 300)
        assert effect("all-but-the-top", x).isoscore == pytest.approx(
            isoscore(remedied("all-but-the-top", x)), abs=1e-4
        )

    def test_a_sample_has_an_interval(self):
        x = cloud(3, 6000, 5)
        x[:, 0] = np.abs(x[:, 0]) ** 3
        for name in isotropy.REMEDIES:
            truth = effect(name, x).mean_cosine.value
            hits, widths = 0, []
            for start in range(0, 6000, 150):
                # Forty samples of one table: parts of it in a random order.
                rows = np.random.default_rng(1).permutation(6000)[start : start + 150]
                found = isotropy.effect(name, subject(x).moments(), x[rows]).mean_cosine
                hits += found.low <= truth <= found.high
                widths.append(found.high - found.low)
            assert hits >= 34, name
            sampled = effect(name, x, 1000).mean_cosine
            assert sampled.n == 1000
            assert sampled.high - sampled.low < np.mean(widths)

    @settings(deadline=None, max_examples=15)
    @given(seed=st.integers(0, 10_000), power=st.integers(-15, 15))
    def test_rotation_scale_and_order_of_rows(self, seed, power):
        x, rng = cloud(seed, 90, 5), np.random.default_rng(seed)
        turn = np.linalg.qr(rng.normal(size=(5, 5)))[0]
        moved = (x.astype(float) @ turn * 2.0**power)[rng.permutation(90)]
        for name in isotropy.REMEDIES:
            want, got = effect(name, x), effect(name, moved)
            assert got.isoscore == pytest.approx(want.isoscore, abs=1e-4)
            assert got.mean_cosine.value == pytest.approx(want.mean_cosine.value, abs=1e-4)

    def test_the_covariance_after_is_that_of_the_rows_after(self):
        """What is taken from the moments, against moments of the transformed table."""
        x = cloud(5, 500, 8)
        for name in isotropy.REMEDIES:
            made = subject(x)
            done = transforms.fit(name, {}, made.moments(), x, dtype="float32", unit=False).apply(x)
            assert effect(name, x).isoscore == pytest.approx(isoscore(done.astype(float)), abs=1e-4)

    def test_nothing_is_left(self):
        nothing = "nothing but rounding is left of the rows"
        two = effect("all-but-the-top", np.array([[1.0, 2, 3], [3, 1, 2]]))
        assert (two.mean_cosine, two.isoscore) == (nothing, nothing)
        line = np.outer(np.arange(1.0, 20), [1, 2, 4]) / 7
        assert effect("all-but-the-top", line).isoscore == nothing
        narrow = effect("all-but-the-top", np.arange(1.0, 20)[:, None])
        assert (
            narrow.isoscore == narrow.mean_cosine == "all-but-the-top would leave nothing of rows of width 1"
        )
        assert effect("whiten", line).isoscore == "one dimension is always evenly used"

    @pytest.mark.parametrize("scale", [1e30, 1e37, 1e-30, 1e-38])
    def test_huge_and_tiny_rows(self, scale):
        x = cloud(0)
        for name in isotropy.REMEDIES:
            want, got = effect(name, x), effect(name, x.astype(np.float64) * scale)
            assert got.mean_cosine.value == pytest.approx(want.mean_cosine.value, abs=1e-3)
            assert got.isoscore == pytest.approx(want.isoscore, abs=1e-3)

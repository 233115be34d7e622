"""The filter of 8-bit products: what it must survive beside the tables that every way is tested on."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from embreg.evals import knn, threads
from embreg.evals.sweeps import int8
from embreg.registry.errors import InputError

pytestmark = pytest.mark.skipif(not int8.instructions(), reason="no compiler, or another processor")
METRICS = ("cosine", "dot", "l2")


def brute(x: np.ndarray, y: np.ndarray, k: int, metric: str, barred: np.ndarray) -> tuple[np.ndarray, ...]:
    return knn._exact(x, y, k, metric, barred)


def nothing(q: int) -> np.ndarray:
    return np.empty((q, 0), dtype=np.int64)


def check(x: np.ndarray, y: np.ndarray, k: int, metric: str) -> None:
    """The kernel's rows and scores are those of float64 products, up to a last digit and what ties by it."""
    rows, scores = int8.neighbors(x, y, k, metric, nothing(len(x)))
    want_rows, want = brute(x, y, k, metric, nothing(len(x)))
    np.testing.assert_allclose(scores, want, rtol=2.0**-23)
    assert (rows == want_rows).mean() > 0.999


class TestTables:
    @pytest.mark.parametrize("metric", METRICS)
    def test_many_clusters_of_many_dimensions(self, metric):
        rng = np.random.default_rng(0)
        centres = rng.normal(size=(40, 300))
        x = (centres[rng.integers(40, size=6000)] + 0.3 * rng.normal(size=(6000, 300))).astype(np.float32)
        check(x[:500], x, 12, metric)
        rows, scores = int8.self_neighbors(x, 12, metric)
        want_rows, want = brute(x, x, 12, metric, np.arange(6000)[:, None])
        np.testing.assert_allclose(scores, want, rtol=2.0**-23)
        assert (rows == want_rows).mean() > 0.999

    @pytest.mark.parametrize("metric", METRICS)
    def test_scores_that_lie_closer_than_the_codes_can_tell(self, metric):
        """All rows within the error of the filter: nothing can be ruled out by it."""
        rng = np.random.default_rng(1)
        x = (rng.normal(size=48) + 1e-3 * rng.normal(size=(3000, 48))).astype(np.float32)
        check(x[::10], x, 10, metric)

    @pytest.mark.parametrize("metric", METRICS)
    def test_one_coordinate_holds_nearly_all(self, metric):
        x = np.random.default_rng(2).normal(size=(3000, 40)).astype(np.float32)
        x[:, 3] *= 1000
        check(x[::10], x, 10, metric)

    @pytest.mark.parametrize("metric", METRICS)
    def test_later_rows_are_always_nearer(self, metric):
        """A table sorted against the search: every row is better than all before it."""
        x = np.random.default_rng(3).normal(size=(4000, 16)).astype(np.float32)
        order = np.argsort(knn.scores(x[:1], x, metric)[0])
        check(x[:40], x[order], 10, metric)

    @pytest.mark.parametrize("metric", ["dot", "l2"])
    def test_a_row_far_longer_than_those_the_scale_was_taken_from(self, metric, monkeypatch):
        monkeypatch.setattr(int8, "_SAMPLE", 10)
        x = np.random.default_rng(4).normal(size=(2000, 8)).astype(np.float32)
        x[777] *= np.float32(1e30)
        check(x[:50], x, 5, metric)
        check(x[770:780], x, 5, metric)
        rows, _ = int8.self_neighbors(x, 5, metric)
        np.testing.assert_array_equal(rows, brute(x, x, 5, metric, np.arange(2000)[:, None])[0])

    @pytest.mark.parametrize("types", [("f8", "f4"), ("f2", "f8"), ("f2", "f4"), ("f2", "f2"), ("f8", "f8"),
                                       (">f4", "<f4"), ("f4", ">f8")])  # fmt: skip
    def test_any_two_types(self, types, monkeypatch):
        monkeypatch.setattr(knn, "_SMALL", 0)
        rng = np.random.default_rng(5)
        x, y = (rng.normal(size=(n, 9)).astype(t) for n, t in zip((100, 900), types, strict=True))
        found = knn.neighbors(x, y, 7)
        want = brute(x.astype("f8"), y.astype("f8"), 7, "cosine", nothing(100))
        np.testing.assert_array_equal(found.rows, want[0])

    def test_wide_rows_go_another_way(self):
        assert int8.serves(1 << 17) and not int8.serves((1 << 17) + 1)

    def test_as_many_neighbours_as_there_are_rows(self):
        x = np.random.default_rng(6).normal(size=(700, 5)).astype(np.float32)
        check(x[:30], x, 700, "cosine")


class TestThreads:
    def test_the_answer_does_not_depend_on_their_number(self, monkeypatch):
        x = np.random.default_rng(0).integers(-3, 4, size=(3000, 12)).astype(np.float32)
        found = []
        for workers in (1, 2, 16):
            monkeypatch.setattr(threads, "workers", lambda workers=workers: workers)
            monkeypatch.setattr(int8, "workers", lambda workers=workers: workers)
            found.append((*int8.self_neighbors(x, 9, "l2"), *int8.neighbors(x, x, 9, "dot", nothing(3000))))
        for other in found[1:]:
            for a, b in zip(found[0], other, strict=True):
                np.testing.assert_array_equal(a, b)

    def test_many_threads_at_one_row(self, monkeypatch):
        """Two queries, thousands of offers from sixteen threads switched as often as can be."""
        monkeypatch.setattr(threads, "workers", lambda: 16)
        monkeypatch.setattr(int8, "_STRIP", 16)
        monkeypatch.setattr(int8, "_LEAST", 16)
        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            x = np.random.default_rng(1).normal(size=(20_000, 4)).astype(np.float32)
            for k in (1, 50, 1000):
                check(x[:2], x, k, "dot")
        finally:
            sys.setswitchinterval(before)


class TestRefusals:
    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    @pytest.mark.parametrize("at", [0, 2999])
    def test_a_row_that_is_not_finite(self, bad, at):
        x = np.ones((3000, 4), dtype=np.float32)
        x[at, 1] = bad
        for ask in (lambda: int8.self_neighbors(x, 3, "dot"),
                    lambda: int8.neighbors(np.ones((9, 4), "f4"), x, 3, "cosine", nothing(9)),
                    lambda: int8.neighbors(x, np.ones((9, 4), "f4"), 3, "l2", nothing(3000))):  # fmt: skip
            with pytest.raises(InputError, match="not finite"):
                ask()

    def test_memory_that_is_too_short_is_refused_not_read(self):
        from embreg.evals.sweeps import _int8

        x = np.ones((32, 8), dtype=np.float32)
        form = int8._form(x, "cosine")
        codes = int8._Codes.room(32, form, left=True, right=True)
        codes.fill(x, form, 0)
        side = int8._Board(32, 3).side(codes, x, 0, nothing(32))
        how = (8, 2, 0, True, True, 1.0, int8.instructions()["avx2"])
        _int8.sweep(side, side, *how, 0, 2, 0, 2, True)
        with pytest.raises(ValueError, match="panels out of range"):
            _int8.sweep(side, side, *how, 0, 3, 0, 2, True)
        for at in (1, 5, 6, 8, 9):
            short = tuple(part[:1] if i == at else part for i, part in enumerate(side))
            with pytest.raises(ValueError, match=r"holds .* bytes of"):
                _int8.sweep(short, side, *how, 0, 2, 0, 2, True)
        with pytest.raises(ValueError, match="cannot do that"):
            _int8.sweep(side, side, *how[:-1], 9, 0, 2, 0, 2, True)
        with pytest.raises(ValueError, match="too few"):
            _int8.pack(x[:16], 4, 32, 8, codes.arrays, 0, form.centre, 0, 1.0)

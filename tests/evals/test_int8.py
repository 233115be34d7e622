"""The filter of 8-bit products: what it must survive beside the tables that every way is tested on."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from embreg.evals import knn, threads
from embreg.evals.sweeps import int8
from embreg.registry.errors import InputError

from .test_knn import KINDS, table

CPU = Path("/proc/cpuinfo")
FLAGS = set(CPU.read_text(encoding="utf-8").split()) if CPU.exists() else set()
BUILT = importlib.util.find_spec("embreg.evals.sweeps._int8") is not None
# Not by what the module says of itself: products that are wrong must not skip the tests that would show it.
pytestmark = pytest.mark.skipif(
    not (BUILT and {"avx2", "fma", "f16c"} <= FLAGS), reason="no compiler, or another processor"
)
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
                                       ("f4", "f2"), (">f4", "<f4"), ("f4", ">f8")])  # fmt: skip
    def test_any_two_types(self, types, monkeypatch):
        monkeypatch.setattr(knn, "_SMALL", 0)
        rng = np.random.default_rng(5)
        x, y = (rng.normal(size=(n, 9)).astype(t) for n, t in zip((100, 900), types, strict=True))
        found = knn.neighbors(x, y, 7)
        want = brute(x.astype("f8"), y.astype("f8"), 7, "cosine", nothing(100))
        np.testing.assert_array_equal(found.rows, want[0])

    def test_queries_keep_the_digits_that_the_base_has_not(self):
        for dtype in ("float16", "float32", "float64"):
            base = np.array([[1, -1], [-1, 1]], dtype=dtype)
            rows, scores = int8.neighbors(np.array([[1, 1 + 2.0**-40]]), base, 2, "dot", nothing(1))
            assert (rows.tolist(), scores.tolist()) == ([[1, 0]], [[2.0**-40, -(2.0**-40)]])

    def test_wide_rows_go_another_way(self):
        assert int8.serves(1 << 17) and not int8.serves((1 << 17) + 1)

    def test_as_many_neighbours_as_there_are_rows(self):
        x = np.random.default_rng(6).normal(size=(700, 5)).astype(np.float32)
        check(x[:30], x, 700, "cosine")


def of_filter(kind, n, d, rng):
    """Tables made against the bound, besides those of ``test_knn``."""
    x = rng.normal(size=(n, d))
    if kind == "far":  # little but rounding is left when the centre is taken away
        return 10.0 ** rng.uniform(-3, 3) + 10.0 ** rng.uniform(-17, -3) * x
    if kind == "ties of 24 digits":
        return np.round(4 * x) / 4 + rng.integers(-1, 2, size=(n, d)) * 2.0**-26
    if kind == "long and short":
        return x * 10.0 ** rng.uniform(-15, 15, size=(n, 1))
    if kind == "short":  # squares are denormals of float32
        return x * 10.0 ** rng.uniform(-24, -20)
    if kind == "opposite":
        return np.concatenate([x[: n // 2 + 1], -x])[:n] * rng.choice([1, 2], size=(n, 1))
    return table(kind, n, d, rng)


def barred(
    rows: np.ndarray, scores: np.ndarray, exclude: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The first ``k`` of each query that are not excluded."""
    kept = [np.flatnonzero(~np.isin(found, own))[:k] for found, own in zip(rows, exclude, strict=True)]
    return np.take_along_axis(rows, np.array(kept), axis=1), np.take_along_axis(
        scores, np.array(kept), axis=1
    )


class TestFilter:
    """What the filter rules out does not matter: not a neighbour, not a tie, not a digit."""

    @pytest.mark.parametrize(
        "kind", [*KINDS, "far", "ties of 24 digits", "long and short", "short", "opposite"]
    )
    @given(
        n=st.integers(5, 150),
        d=st.integers(1, 70),
        k=st.sampled_from((1, 2, 3, 10, 40)),
        metric=st.sampled_from(METRICS),
        dtype=st.sampled_from(("float32", "float64", "float16")),
        e=st.sampled_from((-1, 0, 1, 3)),
        small=st.booleans(),
        seed=st.integers(0, 10_000),
    )
    @settings(deadline=None, max_examples=60)
    def test_the_nearest_are_the_first_of_all(self, kind, n, d, k, metric, dtype, e, small, seed):
        """A heap as long as the table is full at the end only: asked for all, the kernel rules none out."""
        rng = np.random.default_rng(seed)
        with np.errstate(over="ignore"):
            x = of_filter(kind, n, d, rng).astype(dtype)
        x[~np.isfinite(x)] = 1
        exclude = rng.integers(-1, n, size=(n, e)) if e >= 0 else np.arange(n)[:, None]
        k = min(k, n - max(e, 1))
        want = barred(*int8.neighbors(x, x, n, metric, nothing(n)), exclude, k)
        with pytest.MonkeyPatch.context() as patch:
            cut = {"_CHUNK": 16, "_STRIP": 21, "_LEAST": 16, "_SAMPLE": 5} if small else {}
            for name, value in cut.items():
                patch.setattr(int8, name, value)
            found = int8.neighbors(x, x, k, metric, exclude) if e >= 0 else int8.self_neighbors(x, k, metric)
        np.testing.assert_array_equal(found[0], want[0])
        np.testing.assert_array_equal(found[1], want[1])

    @pytest.mark.parametrize("d", [102, 1002])
    def test_codes_longer_than_their_row(self, d, monkeypatch):
        """The two residuals lie along the codes of the other row: the score is the bound, but for a hair.

        All other rows score between that and the bound of one who takes codes to be no longer than their row.
        """
        monkeypatch.setattr(int8, "_SAMPLE", 1)  # the first row, 0: no centre, scale 1
        step = 1 / 63
        query, nearest, base = np.full(d, 0.51 * step), np.full(d, -1 + 0.495 * step**2), np.zeros((64, d))
        query[0], nearest[0], nearest[1] = 1, 0.49 * step, -1
        base[1:, 0], base[48] = query @ nearest - 3e-5, nearest
        rows, _ = int8.neighbors(query[None], base, 2, "dot", nothing(1))
        assert rows.tolist() == [[0, 48]]

    def test_bounds_that_are_rounded_down(self, monkeypatch):
        """Rows that are nothing but codes: the bound is the score, but for float32."""
        for name, value in {"_SAMPLE": 1, "_STRIP": 16, "_LEAST": 16}.items():
            monkeypatch.setattr(int8, name, value)
        for seed in range(10):
            rng = np.random.default_rng(seed)
            codes = np.append(63, rng.integers(-63, 64, size=1 + seed % 7))
            x, base = (
                codes * rng.uniform(0.5, 1, size=(200, 1)).astype(np.float32).astype(float),
                np.zeros((64, len(codes))),
            )
            base[1:] = codes * float(np.float32(rng.uniform(0.5, 1)))
            rows, _ = int8.neighbors(x, base, 5, "dot", nothing(200))
            np.testing.assert_array_equal(rows, np.tile(np.arange(1, 6), (200, 1)))

    def test_equal_rows_across_a_long_query(self, monkeypatch):
        """Scores that are noise of float64, and tie: the bound has noise of its own, in another order."""
        monkeypatch.setattr(int8, "_STRIP", 16)
        monkeypatch.setattr(int8, "_LEAST", 16)
        for seed in range(6):
            rng = np.random.default_rng(seed)
            row = rng.uniform(0.5, 1.5, size=1024)
            x = rng.uniform(0.5, 1.5, size=(20, 1024)) * np.where(np.arange(1024) < 512, 1, -1)
            x -= (x @ row / (row @ row))[:, None] * row
            rows, _ = int8.neighbors(x * 2.0 ** (36 + seed), np.tile(row, (300, 1)), 5, "dot", nothing(20))
            np.testing.assert_array_equal(rows, np.tile(np.arange(5), (20, 1)))

    def test_float32_rounds_every_term_the_same_way(self, monkeypatch):
        monkeypatch.setattr(int8, "_STRIP", 16)
        monkeypatch.setattr(int8, "_LEAST", 16)
        for value in range(4097, 8191, 128):
            x = np.random.default_rng(value).choice([-value, value], size=(64, 1600)).astype(np.float32)
            rows, scores = int8.neighbors(np.zeros((1, 1600), dtype=np.float32), x, 5, "l2", nothing(1))
            assert rows.tolist() == [[0, 1, 2, 3, 4]]
            assert (scores == -np.float32(1600.0 * value**2)).all()


class TestProducts:
    def test_every_instruction_set_of_this_processor_multiplies_right(self):
        wide = {"avx512f", "avx512bw", "avx512vl", "avx512_vnni"} <= FLAGS
        assert list(int8.instructions()) == ["avx512vnni"] * wide + ["avx2"]


class TestDigits:
    @pytest.mark.parametrize("d", [1, 9])
    def test_scores_have_the_digits_of_float32(self, d):
        """Halves go to the even digit, as they do where float64 becomes float32."""
        numbers = np.random.default_rng(0).integers(-(1 << 28), 1 << 28, size=(500, 1)).astype(float)
        halves = (2.0 * np.arange(1 << 24, (1 << 24) + 40) + 1)[:, None]
        base = np.zeros((580, d))
        base[:, :1] = np.concatenate([numbers, halves, -halves])
        rows, scores = int8.neighbors(np.eye(1, d), base, 580, "dot", nothing(1))
        np.testing.assert_array_equal(scores[0], base[rows[0], 0].astype(np.float32))

    @pytest.mark.parametrize("d", [2, 16])
    def test_orthogonal_rows_tie_at_0(self, d):
        rng = np.random.default_rng(1)
        x = rng.normal(size=(200, d))
        across = np.stack([-x[:, 1::2], x[:, ::2]], axis=2).reshape(200, d)
        for query, row in zip(x, across, strict=True):
            base = row * rng.uniform(0.1, 10, size=(8, 1))
            rows, scores = int8.neighbors(query[None], base, 8, "cosine", nothing(1))
            assert (rows[0].tolist(), scores[0].tolist()) == (list(range(8)), [0] * 8)


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
        how = (8, 2, 0, True, 1.0, int8.instructions()["avx2"])
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


class TestEdges:
    @pytest.mark.parametrize("metric", ["dot", "l2"])
    @pytest.mark.parametrize("power", [-157, -160])
    def test_scores_that_are_denormal_in_float64(self, metric, power):
        x = np.random.default_rng(0).normal(size=(500, 8)) * 10.0**power
        rows, scores = int8.self_neighbors(x, 5, metric)
        want_rows, want = brute(x, x, 5, metric, np.arange(500)[:, None])
        np.testing.assert_array_equal(rows, want_rows)
        np.testing.assert_array_equal(scores, want)

    def test_excluded_rows_in_any_order_of_memory(self, monkeypatch):
        monkeypatch.setattr(knn, "_SMALL", 0)
        x = np.random.default_rng(0).normal(size=(500, 8)).astype(np.float32)
        barred = np.stack([np.arange(100), np.arange(100)[::-1]]).T
        assert not barred.flags.c_contiguous
        found = knn.neighbors(x[:100], x, 5, exclude=barred)
        want = knn.neighbors(x[:100], x, 5, exclude=np.ascontiguousarray(barred))
        np.testing.assert_array_equal(found.rows, want.rows)
        assert not (found.rows[:, :, None] == barred[:, None]).any()

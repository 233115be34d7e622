"""Neighbours against brute force in float64 and against FAISS, on both routes, ties and extremes included."""

import contextlib
import time

import faiss
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import example, given, settings

from embreg.evals import knn
from embreg.evals.knn import neighbors, self_neighbors
from embreg.evals.sweeps import float32, int8
from embreg.registry.errors import InputError, UnknownChoice, UsageError
from embreg.registry.vectors import unit_rows

METRICS = ("cosine", "dot", "l2")
LARGEST, TINY = float(np.finfo(np.float32).max), float(np.finfo(np.float32).tiny)


#: The ways to an answer: its definition; products in float32, also with tiles so small that little tables
#: need many; products of 8 bits, also with strips and chunks so small.
ROUTES = ("exact", "float32", "tiles", *(("int8", "strips") if int8.instructions() else ()))
SETTINGS = {
    "exact": {knn: {"_SMALL": 1 << 60}},
    "float32": {},
    "tiles": {float32: {"_HIGH": 16, "_WIDE": 32, "_OWN": 16, "_TILE": 256}},
    "int8": {},
    "strips": {int8: {"_CHUNK": 16, "_STRIP": 48, "_LEAST": 16, "_HELD": 1 << 13, "_SAMPLE": 5}},
}


@contextlib.contextmanager
def route(name):
    """Force one way, however small the table."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(knn, "_SMALL", 0)
        if name not in ("int8", "strips"):
            patch.setattr(int8, "serves", lambda d: False)
        for module, values in SETTINGS[name].items():
            for key, value in values.items():
                patch.setattr(module, key, value)
        yield


def truth(queries, base, metric):
    """All scores ``(q, n)`` from the definition: the digits of float32, in the range of float64."""
    x, y = (np.asarray(a, dtype=np.float64) for a in (queries, base))
    if metric == "cosine":
        x, y = (a / np.where((n := np.linalg.norm(a, axis=1)) > 0, n, 1)[:, None] for a in (x, y))
    scores = -np.square(x[:, None, :] - y[None]).sum(axis=2) if metric == "l2" else x @ y.T
    if metric == "cosine":
        scores = np.round(scores * 2.0**40) / 2.0**40
    digits, exponent = np.frexp(scores)
    return np.ldexp(digits.astype(np.float32).astype(np.float64), exponent)


def best(scores, k):
    """The k best columns of each row by (score descending, column ascending)."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def same(a, b):
    """Whether two float32 arrays are equal but for the last bit."""
    return bool((np.abs(a.astype(np.float64) - b) <= np.abs(a.astype(np.float64)) * 2.0**-23).all())


def check(found, scores, k):
    """Assert that an answer is right up to the last bit of ``scores`` (-inf: excluded)."""
    assert found.rows.dtype == np.int64 and found.scores.dtype == np.float32
    assert found.rows.shape == found.scores.shape == (len(scores), k)
    given_scores = np.take_along_axis(scores, found.rows, axis=1)
    assert np.isfinite(given_scores).all()
    wanted = np.take_along_axis(scores, best(scores, k), axis=1)
    assert same(wanted, given_scores)
    # What leaves the range of float32 is saturated, or a denormal, only after it was ordered.
    clipped = np.clip(given_scores, -LARGEST, LARGEST).astype(np.float32)
    normal = (clipped == given_scores) & ((np.abs(given_scores) >= TINY) | (given_scores == 0))
    assert (np.abs(clipped - found.scores.astype(np.float64)) <= np.abs(clipped) * 2.0**-23 + 2.0**-149).all()
    first, second = found.scores[:, :-1], found.scores[:, 1:]
    assert (first >= second).all()
    tied = (first == second) & normal[:, :-1] & normal[:, 1:]
    assert (np.diff(found.rows, axis=1)[tied] > 0).all()
    assert all(len(set(rows)) == k for rows in found.rows.tolist())


def table(kind, n, d, rng):
    """Tables that are hard in one way each."""
    x = rng.normal(size=(n, d))
    if kind == "clustered":
        x = rng.normal(size=(3, d))[rng.integers(3, size=n)] + 1e-4 * x
    elif kind == "duplicated":
        x = x[rng.integers(max(1, n // 8), size=n)]
    elif kind == "near-tied":
        x = np.ones((n, d)) + 1e-7 * x
    elif kind == "offset":
        x = x + 1000
    elif kind == "huge":
        x = x * 10.0 ** rng.uniform(25, 36, size=(n, 1))
    elif kind == "denormal":
        x = x * 10.0 ** rng.uniform(-44, -36, size=(n, 1))
    elif kind == "some zero":
        x[rng.random(n) < 0.3] = 0
    elif kind == "zero":
        x[:] = 0
    elif kind == "equal":
        x[:] = x[0]
    elif kind == "integers":
        x = rng.integers(-2, 3, size=(n, d)).astype(float)
    return x


KINDS = ("random", "clustered", "duplicated", "near-tied", "offset", "huge", "denormal", "some zero", "zero",
         "equal", "integers")  # fmt: skip
tables = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(KINDS),
        "n": st.integers(2, 130),
        "d": st.integers(1, 20),
        "seed": st.integers(0, 1000),
        "dtype": st.sampled_from(("float32", "float32", "float64", "float16")),
    }
)


def make(spec):
    scale = 1e-33 if spec["dtype"] == "float16" and spec["kind"] == "huge" else 1
    x = table(spec["kind"], spec["n"], spec["d"], np.random.default_rng(spec["seed"])) * scale
    return x.astype(spec["dtype"])


class TestDefinition:
    @pytest.mark.parametrize("name", ROUTES)
    def test_by_hand(self, name):
        base = np.array([[1, 0], [0, 2], [3, 3], [-1, 0], [0, 0]], dtype=np.float32)
        with route(name):
            cosine = neighbors(np.array([[2, 0]], dtype=np.float32), base, 5)
            dot = neighbors(np.array([[2, 0]], dtype=np.float32), base, 3, "dot")
            l2 = neighbors(np.array([[2, 0]], dtype=np.float32), base, 3, "l2")
        assert cosine.rows.tolist() == [[0, 2, 1, 4, 3]]
        np.testing.assert_allclose(cosine.scores, [[1, 0.5**0.5, 0, 0, -1]], rtol=1e-7)
        assert (dot.rows.tolist(), dot.scores.tolist()) == ([[2, 0, 1]], [[6, 2, 0]])
        assert (l2.rows.tolist(), l2.scores.tolist()) == ([[0, 4, 1]], [[-1, -4, -8]])

    @given(
        spec=tables,
        metric=st.sampled_from(METRICS),
        k=st.integers(1, 25),
        name=st.sampled_from(ROUTES),
    )
    @example(
        spec={"kind": "equal", "n": 130, "d": 3, "seed": 0, "dtype": "float32"},
        metric="l2",
        k=20,
        name="tiles",
    )
    @example(
        spec={"kind": "duplicated", "n": 130, "d": 3, "seed": 0, "dtype": "float32"},
        metric="cosine",
        k=10,
        name="tiles",
    )
    @example(
        spec={"kind": "huge", "n": 90, "d": 5, "seed": 1, "dtype": "float32"}, metric="l2", k=7, name="tiles"
    )
    @example(
        spec={"kind": "denormal", "n": 90, "d": 5, "seed": 1, "dtype": "float32"},
        metric="dot",
        k=7,
        name="tiles",
    )
    @settings(deadline=None, max_examples=150)
    def test_self_neighbors_are_those_of_brute_force(self, spec, metric, k, name):
        x = make(spec)
        k = min(k, len(x) - 1)
        scores = truth(x, x, metric)
        np.fill_diagonal(scores, -np.inf)
        with route(name):
            check(self_neighbors(x, k, metric), scores, k)

    @given(
        spec=tables,
        metric=st.sampled_from(METRICS),
        k=st.integers(1, 25),
        q=st.integers(0, 70),
        e=st.integers(0, 3),
        name=st.sampled_from(ROUTES),
    )
    @settings(deadline=None, max_examples=150)
    def test_neighbors_are_those_of_brute_force(self, spec, metric, k, q, e, name):
        x, rng = make(spec), np.random.default_rng(spec["seed"])
        queries = np.concatenate([x, x[::-1] * x.dtype.type(0.5)])[:q]
        exclude = rng.integers(-1, len(x), size=(len(queries), e))
        k = max(1, min(k, len(x) - e))
        scores = truth(queries, x, metric)
        row, column = np.nonzero(exclude >= 0)
        scores[row, exclude[row, column]] = -np.inf
        if (np.isfinite(scores).sum(axis=1) < k).any():
            return
        with route(name):
            check(neighbors(queries, x, k, metric, exclude=exclude), scores, k)

    @given(
        seed=st.integers(0, 1000),
        metric=st.sampled_from(("dot", "l2")),
        n=st.integers(2, 150),
        name=st.sampled_from(ROUTES),
    )
    @settings(deadline=None, max_examples=60)
    def test_ties_go_to_the_lower_row(self, seed, metric, n, name):
        # Whole numbers multiply exactly, so every answer is fixed to the last row.
        x = table("integers", n, 3, np.random.default_rng(seed)).astype(np.float32)
        k = min(10, n - 1)
        scores = truth(x, x, metric)
        np.fill_diagonal(scores, -np.inf)
        with route(name):
            found = self_neighbors(x, k, metric)
        np.testing.assert_array_equal(found.rows, best(scores, k))
        np.testing.assert_array_equal(found.scores, np.take_along_axis(scores, found.rows, axis=1))

    @pytest.mark.parametrize("metric", METRICS)
    def test_scores_beyond_float32_saturate(self, metric):
        x = np.array([[3e38, 0], [-3e38, 0], [0, 1]], dtype=np.float32)
        found = self_neighbors(x, 2, metric)
        assert np.isfinite(found.scores).all()
        assert found.rows[0].tolist() == [2, 1]


class TestScores:
    @given(spec=tables, metric=st.sampled_from(METRICS))
    @settings(deadline=None, max_examples=50)
    def test_of_all_pairs_and_of_some(self, spec, metric):
        x = make(spec)
        want = truth(x, x, metric)
        # What is left of terms that cancel each other depends on their order.
        tolerance = {"rtol": 2.0**-22, "atol": 2.0**-39 * (1 if metric == "cosine" else np.abs(want).max())}
        np.testing.assert_allclose(knn.scores(x, x, metric), want, **tolerance)
        near = knn.between(x[1:], x[:-1], metric)
        np.testing.assert_allclose(near, np.diagonal(want, -1), **tolerance)

    def test_those_that_may_have_left_float32(self):
        scores = np.array([0, 1, -1, LARGEST, -LARGEST, TINY / 2, TINY], dtype=np.float32)
        assert knn.beyond(scores).tolist() == [True, False, False, True, True, True, False]


class TestInvariants:
    @given(
        seed=st.integers(0, 1000),
        metric=st.sampled_from(METRICS),
        power=st.integers(-20, 20),
        name=st.sampled_from(ROUTES),
    )
    @settings(deadline=None, max_examples=30)
    def test_scaling_by_a_power_of_two_keeps_rows(self, seed, metric, power, name):
        x = np.random.default_rng(seed).normal(size=(80, 6)).astype(np.float32)
        with route(name):
            a, b = self_neighbors(x, 5, metric), self_neighbors(x * np.float32(2.0**power), 5, metric)
        np.testing.assert_array_equal(a.rows, b.rows)
        exponent = 0 if metric == "cosine" else 2 * power
        np.testing.assert_array_equal(a.scores * np.float32(2.0**exponent), b.scores)

    @given(
        seed=st.integers(0, 1000),
        metric=st.sampled_from(METRICS),
        power=st.sampled_from((-140, -100, 90, 120)),
        name=st.sampled_from(ROUTES),
    )
    @settings(deadline=None, max_examples=30)
    def test_rows_whose_squares_leave_float32_are_ordered_alike(self, seed, metric, power, name):
        x = np.random.default_rng(seed).integers(-99, 99, size=(80, 6)).astype(np.float32)
        with route(name):
            a, b = self_neighbors(x, 5, metric), self_neighbors(x * np.float32(2.0**power), 5, metric)
        np.testing.assert_array_equal(a.rows, b.rows)
        assert np.isfinite(b.scores).all()

    @given(seed=st.integers(0, 1000), metric=st.sampled_from(METRICS), name=st.sampled_from(ROUTES))
    @settings(deadline=None, max_examples=30)
    def test_rotation_keeps_scores(self, seed, metric, name):
        rng = np.random.default_rng(seed)
        x, turn = rng.normal(size=(80, 6)), np.linalg.qr(rng.normal(size=(6, 6)))[0]
        with route(name):
            a, b = self_neighbors(x, 5, metric), self_neighbors(x @ turn, 5, metric)
        np.testing.assert_allclose(a.scores, b.scores, rtol=3e-7, atol=1e-12)

    @given(seed=st.integers(0, 1000), metric=st.sampled_from(METRICS), name=st.sampled_from(ROUTES))
    @settings(deadline=None, max_examples=30)
    def test_permuting_rows_permutes_answers(self, seed, metric, name):
        rng = np.random.default_rng(seed)
        x, order = rng.normal(size=(80, 6)).astype(np.float32), rng.permutation(80)
        with route(name):
            a, b = self_neighbors(x, 5, metric), self_neighbors(x[order], 5, metric)
        np.testing.assert_array_equal(a.rows[order], order[b.rows])

    @pytest.mark.parametrize("name", ROUTES)
    def test_inputs_stay_untouched_and_may_be_read_only(self, name, tmp_path):
        x = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
        np.save(tmp_path / "x.npy", x)
        mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
        with route(name):
            for metric in METRICS:
                found = self_neighbors(mapped, 3, metric)
                np.testing.assert_array_equal(found.rows, self_neighbors(x.copy(), 3, metric).rows)
                np.testing.assert_array_equal(
                    found.rows, self_neighbors(np.asfortranarray(x), 3, metric).rows
                )
        np.testing.assert_array_equal(mapped, x)


class TestCertificate:
    def test_an_easy_table_never_leaves_the_sweep(self, monkeypatch):
        x = np.random.default_rng(0).normal(size=(3000, 30)).astype(np.float32)
        with route("exact"):
            want = self_neighbors(x, 10)
        monkeypatch.setattr(knn, "_exact", None)
        with route("float32"):
            np.testing.assert_array_equal(self_neighbors(x, 10).rows, want.rows)

    def test_what_the_sweep_cannot_prove_is_answered_exactly(self, monkeypatch):
        # 20 copies of each row: ten neighbours with equal scores, and nine more behind them.
        x = np.repeat(np.random.default_rng(0).normal(size=(150, 8)).astype(np.float32), 20, axis=0)
        asked = []
        exact = knn._exact
        monkeypatch.setattr(knn, "_exact", lambda q, *rest: asked.append(len(q)) or exact(q, *rest))
        with route("float32"):
            found = self_neighbors(x, 10)
        assert asked == [3000]
        first = np.arange(3000)[:, None] // 20 * 20 + np.arange(11)
        own = np.arange(3000)[:, None]
        want = [[r for r in rows if r != i][:10] for i, rows in zip(own[:, 0], first.tolist(), strict=True)]
        np.testing.assert_array_equal(found.rows, want)

    @pytest.mark.parametrize("d", [1, 7, 200])
    @pytest.mark.parametrize("metric", METRICS)
    def test_the_ceiling_holds(self, metric, d):
        rng = np.random.default_rng(d)
        x = (rng.normal(size=(200, d)) * rng.lognormal(sigma=3, size=(200, 1)) + 5).astype(np.float32)
        made, _ = sweep_prepared(x, metric)
        products = made.mirrored(slice(None)) @ made.rows.T
        scores = truth(x, x, metric).astype(np.float64)
        for j in range(200):
            ceiling = made.ceiling(products[:, j], float(made.norms.max()))
            assert (ceiling >= scores[:, j] - np.abs(scores[:, j]) * 1e-7 - 1e-300).all()

    @pytest.mark.parametrize("metric", METRICS)
    @pytest.mark.parametrize("value", [0.0, 1.0])
    def test_equal_rows_take_seconds(self, metric, value):
        x = np.full((5000, 50), value, dtype=np.float32)
        start = time.perf_counter()
        found = self_neighbors(x, 10, metric)
        assert time.perf_counter() - start < 30
        assert found.rows[0].tolist() == list(range(1, 11))
        assert found.rows[4999].tolist() == list(range(10))
        assert len(set(found.scores.ravel().tolist())) == 1


def sweep_prepared(x, metric):
    from embreg.evals.sweeps.prepared import prepare

    return prepare(x, x, metric)


class TestAgainstFaiss:
    KINDS = (("cosine", faiss.METRIC_INNER_PRODUCT), ("l2", faiss.METRIC_L2))

    @pytest.mark.parametrize(("metric", "faiss_metric"), KINDS)
    def test_self_neighbors_over_several_chunks(self, metric, faiss_metric):
        x = np.random.default_rng(0).normal(size=(9001, 24)).astype(np.float32)
        u = unit_rows(x) if metric == "cosine" else x
        distances, rows = faiss.knn(u, u, 11, metric=faiss_metric)
        found = self_neighbors(x, 10, metric)
        sign = 1 if metric == "cosine" else -1
        np.testing.assert_allclose(found.scores, sign * distances[:, 1:], rtol=1e-4, atol=1e-5)
        assert (found.rows == rows[:, 1:]).mean() > 0.999

    @pytest.mark.parametrize(("metric", "faiss_metric"), KINDS)
    def test_many_queries(self, metric, faiss_metric):
        rng = np.random.default_rng(1)
        x, q = (rng.normal(size=(n, 24)).astype(np.float32) for n in (20_000, 700))
        u, v = (unit_rows(q), unit_rows(x)) if metric == "cosine" else (q, x)
        distances, rows = faiss.knn(u, v, 100, metric=faiss_metric)
        found = neighbors(q, x, 100, metric)
        sign = 1 if metric == "cosine" else -1
        np.testing.assert_allclose(found.scores, sign * distances, rtol=1e-4, atol=1e-5)
        assert (found.rows == rows).mean() > 0.999


class TestRefusals:
    X = np.eye(4, dtype=np.float32)

    @pytest.mark.parametrize("k", [0, -1])
    def test_k_below_one(self, k):
        with pytest.raises(UsageError, match=f"k must be at least 1, not {k}"):
            self_neighbors(self.X, k)

    def test_k_above_what_there_is(self):
        with pytest.raises(UsageError, match=r"k = 4 .* n = 4 rows, 1 of them excluded .*at most 3"):
            self_neighbors(self.X, 4)
        with pytest.raises(UsageError, match=r"k = 5 .* n = 4 rows .*at most 4"):
            neighbors(self.X, self.X, 5)
        with pytest.raises(UsageError, match="2 of them excluded"):
            neighbors(self.X[:1], self.X, 3, exclude=np.array([[1, 1, -1, 2]]))
        assert neighbors(self.X[:1], self.X, 3, exclude=np.array([[1, 1, -1]])).rows.tolist() == [[0, 2, 3]]

    def test_unknown_metric(self):
        with pytest.raises(UnknownChoice, match=r"unknown metric 'cosin' \(did you mean 'cosine'\?\)"):
            self_neighbors(self.X, 1, "cosin")

    @pytest.mark.parametrize("x", [np.zeros(3, "f"), np.zeros((3, 0), "f"), np.zeros((3, 2), int)])
    def test_other_shapes_and_types(self, x):
        with pytest.raises(InputError, match="must be"):
            self_neighbors(x, 1)

    def test_different_widths(self):
        with pytest.raises(InputError, match="queries have 3 dimensions, base has 4"):
            neighbors(self.X[:, :3], self.X, 1)

    @pytest.mark.parametrize("name", ROUTES)
    @pytest.mark.parametrize("metric", METRICS)
    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_rows_that_are_not_finite(self, name, metric, bad):
        x = np.eye(40, dtype=np.float32)
        x[20, 3] = bad
        with route(name), pytest.raises(InputError, match="not finite"):
            self_neighbors(x, 1, metric)

    @pytest.mark.parametrize("exclude", [[[0]], [[0.5]] * 4, [[4]] * 4, [[-2]] * 4, [0] * 4])
    def test_exclude_that_does_not_fit(self, exclude):
        with pytest.raises(UsageError, match="exclude"):
            neighbors(self.X, self.X, 1, exclude=np.array(exclude))

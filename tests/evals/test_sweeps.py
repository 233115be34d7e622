"""Every sweep behind ``knn``, on tables hard in one way each: the proof holds, and the answer is exact."""

import contextlib
from functools import partial

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings

from embreg.evals import knn
from embreg.evals.devices import at_device
from embreg.evals.sweeps import float32, halves, on_torch, rates
from embreg.evals.sweeps.halves import Arithmetic, multiplying
from embreg.registry.errors import InputError
from embreg.registry.types import METRICS

from .test_knn import KINDS, ROUTES, check, route, table, truth

#: Tables made against half precision, besides those of ``test_knn``.
HARD = ("midpoints", "within rounding", "outlier", "long and short")
SMALL_TILES = {
    float32: {"_HIGH": 16, "_WIDE": 32, "_OWN": 16, "_TILE": 256},
    on_torch: {"_TILES": {"cpu": (1024, 16), "cuda": (1024, 16)}},
}


def on(device, **arithmetic):
    """The two functions of the sweep on torch, in some arithmetic."""
    chosen = {"arithmetic": Arithmetic(device=device, **arithmetic)} if arithmetic else {}
    return tuple(partial(f, device=device, **chosen) for f in (on_torch.sweep, on_torch.sweep_self))


without_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device here")
#: Every path: sweep and sweep_self. A new one is one line.
SWEEPS = {
    "float32": (float32.sweep, float32.sweep_self),
    "bf16": on("cpu"),
    "bf16 out": on("cpu", wide=False),
    "float16": on("cpu", half="float16"),
    "cuda": on("cuda"),
    "cuda bf16": on("cuda", half="bfloat16"),
}
PATHS = [pytest.param(name, marks=without_cuda if "cuda" in name else ()) for name in SWEEPS]


@contextlib.contextmanager
def small_tiles(small):
    """Cut tiles so small that little tables need many of them."""
    with pytest.MonkeyPatch.context() as patch:
        for module, values in SMALL_TILES.items() if small else ():
            for key, value in values.items():
                patch.setattr(module, key, value)
        yield


def hard(kind, n, d, rng):
    if kind == "midpoints":  # all rounded the same way, half a unit each: errors add up as the bound says
        sign, side = rng.choice([-1, 1], size=(2, n, d))
        return sign * (1 + 2.0**-8 * (1 + 2.0**-9 * side))
    if kind == "within rounding":
        return rng.normal(size=d) + 2.0**-10 * rng.normal(size=(n, d))
    x = rng.normal(size=(n, d))
    if kind == "outlier":
        x[rng.integers(n)] *= 1e6
    elif kind == "long and short":
        x *= 10.0 ** rng.uniform(-8, 0, size=(n, 1))
    else:
        return table(kind, n, d, rng)
    return x


specs = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(KINDS + HARD),
        "n": st.integers(2, 150),
        "d": st.integers(1, 40),
        "seed": st.integers(0, 1000),
        "metric": st.sampled_from(METRICS),
        "k": st.integers(1, 25),
        "small": st.booleans(),
    }
)


def true_scores(x, y, metric):
    """Scores in float64, not rounded, and how far these can be off themselves."""
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    lengths = [np.linalg.norm(a, axis=1) for a in (x, y)]
    if metric == "cosine":
        x, y = (a / np.where(n > 0, n, 1)[:, None] for a, n in zip((x, y), lengths, strict=True))
        return x @ y.T, 1e-14
    if metric == "dot":
        return x @ y.T, 1e-13 * lengths[0][:, None] * lengths[1]
    return -np.square(x[:, None] - y[None]).sum(axis=2), 1e-13 * (lengths[0][:, None] + lengths[1]) ** 2


def assert_proof(found, scores, slack):
    """Assert that no row but the candidates has a score above the ceiling (-inf: excluded)."""
    assert found.rows.dtype == np.int64 and found.ceiling.dtype == np.float64
    assert not np.isnan(found.ceiling).any()
    others = scores - slack
    for i, kept in enumerate(found.rows):
        kept = kept[kept >= 0]
        assert len(set(kept.tolist())) == len(kept)
        assert np.isfinite(scores[i, kept]).all()
        others[i, kept] = -np.inf
    assert (others <= found.ceiling[:, None]).all()


class TestEveryPath:
    @pytest.mark.parametrize("path", PATHS)
    @given(spec=specs)
    @example(spec={"kind": "equal", "n": 150, "d": 3, "seed": 0, "metric": "l2", "k": 20, "small": True})
    @example(
        spec={"kind": "midpoints", "n": 150, "d": 40, "seed": 0, "metric": "dot", "k": 5, "small": False}
    )
    @example(spec={"kind": "huge", "n": 90, "d": 5, "seed": 1, "metric": "dot", "k": 5, "small": True})
    @example(spec={"kind": "denormal", "n": 90, "d": 5, "seed": 1, "metric": "l2", "k": 5, "small": True})
    @example(spec={"kind": "outlier", "n": 150, "d": 40, "seed": 1, "metric": "l2", "k": 5, "small": True})
    @settings(deadline=None, max_examples=60)
    def test_of_a_table_with_itself(self, path, spec):
        _, sweep_self = SWEEPS[path]
        x = hard(spec["kind"], spec["n"], spec["d"], np.random.default_rng(spec["seed"])).astype(np.float32)
        k, metric, own = min(spec["k"], len(x) - 1), spec["metric"], np.arange(len(x))[:, None]
        with small_tiles(spec["small"]):
            found = sweep_self(x, k, metric)
        scores, slack = true_scores(x, x, metric)
        np.fill_diagonal(scores, -np.inf)
        assert_proof(found, scores, slack)
        wanted = truth(x, x, metric)
        np.fill_diagonal(wanted, -np.inf)
        check(knn._proven(x, x, k, metric, own, found), wanted, k)

    @pytest.mark.parametrize("path", PATHS)
    @given(spec=specs, q=st.integers(0, 60), e=st.integers(0, 3))
    @settings(deadline=None, max_examples=60)
    def test_of_queries_with_a_base(self, path, spec, q, e):
        sweep, _ = SWEEPS[path]
        rng = np.random.default_rng(spec["seed"])
        x = hard(spec["kind"], spec["n"], spec["d"], rng).astype(np.float32)
        queries = np.concatenate([x, x[::-1] * np.float32(0.5)])[:q]
        exclude = rng.integers(-1, len(x), size=(len(queries), e))
        k, metric = max(1, min(spec["k"], len(x) - e)), spec["metric"]
        row, column = np.nonzero(exclude >= 0)
        wanted, (scores, slack) = truth(queries, x, metric), true_scores(queries, x, metric)
        wanted[row, exclude[row, column]] = scores[row, exclude[row, column]] = -np.inf
        if (np.isfinite(wanted).sum(axis=1) < k).any():
            return
        with small_tiles(spec["small"]):
            found = sweep(queries, x, k, metric, exclude)
        assert_proof(found, scores, slack)
        check(knn._proven(queries, x, k, metric, exclude, found), wanted, k)

    @pytest.mark.parametrize("path", PATHS)
    @pytest.mark.parametrize("metric", METRICS)
    def test_an_easy_table_is_proven_at_once(self, path, metric):
        sweep, sweep_self = SWEEPS[path]
        rng = np.random.default_rng(0)
        x = rng.normal(size=(3000, 48)).astype(np.float32)
        own = np.arange(3000)[:, None]
        scores = knn.scores(x, x, metric)
        np.fill_diagonal(scores, -np.inf)
        kth = np.sort(scores, axis=1)[:, -10]
        for found in (sweep_self(x, 10, metric), sweep(x, x, 10, metric, own)):
            assert (found.ceiling < kth).all()
            assert found.rows.shape == (3000, 14)

    @pytest.mark.parametrize("path", PATHS)
    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_rows_that_are_not_finite(self, path, bad):
        x = np.eye(40, dtype=np.float32)
        x[20, 3] = bad
        with pytest.raises(InputError, match="not finite"):
            SWEEPS[path][1](x, 1, "cosine")


class TestHalves:
    @pytest.mark.parametrize("half", ["bfloat16", "float16"])
    @pytest.mark.parametrize("wide", [True, False])
    @pytest.mark.parametrize("metric", METRICS)
    @pytest.mark.parametrize(
        "kind", ["random", "midpoints", "outlier", "long and short", "huge", "some zero"]
    )
    def test_each_product_has_the_true_one_between_its_bounds(self, half, wide, metric, kind):
        rng = np.random.default_rng(5)
        x = hard(kind, 70, 33, rng).astype(np.float32)
        arithmetic = Arithmetic(device="cpu", half=half, wide=wide)
        made, _ = on_torch.prepare(x, x, metric)
        with multiplying(arithmetic):
            rows, _ = halves.halved(made, made, arithmetic, at_hand=True)
            product = arithmetic.product(rows.left(slice(0, 70)), rows.rows)[:70, :70].float()
        bounds = on_torch.Bounds(reach=rows.reach, relative=arithmetic.relative, errors=rows.errors)
        theirs = None if rows.errors is None else rows.errors[None, :70]
        lower, upper = bounds.around(torch.arange(70)[:, None], product, theirs)
        true, slack = true_scores(x, x, metric)
        true, slack = true / made.unit, slack / made.unit
        assert (lower.double().numpy() <= true + slack).all()
        assert (upper.double().numpy() >= true - slack).all()
        # As far from useless as half precision allows: within some units of its last digit.
        size = np.square(made.norms[:, None] + made.norms) / 2
        widest = 2.0 ** (5 - arithmetic.digits) * size + 2.0**-20
        assert (upper - lower <= torch.from_numpy(widest)).all()

    def test_settings_of_torch_are_put_back(self):
        def now():
            cpu, cuda = torch.backends.mkldnn.matmul, torch.backends.cuda.matmul
            reduced = (
                cuda.allow_fp16_reduced_precision_reduction,
                cuda.allow_bf16_reduced_precision_reduction,
            )
            return torch.get_num_threads(), cpu.fp32_precision, reduced

        before = now()
        with pytest.raises(ZeroDivisionError), multiplying(Arithmetic(device="cpu")):
            assert now() != before
            1 / 0  # noqa: B018
        on_torch.sweep_self(np.eye(30, dtype=np.float32), 3, "dot", device="cpu")
        assert now() == before

    @pytest.mark.parametrize("metric", METRICS)
    def test_too_many_that_are_too_near_are_left_to_another_sweep(self, metric):
        x = np.ones((4000, 8), dtype=np.float32)
        found = on_torch.sweep_self(x, 5, metric, device="cpu")
        assert np.isposinf(found.ceiling).all()

    @pytest.mark.parametrize("metric", METRICS)
    def test_copies_beyond_k_are_no_reason_to_give_up(self, metric):
        x = np.repeat(np.random.default_rng(0).normal(size=(300, 24)), 8, axis=0).astype(np.float32)
        found = on_torch.sweep_self(x, 5, metric, device="cpu")
        assert np.isfinite(found.ceiling).all()


class TestEveryRoute:
    """The whole kernel, on the tables made against low precision."""

    @given(spec=specs, name=st.sampled_from(ROUTES), q=st.integers(1, 60))
    @settings(deadline=None, max_examples=200)
    def test_the_answer_is_that_of_brute_force(self, spec, name, q):
        x = hard(spec["kind"], spec["n"], spec["d"], np.random.default_rng(spec["seed"])).astype(np.float32)
        k, metric, queries = min(spec["k"], len(x) - 1), spec["metric"], x[:q] * np.float32(0.5)
        own = truth(x, x, metric)
        np.fill_diagonal(own, -np.inf)
        with route(name):
            check(knn.self_neighbors(x, k, metric), own, k)
            check(knn.neighbors(queries, x, k, metric), truth(queries, x, metric), k)

    @pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=without_cuda)])
    def test_a_device_that_was_asked_for_gives_the_same_answer(self, device):
        x = np.random.default_rng(0).normal(size=(3000, 48)).astype(np.float32)
        want = knn.self_neighbors(x, 10)
        with at_device(device):
            found = knn.self_neighbors(x, 10)
        np.testing.assert_array_equal(found.rows, want.rows)
        np.testing.assert_array_equal(found.scores, want.scores)


class TestRates:
    @pytest.mark.parametrize(
        ("has", "rate", "pays"), [(False, 900, False), (True, 19, False), (True, 21, True)]
    )
    def test_bfloat16_must_be_twice_as_fast(self, has, rate, pays, monkeypatch):
        monkeypatch.setattr(rates, "has_bf16", lambda: has)
        monkeypatch.setattr(rates, "bf16_rate", lambda d: rate)
        monkeypatch.setattr(rates, "float32_rate", lambda d: 10)
        assert rates.bf16_pays(64) == (has and rate > 20)

    def test_float32_is_measured(self):
        assert rates.float32_rate(64) > 0.1

    def test_bfloat16_is_measured_where_the_processor_has_it(self):
        assert (rates.bf16_rate(64) > 0) == rates.has_bf16()
        assert rates.processor().device == "cpu"

    @pytest.mark.parametrize(
        ("text", "has"),
        [
            ("processor\t: 0\nflags\t\t: fpu avx512_bf16 sse\n", True),
            ("flags\t\t: fpu amx_bf16\nflags\t\t: fpu\n", True),
            ("Features\t: fp asimd bf16\n", True),
            ("flags\t\t: fpu avx512f\n", False),
            ("", False),
        ],
    )
    def test_what_the_processor_says(self, tmp_path, monkeypatch, text, has):
        (tmp_path / "cpuinfo").write_text(text)
        monkeypatch.setattr(rates, "_CPUINFO", tmp_path / "cpuinfo")
        rates.has_bf16.cache_clear()
        try:
            assert rates.has_bf16() is has
        finally:
            rates.has_bf16.cache_clear()

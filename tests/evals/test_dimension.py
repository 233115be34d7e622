"""Intrinsic dimension: by hand, against the definitions on dense distances, on clouds of known dimension.

scikit-dimension: ``MLE(K=20)`` with its average of inverses, and ``TwoNN(method="mle", discard_fraction=0)``,
agree to five digits on digits, on normal clouds and on rows in a plane, both for Euclidean distances and for
those of unit rows. ``TwoNN()`` as it is fits a line after dropping the largest tenth, as the paper does, and
lies within 3% of the maximum-likelihood form on those rows. It drops rows that have a copy altogether, and
keeps the copies as neighbours of others; here one of them stays. On 1,500 directions in a plane (dimension
1), which lie so close that float32 scores tie, 0.9944 and 1.0394 stand against its 0.9928 and 1.0240.
"""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from embreg.evals import dimension
from embreg.evals import subject as subject_module
from embreg.evals.dimension import Dimension
from embreg.evals.subject import Subject
from embreg.registry.tables import EmbeddingTable
from embreg.registry.types import Space


def subject(x: np.ndarray, metric: str = "l2") -> Subject:
    x = np.asarray(x, dtype=np.float32)
    return Subject(EmbeddingTable.from_arrays(None, x, space=Space(dim=x.shape[1], metric=metric)))


def measured(x: np.ndarray, k: int = 20, metric: str = "l2") -> tuple[Dimension | str, Dimension | str]:
    made = subject(x, metric)
    radii = dimension.radii(made, made.neighbors(k))
    if isinstance(radii, str):
        return radii, radii
    return dimension.lid(radii), dimension.twonn(radii)


def distances(x: np.ndarray, metric: str) -> np.ndarray:
    """All distances of distinct rows to each other, sorted, the own one left out."""
    y = np.asarray(x, dtype=np.float32).astype(np.float64)
    if metric == "cosine":
        y = y / np.linalg.norm(y, axis=1, keepdims=True)
    apart = np.sqrt(np.square(y[:, None] - y[None]).sum(axis=2))
    return np.sort(apart, axis=1)[:, 1:]


def levina_bickel(x: np.ndarray, k: int, metric: str) -> float:
    """Levina & Bickel 2004, equation 8, for each row; MacKay & Ghahramani's average."""
    t = distances(x, metric)[:, :k]
    local = [(k - 1) / sum(np.log(row[-1] / r) for r in row[:-1]) for row in t]
    return 1 / np.mean([1 / m for m in local])


def facco(x: np.ndarray, metric: str) -> float:
    t = distances(x, metric)
    return (len(t) - 1) / np.log(t[:, 1] / t[:, 0]).sum()


def facco_line(x: np.ndarray, metric: str) -> float:
    """Facco et al. 2017: a line through the origin, without the largest tenth."""
    t = distances(x, metric)
    mu = np.sort(t[:, 1] / t[:, 0])
    kept = int(0.9 * len(mu))
    a, b = np.log(mu[:kept]), -np.log(1 - np.arange(1, kept + 1) / len(mu))
    return float(a @ b / (a @ a))


def test_by_hand():
    # On a line at 1, 2, 4, 8: the two nearest are (1, 3), (1, 2), (2, 3), (4, 6) away.
    lid, twonn = measured(np.array([[1.0], [2], [4], [8]]), k=2)
    total = np.log([3, 2, 1.5, 1.5]).sum()
    assert lid.value == pytest.approx(4 / total)
    assert twonn.value == pytest.approx(3 / total)
    assert lid.n == twonn.n == 4
    # The first three are neighbours of each other, the fourth has the second and third: but one pair of six.
    apart = np.log([3, 2, 1.5, 1.5]) - total / 4
    covariance = apart.sum() ** 2 - 2 * apart[0] * apart[3]
    half = 1.959964 * np.sqrt(max(covariance, apart @ apart)) / 4
    assert lid.low == pytest.approx(1 / (total / 4 + half), rel=1e-6)
    assert lid.high == pytest.approx(1 / (total / 4 - half), rel=1e-6)


LEVINA_BICKEL = "formula of Levina & Bickel 2004, eq. 8"
FACCO = "formula of Denti et al. 2022, section 2"


@pytest.mark.oracle
@pytest.mark.parametrize("metric", ["l2", "cosine"])
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10_000), k=st.integers(2, 20), d=st.integers(2, 8))
def test_against_the_definitions(oracle, metric, seed, k, d):
    """Where two neighbours are near, float32 scores leave few digits of a difference of distances."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(120, d)) + rng.normal(size=d)
    lid, twonn = measured(x, k, metric)
    why = "float32 scores of near rows"
    oracle.agrees(LEVINA_BICKEL, "neighbors.lid", lid.value, levina_bickel(x, k, metric), rtol=2e-3, why=why)
    oracle.agrees(FACCO, "neighbors.twonn", twonn.value, facco(x, metric), rtol=5e-3, why=why)


@pytest.mark.oracle
@pytest.mark.parametrize("metric", ["l2", "cosine"])
@pytest.mark.parametrize("data", ["digits", "random", "random plane"])
def test_scikit_dimension_agrees(oracle, metric, data):
    """See above; it knows Euclidean distances only, so under cosine it is given unit rows."""
    skdim = pytest.importorskip("skdim", reason="scikit-dimension is an oracle")
    rng = np.random.default_rng(0)
    if data == "digits":
        x = pytest.importorskip("sklearn.datasets").load_digits().data
    elif data == "random":
        x = rng.normal(size=(1500, 6))
    else:
        x = rng.normal(size=(1500, 3)) @ rng.normal(size=(3, 9))
    lid, twonn = measured(x, metric=metric)
    rows = np.asarray(x, dtype=np.float32).astype(np.float64)
    if metric == "cosine":
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    real = "digits" if data == "digits" else "random"
    with np.errstate(divide="ignore"):
        # Of a line that the likelihood does not need.
        likeliest = skdim.id.TwoNN(method="mle", discard_fraction=0).fit(rows).dimension_
    theirs = skdim.id.MLE(K=20).fit(rows).dimension_, likeliest
    for name, ours, want in (("lid", lid, theirs[0]), ("twonn", twonn, theirs[1])):
        oracle.agrees("scikit-dimension", f"neighbors.{name}", ours.value, want, rtol=2e-5, data=real)
    assert twonn.value == pytest.approx(skdim.id.TwoNN().fit(rows).dimension_, rel=0.03)


def test_digits():
    datasets = pytest.importorskip("sklearn.datasets")
    x = datasets.load_digits().data
    for metric, skdim in (("l2", (6.844815, 9.044249)), ("cosine", (6.75675, 9.118057))):
        lid, twonn = measured(x, metric=metric)
        assert (lid.value, twonn.value) == pytest.approx(skdim, rel=1e-5)
        few = x[:600]
        lid, twonn = measured(few, metric=metric)
        assert lid.value == pytest.approx(levina_bickel(few, 20, metric), rel=1e-5)
        assert twonn.value == pytest.approx(facco(few, metric), rel=1e-5)
        assert twonn.value == pytest.approx(facco_line(few, metric), rel=0.05)


@pytest.mark.parametrize("d", [1, 2, 5])
def test_known_dimensions(d):
    rng = np.random.default_rng(d)
    x = rng.uniform(size=(3000, d)) @ np.linalg.qr(rng.normal(size=(12, 12)))[0][:d]
    lid, twonn = measured(x)
    # Near the faces of the cube a row has fewer neighbours: the estimate is known to be low.
    assert lid.value == pytest.approx(d, rel=0.12)
    assert twonn.value == pytest.approx(d, rel=0.08)
    # Directions of a cone in d + 1 dimensions fill d.
    lid, twonn = measured(np.hstack([np.ones((800, 1)), x[:800]]), metric="cosine")
    assert lid.value == pytest.approx(d, rel=0.15)
    assert twonn.value == pytest.approx(d, rel=0.15)


def test_directions_too_close_for_their_scores():
    x = np.hstack([np.ones((3000, 1)), 1e-3 * np.random.default_rng(0).uniform(size=(3000, 2))])
    reason = "most neighbours are at cosines so near 1 that float32 scores do not order them"
    assert measured(x, metric="cosine") == (reason, reason)
    assert measured(x)[0].value == pytest.approx(2, rel=0.08)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000), power=st.integers(-12, 12), metric=st.sampled_from(["l2", "cosine"]))
def test_rotation_scale_and_order_of_rows_do_not_matter(seed, power, metric):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(70, 4))
    turn = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    moved = (x @ turn * 10.0**power)[rng.permutation(70)]
    for want, got in zip(measured(x, metric=metric), measured(moved, metric=metric), strict=True):
        assert got.value == pytest.approx(want.value, rel=1e-3)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000), metric=st.sampled_from(["l2", "cosine"]), scaled=st.booleans())
def test_copies_change_nothing(seed, metric, scaled):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(60, 3))
    copies = x[:10] * (3.0 if scaled and metric == "cosine" else 1.0)
    order = rng.permutation(70)
    # Room for the copies: neighbours beyond the tenth are others.
    want = [dimension_of(x, 10, metric), measured(x, 20, metric)[1]]
    lid, twonn = measured(np.vstack([x, copies])[order], 20, metric)
    assert twonn.value == pytest.approx(want[1].value, rel=5e-3)
    assert twonn.n == lid.n == 60
    assert lid.value == pytest.approx(want[0], rel=0.35)


def dimension_of(x: np.ndarray, k: int, metric: str) -> float:
    return levina_bickel(x, k, metric)


def test_a_sample_agrees_with_the_whole(monkeypatch):
    x = np.random.default_rng(0).normal(size=(3000, 4))
    x[100:200] = x[:100]
    whole = measured(x)
    monkeypatch.setattr(subject_module, "WHOLE_GRAPH_ROWS", 1000)
    monkeypatch.setattr(subject_module, "SAMPLED_QUERIES", 1500)
    sampled = measured(x)
    for a, b in zip(whole, sampled, strict=True):
        assert a.n == 2900
        assert 1400 < b.n < 1500
        assert b.low < a.value < b.high


def test_intervals_cover():
    rng = np.random.default_rng(0)
    hits = np.zeros(2)
    for _ in range(100):
        # On a torus there is no border. The mean of many estimates stands for the truth: 2, and curvature.
        angles = rng.uniform(0, 2 * np.pi, size=(400, 2))
        x = np.hstack([np.cos(angles), np.sin(angles)])
        truth = (2.038, 2.007)
        hits += [f.low <= t <= f.high for f, t in zip(measured(x), truth, strict=True)]
    assert (hits >= 87).all()


def test_what_has_no_dimension():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 3))
    assert measured(x, metric="dot") == ("inner products are not distances",) * 2
    # The corners of a simplex are all equally far from each other, also once they are turned.
    for corners in (np.eye(25), np.eye(25) @ np.linalg.qr(rng.normal(size=(25, 25)))[0]):
        for metric in ("l2", "cosine"):
            for found in measured(corners, metric=metric):
                assert found == "the neighbours of a row are all equally far from it"
    assert measured(np.ones((30, 3))) == (
        "no row has two neighbours that are not copies",
        "fewer than two rows have two neighbours that are not copies",
    )
    assert measured(np.array([[1.0], [-2], [4]] * 10), metric="cosine")[0] == (
        "no row has two neighbours that are not copies"
    )


@pytest.mark.parametrize("scale", [1e30, 1e-30, 1e-42])
def test_rows_whose_squares_leave_float32(scale):
    x = np.random.default_rng(0).normal(size=(30, 3))
    for metric in ("l2", "cosine"):
        for found, same in zip(measured(x * scale, metric=metric), measured(x, metric=metric), strict=True):
            assert found.value == pytest.approx(same.value, rel=1e-4 if scale > 1e-40 else 0.05)

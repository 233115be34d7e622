"""Approximate neighbours: scored and ordered as the kernel does it, and the same each time."""

from __future__ import annotations

import numpy as np
import pytest

from embreg.evals import approximate, knn
from embreg.evals import subject as subject_module
from embreg.evals.subject import Memory, Subject
from embreg.evals.suite import Skipped
from embreg.registry.errors import InputError
from embreg.registry.tables import EmbeddingTable
from embreg.registry.types import Space

ROWS, DIM, CHECKED = 2500, 12, 300


@pytest.fixture(autouse=True)
def _large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables of some thousand rows count as large."""
    monkeypatch.setattr(subject_module, "WHOLE_GRAPH_ROWS", 1000)
    monkeypatch.setattr(subject_module, "CHECKED_QUERIES", CHECKED)


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """An index that misses much: one list of 32 is looked through."""
    monkeypatch.setattr(approximate, "FACTORY", "IVF32,Flat")
    monkeypatch.setattr(approximate, "KNOB", "nprobe")
    monkeypatch.setattr(approximate, "SETTINGS", (1,))


def cloud(seed: int = 0, rows: int = ROWS) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(8, DIM))
    return (centres[rng.integers(0, 8, rows)] + 0.7 * rng.normal(size=(rows, DIM))).astype(np.float32)


def subject(x: np.ndarray, metric: str = "cosine", *, method: str = "approx", **more) -> Subject:
    space = Space(dim=x.shape[1], metric=metric, dtype="float32")
    return Subject(EmbeddingTable.from_arrays(None, x, space=space), method=method, **more)


def brute(x: np.ndarray, queries: np.ndarray, metric: str) -> np.ndarray:
    """All scores of some rows with every row, the row itself left out, in plain float64."""
    y = x.astype(np.float64)
    if metric == "cosine":
        y /= np.linalg.norm(y, axis=1, keepdims=True)
    scores = -np.square(y[queries, None] - y[None]).sum(axis=2) if metric == "l2" else y[queries] @ y.T
    scores[np.arange(len(queries)), queries] = -np.inf
    return scores


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
@pytest.mark.usefixtures("coarse")
def test_the_recall_told_is_that_of_brute_force(metric: str) -> None:
    x = cloud()
    graph = subject(x, metric).approximate_neighbors(10)
    assert graph.found.whole
    assert len(graph.exact.queries) == CHECKED
    scores = brute(x, graph.exact.queries, metric)
    kth = np.sort(scores, axis=1)[:, -10]
    rows = graph.found.rows[graph.exact.queries]
    hits = np.take_along_axis(scores, rows, axis=1) >= (kth - 1e-7 * np.abs(kth))[:, None]
    value, (low, high) = graph.recall()
    assert value == pytest.approx(hits.mean(), abs=1e-4)
    assert 0.1 < value < 0.99, "the index is to miss some"
    assert low < value < high


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
@pytest.mark.usefixtures("coarse")
def test_what_is_found_is_scored_and_ordered_like_the_exact(metric: str) -> None:
    x = cloud()
    x[100:130] = x[100]
    graph = subject(x, metric).approximate_neighbors(10).found
    rows, scores = graph.rows, graph.scores
    assert (rows != graph.queries[:, None]).all()
    assert all(len(set(row)) == 10 for row in rows.tolist())
    exact = knn.between(x[np.repeat(graph.queries, 10)], x[rows.ravel()], metric).reshape(rows.shape)
    np.testing.assert_array_equal(scores, exact.astype(np.float32))
    later = (scores[:, 1:] < scores[:, :-1]) | (
        (scores[:, 1:] == scores[:, :-1]) & (rows[:, 1:] > rows[:, :-1])
    )
    assert later.all()


def test_a_graph_index_finds_enough_and_the_same_each_time() -> None:
    x = cloud()
    first, again = (subject(x, store=Memory()).approximate_neighbors(10) for _ in range(2))
    np.testing.assert_array_equal(first.found.rows, again.found.rows)
    np.testing.assert_array_equal(first.found.scores, again.found.scores)
    assert first.index == again.index == "HNSW32, efSearch=32"
    assert first.recall()[0] > 0.95


def test_it_looks_further_until_it_finds_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(approximate, "FACTORY", "IVF32,Flat")
    monkeypatch.setattr(approximate, "KNOB", "nprobe")
    monkeypatch.setattr(approximate, "SETTINGS", (1, 2, 4, 32))
    recalls = {}
    for enough in (0.0, 0.9, 1.0):
        monkeypatch.setattr(approximate, "ENOUGH", enough)
        graph = subject(cloud(), store=Memory()).approximate_neighbors(10)
        recalls[graph.index] = graph.recall()[0]
    assert next(iter(recalls)) == "IVF32,Flat, nprobe=1"
    assert list(recalls)[-1] == "IVF32,Flat, nprobe=32"
    assert recalls["IVF32,Flat, nprobe=32"] == 1, "all lists are every row"
    assert sorted(recalls.values()) == list(recalls.values())


def test_exact_neighbours_stay_exact_beside_them() -> None:
    x = cloud()
    store = Memory()
    approx = subject(x, store=store)
    graph = approx.approximate_neighbors(10)
    exact, few = approx.neighbors(10), subject(x, method="exact", queries=CHECKED).neighbors(10)
    np.testing.assert_array_equal(exact.queries, few.queries)
    np.testing.assert_array_equal(exact.rows, few.rows)
    np.testing.assert_array_equal(graph.exact.rows, exact.rows)
    assert set(store._kept) == {f"neighbors.approx.{ROWS}", f"neighbors.{CHECKED}"}
    whole = subject(x, method="exact", store=store, queries=0).neighbors(10)
    np.testing.assert_array_equal(whole.rows[exact.queries], exact.rows)
    assert approx.approximated == (graph,)
    assert approx.with_().approximated == ()


def test_where_exact_ones_are_to_be_taken_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    x = cloud()
    assert subject(x, method="exact").approximate_neighbors(10) is None
    assert subject(x, queries=CHECKED).approximate_neighbors(10) is None
    assert len(subject(x, queries=CHECKED).neighbors(10).queries) == CHECKED
    small = subject(x[:900])
    assert small.approximate_neighbors(10) is None
    assert small.neighbors(10).whole
    some = subject(x, queries=800)
    assert some.approximate_neighbors(10, whole=True) is None
    assert len(some.approximate_neighbors(10).found.queries) == 800
    with pytest.raises(Skipped, match="need at least 11 rows"):
        subject(x[:5]).approximate_neighbors(10)


@pytest.mark.usefixtures("coarse")
def test_rows_that_take_no_part_are_nobodys_neighbours() -> None:
    x = cloud()
    whole = subject(x).approximate_neighbors(10)
    extra = np.insert(x, [0, 700, 700, ROWS], 0, axis=0)
    extra[701] = np.nan
    places = np.setdiff1d(np.arange(ROWS + 4), [0, 701, 702, ROWS + 3])
    np.testing.assert_array_equal(extra[places], x)
    graph = subject(extra).approximate_neighbors(10)
    assert (graph.found.n, graph.found.whole) == (ROWS, True)
    assert set(graph.found.queries) == set(places)
    assert np.isin(graph.found.rows, places).all()
    # The ids shift with the rows, so another sample trains the lists: much, not all, is found alike.
    same = (graph.found.rows == places[whole.found.rows]).mean()
    assert same > 0.3


def test_rows_of_few_answers_are_asked_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 400 short lists one has too few rows for most: FAISS pads its answer."""
    monkeypatch.setattr(approximate, "FACTORY", "IVF400,Flat")
    monkeypatch.setattr(approximate, "KNOB", "nprobe")
    monkeypatch.setattr(approximate, "SETTINGS", (1,))
    graph = subject(cloud()).approximate_neighbors(20)
    assert graph.found.rows.min() >= 0
    assert np.isfinite(graph.found.scores).all()
    assert graph.recall()[0] > 0.8


def test_rows_too_long_for_an_index_are_an_error() -> None:
    with pytest.raises(InputError, match="overflow float32"):
        subject(cloud() * np.float32(1e20), "l2").approximate_neighbors(5)


def test_it_tells_how_far_it_is() -> None:
    told = []
    subject(cloud(), progress=lambda *step: told.append(step)).approximate_neighbors(5)
    assert ("index", ROWS, ROWS) in told
    assert told[-1][0] == "neighbours"

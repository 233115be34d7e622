"""k-occurrences from approximate lists: exact where all is known, and bounds that hold where little is."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from embreg.evals.graphs import ApproximateGraph, NeighborGraph
from embreg.evals.occurrence import Swaps, _chords, corrected_skewness, moved, reach
from embreg.evals.suites.hubness import skewness

K = 5


def lists(rng: np.random.Generator, n: int, k: int = K) -> np.ndarray:
    """Lists of k other rows each, some rows much more often than others."""
    weights = rng.pareto(2.0, n) + 0.1
    out = np.empty((n, k), dtype=np.int64)
    for i in range(n):
        chances = np.where(np.arange(n) == i, 0.0, weights)
        out[i] = rng.choice(n, size=k, replace=False, p=chances / chances.sum())
    return out


def approximated(
    rng: np.random.Generator, n: int, m: int, *, missed: float = 0.15
) -> tuple[np.ndarray, np.ndarray, Swaps]:
    """Exact lists, lists in which some slots hold other rows, and the swaps in a sample of m."""
    true = lists(rng, n)
    found = true.copy()
    for i, j in zip(*np.nonzero(rng.random(true.shape) < missed), strict=True):
        found[i, j] = rng.choice(np.setdiff1d(np.arange(n), [i, *found[i], *true[i]]))
    return true, found, swaps_of(true, found, np.sort(rng.choice(n, m, replace=False)))


def swaps_of(true: np.ndarray, found: np.ndarray, some: np.ndarray) -> Swaps:
    n = len(true)
    scores = np.zeros(true.shape, dtype=np.float32)
    exact = NeighborGraph(queries=some, rows=true[some], scores=scores[some], n=n)
    whole = NeighborGraph(queries=np.arange(n), rows=found, scores=scores, n=n)
    return Swaps.of(ApproximateGraph(found=whole, exact=exact, index=""), np.arange(n))


def counted(rows: np.ndarray) -> np.ndarray:
    return np.bincount(rows.ravel(), minlength=len(rows))


def figures(rows: np.ndarray) -> dict[str, float]:
    counts, n = counted(rows).astype(float), len(rows)
    return {
        "robin": float(np.abs(counts - K).mean()),
        "antihubs": float((counts == 0).mean()),
        "hubs": float((counts * (counts >= 2 * K)).mean()),
        "gini": float(np.abs(counts[:, None] - counts).sum() / (2 * n * n * K)),
    }


def reaches(swaps: Swaps) -> dict[str, tuple[float, float]]:
    gini = moved(swaps) / K
    return {
        "robin": reach(swaps, lambda c: np.abs(c - K), bend=K),
        "antihubs": reach(swaps, lambda c: (c == 0).astype(float), bend=1),
        "hubs": reach(swaps, lambda c: c * (c >= 2 * K), bend=2 * K),
        "gini": (gini, gini),
    }


def test_swaps_by_hand() -> None:
    true, found = np.array([[1, 2], [0, 2], [0, 1], [0, 1]]), np.array([[1, 3], [0, 2], [1, 0], [2, 1]])
    swaps = swaps_of(true, found, np.array([0, 2, 3]))
    assert swaps.counts.tolist() == [2, 3, 2, 1]
    told = sorted(zip(swaps.lists.tolist(), swaps.rows.tolist(), swaps.signs.tolist(), strict=True))
    # Only the sets differ: row 2's list holds the same rows in another order.
    assert told == [(0, 2, 1), (0, 3, -1), (2, 0, 1), (2, 2, -1)]
    assert swaps.per_list(np.ones(4), np.full(4, 0.5)).tolist() == [1.5, 0, 1.5]
    left = swaps.without(0, 3)
    assert (left.m, left.lists.tolist()) == (2, [2, 2])


def test_chords_by_hand() -> None:
    def no_list(c: np.ndarray) -> np.ndarray:
        return (c == 0).astype(float)

    assert _chords(0, no_list, 1) == (0, 1, 0, 0), "one occurrence more, and it is no antihub"
    assert _chords(2, no_list, 1) == (0, 0, 0.5, 0), "only two fewer make it one"
    # |N - 5| at 4: 3/4 up at most for four fewer is -1 each; more first falls by 1, far out it rises by 1.
    rise, fall, back, forth = _chords(4, lambda c: np.abs(c - 5), 5)
    assert (rise, fall, back, forth) == (1, 1, 1, 0)
    assert _chords(9, lambda c: c * (c >= 10), 10)[0] == 10, "the tenth makes it a hub, with all ten"


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32), missed=st.sampled_from([0.02, 0.2, 0.6]))
def test_where_every_list_is_known_nothing_is_beyond_reach(seed: int, missed: float) -> None:
    true, found, swaps = approximated(np.random.default_rng(seed), 60, 60, missed=missed)
    before, after = figures(found), figures(true)
    for name, (below, above) in reaches(swaps).items():
        assert -below - 1e-9 <= after[name] - before[name] <= above + 1e-9, name
    skew = corrected_skewness(swaps)
    assert skew is not None
    value, (low, high) = skew
    assert value == pytest.approx(skewness(counted(true)))
    assert low == pytest.approx(value) == high


def test_equal_lists_leave_room_for_what_was_not_seen() -> None:
    true = lists(np.random.default_rng(0), 400)
    swaps = swaps_of(true, true, np.arange(0, 400, 4))
    value, (low, high) = corrected_skewness(swaps)
    assert value == pytest.approx(skewness(counted(true)))
    assert low < value < high
    assert all(0 < end < 0.5 for ends in reaches(swaps).values() for end in ends)


def test_lists_that_all_occur_alike_have_no_skewness() -> None:
    ring = (np.arange(50)[:, None] + [1, 2]) % 50
    assert corrected_skewness(swaps_of(ring, ring, np.arange(20))) is None


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Over samples of the lists known exactly. At 95%, some 95 of 100; bounds hold it more often."""
    rng = np.random.default_rng(3)
    true, found, _ = approximated(rng, 800, 10, missed=0.1)
    after, before, skew = figures(true), figures(found), skewness(counted(true))
    assert abs(skewness(counted(found)) - skew) > 0.05 * skew, "the approximation is to matter"
    held = dict.fromkeys([*after, "skewness"], 0)
    values = []
    for _ in range(100):
        swaps = swaps_of(true, found, np.sort(rng.choice(800, 150, replace=False)))
        for name, (below, above) in reaches(swaps).items():
            held[name] += before[name] - below <= after[name] <= before[name] + above
        value, (low, high) = corrected_skewness(swaps)
        held["skewness"] += low <= skew <= high
        values.append(value)
    assert min(held.values()) >= 90, held
    assert np.mean(values) == pytest.approx(skew, abs=3 * np.std(values) / 10)

"""Parts as one array: slices, index arrays and neighbours are those of the array that they were cut from."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

import embreg
from embreg.evals import knn
from embreg.evals.sweeps import int8
from embreg.registry import tables
from embreg.registry.stack import Stack


class Piece:
    """A part that counts how often it is decoded."""

    def __init__(self, rows: np.ndarray, *, mapped: bool) -> None:
        self.rows, self.mapped, self._rows, self.decoded = len(rows), mapped, rows, 0

    @property
    def vectors(self) -> np.ndarray:
        self.decoded += 1
        return self._rows


def stack(x: np.ndarray, cuts: list[int], *, mapped: bool = True, rows: np.ndarray | None = None) -> Stack:
    pieces = [Piece(piece, mapped=mapped) for piece in np.split(x, sorted(cuts))]
    return Stack(pieces, x.shape[1], str(x.dtype), rows)


@given(
    n=st.integers(0, 40),
    cuts=st.lists(st.integers(0, 40), max_size=4),
    start=st.integers(-45, 45),
    stop=st.integers(-45, 45),
    step=st.integers(1, 7),
    mapped=st.booleans(),
    subset=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=200)
def test_it_slices_like_the_array(n, cuts, start, stop, step, mapped, subset, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3)).astype(np.float32)
    rows = np.flatnonzero(rng.random(n) < 0.6) if subset else None
    s, want = stack(x, [min(c, n) for c in cuts], mapped=mapped, rows=rows), x if rows is None else x[rows]
    assert s.shape == want.shape and len(s) == len(want) and s.size == want.size and s.dtype == want.dtype
    np.testing.assert_array_equal(s[start:stop:step], want[start:stop:step])
    np.testing.assert_array_equal(np.asarray(s), want)
    index = rng.integers(0, max(len(want), 1), size=9 if len(want) else 0)
    np.testing.assert_array_equal(s[index], want[index])
    covered = np.concatenate([np.arange(r.start, r.stop) for r in s.runs()] or [np.arange(0)])
    np.testing.assert_array_equal(covered, np.arange(len(want)))
    if len(want):
        sample = s.sample(5)
        assert 1 <= len(sample) <= len(want) and (sample[:, None] == want[None]).all(axis=2).any(axis=1).all()


def test_a_slice_inside_a_mapped_part_is_no_copy():
    x = np.zeros((10, 3), dtype=np.float32)
    s = stack(x, [4])
    assert np.shares_memory(s[0:4], x) and np.shares_memory(s[5:9], x)
    assert not np.shares_memory(s[3:5], x)


def test_a_part_that_must_be_decoded_is_decoded_once_while_it_is_read():
    pieces = [Piece(np.full((8, 2), i, dtype=np.float32), mapped=False) for i in range(5)]
    s = Stack(pieces, 2, "float32")
    for run in s.runs():
        for at in range(run.start, run.stop, 2):
            s[at : at + 2]
    assert [piece.decoded for piece in pieces] == [1] * 5


@pytest.mark.parametrize("storage", ["arrow", "parquet"])
@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_neighbours_of_a_version_of_many_parts(storage, metric, tmp_path, monkeypatch):
    """The base is read strip by strip, and the answer is that of the joined array."""
    monkeypatch.setattr(tables, "PART_BYTES", 1 << 14)
    monkeypatch.setattr(int8, "_STRIP", 100)
    monkeypatch.setattr(knn, "_SMALL", 0)
    x = np.random.default_rng(0).normal(size=(1500, 12)).astype(np.float32)
    with embreg.connect(tmp_path / "r", create=True) as registry:
        registry.register("t", embreg.EmbeddingTable.from_arrays(None, x), storage=storage)
        table = registry.table("t")
        parts = table.stacked()
        assert isinstance(parts, Stack) and len(parts.runs()) > 4
        kept = np.flatnonzero(np.arange(1500) % 7 > 0)
        for base, whole in ((parts, x), (table.stacked(kept), x[kept])):
            want = knn.neighbors(x[:50], whole, 5, metric)
            found = knn.neighbors(x[:50], base, 5, metric)
            np.testing.assert_array_equal(found.rows, want.rows)
            np.testing.assert_array_equal(found.scores, want.scores)
            own = knn.self_neighbors(base, 5, metric)
            np.testing.assert_array_equal(own.rows, knn.self_neighbors(whole, 5, metric).rows)

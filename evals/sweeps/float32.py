"""The float32 sweep behind ``knn``: a few candidates for each query, and a proof about all the others.

Scores are computed block by block in float32. Selection must not cost more than the product: each block is
first reduced to the maxima of small groups, and only the groups whose maximum beats what a query already
holds are opened. What comes out is, for every query, its best approximations and a *floor*: no other
row of the base has an approximation above it. With ``Prepared.ceiling`` the floor bounds every true score
that was not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from threading import Lock, local
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ...registry.vectors import Vectors, split
from ..threads import in_threads, workers
from .candidates import Candidates, bar
from .prepared import Prepared, prepare

T = TypeVar("T")
Rows = NDArray[np.int64]
Floats = NDArray[np.float32]

#: Rows and columns of a tile of scores: some MiB for each of a few threads stay in the last-level cache, the
#: maxima run along long stretches, and columns are counted in 16 bits.
_HIGH, _WIDE = 512, 4064
#: Rows of a chunk of the symmetric sweep within which all pairs give the first floors; it divides ``_WIDE``.
_OWN = 2032
#: Scores of a tile with few columns, and its rows at most.
_TILE, _HIGHEST = 3 << 20, 1 << 14
#: Scores of a group.
_GROUP = 16
#: Approximations kept beyond k, so that the k-th exact score is clear of everything dropped.
_SLACK = 4


def sweep(x: Vectors, y: Vectors, k: int, metric: str, exclude: Rows) -> Candidates:
    """Return candidates for the ``k`` rows of ``y`` ``(n, d)`` nearest to each of ``x`` ``(q, d)``.

    Args:
        x: the queries.
        y: the base.
        k: how many neighbours.
        metric: ``cosine``, ``dot`` or ``l2``.
        exclude: int64 ``(q, e)``, base rows that may not answer a query; -1 pads.

    Raises:
        InputError: a row is not finite.
    """
    left, right = prepare(x, y, metric)
    rows, floor = over_base(left, right, min(k + _SLACK, len(y)), exclude)
    return Candidates(rows, left.ceiling(floor, right.norms.max()))


def sweep_self(x: Vectors, k: int, metric: str) -> Candidates:
    """Return candidates for the ``k`` other rows of ``x`` ``(n, d)`` nearest to each; see ``sweep``."""
    made, _ = prepare(x, x, metric)
    rows, floor = over_itself(made, min(k + _SLACK, len(x)))
    return Candidates(rows, made.ceiling(floor, made.norms.max()))


def over_base(queries: Prepared, base: Prepared, keep: int, exclude: Rows) -> tuple[Rows, Floats]:
    """Return the best approximations of each query over a whole base.

    Args:
        queries: ``(q, D)``.
        base: ``(n, D)``, prepared alike.
        keep: how many candidates for each query.
        exclude: int64 ``(q, e)``, base rows that may not answer a query; -1 pads.

    Returns:
        Base rows, int64 ``(q, keep)``, -1 where there are fewer; and the floor, float32 ``(q,)``.
    """
    q = len(queries.rows)
    if not q:
        return np.empty((0, keep), dtype=np.int64), np.empty(0, dtype=np.float32)
    board, room = Board(q, keep), _Room()
    # As many chunks for each thread as for every other.
    wide = -(-q // (workers() * -(-q // (workers() * _WIDE // 2))))
    strips = list(split(len(base.rows), min(_HIGHEST, max(_HIGH, _TILE // wide))))

    def chunk(columns: slice) -> None:
        for rows in strips:
            tile = room.product(base.mirrored(rows), queries.rows[columns])
            bar(tile.scores.T, exclude[columns] - rows.start)
            _offer_columns(board, tile, rows, columns)

    in_threads(chunk, list(split(q, wide)))
    return board.best()


def over_itself(x: Prepared, keep: int) -> tuple[Rows, Floats]:
    """Return the best approximations of each row among the others; most pairs are multiplied once.

    The rows are cut into chunks. Within its own chunk every row is compared with every other, which
    gives it a floor; after that a tile of the symmetric score matrix serves its rows and its columns.
    """
    n = len(x.rows)
    board, room = Board(n, keep), _Room()
    locks = [Lock() for _ in range(0, n, _WIDE)]

    def own(chunk: slice) -> None:
        tile = room.product(x.mirrored(chunk), x.rows[chunk])
        np.fill_diagonal(tile.scores, -np.inf)
        _offer_columns(board, tile, chunk, chunk)

    def other(task: tuple[slice, slice]) -> None:
        rows, columns = task
        tile = room.product(x.mirrored(rows), x.rows[columns])
        _offer_rows(board, tile, rows, columns, locks[rows.start // _WIDE])
        _offer_columns(board, tile, rows, columns, locks[columns.start // _WIDE])

    in_threads(own, list(split(n, _OWN)))
    in_threads(other, _apart(list(_pairs(n))))
    return board.best()


def _pairs(n: int) -> Iterator[tuple[slice, slice]]:
    """Yield tiles that cover, once, all pairs of rows of different own chunks."""
    for chunk in split(n, _OWN):
        for start in range(chunk.start, chunk.stop, _HIGH):
            rows = slice(start, min(start + _HIGH, chunk.stop))
            first = chunk.stop
            while first < n:
                last = min(n, (first // _WIDE + 1) * _WIDE)
                yield rows, slice(first, last)
                first = last


def _apart(tasks: list[T]) -> list[T]:
    """Reorder tasks so that those running at one time come from far apart, and seldom share a lock."""
    step = -(-len(tasks) // workers()) or 1
    return [task for i in range(step) for task in tasks[i::step]]


class Board:
    """The best approximations that each query has been offered so far.

    A candidate is one int64: the bits of its score, made to order as whole numbers do, above its row.
    Slots fill until a query has none left; then its candidates are cut to the best ``keep``, and the
    least of them is the query's floor from then on.
    """

    def __init__(self, queries: int, keep: int) -> None:
        self.keep = keep
        self.slots = keep + max(46, keep)
        self.floor = np.full(queries, -np.inf, dtype=np.float32)
        self._keys = np.full((queries, self.slots), _EMPTY, dtype=np.int64)
        self._used = np.zeros(queries, dtype=np.int64)

    def add(self, queries: Rows, rows: Rows, scores: Floats) -> None:
        """Offer candidates; ``queries`` is ascending, and every score is above its query's floor."""
        keys = _pack(scores, rows)
        while len(queries):
            starts = np.flatnonzero(queries[1:] != queries[:-1]) + 1
            starts = np.concatenate([[0], starts])
            lengths = np.diff(starts, append=len(queries))
            offered = queries[starts]
            used = self._used[offered]
            at = np.arange(len(queries)) + np.repeat(used - starts, lengths)
            used += lengths
            self._used[offered] = np.minimum(used, self.slots)
            if used.max() <= self.slots:
                self._keys[queries, at] = keys
                return
            over = at >= self.slots
            self._keys[queries[~over], at[~over]] = keys[~over]
            queries, keys = queries[over], keys[over]
            self._cut(np.unique(queries))
            above = _scores(keys) > self.floor[queries]
            queries, keys = queries[above], keys[above]

    def _cut(self, queries: Rows) -> None:
        keys = np.partition(self._keys[queries], self.slots - self.keep, axis=1)
        self._keys[queries, : self.keep] = keys[:, -self.keep :]
        self._keys[queries, self.keep :] = _EMPTY
        self._used[queries] = np.minimum(self._used[queries], self.keep)
        self.floor[queries] = np.maximum(self.floor[queries], _scores(keys[:, -self.keep]))

    def best(self) -> tuple[Rows, Floats]:
        """Return the rows kept, int64 ``(q, keep)``, -1 in empty slots, and the floors."""
        self._cut(np.arange(len(self.floor)))
        keys = self._keys[:, : self.keep]
        return np.where(keys == _EMPTY, -1, keys & 0xFFFFFFFF), self.floor


def _pack(scores: Floats, rows: Rows) -> Rows:
    bits = scores.view(np.int32)
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (ordered.astype(np.int64) << 32) | rows


def _scores(keys: Rows) -> Floats:
    ordered = (keys >> 32).astype(np.int32)
    return (ordered ^ ((ordered >> 31) & 0x7FFFFFFF)).view(np.float32)


_EMPTY = int(_pack(np.array([-np.inf], dtype=np.float32), np.zeros(1, dtype=np.int64))[0])


@dataclass(frozen=True, slots=True)
class _Tile:
    """One tile of products: ``scores`` without, and ``padded`` with, a margin of -infinity."""

    scores: Floats
    padded: Floats


class _Room(local):
    """Each thread's room for one tile, padded to whole groups, used again and again."""

    def __init__(self) -> None:
        self._room = np.empty(0, dtype=np.float32)

    def product(self, left: Floats, right: Floats) -> _Tile:
        m, n = len(left), len(right)
        high, wide = (-(-length // _GROUP) * _GROUP for length in (m, n))
        if self._room.size < high * wide:
            self._room = np.empty(high * wide, dtype=np.float32)
        padded = self._room[: high * wide].reshape(high, wide)
        padded[m:], padded[:, n:] = -np.inf, -np.inf
        scores = padded[:m, :n]
        np.matmul(left, right.T, out=scores)
        return _Tile(scores, padded)


def _offer_rows(board: Board, tile: _Tile, rows: slice, columns: slice, lock: Lock) -> None:
    """Offer every score above the floor of its row to that row."""
    m, wide = len(tile.scores), tile.padded.shape[1]
    groups = wide // _GROUP
    # A group is every groups-th column, so that the maximum runs along whole stretches of a row.
    maxima = np.maximum.reduce(tile.padded[:m].reshape(m, _GROUP, groups), axis=1)
    floor = board.floor[rows].copy()
    row, group = np.divmod(np.flatnonzero(maxima > floor[:, None]), groups)
    first = row * wide + group
    opened = tile.padded.reshape(-1).take(first[:, None] + np.arange(0, wide, groups))
    above = np.flatnonzero(opened > floor[row, None])
    which, step = np.divmod(above, _GROUP)
    column = group[which] + step * groups
    with lock:
        board.add(row[which] + rows.start, column + columns.start, opened.reshape(-1)[above])


def _offer_columns(board: Board, tile: _Tile, rows: slice, columns: slice, lock: Lock | None = None) -> None:
    """Offer every score above the floor of its column to that column."""
    n, (high, wide) = tile.scores.shape[1], tile.padded.shape
    maxima = np.maximum.reduce(tile.padded.reshape(high // _GROUP, _GROUP, wide), axis=1)
    floor = np.full(wide, np.inf, dtype=np.float32)
    floor[:n] = board.floor[columns]
    if np.isneginf(floor).any():
        _warm(floor, tile.padded, maxima, board.keep)
        with lock or nullcontext():
            # What another thread dropped meanwhile was below its own floor: the higher one bounds both.
            board.floor[columns] = np.maximum(board.floor[columns], floor[:n])
    group, column = np.divmod(np.flatnonzero(maxima > floor), wide)
    first = group * (_GROUP * wide) + column
    opened = tile.padded.reshape(-1).take(first[:, None] + np.arange(0, _GROUP * wide, wide))
    above = np.flatnonzero(opened > floor[column, None])
    which, step = np.divmod(above, _GROUP)
    # Sixteen bits sort by radix, in linear time.
    order = np.argsort(column[which].astype(np.uint16), kind="stable")
    which, step, above = which[order], step[order], above[order]
    row = group[which] * _GROUP + step
    with lock or nullcontext():
        board.add(column[which] + columns.start, row + rows.start, opened.reshape(-1)[above])


def _warm(floor: Floats, scores: Floats, maxima: Floats, keep: int) -> None:
    """Give columns that hold nothing yet a floor: the ``keep``-th best group maximum, or score."""
    cold = np.flatnonzero(np.isneginf(floor))
    pool = (scores if len(maxima) < 3 * keep // 2 else maxima)[:, cold]
    at = len(pool) - keep
    if at > 0:
        floor[cold] = np.partition(pool, at, axis=0)[at]

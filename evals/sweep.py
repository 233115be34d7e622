"""The float32 sweep behind ``knn``: a few candidates for each query, and a proof about all the others.

Scores are computed block by block in float32. Selection must not cost more than the product: each block is
first reduced to the maxima of small groups, and only the groups whose maximum beats what a query already
holds are opened. What comes out is, for every query, its best approximations and a *floor*: no other
row of the base has an approximation above it. With ``Prepared.ceiling`` the floor bounds every true score
that was not looked at.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from threading import Lock, local
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..registry.errors import InputError
from ..registry.vectors import Vectors, split

T = TypeVar("T")
Rows = NDArray[np.int64]
Floats = NDArray[np.float32]

#: A tile of scores: rows, and columns at most and (of a chunk of the symmetric sweep) at least. 8 MiB for
#: each of a few threads stay in the last-level cache. Columns of a tile are counted in 16 bits.
_HIGH, _WIDE, _NARROW = 512, 4064, 2032
#: Scores of a group.
_GROUP = 16
_PREPARE_ROWS = 16384
#: Unit roundoff of float32, and its smallest normal number.
_U, _TINY = 2.0**-24, 2.0**-126


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Rows in the float32 form whose inner products order neighbours.

    Attributes:
        rows: float32 ``(n, D)``. Cosine: unit rows. Dot: the rows times a power of two. L2: the centred
            rows times a power of two, then ``-|x|²/2`` and 1, so that the product of one row with the
            ``mirrored`` other is ``-|x - y|²/2``.
        norms: float64 ``(n,)``, norms of the rows (without the two added columns).
        unit: what a product is multiplied with to be a score.
    """

    rows: Floats
    norms: NDArray[np.float64]
    metric: str
    unit: float

    def mirrored(self, part: slice) -> Floats:
        """Return some rows as left factors: for L2 the two added columns change places."""
        if self.metric != "l2":
            return self.rows[part]
        left = self.rows[part].copy()
        left[:, -2:] = left[:, [-1, -2]]
        return left

    def ceiling(self, floor: Floats, largest: float) -> NDArray[np.float64]:
        """Return the highest true score that a product of at most ``floor`` can stand for.

        Rounding of an inner product of D terms, in whatever order: gamma_D |x||y| (Higham 2002, Accuracy
        and Stability of Numerical Algorithms, section 3.1); four more units for the rounding of the
        factors, and an absolute term for underflow.

        Args:
            floor: float32 ``(n,)``, products of each of these rows.
            largest: the largest norm on the other side.
        """
        terms = self.rows.shape[1] + 4
        size = self.norms * largest
        if self.metric == "l2":
            size = np.square(self.norms + largest) / 2
        bound = size * (terms * _U / (1 - terms * _U)) + 4 * terms * _TINY
        ceiling: NDArray[np.float64] = (floor.astype(np.float64) + bound) * self.unit
        return ceiling


def prepare(x: Vectors, y: Vectors, metric: str) -> tuple[Prepared, Prepared]:
    """Return queries ``x`` and base ``y`` prepared alike; one object twice where ``x is y``.

    Raises:
        InputError: a row is not finite.
    """
    sides = (x,) if x is y else (x, y)
    if metric == "cosine":
        made = [_directions(side) for side in sides]
        return made[0], made[-1]
    centre = _mean(y) if metric == "l2" else np.zeros(y.shape[1])
    norms = [_norms(side, centre) for side in sides]
    # A power of two changes no digit, and keeps huge and tiny rows inside float32.
    largest = max(float(norm.max(initial=0.0)) for norm in norms)
    scale = float(2.0 ** -np.ceil(np.log2(largest))) if largest > 0 else 1.0
    made = [_scaled(side, norm, centre, scale, metric) for side, norm in zip(sides, norms, strict=True)]
    return made[0], made[-1]


def _directions(x: Vectors) -> Prepared:
    out, norms = np.empty(x.shape, dtype=np.float32), np.empty(len(x))

    def fill(part: slice) -> None:
        block = x[part].astype(np.float64)
        lengths = checked_norms(block)
        norms[part] = lengths > 0
        block /= np.where(lengths > 0, lengths, 1.0)[:, None]
        out[part] = block

    in_threads(fill, list(split(len(x), _PREPARE_ROWS)))
    return Prepared(rows=out, norms=norms, metric="cosine", unit=1.0)


def _scaled(
    x: Vectors,
    norms: NDArray[np.float64],
    centre: NDArray[np.float64],
    scale: float,
    metric: str,
) -> Prepared:
    d, spare = x.shape[1], 2 * (metric == "l2")
    out = np.empty((len(x), d + spare), dtype=np.float32)

    def fill(part: slice) -> None:
        out[part, :d] = (x[part].astype(np.float64) - centre) * scale

    in_threads(fill, list(split(len(x), _PREPARE_ROWS)))
    norms = norms * scale
    if spare:
        out[:, d], out[:, d + 1] = np.square(norms) / -2, 1.0
    return Prepared(rows=out, norms=norms, metric=metric, unit=(1 + bool(spare)) * scale**-2.0)


def _mean(x: Vectors) -> NDArray[np.float64]:
    total = np.zeros(x.shape[1])
    for part in split(len(x), _PREPARE_ROWS):
        total += x[part].sum(axis=0, dtype=np.float64)
    return total / len(x)


def _norms(x: Vectors, centre: NDArray[np.float64]) -> NDArray[np.float64]:
    norms = np.empty(len(x))

    def fill(part: slice) -> None:
        norms[part] = checked_norms(x[part].astype(np.float64) - centre)

    in_threads(fill, list(split(len(x), _PREPARE_ROWS)))
    return norms


def checked_norms(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the norms of the rows of ``x`` ``(n, d)``.

    Raises:
        InputError: one of them is not finite.
    """
    norms: NDArray[np.float64] = np.sqrt(np.einsum("ij,ij->i", x, x))
    if not np.isfinite(norms).all():
        raise InputError("a row is not finite", hint="NaN and infinity have no neighbours")
    return norms


def sweep(queries: Prepared, base: Prepared, keep: int, exclude: Rows) -> tuple[Rows, Floats]:
    """Return the best approximations of each query over a whole base.

    Args:
        queries, base: prepared alike.
        keep: how many candidates for each query.
        exclude: int64 ``(q, e)``, base rows that may not answer a query; -1 pads.

    Returns:
        Base rows, int64 ``(q, keep)``, -1 where there are fewer; and the floor, float32 ``(q,)``.
    """
    board, room = Board(len(queries.rows), keep), _Room()
    chunks = list(split(len(base.rows), _WIDE))

    def strip(rows: slice) -> None:
        left = queries.mirrored(rows)
        for columns in chunks:
            tile = room.product(left, base.rows[columns])
            bar(tile.scores, exclude[rows] - columns.start)
            _offer_rows(board, tile, rows, columns)

    in_threads(strip, list(split(len(queries.rows), _HIGH)))
    return board.best()


def sweep_self(x: Prepared, keep: int) -> tuple[Rows, Floats]:
    """Return the best approximations of each row among the others; most pairs are multiplied once.

    The rows are cut into chunks. Within its own chunk every row is compared with every other, which
    gives it a floor; after that a tile of the symmetric score matrix serves its rows and its columns.
    """
    n = len(x.rows)
    board, room = Board(n, keep), _Room()
    chunks = list(split(n, min(_WIDE, max(_NARROW, n // 10))))
    locks = [Lock() for _ in chunks]

    def own(task: tuple[int, slice]) -> None:
        chunk, rows = chunks[task[0]], task[1]
        tile = room.product(x.mirrored(rows), x.rows[chunk])
        np.fill_diagonal(tile.scores[:, rows.start - chunk.start :], -np.inf)
        _offer_rows(board, tile, rows, chunk)

    def other(task: tuple[int, slice, int]) -> None:
        above, rows, beside = task
        columns = chunks[beside]
        tile = room.product(x.mirrored(rows), x.rows[columns])
        _offer_rows(board, tile, rows, columns, locks[above])
        _offer_columns(board, tile, rows, columns, locks[beside])

    strips = [(i, rows) for i, chunk in enumerate(chunks) for rows in _strips(chunk)]
    in_threads(own, strips)
    pairs = [(i, rows, j) for i, rows in strips for j in range(i + 1, len(chunks))]
    in_threads(other, _apart(pairs))
    return board.best()


def _strips(chunk: slice) -> list[slice]:
    parts = split(chunk.stop - chunk.start, _HIGH)
    return [slice(chunk.start + part.start, chunk.start + part.stop) for part in parts]


def _apart(tasks: list[T]) -> list[T]:
    """Reorder tasks so that those running at one time come from far apart, and seldom share a lock."""
    step = -(-len(tasks) // workers()) or 1
    return [task for i in range(step) for task in tasks[i::step]]


def workers() -> int:
    """Return how many threads the kernel uses: the processors this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_threads(work: Callable[[T], None], tasks: Sequence[T]) -> None:
    """Do independent tasks in threads, each with a BLAS of one thread.

    Whole tiles run beside each other, so no thread waits for another inside a product: on a busy
    machine barriers cost more than the work between them.
    """
    if len(tasks) < 2:
        for task in tasks:
            work(task)
        return
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(workers()) as pool:
        for _ in pool.map(work, tasks):
            pass


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


def bar(scores: NDArray[np.float32], columns: Rows) -> None:
    """Set the scores of excluded columns ``(q, e)`` to -infinity; columns out of range are elsewhere."""
    row, e = np.nonzero((columns >= 0) & (columns < scores.shape[1]))
    scores[row, columns[row, e]] = -np.inf


def _offer_rows(board: Board, tile: _Tile, rows: slice, columns: slice, lock: Lock | None = None) -> None:
    """Offer every score above the floor of its row to that row."""
    m, wide = len(tile.scores), tile.padded.shape[1]
    groups = wide // _GROUP
    # A group is every groups-th column, so that the maximum runs along whole stretches of a row.
    maxima = np.maximum.reduce(tile.padded[:m].reshape(m, _GROUP, groups), axis=1)
    floor = board.floor[rows].copy()
    if np.isneginf(floor).any():
        _warm(floor, tile.scores, maxima, board.keep)
        board.floor[rows] = floor
    hit = np.flatnonzero(maxima > floor[:, None])
    row, group = np.divmod(hit, groups)
    first = row * wide + group
    opened = tile.padded.reshape(-1).take(first[:, None] + np.arange(0, wide, groups))
    above = np.flatnonzero(opened > floor[row, None])
    which, step = np.divmod(above, _GROUP)
    column = group[which] + step * groups
    with lock or nullcontext():
        board.add(row[which] + rows.start, column + columns.start, opened.reshape(-1)[above])


def _warm(floor: Floats, scores: Floats, maxima: Floats, keep: int) -> None:
    """Give rows that hold nothing yet a floor: the ``keep``-th best group maximum, or score."""
    cold = np.flatnonzero(np.isneginf(floor))
    pool = (scores if maxima.shape[1] < 3 * keep // 2 else maxima)[cold]
    at = pool.shape[1] - keep
    if at > 0:
        floor[cold] = np.partition(pool, at, axis=1)[:, at]


def _offer_columns(board: Board, tile: _Tile, rows: slice, columns: slice, lock: Lock) -> None:
    """Offer every score above the floor of its column to that column."""
    n, (high, wide) = tile.scores.shape[1], tile.padded.shape
    floor = np.full(wide, np.inf, dtype=np.float32)
    floor[:n] = board.floor[columns]
    maxima = np.maximum.reduce(tile.padded.reshape(high // _GROUP, _GROUP, wide), axis=1)
    group, column = np.divmod(np.flatnonzero(maxima > floor), wide)
    first = group * (_GROUP * wide) + column
    opened = tile.padded.reshape(-1).take(first[:, None] + np.arange(0, _GROUP * wide, wide))
    above = np.flatnonzero(opened > floor[column, None])
    which, step = np.divmod(above, _GROUP)
    # Sixteen bits sort by radix, in linear time.
    order = np.argsort(column[which].astype(np.uint16), kind="stable")
    which, step, above = which[order], step[order], above[order]
    row = group[which] * _GROUP + step
    with lock:
        board.add(column[which] + columns.start, row + rows.start, opened.reshape(-1)[above])

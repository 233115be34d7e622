"""The sweep in half precision behind ``knn``, wherever torch computes: processors with bfloat16, and CUDA.

Products are computed in bfloat16 or float16, several times as fast as in float32, and come with a bound on
what the rounding can have changed (``halves``). Every row that may be among the nearest by its bound is kept
(``offers``) and scored in float32; the best few of these go on, and both steps bound all other rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...registry.vectors import Vectors, split
from ..devices import room
from ..threads import workers
from .candidates import Candidates
from .halves import GROUP, Arithmetic, each, halved, multiplying, whole_groups
from .offers import Bounds, Offers, Pool, View, ranked
from .prepared import Prepared, prepare
from .rates import processor

if TYPE_CHECKING:
    from torch import Tensor

Rows = NDArray[np.int64]

#: Scores of a tile, and its rows at most. Processors keep it in their cache; a device wants few, large ones.
_TILES = {"cpu": (9 << 18, 1024), "cuda": (1 << 28, 1 << 14)}
#: Whole multiples of this are wide tiles: maxima then run along full vector registers.
_STRETCH = 512
#: Float32 numbers gathered at a time, to score candidates.
_GATHERED = {"cpu": 1 << 20, "cuda": 1 << 27}
#: Candidates that go on beyond k, so that the k-th exact score is clear of everything dropped.
_SLACK = 4
#: Rows shorter than this beside the longest, by the square root of their width, want the range of bfloat16.
_SHORT = 2.0**-12


def sweep(
    x: Vectors,
    y: Vectors,
    k: int,
    metric: str,
    exclude: Rows,
    *,
    device: str,
    arithmetic: Arithmetic | None = None,
) -> Candidates:
    """Return candidates for the ``k`` rows of ``y`` ``(n, d)`` nearest to each of ``x`` ``(q, d)``.

    Args:
        x: the queries.
        y: the base.
        k: how many neighbours.
        metric: ``cosine``, ``dot`` or ``l2``.
        exclude: int64 ``(q, e)``, base rows that may not answer a query; -1 pads.
        device: ``cpu`` or ``cuda``.
        arithmetic: how products are computed, if not as is best there.

    Raises:
        InputError: a row is not finite.
        UsageError: the device has too little memory.
    """
    left, right = prepare(x, y, metric)
    chosen = arithmetic or _best(device, left, right)
    with multiplying(chosen):
        work = _Work(left, right, k, chosen)
        work.over_base(exclude)
    return work.candidates()


def sweep_self(
    x: Vectors, k: int, metric: str, *, device: str, arithmetic: Arithmetic | None = None
) -> Candidates:
    """Return candidates for the ``k`` other rows of ``x`` ``(n, d)`` nearest to each; see ``sweep``.

    The rows are cut into blocks. Each block is first compared with itself, which gives its rows a floor;
    after that a tile of the symmetric score matrix serves its rows and its columns.
    """
    made, _ = prepare(x, x, metric)
    chosen = arithmetic or _best(device, made, made)
    with multiplying(chosen):
        work = _Work(made, made, k, chosen)
        work.over_itself()
    return work.candidates()


def _best(device: str, left: Prepared, right: Prepared) -> Arithmetic:
    """Return the best arithmetic of a device for some rows."""
    if device == "cpu":
        return processor()
    norms = np.concatenate([left.norms, right.norms])
    norms = norms[norms > 0]
    short = len(norms) and np.quantile(norms, 0.01) < _SHORT * np.sqrt(right.rows.shape[1])
    return Arithmetic(device=device, half="bfloat16" if short else "float16")


class _Work:
    """One sweep: both sides in half precision, and what is found."""

    def __init__(self, left: Prepared, right: Prepared, k: int, arithmetic: Arithmetic) -> None:
        self.k, self.arithmetic, self.device = k, arithmetic, arithmetic.device
        numbers = right.rows.size + (left.rows.size if left is not right else 0)
        # In half precision and in float32, or in half precision alone.
        at_hand = self.device == "cpu" or room() > 6 * numbers
        self.x, self.y = halved(left, right, arithmetic, at_hand=at_hand)
        self.rows = np.full((len(self.x), min(k + _SLACK, len(self.y))), -1, dtype=np.int64)
        #: Bounds of all other rows: scores in float32, and upper bounds of true scores.
        self.floor = np.full(len(self.x), -np.inf, dtype=np.float32)
        self.ceiling = np.full(len(self.x), -np.inf)

    def candidates(self) -> Candidates:
        """Return what was found."""
        made = self.x.made
        scored = made.ceiling(self.floor, self.y.made.norms.max(initial=0.0))
        return Candidates(self.rows, np.maximum(scored, self.ceiling * made.unit))

    def over_base(self, exclude: Rows) -> None:
        """Compare every query with the whole base."""
        q = len(self.x)
        area, highest = _TILES[self.device]
        beside = workers() if self.device == "cpu" else 1
        high = max(1, min(highest, -(-q // beside)))
        wide = _stretched(area // high)

        def block(part: slice) -> None:
            pool, left = self._pool(part), self.x.left(part)[: part.stop - part.start]
            barred = self._tensor(exclude[part])
            for columns in split(len(self.y), wide):
                tile = self._tile(left, columns)
                _bar(tile, barred - columns.start)
                pool.offer(View.of_rows(tile), columns.start, self._errors(columns))
            self._settle(pool, part)

        each(block, list(split(q, high)), self.device)

    def over_itself(self) -> None:
        """Compare every row with every other; most pairs are multiplied once."""
        n = len(self.x)
        size = _stretched(math.isqrt(_TILES[self.device][0]))
        blocks = list(split(n, size))
        pools = [self._pool(part) for part in blocks]

        def own(i: int) -> None:
            tile = self._tile(self.x.left(blocks[i]), blocks[i])
            tile.fill_diagonal_(-float("inf"))
            tile = tile[: blocks[i].stop - blocks[i].start]
            pools[i].offer(View.of_rows(tile), blocks[i].start, self._errors(blocks[i]))

        def other(pair: tuple[int, int]) -> None:
            rows, columns = (blocks[i] for i in pair)
            tile = self._tile(self.x.left(rows), columns)
            m, wide = rows.stop - rows.start, columns.stop - columns.start
            pools[pair[0]].offer(View.of_rows(tile[:m]), columns.start, self._errors(columns))
            tile[m:] = -float("inf")
            pools[pair[1]].offer(View.of_columns(tile[:, :wide]), rows.start, self._errors(rows))

        each(own, range(len(blocks)), self.device)
        each(other, list(_pairs(len(blocks))), self.device)
        each(lambda i: self._settle(pools[i], blocks[i]), range(len(blocks)), self.device)

    def _pool(self, part: slice) -> Pool:
        errors = self.x.errors[part] if self.x.errors is not None else None
        bounds = Bounds(reach=self.x.reach[part], relative=self.arithmetic.relative, errors=errors)
        return Pool(bounds, self.k, 4 * self.k + 64)

    def _tensor(self, array: Rows) -> Tensor:
        import torch

        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    def _errors(self, part: slice) -> Tensor | None:
        """Return the errors of base rows, in whole groups."""
        return None if self.y.errors is None else self.y.errors[part.start : whole_groups(part.stop)]

    def _tile(self, left: Tensor, columns: slice) -> Tensor:
        """Return the scores of left factors with base rows, in whole groups; -infinity pads."""
        tile = self.arithmetic.product(left, self.y.rows[columns.start : whole_groups(columns.stop)])
        tile[:, columns.stop - columns.start :] = -float("inf")
        return tile

    def _settle(self, pool: Pool, part: slice) -> None:
        """Score what a pool holds in float32, and note the best few and the floors."""
        import torch

        offers, ceiling = pool.close()
        self.ceiling[part] = ceiling.cpu().numpy()
        if not len(offers):
            return
        exact = self._scored(offers, part)
        offers, rank = ranked(Offers(offers.queries, offers.rows, exact, exact))
        queries, keep = offers.queries.long(), self.rows.shape[1]
        best = torch.full((part.stop - part.start, keep), -1, dtype=torch.int32, device=self.device)
        best[queries[rank < keep], rank[rank < keep]] = offers.rows[rank < keep]
        self.rows[part] = best.cpu().numpy()
        floor = torch.full_like(ceiling, -torch.inf)
        floor[queries[rank == keep]] = offers.lower[rank == keep]
        self.floor[part] = floor.cpu().numpy()

    def _scored(self, offers: Offers, part: slice) -> Tensor:
        """Return the scores of offers in float32, on the device of the offers."""
        import torch

        left, right = self.x.full, self.y.full
        queries = (offers.queries.long() + part.start).to(left.device)
        rows = offers.rows.long().to(left.device)
        scores = torch.empty(len(offers), dtype=torch.float32, device=left.device)
        for some in split(len(offers), max(1, _GATHERED[self.device] // left.shape[1])):
            product = left.index_select(0, queries[some])
            if self.x.made.metric == "l2":
                product[:, -2:] = product[:, -2:].flip(1)
            product *= right.index_select(0, rows[some])
            torch.sum(product, 1, out=scores[some])
        return scores.to(self.device)


def _stretched(length: int) -> int:
    step = _STRETCH if length >= _STRETCH else GROUP
    return max(step, length // step * step)


def _bar(tile: Tensor, columns: Tensor) -> None:
    """Set the scores of excluded columns ``(m, e)`` to -infinity; columns out of range are elsewhere."""
    if columns.shape[1]:
        row, at = ((columns >= 0) & (columns < tile.shape[1])).nonzero(as_tuple=True)
        tile[row, columns[row, at]] = -float("inf")


def _pairs(n: int) -> Iterator[tuple[int, int]]:
    """Yield all pairs of different blocks; pairs that follow each other share none if they can."""
    for apart in range(1, n):
        for first in range(n - apart):
            yield first, first + apart

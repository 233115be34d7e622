"""Ways to answer an analogy: the rows nearest to a query, or those of the highest score of another kind.

Such a score is computed block by block for many questions, in blocks that ascend, so that of equal scores the
lowest row wins. Every factor is a function of cosines that were rounded to a multiple of 2**-40 first: rows
of one direction have equal scores, whatever their lengths and the noise of a product.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from ..registry.vectors import Vectors, split
from . import knn
from .sweeps.candidates import bar
from .threads import in_threads, workers

Rows = NDArray[np.int64]
Floats = NDArray[np.float64]
Float32 = NDArray[np.float32]

#: Levy & Goldberg 2014, equation 4; gensim takes 1e-6.
EPSILON = 1e-3
#: Cosines are multiples of its inverse.
_GRID = 2.0**40
#: Rows of a block, words whose cosines with a block are held, questions of a tile that stays in the cache.
_WIDE, _WORDS, _TILE = 4096, 1024, 64
#: Squared distance of unit float32 rows below which the direction from one to the other is rounding.
_SAME = 1e-9


class Scores(Protocol):
    """How well each row answers some of the questions."""

    def tiles(self, block: Floats) -> Iterator[tuple[slice, Float32]]:
        """Yield the scores of unit rows ``(w, d)``, some questions at a time, and which questions they are.

        A score of -infinity says that the row is no answer. The receiver may change a tile.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """The rows that answer each question best: ``rows`` and ``scores`` ``(q, k)``, -1 where there is none."""

    rows: Rows
    scores: Float32


def nearest(queries: Vectors, base: Vectors, k: int, exclude: Rows) -> Rows:
    """Return the rows of ``base`` nearest to each query by cosine, int64 ``(q, k)``; -1 where there is none.

    A query of zeros has no answer.
    """
    found = np.full((len(queries), k), -1, dtype=np.int64)
    depths = np.minimum(len(base) - (exclude >= 0).sum(axis=1), k)
    depths[~queries.any(axis=1)] = 0
    for depth in np.unique(depths[depths > 0]).tolist():
        ask = np.flatnonzero(depths == depth)
        found[ask, :depth] = knn.neighbors(queries[ask], base, depth, "cosine", exclude=exclude[ask]).rows
    return found


def search(parts: Sequence[Scores], base: Vectors, k: int, exclude: Rows) -> Answers:
    """Return the ``k`` rows of the highest score for each question, best first, ties by row.

    Args:
        parts: the scores; every question in one of them.
        base: ``(n, d)``; read only.
        k: at least 1.
        exclude: int64 ``(q, e)``, rows of the base that may not answer; -1 pads.
    """
    rows = np.full((len(exclude), k), -1, dtype=np.int64)
    scores = np.full((len(exclude), k), -np.inf, dtype=np.float32)
    for columns in split(len(base), _WIDE):
        block = unit(base[columns])

        def task(part: Scores, columns: slice = columns, block: Floats = block) -> None:
            for at, tile in part.tiles(block):
                bar(tile, exclude[at] - columns.start)
                _keep_best(tile, columns.start, rows[at], scores[at])

        in_threads(task, parts)
    return Answers(rows=rows, scores=scores)


def _keep_best(tile: Float32, start: int, rows: Rows, scores: Float32) -> None:
    """Put what is better in a tile into the best so far, in place; ``tile`` is used up."""
    k = rows.shape[1]
    left = np.arange(len(tile))
    for _ in range(min(k, tile.shape[1])):
        best = tile[left].argmax(axis=1) if len(left) < len(tile) else tile.argmax(axis=1)
        found = tile[left, best]
        better = found > scores[left, -1]
        left, best, found = left[better], best[better], found[better]
        if not len(left):
            return
        tile[left, best] = -np.inf
        scores[left, -1], rows[left, -1] = found, best + start
        order = np.argsort(-scores[left], axis=1, kind="stable")
        scores[left] = np.take_along_axis(scores[left], order, axis=1)
        rows[left] = np.take_along_axis(rows[left], order, axis=1)


def unit(x: Vectors) -> Floats:
    """Return a float64 copy of ``x`` ``(n, d)`` with every row divided by its norm; zero rows stay 0."""
    units = x.astype(np.float64)
    # Norms of float32 accuracy would tell rows of one direction apart.
    norms = np.sqrt(np.einsum("ij,ij->i", units, units))
    norms[norms == 0] = 1.0
    units /= norms[:, None]
    return units


def cosines(a: Floats, b: Floats) -> Floats:
    """Return the cosines ``(m, n)`` of unit rows ``(m, d)`` and ``(n, d)``, rounded to the grid."""
    products = a @ b.T
    products *= _GRID
    np.rint(products, out=products)
    products /= _GRID
    return np.clip(products, -1.0, 1.0, out=products)


def three_cos_mul(words: Floats, places: Rows) -> list[Scores]:
    """Return s(b) s(c) / (s(a) + 0.001), s = (1 + cos) / 2. Source: Levy & Goldberg 2014, equation 4.

    Args:
        words: float64 ``(u, d)``, unit rows.
        places: int64 ``(q, 3)``, the rows of ``words`` that are a, b and c of each question.
    """
    return [_ThreeCosMul.of(words, places, part) for part in _parts(places)]


def pair_direction(words: Floats, places: Rows) -> list[Scores]:
    """Return cos(x - c, b - a) of unit rows. Source: Mikolov, Yih & Zweig 2013; Levy & Goldberg 2014.

    A row of the direction of c has no direction from c and is no answer; neither is any where b is a.

    Args:
        words: float64 ``(u, d)``, unit rows.
        places: int64 ``(q, 3)``, the rows of ``words`` that are a, b and c of each question.
    """
    return [_PairDirection.of(words, places, part) for part in _parts(places)]


def _parts(places: Rows) -> list[slice]:
    """Cut questions into parts with few words each, one for every thread at least."""
    waiting = list(split(len(places), -(-len(places) // workers()) or 1))
    parts = []
    while waiting:
        part = waiting.pop()
        size = part.stop - part.start
        if size <= _TILE or len(np.unique(places[part])) <= _WORDS:
            parts.append(part)
        else:
            middle = part.start + size // 2
            waiting += [slice(part.start, middle), slice(middle, part.stop)]
    return parts


@dataclass(frozen=True, slots=True, kw_only=True)
class _Triples:
    """Questions a : b :: c : ? from ``start`` on.

    Attributes:
        words: float64 ``(u, d)``, the unit rows that occur in them.
        pairs: int64 ``(p, 2)``, the rows of ``words`` that are a and b.
        which: int64 ``(m,)``, the pair of each question.
        c: int64 ``(m,)``, its row of ``words``.
    """

    start: int
    words: Floats
    pairs: Rows
    which: Rows
    c: Rows

    @classmethod
    def of(cls, words: Floats, places: Rows, part: slice) -> Self:
        """Take some questions."""
        used, own = np.unique(places[part], return_inverse=True)
        own = own.reshape(-1, 3)
        pairs, which = np.unique(own[:, :2], axis=0, return_inverse=True)
        return cls(start=part.start, words=words[used], pairs=pairs, which=which.ravel(), c=own[:, 2])

    def products(
        self, left: Floats, right: Floats, less: Floats | None = None
    ) -> Iterator[tuple[slice, slice, Float32]]:
        """Yield (left of the pair - less of the question) right of c in float32, tile by tile.

        Each tile overwrites the one before. It stands for the questions of the first slice; the second
        counts from ``start``.
        """
        left, right = left.astype(np.float32), right.astype(np.float32)
        shape = min(_TILE, len(self.c)), left.shape[1]
        tile, other = np.empty(shape, dtype=np.float32), np.empty(shape, dtype=np.float32)
        for sub in split(len(self.c), _TILE):
            m = sub.stop - sub.start
            np.take(left, self.which[sub], axis=0, out=tile[:m], mode="clip")
            if less is not None:
                tile[:m] -= less[sub, None].astype(np.float32)
            np.take(right, self.c[sub], axis=0, out=other[:m], mode="clip")
            tile[:m] *= other[:m]
            yield slice(self.start + sub.start, self.start + sub.stop), sub, tile[:m]


class _ThreeCosMul(_Triples):
    def tiles(self, block: Floats) -> Iterator[tuple[slice, Float32]]:
        near = (1 + cosines(self.words, block)) / 2
        a, b = self.pairs.T
        for at, _, tile in self.products(near[b] / (near[a] + EPSILON), near):
            yield at, tile


class _PairDirection(_Triples):
    def tiles(self, block: Floats) -> Iterator[tuple[slice, Float32]]:
        a, b = self.pairs.T
        way, there = _directions(self.words[b] - self.words[a])
        apart = 2 - 2 * cosines(self.words, block)
        same: NDArray[np.bool_] = apart <= _SAME
        inverse = 1 / np.sqrt(np.where(same, 1.0, apart))
        start = np.einsum("qd,qd->q", way[self.which], self.words[self.c])
        met: NDArray[np.bool_] = same.max(axis=1)
        for at, sub, tile in self.products(cosines(way, block), inverse, less=start):
            c, which = self.c[sub], self.which[sub]
            hit = np.flatnonzero(met[c])
            tile[hit] = np.where(same[c[hit]], -np.inf, tile[hit])
            tile[~there[which]] = -np.inf
            yield at, tile


def _directions(offsets: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Return unit offsets, and which of them have a length."""
    squares = np.einsum("pd,pd->p", offsets, offsets)
    there = squares > _SAME
    return offsets / np.sqrt(np.where(there, squares, 1.0))[:, None], there


def class_cosine(weights: Floats, intercepts: Floats, sources: Floats) -> list[Scores]:
    """Return P(x is of the class) cos(x, c): LRCos. Source: Drozd, Gladkova & Matsuoka 2016, section 3.

    Args:
        weights: float64 ``(q, d)``, of the logistic regression of each question.
        intercepts: float64 ``(q,)``, likewise.
        sources: float64 ``(q, d)``, the unit rows c.
    """
    return [
        _ClassCosine(start=at.start, weights=weights[at], intercepts=intercepts[at], sources=sources[at])
        for at in split(len(sources), _TILE)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _ClassCosine:
    start: int
    weights: Floats
    intercepts: Floats
    sources: Floats

    def tiles(self, block: Floats) -> Iterator[tuple[slice, Float32]]:
        from scipy.special import expit

        logits = self.weights @ block.T + self.intercepts[:, None]
        chances = expit(np.rint(logits * _GRID) / _GRID)
        scores = chances * cosines(self.sources, block)
        yield slice(self.start, self.start + len(scores)), scores.astype(np.float32)

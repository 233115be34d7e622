"""Who is near whom, before and after: what became of the neighbours of the shared rows.

A neighbour that ties with the k-th (within 1e-6) counts as kept, so duplicate rows in one of the versions may
stand in any order. Where both versions tie at the k-th place, and for rank-biased overlap and the answers of
the old rows, the lower row comes first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..registry.vectors import Vectors, split
from . import knn
from .shared import Floats, Rows, Shared

if TYPE_CHECKING:
    from .subject import Subject

#: Up to this many shared rows every one of them is a query.
WHOLE_ROWS = 10_000
#: Pairs scored, and elements of the comparison of two neighbour lists, that are held at a time.
_BLOCK_PAIRS = 8192
_LIST_ELEMENTS = 1 << 24
#: Neighbours within this share of the k-th score tie with it.
_TIE = 1e-6
#: Persistence of the reader in rank-biased overlap.
_RBO_P = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Turnover:
    """What became of the neighbours of some rows.

    Attributes:
        queries: int64 ``(q,)``, ascending positions.
        overlap, rbo: float64 ``(q,)``.
        cross: float64 ``(r,)`` cross recall of some of them; None where the widths differ.
    """

    queries: Rows
    overlap: Floats
    rbo: Floats
    cross: Floats | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    """One version's neighbours of the queries, by position.

    Attributes:
        rows: int64 ``(n,)``, the row of each position.
        queries: int64 ``(q,)``, positions.
        found: int64 ``(q, k)``, positions, best first.
        scores: float32 ``(q, k)``.
    """

    subject: Subject
    rows: Rows
    queries: Rows
    found: Rows
    scores: NDArray[np.float32]

    def some(self, which: Rows) -> _Side:
        return _Side(
            subject=self.subject,
            rows=self.rows,
            queries=self.queries[which],
            found=self.found[which],
            scores=self.scores[which],
        )

    def score(self, query: Rows, other: Rows) -> Floats:
        """Return the scores of pairs of positions in this version, float64."""
        x, y = (self.subject.table.take(self.rows[at]).astype(np.float64) for at in (query, other))
        scores: Floats
        if self.subject.space.metric == "l2":
            scores = -np.einsum("ij,ij->i", x - y, x - y)
            return scores
        scores = np.einsum("ij,ij->i", x, y)
        if self.subject.space.metric == "cosine":
            scores /= np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
        return scores


def unturned(shared: Shared, k: int, queries: int) -> Turnover | str:
    """Return what ``compare`` would, for rows that hold the same bytes: exact, nothing is searched."""
    if reason := _too_few(shared, k):
        return reason
    asked = _queries(shared, queries)
    one = np.ones(len(asked))
    return Turnover(queries=asked, overlap=one, rbo=one, cross=one)


def compare(shared: Shared, k: int, queries: int) -> Turnover | str:
    """Compare the ``k`` nearest neighbours of some shared rows in the two versions, each by its metric.

    Where both versions hold the same ids, the graphs that all suites share are compared; else ``queries``
    rows (all up to 10,000) chosen by the hash of their ids are searched among the shared rows.

    Returns:
        The comparison, or the reason why there is none.
    """
    if reason := _too_few(shared, k):
        return reason
    old, new = _common_graphs(shared, k) or _own_graphs(shared, k, queries)
    overlap = np.maximum(_hits(old.found, new), _hits(new.found, old)) / k
    cross = _cross_recall(shared, new, queries) if shared.same_width else None
    return Turnover(queries=new.queries, overlap=overlap, rbo=_rbo(old.found, new.found), cross=cross)


def _too_few(shared: Shared, k: int) -> str:
    if shared.n >= k + 2:
        return ""
    return f"{k} neighbours need at least {k + 2} shared rows; there are {shared.n}"


def _queries(shared: Shared, count: int) -> Rows:
    chosen = shared.new.sample(
        max(count, WHOLE_ROWS) if shared.n <= WHOLE_ROWS else count, among=shared.new_rows
    )
    return np.searchsorted(shared.new_rows, chosen)


def _common_graphs(shared: Shared, k: int) -> tuple[_Side, _Side] | None:
    """Return the graphs that all suites share, where they are about the same rows and queries."""
    if not shared.n == len(shared.old.valid) == len(shared.new.valid):
        return None
    old = _graph_side(shared.old, shared.old_rows, k)
    new = _graph_side(shared.new, shared.new_rows, k)
    return (old, new) if np.array_equal(old.queries, new.queries) else None


def _graph_side(subject: Subject, rows: Rows, k: int) -> _Side:
    position = np.full(subject.table.rows, -1, dtype=np.int64)
    position[rows] = np.arange(len(rows))
    graph = subject.neighbors(k)
    order = np.argsort(position[graph.queries])
    return _Side(
        subject=subject,
        rows=rows,
        queries=position[graph.queries][order],
        found=position[graph.rows][order],
        scores=graph.scores[order],
    )


def _own_graphs(shared: Shared, k: int, count: int) -> tuple[_Side, _Side]:
    queries = _queries(shared, count)
    old, new = (
        _own_side(subject, rows, queries, k)
        for subject, rows in ((shared.old, shared.old_rows), (shared.new, shared.new_rows))
    )
    return old, new


def _own_side(subject: Subject, rows: Rows, queries: Rows, k: int) -> _Side:
    base = _vectors(subject, rows)
    found = knn.neighbors(base[queries], base, k, subject.space.metric, exclude=queries[:, None])
    return _Side(subject=subject, rows=rows, queries=queries, found=found.rows, scores=found.scores)


def _vectors(subject: Subject, rows: Rows) -> Vectors:
    """Return the vectors of ``rows``, the table's own array where that is all of them in order."""
    table = subject.table
    if len(rows) == table.rows and bool(np.all(rows[1:] > rows[:-1])):
        return table.vectors
    return table.take(rows)


def _cross_recall(shared: Shared, new: _Side, count: int) -> Floats:
    """Return float64 ``(r,)``: the new vector asks the old version, under the old version's metric."""
    chosen = shared.new.sample(count, among=shared.new_rows[new.queries])
    new = new.some(np.searchsorted(shared.new_rows[new.queries], chosen))
    answers = knn.neighbors(
        shared.new.table.take(chosen),
        _vectors(shared.old, shared.old_rows),
        new.found.shape[1],
        shared.old.space.metric,
        exclude=new.queries[:, None],
    )
    recall: Floats = _hits(answers.rows, new) / new.found.shape[1]
    return recall


def _hits(found: Rows, side: _Side) -> Floats:
    """Return how many of ``found`` ``(q, k)`` are among the k nearest in ``side``, ties included."""
    hit = np.empty(found.shape, dtype=bool)
    for part in split(len(found), max(1, _LIST_ELEMENTS // found.shape[1] ** 2)):
        hit[part] = (found[part, :, None] == side.found[part, None, :]).any(axis=2)
    slack = _TIE * np.abs(side.scores).max(axis=1).astype(np.float64)
    worst = side.scores[:, -1].astype(np.float64) - slack
    query, rank = np.nonzero(~hit)
    for part in split(len(query), _BLOCK_PAIRS):
        q, r = query[part], rank[part]
        hit[q, r] = side.score(side.queries[q], found[q, r]) >= worst[q]
    counts: Floats = hit.sum(axis=1).astype(np.float64)
    return counts


def _rbo(old: Rows, new: Rows) -> Floats:
    """Return the extrapolated rank-biased overlap of each pair of lists, float64 ``(q,)``."""
    k = old.shape[1]
    depth = np.maximum.outer(np.arange(k), np.arange(k)).ravel()
    agreed = np.empty((len(old), k))
    for part in split(len(old), max(1, _LIST_ELEMENTS // k**2)):
        equal = (old[part, :, None] == new[part, None, :]).reshape(-1, k * k)
        q, pair = np.nonzero(equal)
        counts = np.bincount(q * k + depth[pair], minlength=len(equal) * k)
        agreed[part] = counts.reshape(-1, k).cumsum(axis=1)
    ranks = np.arange(1, k + 1)
    weights = (1 - _RBO_P) * _RBO_P ** (ranks - 1) / ranks
    weights[-1] += _RBO_P**k / k
    overlap: Floats = np.clip(agreed @ weights, 0.0, 1.0)
    return overlap

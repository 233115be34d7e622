"""Who is near whom, before and after: what became of the neighbours of the shared rows.

A neighbour that ties with the k-th (within 1e-6) counts as kept, so duplicate rows in one of the versions may
stand in any order. But where most rows tie with it in one version only, such as rows that have collapsed into
one, a tie counts for the chance that it has of a place in the list. Where both versions tie at the k-th
place, and for rank-biased overlap and the answers of the old rows, the lower row comes first.

Where indexes found the neighbours in both versions, those of a sample of the rows are known exactly too, and
are compared beside the others (``evals.double_sampling``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..registry.stack import Stacked
from ..registry.vectors import split
from . import knn
from .double_sampling import Values
from .shared import Floats, Rows, Shared

if TYPE_CHECKING:
    from .subject import NeighborGraph, Subject

#: Up to this many shared rows every one of them is a query.
WHOLE_ROWS = 10_000
#: Pairs scored, and elements of the comparison of two neighbour lists, that are held at a time.
_BLOCK_PAIRS = 8192
_LIST_ELEMENTS = 1 << 24
#: Neighbours within this share of the k-th score tie with it.
_TIE = 1e-6
#: Rows by which it is told whether most rows tie with the k-th.
_CROWD = 64
#: Persistence of the reader in rank-biased overlap.
_RBO_P = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Turnover:
    """What became of the neighbours of some rows.

    Attributes:
        queries: int64 ``(q,)``, ascending positions.
        overlap, rbo: of each of them.
        cross: cross recall of some of them, always of exact neighbours; None where the widths differ.
    """

    queries: Rows
    overlap: Values
    rbo: Values
    cross: Values | None

    @property
    def kept(self) -> float:
        """Mean overlap; of approximate neighbours that of the exact ones, as far as they are known."""
        if self.overlap.exact is None:
            return float(self.overlap.found.mean())
        corrected = self.overlap.corrected()
        return float(self.overlap.exact.mean()) if isinstance(corrected, str) else corrected.value


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    """One version's neighbours of the queries, by position.

    Attributes:
        rows: int64 ``(n,)``, the row of each position.
        queries: int64 ``(q,)``, positions.
        found: int64 ``(q, k)``, positions, best first.
        scores: float64 ``(q, k)``.
    """

    subject: Subject
    rows: Rows
    queries: Rows
    found: Rows
    scores: Floats

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
    one = Values(found=np.ones(len(asked)))
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
    pairs = _approximate_graphs(shared, k)
    if pairs is not None:
        (found, exact), places = [_compared(shared, pair) for pair in pairs], pairs[1][1].queries
        at = np.searchsorted(found.queries, places)
        overlap, rbo = (
            Values(found=a, exact=b, places=at)
            for a, b in ((found.overlap, exact.overlap), (found.rbo, exact.rbo))
        )
        cross = _cross_recall(shared, pairs[1][1], exact.chance, queries) if shared.same_width else None
        return Turnover(queries=found.queries, overlap=overlap, rbo=rbo, cross=cross)
    pair = _common_graphs(shared, k) or _own_graphs(shared, k, queries)
    found = _compared(shared, pair)
    cross = _cross_recall(shared, pair[1], found.chance, queries) if shared.same_width else None
    overlap, rbo = Values(found=found.overlap), Values(found=found.rbo)
    return Turnover(queries=found.queries, overlap=overlap, rbo=rbo, cross=cross)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compared:
    """The lists of two versions, query by query, and what a tie counts for in the new one."""

    queries: Rows
    overlap: Floats
    rbo: Floats
    chance: Floats


def _compared(shared: Shared, pair: tuple[_Side, _Side]) -> _Compared:
    old, new = pair
    chances = _chance(shared, old), _chance(shared, new)
    both = (chances[0] < 1) & (chances[1] < 1)
    in_old, in_new = (np.where(both, 1.0, chance) for chance in chances)
    kept = _hits(new.found, old, in_old), _hits(old.found, new, in_new)
    overlap = np.select([in_old < 1, in_new < 1], kept, np.maximum(*kept)) / old.found.shape[1]
    return _Compared(queries=new.queries, overlap=overlap, rbo=_rbo(old.found, new.found), chance=in_new)


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
    if not _all_shared(shared):
        return None
    old = _graph_side(shared.old, shared.old_rows, shared.old.neighbors(k))
    new = _graph_side(shared.new, shared.new_rows, shared.new.neighbors(k))
    return (old, new) if np.array_equal(old.queries, new.queries) else None


def _approximate_graphs(shared: Shared, k: int) -> tuple[tuple[_Side, _Side], tuple[_Side, _Side]] | None:
    """Return what indexes found in the two versions, and the exact lists of some rows; None without them."""
    if not _all_shared(shared):
        return None
    old, new = (subject.approximate_neighbors(k) for subject in (shared.old, shared.new))
    if old is None or new is None:
        return None
    found, exact = (
        (_graph_side(shared.old, shared.old_rows, a), _graph_side(shared.new, shared.new_rows, b))
        for a, b in ((old.found, new.found), (old.exact, new.exact))
    )
    same = all(np.array_equal(a.queries, b.queries) for a, b in (found, exact))
    return (found, exact) if same else None


def _all_shared(shared: Shared) -> bool:
    return shared.n == len(shared.old.valid) == len(shared.new.valid)


def _graph_side(subject: Subject, rows: Rows, graph: NeighborGraph) -> _Side:
    position = np.full(subject.table.rows, -1, dtype=np.int64)
    position[rows] = np.arange(len(rows))
    order = np.argsort(position[graph.queries])
    return _Side(
        subject=subject,
        rows=rows,
        queries=position[graph.queries][order],
        found=position[graph.rows][order],
        scores=subject.widened(graph.queries, graph.rows, graph.scores)[order],
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
    scores = subject.widened(rows[queries], rows[found.rows], found.scores)
    return _Side(subject=subject, rows=rows, queries=queries, found=found.rows, scores=scores)


def _vectors(subject: Subject, rows: Rows) -> Stacked:
    """Return the vectors of ``rows``, the table's own array where that is all of them in order."""
    table = subject.table
    if len(rows) == table.rows and bool(np.all(rows[1:] > rows[:-1])):
        return table.stacked()
    return table.take(rows)


def _chance(shared: Shared, side: _Side) -> Floats:
    """Return what a tie with the k-th neighbour counts for each query, float64 ``(q,)``.

    That is 1, but where most of the rows that are no nearer tie with it: there the share of them for whom
    there is room among the k nearest.
    """
    rows = np.searchsorted(shared.new_rows, shared.new.sample(_CROWD, among=shared.new_rows))
    others, (low, high) = side.subject.table.take(side.rows[rows]), _ties(side)
    room = (side.scores <= high[:, None]).sum(axis=1)
    chance = np.ones(len(room))
    for part in split(len(room), _BLOCK_PAIRS):
        queries = side.queries[part]
        scores = knn.scores(side.subject.table.take(side.rows[queries]), others, side.subject.space.metric)
        other = queries[:, None] != rows
        tied = (other & (scores >= low[part, None]) & (scores <= high[part, None])).sum(axis=1)
        farther = (other & (scores < low[part, None])).sum(axis=1)
        in_all = tied / np.maximum(other.sum(axis=1), 1) * (shared.n - 1)
        share = np.minimum(room[part] / np.maximum(in_all, 1.0), 1.0)
        chance[part] = np.where(tied > farther, share, 1.0)
    return chance


def _cross_recall(shared: Shared, new: _Side, chance: Floats, count: int) -> Values:
    """Return ``(r,)``: the new vector asks the old version, under the old version's metric."""
    chosen = shared.new.sample(count, among=shared.new_rows[new.queries])
    which = np.searchsorted(shared.new_rows[new.queries], chosen)
    new = new.some(which)
    answers = knn.neighbors(
        shared.new.table.take(chosen),
        _vectors(shared.old, shared.old_rows),
        new.found.shape[1],
        shared.old.space.metric,
        exclude=new.queries[:, None],
    )
    return Values(found=_hits(answers.rows, new, chance[which]) / new.found.shape[1])


def _ties(side: _Side) -> tuple[Floats, Floats]:
    """Return the scores ``(q,)`` from which and up to which a row ties with the k-th neighbour."""
    last, slack = side.scores[:, -1], _TIE * np.abs(side.scores).max(axis=1)
    return last - slack, last + slack


def _hits(found: Rows, side: _Side, chance: Floats) -> Floats:
    """Return how many of ``found`` ``(q, k)`` are among the k nearest in ``side``.

    Args:
        found: positions.
        side: the version.
        chance: ``(q,)``, what a tie with the k-th neighbour counts; where that is below 1, those in the list
            count no more than others.
    """
    hits = np.empty(found.shape)
    for part in split(len(found), max(1, _LIST_ELEMENTS // found.shape[1] ** 2)):
        hits[part] = (found[part, :, None] == side.found[part, None, :]).any(axis=2)
    low, high = _ties(side)
    query, rank = np.nonzero((hits == 0) | (chance < 1)[:, None])
    for part in split(len(query), _BLOCK_PAIRS):
        q, r = query[part], rank[part]
        scores = side.score(side.queries[q], found[q, r])
        hits[q, r] = np.where(scores > high[q], 1.0, np.where(scores >= low[q], chance[q], 0.0))
    counts: Floats = hits.sum(axis=1)
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

"""Neighbour graphs: exact ones, and those of an index beside the exact lists of some of their queries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .statistics import Interval, wilson

Rows = NDArray[np.int64]
Floats = NDArray[np.float64]

#: How the shared graph is found.
EXACT, APPROX = "exact", "approx"
METHODS = (EXACT, APPROX)
#: Neighbours within this share of the largest score of a list tie with its last one.
_TIE = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class NeighborGraph:
    """k nearest neighbours of some rows among all valid rows of their own table, self excluded.

    Attributes:
        queries: int64 ``(q,)``, ascending row numbers of the queries.
        rows: int64 ``(q, k)``, best first, row numbers of the table.
        scores: float32 ``(q, k)``, higher is nearer (cosine, dot, or negated squared distance).
        n: rows that took part as base; ``whole`` when every one of them is a query.
    """

    queries: Rows
    rows: Rows
    scores: NDArray[np.float32]
    n: int

    @property
    def whole(self) -> bool:
        """Whether every row of the base was a query."""
        return len(self.queries) == self.n

    @property
    def k(self) -> int:
        """How many neighbours each query has."""
        return int(self.rows.shape[1])

    def first(self, k: int) -> NeighborGraph:
        """Return the graph of the first ``k`` neighbours."""
        return NeighborGraph(queries=self.queries, rows=self.rows[:, :k], scores=self.scores[:, :k], n=self.n)

    def some(self, places: Rows) -> NeighborGraph:
        """Return the graph of the queries at some places, ascending."""
        return NeighborGraph(
            queries=self.queries[places], rows=self.rows[places], scores=self.scores[places], n=self.n
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ApproximateGraph:
    """The neighbours that an index found, and what they lack: the exact ones of some of the queries.

    The scores of what was found are exact, and ordered as those of ``knn``. Which queries have exact lists is
    a matter of the hashes of ids, so they are a random sample of all.

    Attributes:
        found: the graph as the index found it.
        exact: the exact graph of some of its queries, of the same k.
        index: which index, and how it was asked.
    """

    found: NeighborGraph
    exact: NeighborGraph
    index: str

    @property
    def places(self) -> Rows:
        """Where the queries of ``exact`` stand among those of ``found``, int64 ``(m,)``."""
        return np.searchsorted(self.found.queries, self.exact.queries)

    @property
    def checked(self) -> NeighborGraph:
        """What the index found for the queries of ``exact``."""
        return self.found.some(self.places)

    def first(self, k: int) -> ApproximateGraph:
        """Return the graph of the first ``k`` neighbours."""
        return ApproximateGraph(found=self.found.first(k), exact=self.exact.first(k), index=self.index)

    def recalls(self) -> Floats:
        """Return the recall@k of each query of ``exact``, ``(m,)``, by distance, so ties are fair.

        Source: Aumüller, Bernhardsson & Faithfull 2020, section 2 (thresholds of distance).
        """
        true = self.exact.scores.astype(np.float64)
        least = true[:, -1:] - _TIE * np.abs(true).max(axis=1, keepdims=True)
        recalls: Floats = (self.checked.scores >= least).mean(axis=1)
        return recalls

    def recall(self) -> tuple[float, Interval]:
        """Return the mean recall@k, and its interval.

        That is Wilson's of as many trials as there are queries: no mean of shares scatters more, and it has
        room where nothing was missed.
        """
        recalls = self.recalls()
        return float(recalls.mean()), wilson(float(recalls.sum()), len(recalls))

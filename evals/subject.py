"""What a suite is given: a table, perhaps a baseline and a dataset, and the services that suites share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from ..registry.tables import EmbeddingTable
from ..registry.vectors import hash_ids, row_norms
from . import knn
from .moments import Moments
from .suite import Skipped

if TYPE_CHECKING:
    import pyarrow as pa

    from ..registry.types import Space

#: Up to this many rows the neighbour graph is whole; above, this many queries are drawn.
WHOLE_GRAPH_ROWS = 50_000
SAMPLED_QUERIES = 10_000
#: The graph holds so many neighbours at least: what the suites ask for, so that one graph serves them all.
GRAPH_NEIGHBORS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetTable:
    """A dataset as a suite sees it: its Arrow rows (columns by kind: ``registry.datasets``)."""

    name: str
    kind: str
    rows: pa.Table


@dataclass(frozen=True, slots=True, kw_only=True)
class NeighborGraph:
    """k nearest neighbours of some rows among all valid rows of their own table, self excluded.

    Attributes:
        queries: int64 ``(q,)``, ascending row numbers of the queries.
        rows: int64 ``(q, k)``, best first, row numbers of the table.
        scores: float32 ``(q, k)``, higher is nearer (cosine, dot, or negated squared distance).
        n: rows that took part as base; ``whole`` when every one of them is a query.
    """

    queries: NDArray[np.int64]
    rows: NDArray[np.int64]
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


class Store(Protocol):
    """Where the shared services keep what they computed, by a name; the registry's is on disk."""

    def get(self, name: str) -> dict[str, NDArray[np.generic]] | None:
        """Return the arrays kept under ``name``, or None."""

    def put(self, name: str, arrays: dict[str, NDArray[np.generic]]) -> None:
        """Keep arrays under ``name``."""


class Memory:
    """A store that forgets with the process."""

    def __init__(self) -> None:
        self._kept: dict[str, dict[str, NDArray[np.generic]]] = {}

    def get(self, name: str) -> dict[str, NDArray[np.generic]] | None:
        """Return the arrays kept under ``name``, or None."""
        return self._kept.get(name)

    def put(self, name: str, arrays: dict[str, NDArray[np.generic]]) -> None:
        """Keep arrays under ``name``."""
        self._kept[name] = arrays


class Subject:
    """A table under measurement, with neighbours and moments computed once for all suites.

    Attributes:
        ref: how to call it in a message.
        table: the rows.
        baseline: what it is compared with; None where there is none.
        dataset: what it is tested on; None where the suite needs none.
    """

    def __init__(
        self,
        table: EmbeddingTable,
        *,
        ref: str = "table",
        baseline: Subject | None = None,
        dataset: DatasetTable | None = None,
        store: Store | None = None,
    ) -> None:
        self.table = table
        self.ref = ref
        self.baseline = baseline
        self.dataset = dataset
        self.store = store if store is not None else Memory()

    def with_(self, *, baseline: Subject | None = None, dataset: DatasetTable | None = None) -> Subject:
        """Return the same subject, with the same store, beside another baseline and dataset."""
        return Subject(self.table, ref=self.ref, baseline=baseline, dataset=dataset, store=self.store)

    @property
    def space(self) -> Space:
        """What the numbers mean."""
        return self.table.space

    @cached_property
    def valid(self) -> NDArray[np.int64]:
        """Row numbers that take part in statistics: zero and special rows are left out, ascending."""
        norms = [row_norms(block.vectors) for block in self.table.blocks()]
        if not norms:
            return np.zeros(0, dtype=np.int64)
        return np.flatnonzero((np.concatenate(norms) != 0) & ~self.table.special)

    def sample(self, count: int, among: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """Return ``count`` rows (all, if there are fewer), ascending, chosen by the hash of their ids.

        The rows with the smallest hashes are taken (a bottom-k sketch), so two versions that share ids
        draw the same ids whatever the order of their rows, and no generator is involved.

        Args:
            count: how many rows.
            among: row numbers to choose from; by default the valid rows.
        """
        rows = self.valid if among is None else among
        if len(rows) <= count:
            return rows
        hashes = hash_ids(self.table.ids_of(rows))
        return np.sort(rows[np.argpartition(hashes, count)[:count]])

    def neighbors(self, k: int) -> NeighborGraph:
        """Return the shared neighbour graph: whole up to 50,000 rows, above from 10,000 sampled queries.

        The base is always every valid row. Computed once per version and kept in the store.

        Raises:
            Skipped: the table has fewer than k + 1 valid rows.
        """
        n = len(self.valid)
        if n < k + 1:
            raise Skipped(f"{k} neighbours need at least {k + 1} rows that are not zero; there are {n}")
        kept = self.store.get("neighbors")
        if kept is None or kept["rows"].shape[1] < k:
            kept = self._compute_neighbors(min(max(k, GRAPH_NEIGHBORS), n - 1))
            self.store.put("neighbors", kept)
        graph = NeighborGraph(
            queries=kept["queries"].astype(np.int64, copy=False),
            rows=kept["rows"].astype(np.int64, copy=False),
            scores=kept["scores"].astype(np.float32, copy=False),
            n=n,
        )
        return graph.first(k)

    def _compute_neighbors(self, k: int) -> dict[str, NDArray[np.generic]]:
        valid, metric = self.valid, self.space.metric
        vectors = self.table.vectors
        base = vectors if len(valid) == self.table.rows else vectors[valid]
        if len(valid) <= WHOLE_GRAPH_ROWS:
            queries, found = valid, knn.self_neighbors(base, k, metric=metric)
        else:
            queries = self.sample(SAMPLED_QUERIES)
            own = np.searchsorted(valid, queries)
            found = knn.neighbors(base[own], base, k, metric=metric, exclude=own[:, None])
        return {"queries": queries, "rows": valid[found.rows], "scores": found.scores}

    def moments(self) -> Moments:
        """Return the moments of the table, computed once per version and kept in the store."""
        stored = self.store.get("moments")
        if stored is None:
            total, special = Moments.zero(self.table.dim), self.table.special
            for block in self.table.blocks():
                kept = ~special[block.start : block.start + len(block.vectors)]
                rows = block.vectors if kept.all() else block.vectors[kept]
                total = total.merge(Moments.of(rows))
            stored = total.to_arrays()
            self.store.put("moments", stored)
        return Moments.from_arrays(stored)

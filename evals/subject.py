"""What a suite is given: a table, perhaps a baseline and a dataset, and the services that suites share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from ..registry.tables import EmbeddingTable
from ..registry.vectors import hash_ids, row_norms, split
from . import knn
from .graphs import APPROX, EXACT, ApproximateGraph
from .graphs import NeighborGraph as NeighborGraph
from .moments import Moments
from .suite import Skipped

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

    from ..registry.serving import PresentBuild
    from ..registry.stack import Stacked
    from ..registry.types import Progress, Space

#: Up to this many rows the neighbour graph is whole; above, this many queries are drawn.
WHOLE_GRAPH_ROWS = 50_000
SAMPLED_QUERIES = 10_000
#: So many queries of an approximate graph have exact neighbours too.
CHECKED_QUERIES = 1000
#: Multiplications in a block of a graph, some seconds of work: finished blocks are kept.
BLOCK_PRODUCTS = 2**40
#: Multiplications of the whole graph up to which it is one piece of work: each then serves two rows.
WHOLE_PRODUCTS = 2**44
#: The graph holds so many neighbours at least: what the suites ask for, so that one graph serves them all.
GRAPH_NEIGHBORS = 20
#: Pairs of rows scored at a time.
_PAIRS = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetTable:
    """A dataset as a suite sees it: its Arrow rows (columns by kind: ``registry.datasets``)."""

    name: str
    kind: str
    rows: pa.Table


class Store(Protocol):
    """Where the shared services keep what they computed, by a name; the registry's is on disk."""

    def get(self, name: str) -> dict[str, NDArray[np.generic]] | None:
        """Return the arrays kept under ``name``, or None."""

    def put(self, name: str, arrays: dict[str, NDArray[np.generic]]) -> None:
        """Keep arrays under ``name``."""

    def drop(self, name: str) -> None:
        """Forget what is kept under ``name``, if anything is."""


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

    def drop(self, name: str) -> None:
        """Forget what is kept under ``name``, if anything is."""
        self._kept.pop(name, None)


class Subject:
    """A table under measurement, with neighbours and moments computed once for all suites.

    Attributes:
        ref: how to call it in a message.
        table: the rows.
        baseline: what it is compared with; None where there is none.
        dataset: what it is tested on; None where the suite needs none.
        index: the build of an index that follows the embedding; None where the suite needs none.
        queries: how many rows the neighbour graph is asked for; 0 for all, None for as many as the size of
            the table allows (see ``neighbors``).
        method: ``exact``, or ``approx``: an index finds the neighbours of a large table, see
            ``approximate_neighbors``.
        progress: told how far the work on this subject is; None where nobody listens.
    """

    def __init__(
        self,
        table: EmbeddingTable,
        *,
        ref: str = "table",
        baseline: Subject | None = None,
        dataset: DatasetTable | None = None,
        index: PresentBuild | None = None,
        store: Store | None = None,
        queries: int | None = None,
        method: str = EXACT,
        progress: Progress | None = None,
    ) -> None:
        self.table = table
        self.ref = ref
        self.baseline = baseline
        self.dataset = dataset
        self.index = index
        self.store = store if store is not None else Memory()
        self.queries = queries
        self.method = method
        self.progress = progress
        self._told: dict[int, ApproximateGraph] = {}

    def with_(
        self,
        *,
        baseline: Subject | None = None,
        dataset: DatasetTable | None = None,
        index: PresentBuild | None = None,
    ) -> Subject:
        """Return the same subject, with the same store, beside another baseline, dataset and index."""
        return Subject(
            self.table,
            ref=self.ref,
            baseline=baseline,
            dataset=dataset,
            index=index,
            store=self.store,
            queries=self.queries,
            method=self.method,
            progress=self.progress,
        )

    def tell(self, step: str, done: int, total: int) -> None:
        """Report progress of some seconds of work: ``done`` of ``total`` blocks."""
        if self.progress is not None:
            self.progress(step, done, total)

    @property
    def space(self) -> Space:
        """What the numbers mean."""
        return self.table.space

    @cached_property
    def norms(self) -> NDArray[np.float64]:
        """Norm of each row of the table, ``(n,)``: not finite where the row is not."""
        norms = [row_norms(block.vectors) for block in self.table.blocks()]
        return np.concatenate(norms) if norms else np.zeros(0)

    @cached_property
    def valid(self) -> NDArray[np.int64]:
        """Row numbers that take part in statistics, ascending.

        Rows of zeros, rows that hold NaN or infinity, and special rows are left out.
        """
        return np.flatnonzero((self.norms != 0) & np.isfinite(self.norms) & ~self.table.special)

    @property
    def nonfinite(self) -> NDArray[np.int64]:
        """Row numbers of the rows that hold NaN or infinity, ascending: of arrays only, never registered."""
        return np.flatnonzero(~np.isfinite(self.norms))

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

        ``queries`` asks for more or fewer; beside an approximate graph it is that of 1,000. The base is
        always every valid row, and the neighbours are always the exact ones. Computed once per version and
        kept in the store; of a sampled graph, the blocks that were done when the work broke off are too.

        Raises:
            Skipped: the table has fewer than k + 1 valid rows.
        """
        n = self._enough(k)
        q = CHECKED_QUERIES if self._approximates(n) else self._graph_queries(n)
        by_rule = self.queries is None and not self._approximates(n)
        kept = self._kept("neighbors" if by_rule else f"neighbors.{q}", k, q, self._compute_neighbors)
        return self._graph(kept).first(k)

    def approximate_neighbors(self, k: int, *, whole: bool = False) -> ApproximateGraph | None:
        """Return the neighbours that an index finds, with the exact ones of 1,000 of the queries.

        None where the exact ones are to be taken: nobody asked for others, the table is of a size whose whole
        graph is exact, or no more than 1,000 rows are asked for. ``queries`` says how many rows that is; by
        default all of them. Computed once per version and kept in the store, under another name.

        Args:
            k: how many neighbours.
            whole: whether only a graph of all rows is of use; None, where fewer are asked for.

        Raises:
            Skipped: the table has fewer than k + 1 valid rows.
            InputError: a row is too long for float32 products.
            IndexFailed: FAISS refused.
        """
        n = self._enough(k)
        q = self._graph_queries(n)
        if not self._approximates(n) or (whole and q < n):
            return None
        kept = self._kept(f"neighbors.approx.{q}", k, q, self._approximate)
        graph = ApproximateGraph(
            found=self._graph(kept).first(k), exact=self.neighbors(k), index=str(kept["index"])
        )
        self._told[k] = graph
        return graph

    @property
    def approximated(self) -> tuple[ApproximateGraph, ...]:
        """The approximate graphs that were given out so far, by their k."""
        return tuple(graph for _, graph in sorted(self._told.items()))

    def _enough(self, k: int) -> int:
        n = len(self.valid)
        if n < k + 1:
            bad = f", and {len(self.nonfinite):,} with NaN or infinity" if len(self.nonfinite) else ""
            raise Skipped(f"{k} neighbours need at least {k + 1} rows that are not zero; there are {n}{bad}")
        return n

    def _kept(
        self, name: str, k: int, q: int, compute: Callable[[int, int], dict[str, NDArray[np.generic]]]
    ) -> dict[str, NDArray[np.generic]]:
        """Return what is kept of a graph of q queries, computed if it is not there or holds fewer than k."""
        kept = self.store.get(name)
        if kept is None or kept["rows"].shape[1] < k or len(kept["queries"]) != q:
            kept = compute(min(max(k, GRAPH_NEIGHBORS), len(self.valid) - 1), q)
            self.store.put(name, kept)
        return kept

    def _graph(self, kept: dict[str, NDArray[np.generic]]) -> NeighborGraph:
        return NeighborGraph(
            queries=kept["queries"].astype(np.int64, copy=False),
            rows=kept["rows"].astype(np.int64, copy=False),
            scores=kept["scores"].astype(np.float32, copy=False),
            n=len(self.valid),
        )

    def widened(
        self, queries: NDArray[np.int64], rows: NDArray[np.int64], scores: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        """Return scores in float64; those that left the range of float32 are computed again.

        Args:
            queries: int64 ``(q,)``, rows of the table.
            rows: int64 ``(q, k)``, their neighbours.
            scores: float32 ``(q, k)``, by the metric of the table, as ``knn`` gives them.
        """
        wide = scores.astype(np.float64)
        if self.space.metric == "cosine":
            return wide
        query, place = np.nonzero(knn.beyond(scores))
        for part in split(len(query), _PAIRS):
            q, j = query[part], place[part]
            pairs = self.table.take(queries[q]), self.table.take(rows[q, j])
            wide[q, j] = knn.between(*pairs, self.space.metric)
        return wide

    def _graph_queries(self, n: int) -> int:
        if self.queries is None:
            return n if n <= WHOLE_GRAPH_ROWS or self.method == APPROX else SAMPLED_QUERIES
        return min(self.queries or n, n)

    def _approximates(self, n: int) -> bool:
        return self.method == APPROX and n > WHOLE_GRAPH_ROWS and self._graph_queries(n) > CHECKED_QUERIES

    def _approximate(self, k: int, q: int) -> dict[str, NDArray[np.generic]]:
        from . import approximate

        valid, table = self.valid, self.table
        if len(valid) < table.rows:
            ids = table.ids.combine_chunks().take(valid)
            table = EmbeddingTable.from_arrays(ids, table.vectors[valid], space=table.space)
        queries = self.sample(q)
        found = approximate.search(table, np.searchsorted(valid, queries), k, self.tell)
        rows = valid[found.rows]
        return {"queries": queries, "rows": rows, "scores": found.scores, "index": np.array(found.index)}

    def _compute_neighbors(self, k: int, q: int) -> dict[str, NDArray[np.generic]]:
        valid, metric = self.valid, self.space.metric
        base = self.table.stacked(None if len(valid) == self.table.rows else valid)
        if q == len(valid) and q * base.size <= WHOLE_PRODUCTS:
            base = np.asarray(base)
            found = knn.self_neighbors(base, k, metric, tell=partial(self.tell, "neighbours"))
            return {"queries": valid, "rows": valid[found.rows], "scores": found.scores}
        queries = self.sample(q)
        own = np.searchsorted(valid, queries)
        rows, scores = self._in_blocks(base, own, k)
        return {"queries": queries, "rows": valid[rows], "scores": scores}

    def _in_blocks(
        self, base: Stacked, own: NDArray[np.int64], k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the neighbours of some rows of ``base``; blocks that are done outlive an interruption."""
        size = max(256, BLOCK_PRODUCTS // max(base.size, 1))
        starts = range(0, len(own), size)
        names = [f"neighbors.{len(own)}.{k}.{size}.{start}" for start in starts]
        done = []
        for i, (name, start) in enumerate(zip(names, starts, strict=True)):
            self.tell("neighbours", i, len(starts))
            block = self.store.get(name)
            if block is None:
                part = own[start : start + size]
                found = knn.neighbors(base[part], base, k, metric=self.space.metric, exclude=part[:, None])
                block = {"rows": found.rows, "scores": found.scores}
                if len(starts) > 1:
                    self.store.put(name, block)
            done.append(block)
        self.tell("neighbours", len(starts), len(starts))
        rows, scores = (np.concatenate([block[name] for block in done]) for name in ("rows", "scores"))
        for name in names if len(names) > 1 else []:
            self.store.drop(name)
        return rows.astype(np.int64, copy=False), scores.astype(np.float32, copy=False)

    def moments(self) -> Moments:
        """Return the moments of the table, computed once per version and kept in the store."""
        stored = self.store.get("moments")
        if stored is None:
            total, counted = Moments.zero(self.table.dim), np.isfinite(self.norms) & ~self.table.special
            for block in self.table.blocks():
                self.tell("moments", block.start, self.table.rows)
                kept = counted[block.start : block.start + len(block.vectors)]
                rows = block.vectors if kept.all() else block.vectors[kept]
                total = total.merge(Moments.of(rows))
            stored = total.to_arrays()
            self.store.put("moments", stored)
        return Moments.from_arrays(stored)

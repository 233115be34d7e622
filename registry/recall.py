"""recall@k of an index against exact search."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .indexes import Built, prepared, search
from .tables import EmbeddingTable
from .vectors import Vectors, hash_ids

RECALL_K = 10
RECALL_QUERIES = 1000
_BLOCK = 1 << 18
_TIE = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Recall:
    """recall@k of an index against exact search: the mean over queries, and its standard error."""

    value: float
    error: float
    queries: int
    k: int


def recall(
    built: Built, table: EmbeddingTable, *, k: int = RECALL_K, queries: int = RECALL_QUERIES
) -> Recall | None:
    """Measure recall@k on rows of the table itself, each row's own id left out of both answers.

    Queries are the rows with the smallest id hashes, so a rebuilt index is measured on the same ids. A
    returned row counts if its exact distance is at most the k-th exact one (times 1 + 1e-6): ties are fair,
    and paddings and repeated ids are no hits (Aumüller et al. 2020, ann-benchmarks, distance thresholds).

    Returns:
        None where the table has fewer than k + 1 rows.
    """
    if table.rows <= k:
        return None
    hashes = hash_ids(table.ids.to_pylist())
    rows = np.sort(np.argsort(hashes, kind="stable")[:queries])
    asked = prepared(table.take(rows), built.metric)
    threshold = _kth_exact(asked, rows, table, built.metric, k)
    slots, _ = search(built, asked, k + 1)
    answers = table.lookup(built.slots.take(pa.array(np.maximum(slots, 0).ravel()))).reshape(slots.shape)
    answers[slots < 0] = -1
    hits = np.zeros(len(rows))
    for i, row in enumerate(rows):
        found = np.unique(answers[i][(answers[i] >= 0) & (answers[i] != row)])
        exact = _distances(asked[i], prepared(table.take(found), built.metric), built.metric)
        hits[i] = min(k, int(np.count_nonzero(exact <= threshold[i])))
    shares = hits / k
    return Recall(
        value=float(shares.mean()), error=float(shares.std() / np.sqrt(len(rows))), queries=len(rows), k=k
    )


def _distances(query: Vectors, x: Vectors, metric: str) -> NDArray[np.float64]:
    """Return distances in float64: 1 - cosine, negated inner product, or squared L2."""
    q, y = query.astype(np.float64), x.astype(np.float64)
    if metric == "l2":
        gap: NDArray[np.float64] = ((y - q) ** 2).sum(axis=1)
        return gap
    product: NDArray[np.float64] = y @ q
    return 1 - product if metric == "cosine" else -product


def _kth_exact(
    asked: NDArray[np.float32], rows: NDArray[np.int64], table: EmbeddingTable, metric: str, k: int
) -> NDArray[np.float64]:
    """Return the largest distance that still counts as one of the k nearest, for each query."""
    import faiss

    kind = faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT
    best_rows = np.zeros((len(rows), 0), dtype=np.int64)
    best = np.zeros((len(rows), 0), dtype=np.float32)
    for block in table.blocks(_BLOCK):
        base = prepared(block.vectors, metric)
        scores, found = faiss.knn(asked, base, min(k + 1, len(base)), metric=kind)
        best = np.concatenate([best, scores if metric == "l2" else -scores], axis=1)
        best_rows = np.concatenate([best_rows, found + block.start], axis=1)
        keep = np.argsort(best, axis=1, kind="stable")[:, : k + 1]
        best, best_rows = np.take_along_axis(best, keep, 1), np.take_along_axis(best_rows, keep, 1)
    limit = np.empty(len(rows))
    for i, row in enumerate(rows):
        others = best_rows[i][best_rows[i] != row][:k]
        others = others[others >= 0]  # rows whose products overflow are found by nobody
        if not len(others):
            limit[i] = np.inf
            continue
        last = float(_distances(asked[i], prepared(table.take(others), metric), metric).max())
        limit[i] = last + _TIE * abs(last) + _TIE * 1e-3  # the tiny: exact duplicates are at distance 0
    return limit

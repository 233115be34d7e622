"""recall@k of an index against exact search."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .indexes import Built, prepared, search
from .tables import EmbeddingTable
from .vectors import hash_ids, split

RECALL_K = 10
RECALL_QUERIES = 1000
_BLOCK = 1 << 18
_QUERIES = 256
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
    distances = _distances(asked, answers, table, built.metric)
    counted = (answers >= 0) & (answers != rows[:, None]) & ~_repeated(answers)
    hits = np.minimum(k, (counted & (distances <= threshold[:, None])).sum(axis=1))
    shares = hits / k
    return Recall(
        value=float(shares.mean()), error=float(shares.std() / np.sqrt(len(rows))), queries=len(rows), k=k
    )


def _repeated(answers: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which answers of a query ``(q, m)`` it was given before."""
    same = answers[:, :, None] == answers[:, None, :]
    before: NDArray[np.bool_] = np.tril(same, -1).any(axis=2)
    return before


def _distances(
    asked: NDArray[np.float32], answers: NDArray[np.int64], table: EmbeddingTable, metric: str
) -> NDArray[np.float64]:
    """Return the distances ``(q, m)`` in float64 of queries to the rows that answer them.

    They are 1 - cosine, negated inner products, or squared L2; of a row -1, those to row 0.
    """
    out = np.empty(answers.shape)
    for piece in split(len(asked), _QUERIES):
        rows = np.maximum(answers[piece], 0)
        x = prepared(table.take(rows.ravel()), metric).reshape(*rows.shape, -1).astype(np.float64)
        q = asked[piece].astype(np.float64)
        if metric == "l2":
            out[piece] = ((x - q[:, None]) ** 2).sum(axis=2)
        else:
            product = np.einsum("qmd,qd->qm", x, q)
            out[piece] = 1 - product if metric == "cosine" else -product
    return out


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
    own_last = np.argsort(best_rows == rows[:, None], axis=1, kind="stable")
    others = np.take_along_axis(best_rows, own_last, 1)[:, :k]
    distances = _distances(asked, others, table, metric)
    distances[others < 0] = -np.inf  # rows whose products overflow are found by nobody
    last = distances.max(axis=1)
    # The tiny: exact duplicates are at distance 0. A query without others has no limit.
    limit: NDArray[np.float64] = np.where(np.isinf(last), np.inf, last + _TIE * np.abs(last) + _TIE * 1e-3)
    return limit

"""Approximate nearest neighbours of the rows of a table, found by a FAISS index of them.

The index is a graph (HNSW). It is built by one thread, because with several it depends on which of them comes
first, and the same table must have the same neighbours. How far a search looks (``efSearch``) is raised until
it finds enough of the neighbours of a pilot sample; that one has no part in what is told of the recall, which
would flatter itself. What is found is scored and ordered as ``knn`` does it. Sources: Malkov & Yashunin 2020
(HNSW); docs/adr/0014.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..registry import factories
from ..registry.errors import IndexFailed, InputError
from ..registry.tables import EmbeddingTable
from ..registry.vectors import Vectors, hash_ids, row_norms, split, unit_rows
from . import knn
from .graphs import ApproximateGraph, NeighborGraph
from .threads import in_threads

Rows = NDArray[np.int64]
Floats = NDArray[np.float64]
#: Told how far the work is: what is done, how much of it, of how much.
Tell = Callable[[str, int, int], None]

FACTORY, KNOB = "HNSW32", "efSearch"
#: Values of the knob, tried in order until the pilot's recall is enough; the last one is taken in any case.
SETTINGS = (32, 48, 64, 96, 128, 192, 256, 384, 512)
ENOUGH = 0.95
#: Queries of the pilot, and what sets its hashes apart from those of all other samples.
PILOT, _SALT = 256, 0x9E3779B97F4A7C15
#: Answers beyond the k asked for: the row itself, and one that float32 may have put in a wrong place.
_BEYOND = 2
#: Rows added and searched at a time, and numbers gathered at a time to be scored.
_ROWS, _GATHERED = 16_384, 1 << 18
#: Longest row whose products with others still fit float32; beyond, FAISS aborts the process.
_LONGEST = 1e18


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The neighbours that an index found.

    Attributes:
        rows: int64 ``(q, k)``, best first; of equal scores the lower row comes first.
        scores: float32 ``(q, k)``, exact, as ``knn.neighbors`` gives them.
        index: which index, and how it was asked.
    """

    rows: Rows
    scores: NDArray[np.float32]
    index: str


def search(table: EmbeddingTable, own: Rows, k: int, tell: Tell) -> Found:
    """Return about the ``k`` nearest other rows of some rows of a table.

    Args:
        table: rows that are not zero, and finite.
        own: int64 ``(q,)``, the rows whose neighbours are looked for.
        k: at most the number of rows less one.
        tell: told of blocks that are done.

    Raises:
        InputError: a row is too long for float32 products.
        IndexFailed: FAISS refused.
    """
    vectors, metric = table.vectors, table.space.metric
    if metric != "cosine" and (longest := row_norms(vectors).max(initial=0.0)) > _LONGEST:
        raise InputError(
            f"a row is {longest:.3g} long: products of such rows overflow float32, and no index finds them",
            hint="take exact neighbours",
        )
    try:
        index = _built(table, tell)
        setting = _tuned(index, table, k)
        rows, scores = _all_answers(index, table, own, k, tell)
    except (RuntimeError, MemoryError) as exc:
        raise IndexFailed(f"FAISS refused {FACTORY}: {factories.reason(exc)}") from exc
    return Found(rows=rows, scores=scores, index=f"{FACTORY}, {setting}")


def _all_answers(
    index: Any, table: EmbeddingTable, own: Rows, k: int, tell: Tell
) -> tuple[Rows, NDArray[np.float32]]:
    vectors, metric = table.vectors, table.space.metric
    rows, scores = np.empty((len(own), k), dtype=np.int64), np.empty((len(own), k), dtype=np.float32)
    for part in split(len(own), _ROWS):
        tell("neighbours", part.start, len(own))
        rows[part], scores[part] = _answers(index, vectors, own[part], k, metric)
    tell("neighbours", len(own), len(own))
    return rows, scores


def _built(table: EmbeddingTable, tell: Tell) -> Any:
    import faiss

    vectors, metric = table.vectors, table.space.metric
    index: Any = factories.create(FACTORY, "", table.dim, metric)
    if not index.is_trained:
        with factories.quiet(index):
            index.train(_fed(vectors, metric))
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        for part in split(len(vectors), _ROWS):
            tell("index", part.start, len(vectors))
            index.add(_fed(vectors[part], metric))
    finally:
        faiss.omp_set_num_threads(threads)
    tell("index", len(vectors), len(vectors))
    return index


def _fed(x: Vectors, metric: str) -> NDArray[np.float32]:
    """Return rows as the index takes them: float32, unit rows under cosine."""
    return unit_rows(x) if metric == "cosine" else np.ascontiguousarray(x, dtype=np.float32)


def _tuned(index: Any, table: EmbeddingTable, k: int) -> str:
    """Set the knob to the first value that finds enough of the pilot's neighbours; return it as text."""
    metric, setting = table.space.metric, ""
    hashes = hash_ids(table.ids.to_pylist(), _SALT)
    pilot = np.sort(np.argsort(hashes, kind="stable")[:PILOT])
    true = knn.neighbors(table.take(pilot), table.vectors, k, metric, exclude=pilot[:, None])
    exact = NeighborGraph(queries=pilot, rows=true.rows, scores=true.scores, n=table.rows)
    for value in SETTINGS:
        setting = f"{KNOB}={value}"
        factories.set_search(index, setting)
        rows, scores = _answers(index, table.vectors, pilot, k, metric)
        found = NeighborGraph(queries=pilot, rows=rows, scores=scores, n=table.rows)
        if ApproximateGraph(found=found, exact=exact, index=setting).recall()[0] >= ENOUGH:
            break
    return setting


def _answers(
    index: Any, vectors: Vectors, own: Rows, k: int, metric: str
) -> tuple[Rows, NDArray[np.float32]]:
    """Return rows ``(q, k)`` and scores of what the index answers; a row of few answers is asked exactly."""
    depth = min(k + _BEYOND, len(vectors))
    _, slots = index.search(_fed(vectors[own], metric), depth)
    slots[slots == own[:, None]] = -1
    rows, scores = np.empty((len(own), k), dtype=np.int64), np.empty((len(own), k))

    def score(part: slice) -> None:
        rows[part], scores[part] = _scored(vectors, own[part], slots[part], k, metric)

    in_threads(score, list(split(len(own), max(1, _GATHERED // (depth * vectors.shape[1])))))
    few = np.flatnonzero((slots >= 0).sum(axis=1) < k)
    if len(few):
        asked = own[few]
        true = knn.neighbors(vectors[asked], vectors, k, metric, exclude=asked[:, None])
        rows[few], scores[few] = true.rows, true.scores
    largest = float(np.finfo(np.float32).max)
    return rows, np.clip(scores, -largest, largest).astype(np.float32)


def _scored(vectors: Vectors, own: Rows, slots: Rows, k: int, metric: str) -> tuple[Rows, Floats]:
    """Return the best ``k`` of some answers ``(q, m)``, -1 for none, by their exact scores."""
    slots = np.sort(slots, axis=1)
    pairs = np.repeat(own, slots.shape[1]), np.maximum(slots, 0).ravel()
    scores = knn.between(vectors[pairs[0]], vectors[pairs[1]], metric).reshape(slots.shape)
    scores[slots < 0] = -np.inf
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(slots, best, axis=1), np.take_along_axis(scores, best, axis=1)

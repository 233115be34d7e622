"""Questions about single rows: the neighbours of an id, the answer to an analogy. Exact."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..registry.tables import check_k
from ..registry.vectors import unit_rows
from . import knn

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..registry.tables import EmbeddingTable

Answers = tuple[tuple[str, float], ...]


def neighbors(table: EmbeddingTable, item: str, k: int = 10, *, metric: str | None = None) -> Answers:
    """Return the ``k`` rows nearest to a row, itself left out: (id, score), best first.

    Args:
        table: the rows.
        item: an id.
        k: how many.
        metric: ``cosine``, ``dot`` or ``l2`` (negated squared distances); by default the space's own.

    Raises:
        ItemNotFound: no such id; the hint names a close one.
        InputError: k is not below the number of rows.
    """
    row = table.row_of(item)
    check_k(k, table.rows - 1)
    return _nearest(table, table.take([row]), k, np.array([[row]]), metric or table.space.metric)


def analogy(table: EmbeddingTable, a: str, b: str, c: str, k: int = 10) -> Answers:
    """Answer ``a`` is to ``b`` as ``c`` is to ? by 3CosAdd: the rows nearest to b - a + c of unit rows.

    The three given ids are left out. Source: Mikolov et al. 2013, "Linguistic Regularities".

    Raises:
        ItemNotFound: no such id.
        InputError: fewer than k rows are left.
    """
    rows = [table.row_of(item) for item in (a, b, c)]
    check_k(k, table.rows - len(set(rows)))
    unit = unit_rows(table.take(rows)).astype(np.float64)
    query = (unit[1] - unit[0] + unit[2])[None, :]
    return _nearest(table, query, k, np.array([rows]), "cosine")


def _nearest(
    table: EmbeddingTable, query: NDArray[np.floating], k: int, exclude: NDArray[np.int64], metric: str
) -> Answers:
    """Merge the answers of the table's blocks, so that no more than one is held at a time."""
    rows = np.zeros(0, dtype=np.int64)
    scores = np.zeros(0)
    for block in table.blocks(1 << 18):
        inside = exclude - block.start
        inside = np.where((inside >= 0) & (inside < len(block.vectors)), inside, -1)
        count = min(k, len(block.vectors) - len(np.unique(inside[inside >= 0])))
        if count < 1:
            continue
        found = knn.neighbors(query, block.vectors, count, metric=metric, exclude=inside)
        rows = np.concatenate([rows, found.rows[0] + block.start])
        own = found.scores[0].astype(np.float64)
        far = np.flatnonzero(knn.beyond(found.scores[0]))
        if len(far) and metric != "cosine":
            rows_far = block.vectors[found.rows[0][far]]
            own[far] = knn.between(np.repeat(query, len(far), axis=0), rows_far, metric)
        scores = np.concatenate([scores, own])
    best = np.lexsort((rows, -scores))[:k]
    return tuple(zip(table.ids_of(rows[best]), scores[best].tolist(), strict=True))

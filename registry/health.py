"""Codebook health: how well what an index was trained for fits some rows.

Sources: the mean squared error is what product quantizers and coarse quantizers are trained to minimise, and
the imbalance factor is the expected cost of a search over that with even lists (Jégou, Douze & Schmid 2011,
equations 8 and 27 of "Product quantization for nearest neighbor search" and its section IV.D).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import factories, indexes
from .diff import Health, unhealthy
from .indexes import Built
from .tables import EmbeddingTable

#: The most rows that are looked at: those with the smallest id hashes, so that the same are next time.
SAMPLE = 10_000
#: Fewer new rows are not judged: of 150 like the others distortions are off by up to 40% (GloVe, PCA, SQ8),
#: of 500 by 10%; and in a small table the recall of the whole shows what becomes of its new rows.
FEWEST = 500
#: Rounding of the trained range, as a share of it.
_MARGIN = 1e-5

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Leaf:
    """One holder of codes: rows as they arrive there, the centre of the table, the variance kept so far."""

    codec: Any
    rows: Floats
    centre: NDArray[np.float64]
    kept: float


def measure(built: Built, table: EmbeddingTable, rows: NDArray[np.int64] | None = None) -> Health:
    """Return how well an index holds some rows of a table (all by default), seen through at most 10,000.

    Of a refined index the worse of its two codes counts. The distortion takes in what a pre-transform to
    fewer dimensions drops: ``1 - kept * (1 - error)``, where ``kept`` is the share of the rows' variance that
    arrives at the codes and ``error`` what the codes lose of that.
    """
    if built.trained_rows is None or not table.rows:
        return Health()
    if factories.is_binary(built.index):
        return Health(imbalance=imbalance(built))
    everything = np.arange(table.rows)
    x = _sample(built, table, everything if rows is None else rows)
    whole = x if rows is None else _sample(built, table, everything)
    leaves = list(_leaves(built.index, x, whole))
    return Health(
        clip_share=_worst([_clip_share(leaf) for leaf in leaves]),
        distortion=_worst([_distortion(leaf) for leaf in leaves]),
        coarse=_worst([_coarse(leaf) for leaf in leaves]),
        imbalance=imbalance(built),
    )


def baseline(built: Built, table: EmbeddingTable) -> Health:
    """Return what later rows are held against: the health of the table's rows that training left out.

    Where there are none, the errors of codes and lists are None: measured on the rows trained on, they would
    be too small to hold others against.
    """
    held_out = indexes.held_out(built, table)
    if len(held_out):
        return measure(built, table, held_out)
    return replace(measure(built, table), distortion=None, coarse=None)


def unfit(built: Built, before: Health, new: EmbeddingTable, fresh: NDArray[np.int64]) -> str | None:
    """Return why an index of ``before`` does not serve some new rows, or None; at least 500 are judged."""
    return unhealthy(before, measure(built, new, fresh)) if len(fresh) >= FEWEST else None


def imbalance(built: Built) -> float | None:
    """Return the imbalance factor of the inverted lists as they are; None of a type without lists."""
    import faiss

    inner = factories.layers(built.index)[-1]
    if isinstance(inner, faiss.IndexRefine):
        inner = factories.layers(inner.base_index)[-1]
    return float(inner.invlists.imbalance_factor()) if factories.has_lists(inner) and built.rows else None


def foreseen_imbalance(built: Built, table: EmbeddingTable) -> tuple[float, int] | None:
    """Return the imbalance factor of the lists if they held the rows of a table, and how many were looked at.

    They are those with the smallest id hashes, at most 10,000. Of N rows seen of n, the share of pairs that
    meet in a list is that of all pairs without bias, and ``sum(size^2)`` follows from it.

    Returns:
        None for a type without lists.
    """
    import faiss

    index, x = built.index, _sample(built, table, np.arange(table.rows))
    inner = factories.layers(index)[-1]
    if isinstance(inner, faiss.IndexRefine):
        x, index = factories.transformed(index, x), inner.base_index
        inner = factories.layers(index)[-1]
    if not factories.has_lists(inner) or not len(x):
        return None
    lists = factories.down(inner.quantizer).search(factories.transformed(index, x), 1)[1].ravel()
    sizes = np.bincount(lists, minlength=inner.nlist).astype(np.float64)
    seen, n = len(x), table.rows
    together = (sizes * (sizes - 1)).sum() / max(seen * (seen - 1), 1)
    return float(inner.nlist * (together * (n - 1) + 1) / n), seen


def _sample(built: Built, table: EmbeddingTable, rows: NDArray[np.int64]) -> Floats:
    x: Floats = indexes.fed(built, table.take(indexes.smallest_hashes(table, rows, SAMPLE)))
    return x


def _worst(values: list[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _leaves(index: Any, x: Floats, whole: Floats, kept: float = 1.0) -> Iterator[_Leaf]:
    """Yield every holder of codes in an index, with the rows as they arrive there."""
    import faiss

    *around, inner = factories.layers(index)
    for layer in around:
        for transform in factories.transforms(layer):
            kept *= _kept(transform, x, whole)
            x, whole = transform.apply(x), transform.apply(whole)
    if isinstance(inner, faiss.IndexRefine):
        for part in (inner.base_index, inner.refine_index):
            yield from _leaves(part, x, whole, kept)
        return
    storage = getattr(inner, "storage", None)
    codec = inner if storage is None else factories.down(storage)
    yield _Leaf(codec=codec, rows=x, centre=whole.mean(axis=0, dtype=np.float64), kept=kept)


def _kept(transform: Any, x: Floats, whole: Floats) -> float:
    """Return the share of the rows' variance that a linear transform to fewer dimensions lets through."""
    import faiss

    if not isinstance(transform, faiss.LinearTransform) or transform.d_out >= transform.d_in:
        return 1.0
    matrix = faiss.vector_to_array(transform.A).reshape(transform.d_out, transform.d_in)
    basis, _ = np.linalg.qr(matrix.T.astype(np.float64))
    gap = x - whole.mean(axis=0, dtype=np.float64)
    total = float((gap**2).sum())
    return float(((gap @ basis) ** 2).sum()) / total if total else 1.0


def _distortion(leaf: _Leaf) -> float | None:
    import faiss

    if isinstance(leaf.codec, faiss.IndexLSH):  # its bits say no length: there is nothing to compare with
        return None
    try:
        said = leaf.codec.sa_decode(leaf.codec.sa_encode(leaf.rows))
    except RuntimeError:  # a type without a codec of its own
        return None
    error = _relative(leaf, said)
    return None if error is None else 1.0 - leaf.kept * (1.0 - error)


def _coarse(leaf: _Leaf) -> float | None:
    centroids = _centroids(leaf) if factories.has_lists(leaf.codec) else None
    return None if centroids is None else _relative(leaf, centroids)


def _relative(leaf: _Leaf, said: Floats) -> float | None:
    """Return the mean squared distance of the rows from what stands for them, over that from the centre."""
    spread = float(((leaf.rows - leaf.centre) ** 2).sum())
    return float(((leaf.rows.astype(np.float64) - said) ** 2).sum()) / spread if spread else None


def _centroids(leaf: _Leaf) -> Floats | None:
    """Return the centroid of the list that each row falls into; None if they cannot be told."""
    coarse = factories.down(leaf.codec.quantizer)
    try:
        centroids: Floats = coarse.reconstruct_batch(coarse.search(leaf.rows, 1)[1].ravel())
    except RuntimeError:  # a coarse quantizer that is an inverted file itself
        return None
    return centroids


def _clip_share(leaf: _Leaf) -> float | None:
    """Return the share of components outside the trained range; of lists, of what remains to the centroid."""
    import faiss

    quantizer = getattr(leaf.codec, "sq", None)
    if quantizer is None or quantizer.qtype not in _ranged():
        return None
    low, span = faiss.vector_to_array(quantizer.trained).reshape(2, -1).astype(np.float64)
    rows = leaf.rows
    if factories.has_lists(leaf.codec) and leaf.codec.by_residual:
        centroids = _centroids(leaf)
        if centroids is None:
            return None
        rows = rows - centroids
    margin = _MARGIN * span
    return float(np.mean((rows < low - margin) | (rows > low + span + margin)))


def _ranged() -> frozenset[int]:
    """Return the kinds of scalar quantizer that learn a range."""
    from faiss import ScalarQuantizer as Kinds

    return frozenset(
        (Kinds.QT_8bit, Kinds.QT_6bit, Kinds.QT_4bit, Kinds.QT_8bit_uniform, Kinds.QT_4bit_uniform)
    )

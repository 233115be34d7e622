"""FAISS indexes: build, add, update, search, recall, serialise. The only file of the registry with faiss.

An index answers with *slots*; its own id map says which id a slot holds. Types that store ids (IVF) keep
their slots for ever and leave holes; types that store rows in order (Flat, PQ, SQ …) close up when rows go.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .diff import Traits
from .errors import IndexFailed, InputError, UsageError, printable
from .tables import EmbeddingTable
from .types import Progress
from .vectors import Vectors, hash_ids, split, unit_rows

if TYPE_CHECKING:
    import faiss

RECALL_K = 10
RECALL_QUERIES = 1000
_BLOCK = 65536
_MIN_TRAINING = 100_000
_POINTS_PER_CENTROID = 256
_TIE = 1e-6
#: Factories that parse and then abort or hang the process inside FAISS.
_DEADLY = re.compile(r"(HNSW|NSG)[01]?(?!\d)|(PCAW?R?|IVF)0+(?!\d)")


@dataclass(slots=True, kw_only=True)
class Built:
    """A FAISS index with its id map.

    Attributes:
        index: the FAISS index.
        slots: Arrow large_string array, the id in each slot; null where a row was removed.
        metric: ``cosine`` (rows are normalised), ``dot`` or ``l2``.
        trained_rows: size of the table its quantizers were trained on; None if it needs no training.
    """

    index: faiss.Index
    slots: pa.Array
    metric: str
    trained_rows: int | None

    @property
    def traits(self) -> Traits:
        """What this index type can do in place."""
        inner = _inner(self.index)
        name = type(inner).__name__
        return Traits(
            can_add="NSG" not in name,
            can_remove=_stores_ids(inner) or _stores_rows(inner),
            trained_rows=self.trained_rows,
        )

    @property
    def rows(self) -> int:
        """How many vectors it holds."""
        return int(self.index.ntotal)


def _inner(index: faiss.Index) -> Any:
    """Return the index behind its pre-transforms, as its own type."""
    import faiss

    inner = faiss.downcast_index(index)
    while isinstance(inner, faiss.IndexPreTransform):
        inner = faiss.downcast_index(inner.index)
    return inner


def _stores_ids(inner: Any) -> bool:
    import faiss

    return isinstance(inner, faiss.IndexIVF)


def _stores_rows(inner: Any) -> bool:
    import faiss

    return isinstance(inner, faiss.IndexFlatCodes)


def create(factory: str, search: str, dim: int, metric: str) -> faiss.Index:
    """Return an empty index with its search parameters set.

    Raises:
        UsageError: FAISS does not know the factory string or a parameter, or they fit neither width nor
            metric.
    """
    import faiss

    if _DEADLY.search(factory):
        raise UsageError(
            f"factory '{printable(factory)}': FAISS does not survive so small a number",
            hint="HNSW and NSG need 2 links or more, PCA and IVF at least 1",
        )
    if "IDMap" in factory:
        raise UsageError(
            f"factory '{printable(factory)}': leave IDMap out", hint="embreg keeps an id map of its own"
        )
    kind = faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT
    try:
        index = faiss.index_factory(dim, factory, kind)
    except (RuntimeError, ValueError) as exc:
        raise UsageError(
            f"FAISS cannot make '{printable(factory)}' for {metric} vectors of width {dim}: {_reason(exc)}",
            hint="for example Flat, HNSW32, IVF1024,Flat, IVF256,PQ25 (PQ's number divides the width), SQ8",
        ) from exc
    _set_search(index, search)
    _silence_clustering(index)
    return index


def _set_search(index: faiss.Index, search: str) -> None:
    """Set parameters like ``nprobe=16,efSearch=64``; FAISS keeps them in the index file."""
    import faiss

    if not search:
        return
    for pair in search.split(","):
        _, _, value = pair.partition("=")
        if value.strip().lstrip("-").isdigit() and not 1 <= int(value) < 2**31:
            raise UsageError(f"search parameter '{printable(pair)}': at least 1")
    try:
        faiss.ParameterSpace().set_index_parameters(index, search)  # type: ignore[arg-type]
    except RuntimeError as exc:
        raise UsageError(
            f"FAISS cannot set '{printable(search)}' on this index: {_reason(exc)}",
            hint="for example nprobe=16 for IVF, efSearch=64 for HNSW",
        ) from exc


def _reason(exc: BaseException) -> str:
    """Return the last clause of a FAISS message: the rest is C++ signatures and line numbers."""
    return printable(str(exc).rpartition(": ")[2] or str(exc))


def _silence_clustering(index: faiss.Index) -> None:
    """Keep FAISS from printing to the terminal that a training set is small.

    An OPQ rotation makes its quantizer while it trains, out of reach: that one still prints.
    """
    import faiss

    outer = faiss.downcast_index(index)
    holders = [_inner(index)]
    if isinstance(outer, faiss.IndexRefine):
        holders.append(_inner(outer.base_index))
    for holder in [*holders, *(pq for h in holders if (pq := getattr(h, "pq", None)) is not None)]:
        if hasattr(holder, "cp"):
            holder.cp.min_points_per_centroid = 1


def _prepared(x: Vectors, metric: str) -> NDArray[np.float32]:
    return unit_rows(x) if metric == "cosine" else np.ascontiguousarray(x, dtype=np.float32)


def build(
    table: EmbeddingTable,
    factory: str,
    metric: str,
    *,
    search: str = "",
    seed: int = 0,
    progress: Progress | None = None,
) -> Built:
    """Train an index where its type asks for it, and add every row.

    The training set is drawn from the whole table with ``seed``: at least 100,000 rows, and 256 for each
    centroid (all rows, if there are fewer).

    Raises:
        UsageError: the factory string is not for this table.
        IndexFailed: FAISS refused to train or add.
    """
    index = create(factory, search, table.dim, metric)
    trained_rows = None
    if not index.is_trained:
        trained_rows = table.rows
        _train(index, table, factory, metric, seed)
    built = Built(
        index=index, slots=pa.array([], pa.large_string()), metric=metric, trained_rows=trained_rows
    )
    for block in table.blocks(_BLOCK):
        _append(built, block.vectors, block.ids)
        if progress is not None:
            progress("rows", block.start + len(block.vectors), table.rows)
    return built


def _train(index: faiss.Index, table: EmbeddingTable, factory: str, metric: str, seed: int) -> None:
    inner = _inner(index)
    centroids = inner.nlist if _stores_ids(inner) else 0
    if centroids > table.rows:
        raise InputError(
            f"'{printable(factory)}' needs at least {centroids:,} rows; the table has {table.rows:,}",
            hint="choose fewer lists, for example 4 times the square root of the rows",
        )
    wanted = min(table.rows, max(_MIN_TRAINING, _POINTS_PER_CENTROID * centroids))
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(table.rows, size=wanted, replace=False))
    try:
        index.train(_prepared(table.take(rows), metric))
    except RuntimeError as exc:
        raise IndexFailed(
            f"FAISS could not train '{printable(factory)}' on {wanted:,} rows: {_reason(exc)}",
            hint="choose a smaller factory, or one that needs no training (Flat, HNSW32)",
        ) from exc


def _append(built: Built, vectors: Vectors, ids: pa.Array) -> None:
    x = _prepared(vectors, built.metric)
    try:
        if _stores_ids(_inner(built.index)):
            first = len(built.slots)
            built.index.add_with_ids(x, np.arange(first, first + len(x), dtype=np.int64))
        else:
            built.index.add(x)
    except RuntimeError as exc:
        raise IndexFailed(f"FAISS could not add rows: {_reason(exc)}") from exc
    built.slots = pa.concat_arrays([built.slots, ids.cast(pa.large_string())])


def revise(built: Built, old: EmbeddingTable, new: EmbeddingTable) -> tuple[int, int]:
    """Make the index of ``old`` one of ``new`` in place: remove what went or changed, add what came.

    Returns:
        How many rows were removed, and how many were added.

    Raises:
        IndexFailed: the type cannot remove.
    """
    position = old.lookup(new.ids)
    shared = np.flatnonzero(position >= 0)
    same = new.fingerprints[shared] == old.fingerprints[position[shared]]
    kept_old = np.zeros(old.rows, dtype=bool)
    kept_old[position[shared[same]]] = True
    gone = old.ids.filter(pa.array(~kept_old))
    if len(gone):
        _remove(built, gone.combine_chunks())
    kept_new = np.zeros(new.rows, dtype=bool)
    kept_new[shared[same]] = True
    fresh = np.flatnonzero(~kept_new)
    for piece in split(len(fresh), _BLOCK):
        rows = fresh[piece]
        _append(built, new.take(rows), pa.array(new.ids_of(rows), pa.large_string()))
    return len(gone), len(fresh)


def _remove(built: Built, ids: pa.Array) -> None:
    import faiss
    import pyarrow.compute as pc

    leaving = pc.is_in(built.slots, value_set=ids).to_numpy(zero_copy_only=False)
    try:
        removed = built.index.remove_ids(faiss.IDSelectorBatch(np.flatnonzero(leaving).astype(np.int64)))
    except RuntimeError as exc:
        raise IndexFailed(f"FAISS could not remove rows: {_reason(exc)}") from exc
    if removed != len(ids):
        raise IndexFailed(f"FAISS removed {removed} rows of {len(ids)}")
    if _stores_ids(_inner(built.index)):
        built.slots = pc.if_else(pa.array(leaving), None, built.slots)
    else:
        built.slots = built.slots.filter(pa.array(~leaving))


def search(built: Built, queries: Vectors, k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return slots and scores of up to ``k`` answers for each query ``(q, d)``, best first.

    Slots are int64 ``(q, k)``, -1 where FAISS found no more; scores are cosines or inner products, or negated
    squared distances under ``l2``.
    """
    try:
        scores, slots = built.index.search(_prepared(queries, built.metric), k)
    except RuntimeError as exc:
        raise IndexFailed(f"FAISS could not search: {_reason(exc)}") from exc
    return slots, -scores if built.metric == "l2" else scores


def names(built: Built, slots: NDArray[np.int64], scores: NDArray[np.float32]) -> list[tuple[str, float]]:
    """Return the answers of one query as (id, score), each id once, paddings left out."""
    found: dict[str, float] = {}
    for slot, score in zip(slots.tolist(), scores.tolist(), strict=True):
        if slot >= 0 and (name := built.slots[slot].as_py()) is not None:
            found.setdefault(name, score)
    return list(found.items())


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
    asked = _prepared(table.take(rows), built.metric)
    threshold = _kth_exact(asked, rows, table, built.metric, k)
    slots, _ = search(built, asked, k + 1)
    answers = table.lookup(built.slots.take(pa.array(np.maximum(slots, 0).ravel()))).reshape(slots.shape)
    answers[slots < 0] = -1
    hits = np.zeros(len(rows))
    for i, row in enumerate(rows):
        found = np.unique(answers[i][(answers[i] >= 0) & (answers[i] != row)])
        exact = _distances(asked[i], _prepared(table.take(found), built.metric), built.metric)
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
    for block in table.blocks(_BLOCK * 4):
        base = _prepared(block.vectors, metric)
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
        last = float(_distances(asked[i], _prepared(table.take(others), metric), metric).max())
        limit[i] = last + _TIE * abs(last) + _TIE * 1e-3  # the tiny: exact duplicates are at distance 0
    return limit


def write(built: Built, path: Path) -> None:
    """Write the FAISS file.

    Raises:
        OSError: the disk refused.
    """
    import faiss

    try:
        faiss.write_index(built.index, str(path))
    except RuntimeError as exc:
        raise OSError(_reason(exc)) from exc


def read(path: Path, slots: pa.Array, metric: str, trained_rows: int | None) -> Built:
    """Read what ``write`` wrote, with its id map.

    Raises:
        IndexFailed: the file is no FAISS index that this version of FAISS can read.
    """
    import faiss

    try:
        index = faiss.read_index(str(path))
    except RuntimeError as exc:
        raise IndexFailed(
            f"FAISS cannot read {path.name[:12]}: {_reason(exc)}", hint="rebuild it: 'embreg index rebuild'"
        ) from exc
    return Built(index=index, slots=slots, metric=metric, trained_rows=trained_rows)


def serialise_slots(slots: pa.Array) -> list[Any]:
    """Return the id map as the buffers of an Arrow IPC file."""
    sink = pa.BufferOutputStream()
    table = pa.table({"id": slots})
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return [sink.getvalue()]


def parse_slots(data: bytes) -> pa.Array:
    """Read what ``serialise_slots`` wrote."""
    column = pa.ipc.open_file(pa.BufferReader(data)).read_all().column("id")
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)

"""FAISS indexes: build, add, update, search, serialise.

An index answers with *slots*; its own id map says which id a slot holds. Types that store ids (inverted
lists, id maps) keep their slots for ever and leave holes; types that store rows in order (Flat, PQ, SQ …)
close up when rows go. ``factories`` says which do what.

A factory that starts with B makes an index of bits: a bit is 1 where a component is above 0, and scores are
negated Hamming distances. That is what others call sign bits or binary embeddings, so the index file answers
anybody's queries, and there is nothing learned that could grow old. A threshold learned for each dimension
would have to travel with the file and gains little: recall@10 of BFlat with thresholds at the mean instead of
0 is .315 instead of .302 on GloVe 50d, .652 instead of .636 on GoogleNews 300d, .504 instead of .495 on the
token table of MiniLM 384d (20,000 rows, cosine). To have it, index a version derived by ``center``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from . import factories
from .diff import Traits
from .errors import IndexFailed, InputError, printable
from .tables import EmbeddingTable
from .types import Progress
from .vectors import Vectors, hash_ids, row_norms, split, unit_rows

_BLOCK = 65536
_MIN_TRAINING = 100_000
_POINTS_PER_CENTROID = 256
#: Rows that a training set leaves out, to be measured on: a tenth, at most so many, of tables from 5,000 on.
HELD_OUT = 10_000
_HOLDS_OUT_FROM = 5000
#: Longest row whose products with others still fit float32; beyond, FAISS aborts the process.
_LONGEST = 1e18
#: First bytes of a file that holds an index of bits.
_BINARY_MAGIC = b"IB"
#: What FAISS raises, apart from aborting.
_REFUSALS = (RuntimeError, MemoryError)


@dataclass(slots=True, kw_only=True)
class Built:
    """A FAISS index with its id map.

    Attributes:
        index: the FAISS index, ``faiss.Index`` or ``faiss.IndexBinary``.
        slots: Arrow large_string array, the id in each slot; null where a row was removed.
        metric: ``cosine`` (rows are normalised), ``dot`` or ``l2``.
        trained_rows: size of the table its quantizers were trained on; None if it needs no training.
    """

    index: Any
    slots: pa.Array
    metric: str
    trained_rows: int | None

    @property
    def traits(self) -> Traits:
        """What this index type can do in place."""
        return Traits(
            can_add=factories.can_add(self.index),
            can_remove=factories.can_remove(self.index),
            trained_rows=self.trained_rows,
            directions=self.metric == "cosine",
        )

    @property
    def rows(self) -> int:
        """How many vectors it holds."""
        return int(self.index.ntotal)


def prepared(x: Vectors, metric: str) -> NDArray[np.float32]:
    """Return rows ``(n, d)`` as an index of that metric holds them: float32, unit rows under ``cosine``."""
    return unit_rows(x) if metric == "cosine" else np.ascontiguousarray(x, dtype=np.float32)


def fed(built: Built, x: Vectors) -> NDArray[Any]:
    """Return rows ``(n, d)`` as the index takes them: prepared floats, or bits packed into bytes.

    Raises:
        InputError: a row is too long for float32 products; FAISS would abort.
    """
    if factories.is_binary(built.index):
        return np.packbits(x > 0, axis=1)
    if built.metric != "cosine" and (longest := row_norms(x).max(initial=0.0)) > _LONGEST:
        raise InputError(
            f"a row is {longest:.3g} long: products of such rows overflow float32",
            hint="scale the rows, or register them with --metric cosine",
        )
    return prepared(x, built.metric)


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

    The training set is drawn with ``seed`` from all rows but the ``held_out`` ones: at least 100,000 rows,
    and 256 for each centroid (all rows, if there are fewer).

    Raises:
        UsageError: the factory string is not for this table.
        InputError: the table has too few rows for it, or rows too long for float32 products.
        IndexFailed: FAISS refused to train or add.
    """
    factories.check_rows(factory, table.rows)
    index = factories.create(factory, search, table.dim, metric)
    trained_rows = None if index.is_trained else table.rows
    built = Built(
        index=index, slots=pa.array([], pa.large_string()), metric=metric, trained_rows=trained_rows
    )
    if trained_rows is not None:
        _train(built, table, factory, seed)
    if not built.traits.can_add:  # it takes all rows at once
        _refuse_repeats(built, table, factory)
        _append(built, table.vectors, table.ids.combine_chunks())
        if progress is not None:
            progress("rows", table.rows, table.rows)
        return built
    for block in table.blocks(_BLOCK):
        _append(built, block.vectors, block.ids)
        if progress is not None:
            progress("rows", block.start + len(block.vectors), table.rows)
    return built


def _train(built: Built, table: EmbeddingTable, factory: str, seed: int) -> None:
    inner = factories.layers(built.index)[-1]
    centroids = inner.nlist if factories.has_lists(inner) else 0
    pool = np.delete(np.arange(table.rows), held_out(built, table))
    wanted = min(len(pool), max(_MIN_TRAINING, _POINTS_PER_CENTROID * centroids))
    rows = np.sort(np.random.default_rng(seed).choice(pool, size=wanted, replace=False))
    x = fed(built, table.take(rows))
    try:
        with factories.quiet(built.index):
            built.index.train(x)
    except _REFUSALS as exc:
        raise IndexFailed(
            f"FAISS could not train '{printable(factory)}' on {wanted:,} rows: {factories.reason(exc)}",
            hint="choose a smaller factory, or one that needs no training (Flat, HNSW32)",
        ) from exc


def held_out(built: Built, table: EmbeddingTable) -> NDArray[np.int64]:
    """Return the rows of a table that training leaves out, so that codebooks can be measured on them.

    On the rows it was trained on a codebook looks better than it is (PQ10 on 10,000 rows of GloVe: by 17%),
    and other rows would look worse than they are beside them. It is a tenth of the rows, at most 10,000,
    those with the smallest id hashes; none of a table below 5,000 rows, or below twice the largest codebook.
    """
    if table.rows < max(_HOLDS_OUT_FROM, 2 * factories.largest_codebook(built.index)):
        return np.zeros(0, dtype=np.int64)
    return smallest_hashes(table, np.arange(table.rows), min(HELD_OUT, table.rows // 10))


def smallest_hashes(table: EmbeddingTable, rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return those of some rows that have the smallest id hashes, at most ``count``, in order."""
    if len(rows) <= count:
        return rows
    hashes = hash_ids(table.ids_of(rows))
    return np.sort(rows[np.argsort(hashes, kind="stable")[:count]])


def _refuse_repeats(built: Built, table: EmbeddingTable, factory: str) -> None:
    """Refuse rows that an NSG never finishes with: about as many copies of each as it has links.

    From half as many on, most of its copies cannot be reached any more.
    """
    graph = factories.layers(built.index)[-1]
    codes = graph.storage.sa_encode(factories.transformed(built.index, fed(built, table.vectors)))
    _, counts = np.unique(codes.view(f"V{codes.shape[1]}"), return_counts=True)
    if counts.max(initial=0) > graph.nsg.R // 2:
        raise IndexFailed(
            f"'{printable(factory)}': {counts.max():,} rows are alike, too many for {graph.nsg.R} links",
            hint="take HNSW32, which bears repeated rows",
        )


def _append(built: Built, vectors: Vectors, ids: pa.Array) -> None:
    x = fed(built, vectors)
    try:
        if factories.keeps_ids(built.index):
            first = len(built.slots)
            built.index.add_with_ids(x, np.arange(first, first + len(x), dtype=np.int64))
        else:
            built.index.add(x)
    except _REFUSALS as exc:
        raise IndexFailed(f"FAISS could not add rows: {factories.reason(exc)}") from exc
    built.slots = pa.concat_arrays([built.slots, ids.cast(pa.large_string())])


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """What an index of one table needs to become one of another.

    Attributes:
        gone: Arrow array of the ids that went or changed.
        fresh: rows of the new table that came or changed, int64.
    """

    gone: pa.Array
    fresh: NDArray[np.int64]


def revision(old: EmbeddingTable, new: EmbeddingTable) -> Revision:
    """Return what to remove and what to add on the way from ``old`` to ``new``."""
    position = old.lookup(new.ids)
    shared = np.flatnonzero(position >= 0)
    same = new.fingerprints[shared] == old.fingerprints[position[shared]]
    kept_old = np.zeros(old.rows, dtype=bool)
    kept_old[position[shared[same]]] = True
    kept_new = np.zeros(new.rows, dtype=bool)
    kept_new[shared[same]] = True
    gone = old.ids.filter(pa.array(~kept_old)).combine_chunks()
    return Revision(gone=gone, fresh=np.flatnonzero(~kept_new))


def revise(built: Built, new: EmbeddingTable, revision: Revision) -> None:
    """Make an index of an older table one of ``new`` in place: remove what is gone, add what is fresh.

    Raises:
        InputError: a row is too long for float32 products.
        IndexFailed: the type cannot remove, or cannot add.
    """
    if len(revision.gone):
        _remove(built, revision.gone)
    for piece in split(len(revision.fresh), _BLOCK):
        rows = revision.fresh[piece]
        _append(built, new.take(rows), pa.array(new.ids_of(rows), pa.large_string()))


def _remove(built: Built, ids: pa.Array) -> None:
    import faiss
    import pyarrow.compute as pc

    if not factories.can_remove(built.index):
        raise IndexFailed("this index type cannot remove rows")
    leaving = pc.is_in(built.slots, value_set=ids).to_numpy(zero_copy_only=False)
    try:
        removed = built.index.remove_ids(faiss.IDSelectorBatch(np.flatnonzero(leaving).astype(np.int64)))
    except _REFUSALS as exc:
        raise IndexFailed(f"FAISS could not remove rows: {factories.reason(exc)}") from exc
    if removed != len(ids):
        raise IndexFailed(f"FAISS removed {removed} rows of {len(ids)}")
    if factories.keeps_ids(built.index):
        built.slots = pc.if_else(pa.array(leaving), None, built.slots)
    else:
        built.slots = built.slots.filter(pa.array(~leaving))


def search(built: Built, queries: Vectors, k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return slots and scores of up to ``k`` answers for each query ``(q, d)``, best first.

    Slots are int64 ``(q, k)``, -1 where FAISS found no more. Scores are cosines or inner products, negated
    squared distances under ``l2``, and negated Hamming distances of bits (binary types and LSH).
    """
    found, slots = ask(built, fed(built, queries), k)
    return slots, _scores(built, found)


def ask(built: Built, x: NDArray[Any], k: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return what FAISS itself says of queries that are ``fed`` already: figures ``(q, k)``, and slots.

    Raises:
        IndexFailed: FAISS refused.
    """
    try:
        found, slots = built.index.search(x, k)
    except _REFUSALS as exc:
        raise IndexFailed(f"FAISS could not search: {factories.reason(exc)}") from exc
    return found, slots


def _scores(built: Built, found: NDArray[Any]) -> NDArray[np.float32]:
    import faiss

    index = built.index
    if factories.is_binary(index) or isinstance(factories.layers(index)[-1], faiss.IndexLSH):
        return -found.astype(np.float32)
    if built.metric == "l2":
        return -found
    if index.metric_type == faiss.METRIC_L2:  # cosine by a type that knows distances only, of unit rows
        return (1 - found / 2).astype(np.float32)
    return found


def names(built: Built, slots: NDArray[np.int64], scores: NDArray[np.float32]) -> list[tuple[str, float]]:
    """Return the answers of one query as (id, score), each id once, paddings left out."""
    found: dict[str, float] = {}
    for slot, score in zip(slots.tolist(), scores.tolist(), strict=True):
        if slot >= 0 and (name := built.slots[slot].as_py()) is not None:
            found.setdefault(name, score)
    return list(found.items())


def write(built: Built, path: Path) -> None:
    """Write the FAISS file.

    Raises:
        OSError: the disk refused.
    """
    import faiss

    save = faiss.write_index_binary if factories.is_binary(built.index) else faiss.write_index
    try:
        save(built.index, str(path))
    except RuntimeError as exc:
        raise OSError(factories.reason(exc)) from exc


def read(path: Path, slots: pa.Array, metric: str, trained_rows: int | None) -> Built:
    """Read what ``write`` wrote, with its id map.

    FAISS trusts its files: what was not checked against a digest first can crash the process.

    Raises:
        IndexFailed: the file is no FAISS index that this version of FAISS can read.
    """
    import faiss

    with path.open("rb") as file:
        binary = file.read(len(_BINARY_MAGIC)) == _BINARY_MAGIC
    try:
        index = faiss.read_index_binary(str(path)) if binary else faiss.read_index(str(path))
    except _REFUSALS as exc:
        raise IndexFailed(
            f"FAISS cannot read {path.name[:12]}: {factories.reason(exc)}",
            hint="rebuild it: 'embreg index rebuild'",
        ) from exc
    factories.mend(index)
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

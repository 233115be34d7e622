"""Embedding tables and their parts: Arrow in memory, Arrow IPC or Parquet on disk.

A table is cut into parts of a power-of-two row count fixed by the row size, so the same rows give the same
parts, byte for byte, and an appended table shares every full leading part with the table before it.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from .errors import CorruptBlob, InputError, ItemNotFound, UsageError, did_you_mean, printable
from .stack import Stack
from .types import Space
from .vectors import Batch, Vectors, fingerprints, row_norms

PART_BYTES = 128 << 20
STORAGES = ("arrow", "parquet")
ID, VECTOR, FINGERPRINT = "id", "vector", "fingerprint"
#: The attribute that marks rows which statistics leave out, where it is boolean.
SPECIAL = "special"
_ARROW = {"float32": pa.float32(), "float16": pa.float16()}
_UNIT_TOLERANCE = {"float32": 1e-3, "float16": 4e-3}


def part_rows(dim: int, dtype: str) -> int:
    """Return how many rows a full part holds: the power of two that fills at most 128 MiB."""
    rows = PART_BYTES // (dim * np.dtype(dtype).itemsize)
    return 1 << max(0, rows.bit_length() - 1)


def normalised(norms: NDArray[np.float64], dtype: str) -> bool:
    """Whether every non-zero norm is 1, within the rounding of ``dtype``."""
    nonzero = norms[norms > 0]
    return bool(nonzero.size) and bool(np.all(np.abs(nonzero - 1) <= _UNIT_TOLERANCE[dtype]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Consecutive rows of a table: ``vectors`` ``(m, d)``, read-only, the first one row ``start``."""

    start: int
    ids: pa.Array
    vectors: Vectors


class Part:
    """One part of a table.

    A mapped one is opened once. One that must be read is read column by column, anew each time it is asked
    for, so that a pass over a large table holds one part at a time.
    """

    def __init__(self, rows: int, read: Callable[[list[str] | None], pa.Table], *, mapped: bool) -> None:
        self.rows = rows
        self._read = read
        self.mapped = mapped

    def table(self, columns: list[str] | None = None) -> pa.Table:
        """Return some columns (all by default), one chunk each.

        Raises:
            CorruptBlob: the stored part has another number of rows than its manifest says.
        """
        return self._whole if self.mapped else self._checked(columns)

    @cached_property
    def _whole(self) -> pa.Table:
        return self._checked(None)

    def _checked(self, columns: list[str] | None) -> pa.Table:
        table = self._read(columns)
        if table.num_rows != self.rows:
            raise CorruptBlob(f"a part holds {table.num_rows} rows where {self.rows} were stored")
        return table.combine_chunks()

    def apart(self, columns: list[str]) -> pa.Table:
        """Return some columns, and read nothing else of a mapped part, not even ahead."""
        return self._checked(columns)

    def column(self, name: str) -> pa.Array:
        """Return one column as one Arrow array."""
        table = self.table([name])
        chunks = table.column(name).chunks
        return chunks[0] if chunks else pa.array([], table.schema.field(name).type)

    @property
    def vectors(self) -> Vectors:
        """``(m, d)``, read-only; the mapped file itself where the part is Arrow."""
        column = self.column(VECTOR)
        flat = column.flatten().to_numpy(zero_copy_only=True)
        rows: Vectors = flat.reshape(self.rows, column.type.list_size)
        return rows


class EmbeddingTable:
    """Ids, vectors ``(n, d)`` and attributes of one version; reading is lazy, nothing is writable.

    Attributes:
        space: what the numbers mean.
        rows: n.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        space: Space,
        attributes: Sequence[str] = (),
        probes: Callable[[], EmbeddingTable] | None = None,
    ) -> None:
        self._parts = tuple(parts)
        self._attributes = tuple(attributes)
        self._probes = probes
        self.space = space
        self.rows = sum(part.rows for part in self._parts)

    @classmethod
    def from_arrays(
        cls,
        ids: Sequence[str] | pa.Array | None,
        vectors: Vectors,
        *,
        space: Space | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> Self:
        """Return a table over arrays in memory; the vectors are not copied if they need no cast.

        Args:
            ids: n unique strings; None numbers the rows.
            vectors: ``(n, d)`` of any float dtype; float64 becomes float32.
            space: by default cosine, kind ``other``, width and dtype from the array.
            attributes: further columns, each of length n.

        Raises:
            InputError: the lengths differ, or ``vectors`` is not two-dimensional.
        """
        x = np.asarray(vectors)
        if x.ndim != 2 or x.shape[1] == 0:
            raise InputError(f"vectors must be (n, d) with d >= 1, not {x.shape}")
        with np.errstate(over="ignore"):  # what float32 cannot hold is infinite there, and told apart later
            x = np.ascontiguousarray(x, dtype=np.float16 if x.dtype == np.float16 else np.float32)
        names = pa.array([str(i) for i in range(len(x))] if ids is None else ids, pa.large_string())
        if len(names) != len(x):
            raise InputError(f"{len(names)} ids for {len(x)} rows")
        if space is None:
            unit = normalised(row_norms(x), x.dtype.name)
            space = Space(dim=x.shape[1], dtype=x.dtype.name, normalised=unit)
        extra = {name: pa.array(values) for name, values in (attributes or {}).items()}
        if taken := {ID, VECTOR, FINGERPRINT} & set(extra):
            raise InputError(f"an attribute cannot be called '{min(taken)}'", hint="rename it")
        part = assemble(names, x, fingerprints(x), pa.table(extra) if extra else None)
        return cls([Part(len(x), lambda _: part, mapped=True)] if len(x) else [], space, tuple(extra))

    @classmethod
    def collect(cls, batches: Iterable[Batch]) -> Self:
        """Return the table of some batches, at least one, held in memory; rows without ids are numbered."""
        ids: list[str] = []
        blocks = []
        for batch in batches:
            numbered = (str(row) for row in range(len(ids), len(ids) + len(batch.vectors)))
            ids += numbered if batch.ids is None else batch.ids.to_pylist()
            blocks.append(batch.vectors)
        return cls.from_arrays(ids, np.concatenate(blocks))

    @property
    def dim(self) -> int:
        """d, the width of a row."""
        return self.space.dim

    def __len__(self) -> int:
        return self.rows

    def __repr__(self) -> str:
        return f"<EmbeddingTable {self.rows:,} x {self.dim} {self.space.dtype} {self.space.metric}>"

    def column(self, name: str) -> pa.ChunkedArray:
        """Return a column over all parts: ``id``, ``fingerprint`` or an attribute.

        Raises:
            ItemNotFound: the table has no such column.
        """
        if name not in self.column_names:
            known = [c for c in self.column_names if c not in (VECTOR, FINGERPRINT)]
            raise ItemNotFound(
                f"no column '{printable(name)}'",
                hint=did_you_mean(name, known, f"columns: {', '.join(map(printable, known))}"),
            )
        return pa.chunked_array([part.column(name) for part in self._parts])

    @property
    def column_names(self) -> tuple[str, ...]:
        """``id``, ``vector``, ``fingerprint``, then the attributes."""
        return (ID, VECTOR, FINGERPRINT, *self._attributes)

    @cached_property
    def ids(self) -> pa.ChunkedArray:
        """All ids in row order (large_string)."""
        return pa.chunked_array([part.column(ID) for part in self._parts], pa.large_string())

    @cached_property
    def fingerprints(self) -> NDArray[np.uint64]:
        """xxh3-64 of each row's vector bytes, uint64 ``(n,)``."""
        return self._concatenate([part.column(FINGERPRINT).to_numpy() for part in self._parts])

    @cached_property
    def probes(self) -> EmbeddingTable | None:
        """Fixed inputs with their vectors, which identify the encoder; None where none were given."""
        return self._probes() if self._probes is not None else None

    @cached_property
    def special(self) -> NDArray[np.bool_]:
        """Rows that are no item (padding, markers): the boolean attribute ``special``, bool ``(n,)``."""
        marks = [self._marks(part) for part in self._parts]
        return np.concatenate(marks) if marks else np.zeros(0, dtype=bool)

    def _marks(self, part: Part) -> NDArray[np.bool_]:
        column = part.column(SPECIAL) if SPECIAL in self._attributes else None
        if column is None or not pa.types.is_boolean(column.type):
            return np.zeros(part.rows, dtype=bool)
        marks: NDArray[np.bool_] = column.fill_null(False).to_numpy(zero_copy_only=False)
        return marks

    def identity(self) -> tuple[pa.Array, NDArray[np.uint64]]:
        """Return all ids and fingerprints, read by themselves: a hundredth of the table, say."""
        pieces = [part.apart([ID, FINGERPRINT]) for part in self._parts]
        if not pieces:
            return pa.array([], pa.large_string()), np.zeros(0, dtype=np.uint64)
        read = pa.concat_tables([piece.select([ID, FINGERPRINT]) for piece in pieces]).combine_chunks()
        return read.column(ID).chunk(0), read.column(FINGERPRINT).to_numpy()

    @cached_property
    def vectors(self) -> Vectors:
        """All vectors, read-only ``(n, d)``.

        A table of one part (up to 128 MiB of vectors) is the mapped file itself; several parts are
        copied into one array: use ``blocks`` where that is too much memory.
        """
        if not self._parts:
            return np.zeros((0, self.dim), dtype=self.space.dtype)
        return self._concatenate([part.vectors for part in self._parts])

    def stacked(self, rows: NDArray[np.int64] | None = None) -> Vectors | Stack:
        """Return all vectors, or those of some ``rows`` (ascending), to be read slice by slice.

        Like ``vectors``, but several parts are not joined, and rows between them not copied, before they
        are asked for: what is read a slice at a time need not fit into memory.
        """
        if rows is None and len(self._parts) < 2:
            return self.vectors
        return Stack(self._parts, self.dim, self.space.dtype, rows)

    @staticmethod
    def _concatenate(arrays: list[NDArray[Any]]) -> NDArray[Any]:
        if len(arrays) == 1:
            return arrays[0]
        joined = np.concatenate(arrays) if arrays else np.zeros(0, dtype=np.uint64)
        joined.flags.writeable = False
        return joined

    def blocks(self, rows: int = 65536) -> Iterator[Block]:
        """Yield the table in order, at most ``rows`` rows at a time, without copying."""
        start = 0
        for part in self._parts:
            ids, vectors = part.column(ID), part.vectors
            for i in range(0, part.rows, rows):
                piece = vectors[i : i + rows]
                yield Block(start=start + i, ids=ids.slice(i, len(piece)), vectors=piece)
            start += part.rows

    def batches(self) -> Iterator[tuple[pa.Array, Vectors, pa.Table | None]]:
        """Yield ids, vectors and attributes part by part, for export."""
        for part in self._parts:
            names = list(self._attributes)
            extra = part.table(names).select(names) if names else None
            yield part.column(ID), part.vectors, extra

    def through(self, apply: Callable[[Vectors], Vectors], space: Space) -> EmbeddingTable:
        """Return the table of the same ids and attributes whose vectors are ``apply`` of this one's.

        They are computed when a part is read, each time anew: nothing is held.
        """

        def computed(part: Part, columns: list[str] | None) -> pa.Table:
            wanted = self.column_names if columns is None else columns
            kept = [c for c in wanted if c not in (VECTOR, FINGERPRINT)]
            table = part.table(kept or [ID]).select(kept or [ID])
            if len(kept) == len(wanted):
                return table
            vectors = apply(part.vectors)
            whole = assemble(part.column(ID), vectors, fingerprints(vectors), None)
            for name in (VECTOR, FINGERPRINT):
                if name in wanted:
                    table = table.append_column(whole.schema.field(name), whole.column(name))
            return table

        parts = [Part(part.rows, partial(computed, part), mapped=False) for part in self._parts]
        return EmbeddingTable(parts, space, self._attributes)

    def lookup(self, ids: Sequence[str] | pa.Array) -> NDArray[np.int64]:
        """Return the row number of each id, int64; -1 where the table has no such id."""
        wanted = pa.array(ids, pa.large_string())
        found = np.full(len(wanted), -1, dtype=np.int64)
        start = 0
        for part in self._parts:
            rows = pc.index_in(wanted, value_set=part.column(ID)).fill_null(-1).to_numpy()
            hit = rows >= 0
            found[hit] = rows[hit] + start
            start += part.rows
        return found

    def row_of(self, item: str) -> int:
        """Return the row number of one id.

        Raises:
            ItemNotFound: no row has that id; the hint names a close one.
        """
        row = int(self.lookup([item])[0])
        if row < 0:
            raise ItemNotFound(f"no id '{printable(item)}'", hint=self._close_id(item))
        return row

    def _close_id(self, item: str) -> str:
        prefix = item[:2].lower()
        close: list[str] = []
        for part in self._parts:
            ids = part.column(ID)
            close += ids.filter(pc.starts_with(ids, prefix, ignore_case=True)).to_pylist()
            if len(close) > 20_000:
                break
        return did_you_mean(item, close, "ids are matched exactly, case included")

    def take(self, rows: NDArray[np.int64] | Sequence[int]) -> Vectors:
        """Return the vectors of some rows, in the order given, as a new ``(len(rows), d)`` array.

        Raises:
            IndexError: a row number is outside ``0 … n-1``.
        """
        index = np.asarray(rows, dtype=np.int64)
        if index.size and (index.min() < 0 or index.max() >= self.rows):
            raise IndexError(f"row numbers go from 0 to {self.rows - 1}")
        if len(self._parts) == 1:
            return self._parts[0].vectors[index]
        out = np.empty((len(index), self.dim), dtype=self.space.dtype)
        start = 0
        for part in self._parts:
            here = (index >= start) & (index < start + part.rows)
            out[here] = part.vectors[index[here] - start]
            start += part.rows
        return out

    def ids_of(self, rows: NDArray[np.int64] | Sequence[int]) -> list[str]:
        """Return the ids of some rows, in the order given."""
        names: list[str] = self.ids.take(pa.array(np.asarray(rows, dtype=np.int64))).to_pylist()
        return names


def assemble(
    ids: pa.Array, vectors: Vectors, prints: NDArray[np.uint64], attributes: pa.Table | None
) -> pa.Table:
    """Return the columns of a part over existing buffers, without copying."""
    flat = pa.array(vectors.reshape(-1), _ARROW[vectors.dtype.name])
    columns = {
        ID: ids,
        VECTOR: pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]),
        FINGERPRINT: pa.array(prints, pa.uint64()),
    }
    if attributes is not None:
        columns |= {name: attributes.column(name).combine_chunks() for name in attributes.column_names}
    fields = [pa.field(name, array.type, nullable=name not in (ID, VECTOR, FINGERPRINT))
              for name, array in columns.items()]  # fmt: skip
    return pa.table(list(columns.values()), schema=pa.schema(fields))


class _Chunks:
    """A write-only file that keeps the buffers it is handed, without copying them."""

    closed = False

    def __init__(self) -> None:
        self.buffers: list[Any] = []

    def write(self, data: Any) -> int:
        self.buffers.append(data)
        return len(data)

    def flush(self) -> None: ...

    def close(self) -> None: ...


def serialise(part: pa.Table, storage: str) -> list[Any]:
    """Return the file of a part as a list of buffers: Arrow IPC (one record batch) or Parquet."""
    if storage == "arrow":
        sink = _Chunks()
        options = pa.ipc.IpcWriteOptions(metadata_version=pa.ipc.MetadataVersion.V5)
        with pa.ipc.new_file(pa.PythonFile(sink, mode="w"), part.schema, options=options) as writer:
            writer.write_table(part)
        return sink.buffers
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    # Vectors do not compress; ids and attributes do.
    flat = [f.name for f in part.schema if f.name != VECTOR]
    codecs = dict.fromkeys(flat, "ZSTD") | {f"{VECTOR}.list.element": "NONE"}
    pq.write_table(part, buffer, compression=codecs, use_dictionary=False,
                   write_statistics=False)  # fmt: skip
    return [buffer.getbuffer()]


def load_part(path: Path, storage: str, digest: str, columns: list[str] | None = None) -> pa.Table:
    """Open the file of a part; a whole Arrow part is mapped, of others only some columns are read.

    Raises:
        CorruptBlob: the file is no such part any more.
    """
    try:
        if storage == "arrow":
            return _map(path) if columns is None else _read_arrow(path, columns)
        import pyarrow.parquet as pq

        return pq.read_table(path, columns=columns, memory_map=True)
    except (pa.ArrowException, OSError) as exc:
        raise CorruptBlob(
            f"blob {digest[:12]} cannot be read: {printable(str(exc))}",
            hint="run 'embreg verify' to see every damaged version",
        ) from exc


def _map(path: Path) -> pa.Table:
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def _read_arrow(path: Path, columns: list[str]) -> pa.Table:
    """Read some columns; the system, which reads megabytes ahead, is told to leave the vectors alone."""
    with pa.OSFile(str(path)) as file:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        schema = pa.ipc.open_file(file).schema
        wanted = [schema.get_field_index(name) for name in columns]
        options = pa.ipc.IpcReadOptions(included_fields=wanted)
        return pa.ipc.open_file(file, options=options).read_all()


def check_storage(storage: str) -> str:
    """Return ``storage`` if it is ``arrow`` or ``parquet``.

    Raises:
        UsageError: anything else.
    """
    if storage not in STORAGES:
        raise UsageError(f"unknown storage '{printable(storage)}'", hint="arrow or parquet")
    return storage


def check_k(k: int, available: int) -> None:
    """Refuse a number of neighbours that ``available`` other rows cannot give.

    Raises:
        UsageError: k is below 1.
        InputError: there are fewer rows than k.
    """
    if k < 1:
        raise UsageError(f"k is at least 1, not {k}")
    if k > available:
        raise InputError(
            f"k = {k}, but only {available:,} other rows can answer", hint="ask for fewer neighbours"
        )

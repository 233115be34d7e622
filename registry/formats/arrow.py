"""Arrow IPC, file or stream; the file is also what Feather version 2 is."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from ..vectors import Batch, split
from . import columns
from .base import Options, Source, bad, batch_rows, no_rows, once, reading
from .writing import publish

if TYPE_CHECKING:
    from ..tables import EmbeddingTable

MAGIC = b"ARROW1"
_FEATHER_1 = b"FEA1"
_DAMAGE = (pa.ArrowException, UnicodeDecodeError, OverflowError)


def read(path: Path, options: Options) -> Source:
    """Open Arrow IPC; the rows are counted as they come."""
    with _opened(path) as (schema, pieces):
        chosen = columns.plan(path, schema, options)
        first = next((p for p in pieces if p.num_rows), None)
        if first is None:
            raise no_rows(path)
        d = columns.width(chosen, schema, first)
    return Source(
        path=path,
        format="arrow",
        dim=d,
        dtype=chosen.kept.name,
        rows=None,
        warnings=chosen.warnings,
        batches=once(lambda: _batches(chosen, d)),
    )


@contextmanager
def _opened(path: Path) -> Iterator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]:
    """Map a file and open it as IPC file or stream; pages are given back as the batches pass."""
    with reading(path, *_DAMAGE), path.open("rb") as file:
        head = file.read(8)
        if head.startswith(_FEATHER_1):
            raise bad(path, "", "Feather version 1", "write it again as version 2")
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        source = pa.BufferReader(pa.py_buffer(mapped))
        if head.startswith(MAGIC):
            reader = pa.ipc.open_file(source)
            yield reader.schema, _of_file(reader, mapped)
        else:
            stream = pa.ipc.open_stream(source)
            yield stream.schema, _of_stream(stream, mapped)


def _of_file(reader: pa.ipc.RecordBatchFileReader, mapped: mmap.mmap) -> Iterator[pa.RecordBatch]:
    for i in range(reader.num_record_batches):
        yield from _sliced(reader.get_batch(i), mapped)


def _of_stream(reader: pa.ipc.RecordBatchStreamReader, mapped: mmap.mmap) -> Iterator[pa.RecordBatch]:
    for piece in reader:
        yield from _sliced(piece, mapped)


def _sliced(piece: pa.RecordBatch, mapped: mmap.mmap) -> Iterator[pa.RecordBatch]:
    # Offsets of a damaged file would lead Arrow outside its buffers.
    piece.validate(full=True)
    row = max(1, piece.nbytes // max(1, piece.num_rows))
    for part in split(piece.num_rows, batch_rows(row)):
        yield piece.slice(part.start, part.stop - part.start)
        # Read pages would count as memory of this process until it ends.
        mapped.madvise(mmap.MADV_DONTNEED)


def _batches(chosen: columns.Plan, d: int) -> Iterator[Batch]:
    done = 0
    with _opened(chosen.path) as (_, pieces):
        for piece in pieces:
            yield columns.to_batch(chosen, d, piece, done)
            done += piece.num_rows


def write(table: EmbeddingTable, dest: Path, *, overwrite: bool) -> tuple[str, ...]:
    """Write an IPC file of ``id``, ``vector`` and the attributes, uncompressed, so it can be mapped."""
    schema = columns.export_schema(table)
    with publish(dest, overwrite=overwrite) as file, pa.ipc.new_file(file, schema) as writer:
        for piece in columns.exported(table, schema):
            writer.write_batch(piece)
    return ()

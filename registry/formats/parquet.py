"""Parquet: ids in one column, vectors in a list column or in one column a dimension.

What an export writes loads as a Hugging Face dataset, ``load_dataset("parquet", data_files="v.parquet")``:
``id`` is a ``large_string``, ``vector`` a ``List(Value("float32"), length=d)`` (``float16`` where the table
is), and each attribute a column of its own type; seen with datasets 5.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from ..vectors import Batch
from . import columns
from .base import Options, Source, batch_rows, fewer, no_rows, once, reading
from .writing import publish

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

    from ..tables import EmbeddingTable

_BUFFER = 1 << 20
_GROUP_BYTES = 64 << 20
#: Arrow's own errors, and what its bindings raise for damaged metadata.
_DAMAGE = (pa.ArrowException, UnicodeDecodeError, OverflowError)


@contextmanager
def opened(path: Path) -> Iterator[ParquetFile]:
    """Open a Parquet file so that pages are read as they are needed.

    Arrow would otherwise fetch the column chunks of a row group at once, and that may be the whole file.
    """
    import pyarrow.parquet as pq

    with (
        reading(path, *_DAMAGE),
        pq.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False) as file,
    ):
        yield file


def read(path: Path, options: Options) -> Source:
    """Open Parquet; the footer gives the rows, and the first vector the width of plain lists."""
    with opened(path) as file:
        schema, rows = file.schema_arrow, file.metadata.num_rows
        chosen = columns.plan(path, schema, options)
        if rows <= 0:
            raise no_rows(path)
        names = None if chosen.vector is None else [chosen.vector]
        first = next(file.iter_batches(1, columns=names), None) if names else None
        d = columns.width(chosen, schema, first)
    return Source(
        path=path,
        format="parquet",
        dim=d,
        dtype=chosen.kept.name,
        rows=rows,
        warnings=chosen.warnings,
        batches=once(lambda: _batches(chosen, d, rows)),
    )


def _batches(chosen: columns.Plan, d: int, rows: int) -> Iterator[Batch]:
    done = 0
    with opened(chosen.path) as file:
        for piece in file.iter_batches(batch_rows(d * chosen.source.itemsize)):
            # Parquet does not promise that its text is UTF-8.
            piece.validate(full=True)
            yield columns.to_batch(chosen, d, piece, done)
            done += piece.num_rows
    if done < rows:
        raise fewer(chosen.path, rows, done)


def write(table: EmbeddingTable, dest: Path, *, overwrite: bool) -> tuple[str, ...]:
    """Write ``id``, ``vector`` and the attributes, in row groups of some 64 MiB."""
    import pyarrow.parquet as pq

    schema = columns.export_schema(table)
    group = max(1, _GROUP_BYTES // (table.dim * schema.field("vector").type.value_type.bit_width // 8))
    # Vectors do not compress; ids and attributes do.
    codecs = dict.fromkeys(schema.names, "ZSTD") | {"vector.list.element": "NONE"}
    with publish(dest, overwrite=overwrite) as file:  # noqa: SIM117
        with pq.ParquetWriter(file, schema, compression=codecs, use_dictionary=False,
                              write_statistics=False) as writer:  # fmt: skip
            ready: list[pa.RecordBatch] = []
            for piece in columns.exported(table, schema):
                ready.append(piece)
                if sum(p.num_rows for p in ready) >= group:
                    writer.write_table(pa.Table.from_batches(ready))
                    ready = []
            if ready:
                writer.write_table(pa.Table.from_batches(ready))
    return ()

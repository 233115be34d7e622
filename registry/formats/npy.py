"""NumPy ``.npy``: one array of floats, in C or Fortran order; ids come beside it.

An export writes ``DEST`` and ``DEST.ids.json``, which an import of ``DEST`` finds by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..vectors import Batch, Vectors
from . import ids as idfile
from .arrays import ArrayHeader, check_size, column_major, float_dtype, header, header_bytes, row_major
from .base import Options, Source, check_shape, fewer, once, reading, target
from .writing import left_out, pieces, publish

if TYPE_CHECKING:
    from ..tables import EmbeddingTable


def read(path: Path, options: Options) -> Source:
    """Open an ``.npy`` array; the size of the file must be what its header says."""
    with reading(path), path.open("rb") as file:
        head = header(path, "", file)
    source = float_dtype(path, "", head)
    n, d = check_shape(path, "", head.shape)
    check_size(path, head, path.stat().st_size, d * source.itemsize)
    kept, cast = target(source)
    names, told = idfile.feed(path, options, n)
    return Source(
        path=path,
        format="npy",
        dim=d,
        dtype=kept.name,
        rows=n,
        warnings=cast + told,
        batches=once(lambda: _batches(path, head, source, kept, names)),
    )


def _batches(
    path: Path,
    head: ArrayHeader,
    source: np.dtype[Any],
    kept: np.dtype[Any],
    names: Callable[[], idfile.Feed] | None,
) -> Iterator[Batch]:
    feed = names() if names else None
    for block in _blocks(path, head, source, kept):
        yield Batch(vectors=block, ids=feed.take(len(block)) if feed else None)
    if feed:
        feed.finish()


def _blocks(path: Path, head: ArrayHeader, source: np.dtype[Any], kept: np.dtype[Any]) -> Iterator[Vectors]:
    n, d = head.shape
    with reading(path), path.open("rb") as file:
        if head.fortran and d > 1:
            yield from column_major(path, file.fileno(), head.start, n, d, source, kept)
        else:
            file.seek(head.start)
            yield from row_major(file, (n, d), source, kept, lambda row: fewer(path, n, row))


def write(table: EmbeddingTable, dest: Path, *, overwrite: bool) -> tuple[str, ...]:
    """Write the vectors to ``dest`` in C order, and the ids to ``dest.ids.json``."""
    beside = dest.with_name(dest.name + idfile.SIDECAR)
    dtype = np.dtype(table.space.dtype).newbyteorder("<")
    # Published first: an array beside which no ids were written would be numbered on import.
    with publish(dest, overwrite=overwrite) as file, publish(beside, overwrite=overwrite) as names:
        idfile.write_json(table, names)
        file.write(header_bytes((table.rows, table.dim), dtype))
        for _, vectors, _ in pieces(table):
            file.write(vectors.astype(dtype, copy=False).data.cast("B"))
    return left_out(table, "npy")

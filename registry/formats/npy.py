"""NumPy ``.npy``: one array of floats, in C or Fortran order; ids come beside it.

Through a compression it is read in C order only. bfloat16 has no name in the format: two bytes of nothing in
particular are read as such. An export writes ``DEST`` and ``DEST.ids.json``, which an import of ``DEST``
finds by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..vectors import Vectors
from . import ids
from .arrays import (
    ArrayHeader,
    Encoding,
    check_size,
    column_major,
    float_encoding,
    header,
    header_bytes,
    row_major,
)
from .base import Options, Source, check_shape, fewer, more, once, open_bytes, packed_away, reading
from .compression import codec_of

if TYPE_CHECKING:
    from ..tables import EmbeddingTable


def read(path: Path, options: Options) -> Source:
    """Open an ``.npy`` array; the size of the file must be what its header says."""
    with reading(path), open_bytes(path) as file:
        head = header(path, "", file)
    encoding = float_encoding(path, "", head)
    n, d = check_shape(path, "", head.shape)
    codec = codec_of(path)
    if codec is None:
        check_size(path, head, path.stat().st_size, d * encoding.stored.itemsize)
    elif head.fortran and d > 1:
        raise packed_away(path, "an array in Fortran order", codec)
    names = ids.names(path, options, n)
    return Source(
        path=path,
        format="npy",
        dim=d,
        dtype=encoding.kept.name,
        rows=n,
        warnings=encoding.told + names.told,
        declares=names.declares,
        batches=once(lambda: names.batches(_blocks(path, head, encoding))),
    )


def _blocks(path: Path, head: ArrayHeader, encoding: Encoding) -> Iterator[Vectors]:
    n, d = head.shape
    with reading(path), open_bytes(path) as file:
        if head.fortran and d > 1:
            yield from column_major(path, file.fileno(), head.start, (n, d), encoding)
            return
        header(path, "", file)
        yield from row_major(file, (n, d), encoding, lambda row: fewer(path, n, row))
        # Reading past the end also has a compression check its sum.
        if file.read(1):
            raise more(path, n)


def write(table: EmbeddingTable, dest: Path, *, overwrite: bool) -> tuple[str, ...]:
    """Write the vectors to ``dest`` in C order, and the ids to ``dest.ids.json``."""
    return ids.write_array(table, dest, header_bytes, name="npy", overwrite=overwrite)

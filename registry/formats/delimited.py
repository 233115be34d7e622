"""CSV and TSV, quoted as RFC 4180 says: ids, vectors and attributes in columns, with a header or without.

What the columns are is told from the first rows, by the rules of ``headers``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..errors import printable
from ..vectors import Batch
from . import attributes, vectortext
from .base import Options, Source, bad, no_rows, once
from .compression import packed
from .headers import Plan, is_numeric, plan
from .lines import Chunk, line_chunks, opening
from .records import Columns, line_of, parse, records, solid
from .writing import glued, numbers_text, publish, text_lines, text_pieces, widened

if TYPE_CHECKING:
    from ..tables import EmbeddingTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """A format of separated fields; ``delimiter`` is one byte."""

    name: str
    delimiter: bytes

    def read(self, path: Path, options: Options) -> Source:
        """Open a file; what its columns are is told from its first rows."""
        with closing(line_chunks(path, options.encoding, quoted=True)) as chunks:
            first = opening(solid(chunks, path))
        if first is None:
            raise no_rows(path)
        found = plan(path, first, self.delimiter, options)
        return Source(
            path=path,
            format=self.name,
            dim=found.dim,
            dtype="float32",
            rows=None,
            warnings=found.warnings,
            batches=once(lambda: _batches(found, options.encoding)),
        )

    def write(self, table: EmbeddingTable, dest: Path, *, overwrite: bool) -> tuple[str, ...]:
        """Write a header ``id 0 1 …`` and the attributes' names, then the rows."""
        names, told = _writable(table)
        comma = self.delimiter.decode()
        awkward = _awkward(comma)
        with publish(dest, overwrite=overwrite) as file, packed(file, dest) as out:
            head = ["id", *map(str, range(table.dim))]
            head += _quoted(pa.array(names, pa.large_string()), awkward).to_pylist()
            out.write((comma.join(head) + "\n").encode())
            for ids, vectors, extra in text_pieces(table):
                columns = (
                    [_column(extra.column(name), awkward) for name in names] if extra is not None else []
                )
                first = _quoted(ids.cast(pa.large_string()), awkward)
                out.write(text_lines([first, numbers_text(vectors, comma), *columns], comma))
        return widened(table) + told


CSV = Dialect(name="csv", delimiter=b",")
TSV = Dialect(name="tsv", delimiter=b"\t")


# -- writing -------------------------------------------------------------------------------------------------


def _writable(table: EmbeddingTable) -> tuple[list[str], tuple[str, ...]]:
    names, told = attributes.kept(table)
    # In a header it would pass for one more dimension, or the header for a row.
    taken = [name for name in names if is_numeric(name.encode())]
    if taken:
        listed = ", ".join(printable(name, 40) for name in taken)
        told += (f"attributes whose names are numbers are not kept: {listed}",)
    return [name for name in names if name not in taken], told


def _quoted(text: pa.Array, pattern: str) -> pa.Array:
    """Return text, in quotes and its own doubled where the pattern matches; nulls stay."""
    doubled = pc.replace_substring(text, '"', '""')
    return pc.if_else(pc.match_substring_regex(text, pattern), glued('"', doubled, '"'), text)


def _awkward(delimiter: str) -> str:
    return rf'["\r\n{delimiter}]|^$|^\s|\s$'


def _column(column: pa.ChunkedArray, awkward: str) -> pa.Array:
    text, was_text = attributes.as_text(attributes.plain(column))
    if was_text:
        # Other text that could be read as something else is quoted, too.
        text = _quoted(text, rf"{awkward}|^[^A-Za-z]|(?i)^(?:true|false|nan|inf)")
    return pc.fill_null(text, "")


# -- reading -------------------------------------------------------------------------------------------------


def _batches(found: Plan, encoding: str) -> Iterator[Batch]:
    with closing(line_chunks(found.grid.path, encoding, quoted=True)) as chunks:
        for chunk in _body(solid(chunks, found.grid.path), found):
            yield _batch(parse(chunk, found.grid), chunk, found)


def _body(chunks: Iterator[Chunk], found: Plan) -> Iterator[Chunk]:
    for chunk in chunks:
        if not found.header or chunk.line > 1:
            yield chunk
            continue
        end = next(records(chunk, found.grid.path, found.grid.delimiter, True)).end
        if end < len(chunk.data):
            yield Chunk(1 + chunk.data.count(b"\n", 0, end), chunk.data[end:])


def _batch(columns: Columns, chunk: Chunk, found: Plan) -> Batch:
    texts = columns.texts
    vectors = columns.numbers
    if found.vector is not None:
        vectors = _from_text(texts[found.vector], chunk, found)
    ids = None
    if found.id is not None:
        ids = texts[found.id]
        if ids.null_count:
            row = pc.index(pc.is_null(ids), True).as_py()
            raise bad(found.grid.path, found.grid.place(line_of(chunk, found.grid, row), found.id), "no id",
                      'every row needs one; an id that is empty is written as ""')  # fmt: skip
    values = [_attribute(texts[i], i, chunk, found) for i in found.kinds]
    extra = pa.RecordBatch.from_arrays(values, [found.kept[i] for i in found.kinds]) if values else None
    return Batch(vectors=vectors, ids=ids, attributes=extra)


def _from_text(column: pa.Array, chunk: Chunk, found: Plan) -> NDArray[np.float32]:
    vectors = vectortext.parsed(column, found.dim)
    if vectors is not None:
        return vectors
    row, what = vectortext.fault(column, found.dim)
    place = found.grid.place(line_of(chunk, found.grid, row), found.vector or 0)
    raise bad(found.grid.path, place, what, "a vector is written as [0.1, 0.2], whole and of one length")


def _attribute(column: pa.Array, i: int, chunk: Chunk, found: Plan) -> pa.Array:
    values, row = attributes.typed(column, found.kinds[i])
    if row >= 0:
        place = found.grid.place(line_of(chunk, found.grid, row), i)
        shown = printable(column[row].as_py(), 40)
        raise bad(found.grid.path, place, f"'{shown}' is no {found.kinds[i]}, as all values before it are",
                  "quote a value of the first rows, and the column is text")  # fmt: skip
    return values

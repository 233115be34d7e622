"""TensorBoard's projector: ``X.tsv`` with the numbers of one row a line, and ``X.metadata.tsv`` with its ids.

Neither is quoted. The metadata have a header only if attributes stand beside the ids, as the projector wants.
Written and read by name only (``--format tensorboard``): ``.tsv`` itself is that of tables.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from ..errors import printable
from ..vectors import Batch
from . import attributes
from .base import Options, Source, bad, check_dim, no_rows, once, reading
from .columns import kept_names
from .lines import Chunk, line_chunks, opening
from .records import Grid, check_width, parse, records, solid, text_of
from .writing import numbers_text, publish, refuse_ids, text_lines, text_pieces, widened

if TYPE_CHECKING:
    from ..tables import EmbeddingTable

_SUFFIX = ".metadata.tsv"
_USUAL = "metadata.tsv"
_LOOK_ROWS = 2000
_TAB = b"\t"
_BREAKS = re.compile(r"[\t\r\n]")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Metadata:
    """The file of ids: ``kinds`` and ``kept`` are type and name of the columns after the first."""

    grid: Grid
    header: bool
    encoding: str
    kinds: tuple[pa.DataType, ...]
    kept: tuple[str, ...]
    warnings: tuple[str, ...]


def metadata_of(path: Path) -> Path | None:
    """Return the metadata that lie beside vectors: ``X.metadata.tsv``, else ``metadata.tsv``."""
    own = path.with_name(path.name.removesuffix(".tsv") + _SUFFIX)
    usual = path.with_name(_USUAL)
    return next((file for file in (own, usual) if file.is_file() and file != path), None)


def read(path: Path, options: Options) -> Source:
    """Open the vectors; the ids are those of the metadata beside them, if there are any."""
    with closing(line_chunks(path, options.encoding)) as chunks:
        first = next(solid(chunks, path), None)
    if first is None:
        raise no_rows(path)
    width = len(next(records(first, path, _TAB, False)).fields)
    d = check_dim(path, "line 1", width)
    names = tuple(map(str, range(d)))
    grid = Grid(path=path, delimiter=_TAB, quoted=False, names=names, numbers=tuple(range(d)), texts=())
    beside = metadata_of(path)
    metadata = _metadata(beside, options.encoding) if beside else None
    return Source(
        path=path,
        format="tensorboard",
        dim=d,
        dtype="float32",
        rows=None,
        warnings=metadata.warnings if metadata else ("no metadata beside it: rows are numbered",),
        batches=once(lambda: _batches(grid, metadata, options.encoding)),
    )


def _metadata(path: Path, encoding: str) -> _Metadata:
    with closing(line_chunks(path, encoding)) as chunks, reading(path):
        chunk = opening(chunks)
    if chunk is None:
        raise bad(path, "", "empty: it holds no ids", "one line for each row, in row order")
    looked = list(islice(records(chunk, path, _TAB, False), _LOOK_ROWS))
    header = len(looked[0].fields) > 1
    names = tuple(text_of(path, 1, *field) or "" for field in looked[0].fields) if header else ("id",)
    texts = tuple(range(len(names)))
    grid = Grid(path=path, delimiter=_TAB, quoted=False, names=names, numbers=(), texts=texts)
    for record in looked:
        check_width(grid, record)
    columns = list(zip(*(record.fields for record in looked[header:]), strict=True)) or [()] * len(names)
    fields = [pa.field(name, pa.null()) for name in names[1:]]
    if len(set(names)) < len(names):
        raise bad(path, "line 1", "two columns have one name", "rename one")
    kept, renamed = kept_names(fields)
    return _Metadata(
        grid=grid,
        header=header,
        encoding=encoding,
        kinds=tuple(attributes.kind_of(column) for column in columns[1:]),
        kept=tuple(kept[name] for name in names[1:]),
        warnings=(f"ids were read from {printable(path.name)}", *renamed),
    )


def _batches(grid: Grid, metadata: _Metadata | None, encoding: str) -> Iterator[Batch]:
    rest = _Rows(metadata, grid.path) if metadata else None
    with closing(line_chunks(grid.path, encoding)) as chunks:
        for chunk in solid(chunks, grid.path):
            vectors = parse(chunk, grid).numbers
            if rest is None:
                yield Batch(vectors=vectors)
            else:
                ids, extra = rest.take(len(vectors))
                yield Batch(vectors=vectors, ids=ids, attributes=extra)
    if rest is not None:
        rest.finish()


class _Rows:
    """Metadata by the number of rows."""

    def __init__(self, metadata: _Metadata, of: Path) -> None:
        self._path, self._of = metadata.grid.path, of
        self._pieces = _pieces(metadata)
        self._ready: list[pa.RecordBatch] = []
        self._given = 0

    def take(self, count: int) -> tuple[pa.Array, pa.RecordBatch | None]:
        """Return the next ids and attributes."""
        while sum(map(len, self._ready)) < count:
            piece = next(self._pieces, None)
            if piece is None:
                have = self._given + sum(map(len, self._ready))
                raise self._mismatch(f"{have} ids, but the vectors have more rows")
            self._ready.append(piece)
        whole = pa.Table.from_batches(self._ready).combine_chunks()
        self._ready = whole.slice(count).to_batches()
        self._given += count
        (rows,) = whole.slice(0, count).to_batches()
        extra = rows.select(rows.schema.names[1:]) if rows.num_columns > 1 else None
        return rows.column(0), extra

    def finish(self) -> None:
        """Check that no row is left over."""
        left = sum(map(len, self._ready)) + sum(map(len, self._pieces))
        if left:
            raise self._mismatch(f"{self._given + left} ids for {self._given} rows")

    def _mismatch(self, what: str) -> Exception:
        return bad(self._path, "", f"{what} in {printable(str(self._of))}",
                   "one line for each row, in row order")  # fmt: skip


def _pieces(metadata: _Metadata) -> Iterator[pa.RecordBatch]:
    grid, skip = metadata.grid, metadata.header
    with closing(line_chunks(grid.path, metadata.encoding)) as chunks:
        for chunk in chunks:
            rows = chunk
            if skip:
                end = next(records(chunk, grid.path, _TAB, False)).end
                rows, skip = Chunk(chunk.line + 1, chunk.data[end:]), False
            if rows.data:
                yield _piece(parse(rows, grid).texts, rows.line, metadata)


def _piece(texts: Mapping[int, pa.Array], line: int, metadata: _Metadata) -> pa.RecordBatch:
    ids = texts[0]
    if ids.null_count:
        row = pc.index(pc.is_null(ids), True).as_py()
        raise bad(metadata.grid.path, f"line {line + row}", "no id", "every row needs one")
    columns = [ids]
    for i, kind in enumerate(metadata.kinds, 1):
        values, row = attributes.typed(texts[i], kind)
        if row >= 0:
            shown = printable(values[row].as_py(), 40)
            raise bad(metadata.grid.path, metadata.grid.place(line + row, i),
                      f"'{shown}' is no {kind}, as all values before it are", "mend the value")  # fmt: skip
        columns.append(values)
    return pa.RecordBatch.from_arrays(columns, ["id", *metadata.kept])


def write(table: EmbeddingTable, dest: Path, *, overwrite: bool) -> tuple[str, ...]:
    """Write the vectors to ``dest``, and the ids and attributes to ``X.metadata.tsv`` beside it.

    Raises:
        InputError: an id is empty, or holds a tab or a line end, which nothing there can quote.
    """
    names, told = attributes.kept(table)
    beside = dest.with_name(dest.name.removesuffix(".tsv") + _SUFFIX)
    mended: set[str] = set()
    with publish(dest, overwrite=overwrite) as file, publish(beside, overwrite=overwrite) as metadata:
        if names:
            metadata.write("\t".join(["id", *map(_flat, names)]).encode() + b"\n")
        for ids, vectors, extra in text_pieces(table):
            refuse_ids(ids, r"[\t\r\n]|^\s*$", "empty, or with a tab or a line end", "tensorboard's metadata")
            file.write(text_lines([numbers_text(vectors, "\t")], "\t"))
            columns = [] if extra is None else [_column(extra.column(name), name, mended) for name in names]
            metadata.write(text_lines([ids, *columns], "\t"))
    if mended:
        listed = ", ".join(printable(name, 40) for name in sorted(mended))
        told += (f"tabs and line ends became spaces in attributes: {listed}",)
    return widened(table) + told


def _flat(name: str) -> str:
    return _BREAKS.sub(" ", name)


def _column(column: pa.ChunkedArray, name: str, mended: set[str]) -> pa.Array:
    text, _ = attributes.as_text(attributes.plain(column))
    broken = pc.match_substring_regex(text, _BREAKS.pattern)
    if pc.any(broken).as_py():
        mended.add(name)
        text = pc.replace_substring_regex(text, _BREAKS.pattern, " ")
    return pc.fill_null(text, "")

"""Ids that come beside their vectors: text lines, JSON or a Parquet column, read as a stream.

Or a tokenizer's vocabulary, which numbers its rows itself: see ``tokenizers``. It also tells which rows are
special or padding: they are marked in the attribute ``special``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import pyarrow as pa

from ..errors import InputError, did_you_mean, printable
from ..vectors import Batch, Vectors
from . import json_strings
from .base import Options, bad, reading
from .compression import bare, packed
from .lines import line_chunks, not_text
from .writing import left_out, pieces, publish

if TYPE_CHECKING:
    from ..tables import EmbeddingTable
    from .tokenizers import Tokens

SIDECAR = ".ids.json"
_MANY = 65536


class Feed:
    """Ids by the number: hands out exactly as many as are asked for.

    Args:
        path: the file of the ids.
        of: the file of the vectors.
        arrays: the ids, in pieces of any length.
        attributes: what is known of the rows from one number up to another, beside their ids.
    """

    def __init__(
        self,
        path: Path,
        of: Path,
        arrays: Iterator[pa.Array],
        attributes: Callable[[int, int], pa.RecordBatch] | None = None,
    ) -> None:
        self._path, self._of, self._arrays, self._attributes = path, of, arrays, attributes
        self._ready: list[pa.Array] = []
        self._given = 0

    def batch(self, vectors: Vectors) -> Batch:
        """Return the next rows with their ids.

        Raises:
            InputError: fewer ids are left.
        """
        start, ids = self._given, self._take(len(vectors))
        extra = self._attributes(start, self._given) if self._attributes else None
        return Batch(vectors=vectors, ids=ids, attributes=extra)

    def _take(self, count: int) -> pa.Array:
        while sum(map(len, self._ready)) < count:
            try:
                self._ready.append(next(self._arrays))
            except StopIteration:
                have = self._given + sum(map(len, self._ready))
                raise self._mismatch(f"{have} ids, but the vectors have more rows") from None
        whole = pa.concat_arrays(self._ready)
        self._ready = [whole.slice(count)]
        self._given += count
        return whole.slice(0, count)

    def finish(self) -> None:
        """Check that no id is left over.

        Raises:
            InputError: some are.
        """
        left = sum(map(len, self._ready)) + sum(map(len, self._arrays))
        if left:
            raise self._mismatch(f"{self._given + left} ids for {self._given} rows")

    def _mismatch(self, what: str) -> InputError:
        return bad(self._path, "", f"{what} in {printable(str(self._of))}",
                   "one id for each row, in row order")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Names:
    """The ids of an array.

    Attributes:
        opened: opens them; None where there are none, and the rows are numbered.
        told: what to tell, one sentence each.
        declares: what they say of the space.
    """

    opened: Callable[[], Feed] | None = None
    told: tuple[str, ...] = ()
    declares: Mapping[str, Any] = field(default_factory=dict)

    def batches(self, blocks: Iterable[Vectors]) -> Iterator[Batch]:
        """Yield blocks of rows with their ids.

        Raises:
            InputError: there are fewer ids than rows, or more.
        """
        feed = self.opened() if self.opened else None
        for block in blocks:
            yield feed.batch(block) if feed else Batch(vectors=block)
        if feed:
            feed.finish()


def names(path: Path, options: Options, rows: int) -> Names:
    """Return the ids of the array file ``path`` of so many rows.

    Without ``options.ids`` the file that an export writes beside an array, ``PATH.ids.json``, is used if
    it is there, else the tokens of ``options.tokenizer``.

    Raises:
        InputError: there is no such file, or a tokenizer does not fit the rows.
    """
    beside = path.with_name(path.name + SIDECAR)
    given = options.ids or (None if beside.is_file() else options.tokenizer)
    if given is None and not beside.is_file():
        return Names()
    source = given or beside
    _check(source)
    tokens = _tokens(source, options.encoding) if given else None
    if tokens is not None:
        return Names(
            lambda: Feed(source, path, tokens.arrays(rows), tokens.marks),
            tokens.fitted(rows),
            {"tokenizer": _digest(source)},
        )
    if given and given is not options.ids:
        return Names(told=(f"no tokens could be read from {printable(source.name)}: rows are numbered",))
    told = () if options.ids else (f"ids were read from {printable(beside.name)}",)
    return Names(lambda: Feed(source, path, _arrays(source, options)), told)


def _digest(path: Path) -> str:
    with reading(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check(path: Path) -> None:
    with reading(path):
        if path.is_dir():
            raise bad(path, "", "a directory, not a file of ids", "name a file with --ids")
        if path.stat().st_size == 0:
            raise bad(path, "", "empty: it holds no ids", "one id for each row, in row order")


def _tokens(path: Path, encoding: str) -> Tokens | None:
    from . import tokenizers

    name = bare(path)[0]
    if name.suffix.lower() == ".json":
        return tokenizers.from_json(path)
    # A file of plain ids may have that name too: only the unknown token tells a tokenizer's.
    if name.name.lower() != "vocab.txt" or not tokenizers.is_wordpiece(_first(path, encoding)):
        return None
    return tokenizers.from_lines(path, [name for part in _lines(path, encoding) for name in part.to_pylist()])


def _first(path: Path, encoding: str) -> list[str]:
    part = next(_lines(path, encoding), None)
    return [] if part is None else part.to_pylist()


def _arrays(path: Path, options: Options) -> Iterator[pa.Array]:
    suffix = bare(path)[0].suffix.lower()
    if suffix == ".json":
        return _json(path)
    if suffix in (".parquet", ".pq"):
        return _parquet(path, options.id_column)
    return _lines(path, options.encoding)


def _lines(path: Path, encoding: str) -> Iterator[pa.Array]:
    for chunk in line_chunks(path, encoding):
        names = chunk.data.replace(b"\r\n", b"\n").split(b"\n")[:-1]
        if b"" in names:
            raise bad(path, f"line {chunk.line + names.index(b'')}", "an empty line",
                      "one id a line; ids that are empty or hold line feeds go in a .json")  # fmt: skip
        yield _utf8(path, names, chunk.line)


def _utf8(path: Path, names: list[bytes], line: int) -> pa.Array:
    try:
        return pa.array(names, pa.large_binary()).cast(pa.large_string())
    except pa.ArrowInvalid as exc:
        for at, name in enumerate(names, line):
            try:
                name.decode("utf-8")
            except UnicodeDecodeError:
                raise not_text(path, at, "utf-8") from exc
        raise bad(path, "", printable(str(exc))) from exc


def _parquet(path: Path, column: str | None) -> Iterator[pa.Array]:
    from .columns import strings
    from .parquet import opened

    with opened(path) as file:
        name = _column(path, file.schema_arrow, column)
        row = 0
        for batch in file.iter_batches(_MANY, columns=[name]):
            yield strings(path, batch.column(0), row, name)
            row += len(batch)


def _column(path: Path, schema: pa.Schema, wanted: str | None) -> str:
    from .columns import is_text

    if wanted is not None:
        if wanted not in schema.names:
            known = ", ".join(map(printable, schema.names))
            raise bad(path, "", f"no column '{printable(wanted)}'",
                      did_you_mean(wanted, schema.names, f"columns: {known}"))  # fmt: skip
        return wanted
    texts: list[str] = [f.name for f in schema if is_text(f.type)]
    if not texts:
        raise bad(path, "", "no column of strings", "name the ids' column with --id-column")
    return texts[0]


def _json(path: Path) -> Iterator[pa.Array]:
    names = json_strings.strings(path)
    while part := list(islice(names, _MANY)):
        try:
            yield pa.array(part, pa.large_string())
        except UnicodeEncodeError as exc:
            raise bad(path, "", f"not UTF-8 text: {printable(str(exc))}", "half of a surrogate pair") from exc


def write_array(
    table: EmbeddingTable,
    dest: Path,
    head: Callable[[tuple[int, int], np.dtype[Any]], bytes],
    *,
    name: str,
    dtype: str | None = None,
    overwrite: bool,
) -> tuple[str, ...]:
    """Write ``dest``, a header and the rows after it, and ``dest.ids.json``: both or neither.

    Args:
        table: what to write.
        dest: the file of the vectors; its suffix may name a compression.
        head: the bytes before the rows, by their shape and their dtype.
        name: of the format, for what to tell.
        dtype: of the numbers; by default the table's own.
        overwrite: whether files that are there may be replaced.

    Returns:
        What the format could not keep.
    """
    beside = dest.with_name(dest.name + SIDECAR)
    kept = np.dtype(dtype or table.space.dtype).newbyteorder("<")
    # Published first: an array beside which no ids were written would be numbered on import.
    with (
        publish(dest, overwrite=overwrite) as whole,
        publish(beside, overwrite=overwrite) as ids,
        packed(whole, dest) as file,
    ):
        write_json(table, ids)
        file.write(head((table.rows, table.dim), kept))
        for _, vectors, _ in pieces(table):
            file.write(vectors.astype(kept, copy=False).data.cast("B"))
    return left_out(table, name)


def write_json(table: EmbeddingTable, file: BinaryIO) -> None:
    """Write the ids of a table as a JSON array, one a line."""
    before = b"[\n"
    for block in table.blocks():
        names = [json.dumps(name, ensure_ascii=False) for name in block.ids.to_pylist()]
        file.write(before + ",\n".join(names).encode())
        before = b",\n"
    file.write(b"\n]\n")

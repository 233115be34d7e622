"""Ids that come beside their vectors: text lines, JSON or a Parquet column, read as a stream.

Or a tokenizer's vocabulary, which numbers its rows itself: see ``tokenizers``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TextIO

import pyarrow as pa

from ..errors import EmbregError, InputError, did_you_mean, printable
from .base import COPY_AGAIN, Options, bad, reading
from .lines import line_chunks, not_text

if TYPE_CHECKING:
    from ..tables import EmbeddingTable
    from .tokenizers import Tokens

SIDECAR = ".ids.json"
_MANY = 65536
_READ = 1 << 20
_MAX_ID = 16 << 20
_JSON_HINT = 'a JSON array of strings: ["the", "of"]'


class Feed:
    """Ids by the number: hands out exactly as many as are asked for."""

    def __init__(self, path: Path, of: Path, arrays: Iterator[pa.Array]) -> None:
        self._path, self._of, self._arrays = path, of, arrays
        self._ready: list[pa.Array] = []
        self._given = 0

    def take(self, count: int) -> pa.Array:
        """Return the next ``count`` ids.

        Raises:
            InputError: fewer are left.
        """
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


def feed(
    path: Path, options: Options, rows: int | None = None
) -> tuple[Callable[[], Feed] | None, tuple[str, ...]]:
    """Return how to open the ids of the array file ``path``, and what to tell; None where it has none.

    Without ``options.ids`` the file that an export writes beside an array, ``PATH.ids.json``, is used if
    it is there. A tokenizer's file is understood where the number of ``rows`` is given.
    """
    beside = path.with_name(path.name + SIDECAR)
    if options.ids is None and not beside.is_file():
        return None, ()
    source = options.ids or beside
    _check(source)
    tokens = _tokens(source, options.encoding) if rows is not None and options.ids else None
    if tokens is not None and rows is not None:
        return lambda: Feed(source, path, tokens.arrays(rows)), tokens.fitted(rows)
    told = () if options.ids else (f"ids were read from {printable(beside.name)}",)
    return lambda: Feed(source, path, _arrays(source, options)), told


def _check(path: Path) -> None:
    with reading(path):
        if path.is_dir():
            raise bad(path, "", "a directory, not a file of ids", "name a file with --ids")
        if path.stat().st_size == 0:
            raise bad(path, "", "empty: it holds no ids", "one id for each row, in row order")


def _tokens(path: Path, encoding: str) -> Tokens | None:
    from . import tokenizers

    if path.suffix.lower() == ".json":
        return tokenizers.from_json(path)
    # A file of plain ids may have that name too: only the unknown token tells a tokenizer's.
    if path.name.lower() != "vocab.txt" or not tokenizers.is_wordpiece(_first(path, encoding)):
        return None
    return tokenizers.from_lines(path, [name for part in _lines(path, encoding) for name in part.to_pylist()])


def _first(path: Path, encoding: str) -> list[str]:
    part = next(_lines(path, encoding), None)
    return [] if part is None else part.to_pylist()


def _arrays(path: Path, options: Options) -> Iterator[pa.Array]:
    suffix = path.suffix.lower()
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


class _Scanner:
    """A cursor over JSON text that is read piece by piece."""

    def __init__(self, path: Path, file: TextIO) -> None:
        self._path, self._file = path, file
        self._text, self._at, self._line, self.item = "", 0, 1, 0
        self._fresh = False
        self._decoder = json.JSONDecoder()

    def _more(self) -> bool:
        piece = self._file.read(_READ)
        self._line += self._text.count("\n", 0, self._at)
        self._text, self._at = self._text[self._at :] + piece, 0
        self._fresh = bool(piece)
        return self._fresh

    def mark(self) -> str:
        """Return the next character that is no blank, without passing it; empty at the end."""
        while True:
            text, at = self._text, self._at
            while at < len(text) and text[at] in " \t\r\n":
                at += 1
            self._at = at
            if at < len(text):
                return text[at]
            if not self._more():
                return ""

    def skip(self) -> None:
        """Pass one character."""
        self._at += 1

    def run(self) -> list[str]:
        """Return all strings of what was just read that a comma follows; empty where that is in doubt."""
        if not self._fresh:
            return []
        self._fresh = False
        end = self._text.rfind('",', self._at)
        try:
            values: list[str] = json.loads(f"[{self._text[self._at : end + 1]}]")
        except (ValueError, RecursionError):
            return []
        if not all(type(value) is str for value in values):
            return []
        self._at = end + 2 if values else self._at
        self.item += len(values)
        return values

    def string(self) -> str:
        """Return the string that starts here."""
        if self.mark() != '"':
            raise self.wrong("expected a string")
        while True:
            try:
                value, self._at = self._decoder.raw_decode(self._text, self._at)
                self.item += 1
                return str(value)
            except json.JSONDecodeError as exc:
                if len(self._text) - self._at > _MAX_ID or not self._more():
                    raise self.wrong(f"no valid string: {exc.msg}") from exc

    def wrong(self, what: str) -> InputError:
        """Return the error for what stands here."""
        line = self._line + self._text.count("\n", 0, self._at)
        return bad(self._path, f"line {line}, item {self.item}", what, _JSON_HINT)


def _json(path: Path) -> Iterator[pa.Array]:
    with reading(path), path.open(encoding="utf-8-sig", newline="") as file:
        try:
            for names in _batched(_strings(_Scanner(path, file))):
                yield pa.array(names, pa.large_string())
        except UnicodeError as exc:
            if isinstance(exc, EmbregError):
                raise
            raise bad(path, "", f"not UTF-8 text: {printable(str(exc))}", COPY_AGAIN) from exc


def _batched(names: Iterator[str]) -> Iterator[list[str]]:
    ready: list[str] = []
    for name in names:
        ready.append(name)
        if len(ready) == _MANY:
            yield ready
            ready = []
    if ready:
        yield ready


def _strings(scan: _Scanner) -> Iterator[str]:
    if scan.mark() != "[":
        raise scan.wrong("not a JSON array")
    scan.skip()
    if scan.mark() != "]":
        yield from scan.run()
        yield scan.string()
        while scan.mark() == ",":
            scan.skip()
            yield from scan.run()
            yield scan.string()
        if scan.mark() != "]":
            raise scan.wrong("expected ',' or ']'")
    scan.skip()
    if scan.mark():
        raise scan.wrong("text after the array")


def write_json(table: EmbeddingTable, file: BinaryIO) -> None:
    """Write the ids of a table as a JSON array, one a line."""
    before = b"[\n"
    for block in table.blocks():
        names = [json.dumps(name, ensure_ascii=False) for name in block.ids.to_pylist()]
        file.write(before + ",\n".join(names).encode())
        before = b",\n"
    file.write(b"\n]\n")

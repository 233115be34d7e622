"""Lines of separated fields, quoted or not, to columns: Arrow's CSV parser where it fits, Python where not.

Two routes give one result, as in ``parsing``. Quoting is that of RFC 4180: a quote stands at the two ends of
a field, or doubled inside a field that has these. What looser parsers make of other quotes differs from one
to the next: here it is refused, with its line.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..errors import InputError, printable
from .base import MAX_DIM, bad, casting
from .lines import Chunk, not_text
from .parsing import NUMBER

#: Arrow keeps an object per column: beyond this many, Python's own loop costs less.
_ARROW_MAX_COLUMNS = 20_000
_BOM = b"\xef\xbb\xbf"
_MAX_COLUMNS = MAX_DIM + 1000
_QUOTING = "a field that holds quotes is put in quotes, and its own are doubled (RFC 4180)"


class Record(NamedTuple):
    """One record: its first line, where it ends in its chunk, and each field with whether it is quoted."""

    line: int
    end: int
    fields: list[tuple[bytes, bool]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """How the records of one file are cut.

    Attributes:
        delimiter: one byte.
        quoted: whether fields may be quoted.
        names: of the columns, for messages.
        numbers, texts: which columns hold numbers, and which are wanted as text.
    """

    path: Path
    delimiter: bytes
    quoted: bool
    names: tuple[str, ...]
    numbers: tuple[int, ...]
    texts: tuple[int, ...]

    @property
    def width(self) -> int:
        """How many fields a record has."""
        return len(self.names)

    def place(self, line: int, column: int) -> str:
        """Return how a message names a field."""
        return f"line {line}, column '{printable(self.names[column], 40)}'"


@lru_cache(maxsize=4)
def _options(grid: Grid) -> Any:
    from pyarrow import csv

    types = {str(i): pa.string() for i in range(grid.width)} | {str(i): pa.float64() for i in grid.numbers}
    # An empty field is a null, two quotes are an empty text.
    return csv.ConvertOptions(
        column_types=types, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False,
        include_columns=[str(i) for i in (*grid.numbers, *grid.texts)],
    )  # fmt: skip


class Columns(NamedTuple):
    """What records hold: ``numbers`` ``(m, k)`` float32, and the wanted texts by column (large_string)."""

    numbers: NDArray[np.float32]
    texts: Mapping[int, pa.Array]


def parse(chunk: Chunk, grid: Grid) -> Columns:
    """Return the columns of some whole records.

    Raises:
        InputError: a ragged record, a field that is no number, text that is not UTF-8, a misplaced quote.
    """
    if grid.width <= _ARROW_MAX_COLUMNS and not chunk.data.startswith(_BOM):
        found = _arrow(chunk.data, grid)
        if found is not None:
            return found
    return _careful(chunk, grid)


def _arrow(data: bytes, grid: Grid) -> Columns | None:
    from pyarrow import csv

    quotes = grid.quoted and b'"' in data
    count = _count_quoted(data, grid.delimiter[0]) if quotes else data.count(b"\n")
    if count < 0 or data.count(b"\r") != data.count(b"\r\n"):
        return None
    parse_options = csv.ParseOptions(
        delimiter=grid.delimiter.decode(), quote_char='"' if quotes else False, double_quote=True,
        escape_char=False, newlines_in_values=quotes, ignore_empty_lines=False,
    )  # fmt: skip
    # One block: Arrow would otherwise cut the chunk again, and columns come in pieces.
    names = [str(i) for i in range(grid.width)]
    read = csv.ReadOptions(column_names=names, block_size=len(data) + 1)
    try:
        table = csv.read_csv(pa.BufferReader(data), read_options=read, parse_options=parse_options,
                             convert_options=_options(grid))  # fmt: skip
    except pa.ArrowInvalid:
        return None
    if table.num_rows != count:
        return None
    x = np.empty((count, len(grid.numbers)), dtype=np.float32)
    with casting():
        for j in range(len(grid.numbers)):
            column = table.column(j)
            if column.null_count:
                return None
            x[:, j] = column.to_numpy()
    texts = table.columns[len(grid.numbers) :]
    return Columns(x, {i: _large(text) for i, text in zip(grid.texts, texts, strict=True)})


def _large(column: pa.ChunkedArray) -> pa.Array:
    return column.cast(pa.large_string()).combine_chunks()


def _count_quoted(data: bytes, delimiter: int) -> int:
    """Return how many records whole lines hold; -1 where a quote stands where none may."""
    text = np.frombuffer(data, dtype=np.uint8)
    quotes = np.flatnonzero(text == ord('"'))
    opening, closing = quotes[0::2], quotes[1::2]
    if len(opening) != len(closing):
        return -1
    before = text[opening[opening > 0] - 1]
    if not np.isin(before, np.array([delimiter, ord("\n"), ord('"')], dtype=np.uint8)).all():
        return -1
    after = text[closing + 1]
    if not np.isin(after, np.array([delimiter, ord("\n"), ord("\r"), ord('"')], dtype=np.uint8)).all():
        return -1
    ends = np.flatnonzero(text == ord("\n"))
    return int(np.count_nonzero(np.searchsorted(quotes, ends) % 2 == 0))


@lru_cache(maxsize=4)
def _field(delimiter: bytes) -> re.Pattern[bytes]:
    apart = re.escape(delimiter)
    return re.compile(rb'(?:"([^"]*+(?:""[^"]*+)*+)"|([^"\r\n' + apart + rb"]*+))(" + apart + rb"|\r?\n)")


def records(chunk: Chunk, path: Path, delimiter: bytes, quoted: bool) -> Iterator[Record]:
    """Yield the records of some whole lines.

    Raises:
        InputError: a quote, or a carriage return, stands where none may, or there are too many columns.
    """
    if quoted and b'"' in chunk.data:
        yield from _quoted_records(chunk, path, delimiter)
        return
    end = 0
    for line, text in enumerate(chunk.data.split(b"\n")[:-1], chunk.line):
        end += len(text) + 1
        kept = text.removesuffix(b"\r")
        if quoted and b"\r" in kept:
            raise _stray(path, line)
        if kept.count(delimiter) >= _MAX_COLUMNS:
            raise _too_many(path, line)
        yield Record(line, end, [(field, False) for field in kept.split(delimiter)])


def _quoted_records(chunk: Chunk, path: Path, delimiter: bytes) -> Iterator[Record]:
    data, at, line, match = chunk.data, 0, chunk.line, _field(delimiter).match
    while at < len(data):
        first, fields = line, []
        while True:
            found = match(data, at)
            if found is None:
                raise _stray(path, line)
            inner, bare, mark = found.groups()
            at = found.end()
            if inner is None:
                fields.append((bare, False))
            else:
                fields.append((inner.replace(b'""', b'"'), True))
                line += inner.count(b"\n")
            if mark != delimiter:
                break
            if len(fields) >= _MAX_COLUMNS:
                raise _too_many(path, first)
        line += 1
        yield Record(first, at, fields)


def _stray(path: Path, line: int) -> InputError:
    what = "a quote that does not end, or stands inside a field, or a carriage return"
    return bad(path, f"line {line}", what, _QUOTING)


def _too_many(path: Path, line: int) -> InputError:
    return bad(path, f"line {line}", "too many columns", f"a vector has {MAX_DIM} numbers at most")


def _careful(chunk: Chunk, grid: Grid) -> Columns:
    numbers: list[list[float]] = []
    texts: dict[int, list[str | None]] = {i: [] for i in grid.texts}
    for record in records(chunk, grid.path, grid.delimiter, grid.quoted):
        check_width(grid, record)
        numbers.append([_number(grid, record, i) for i in grid.numbers])
        for i, column in texts.items():
            column.append(text_of(grid.path, record.line, *record.fields[i]))
    with casting():
        x = np.array(numbers, dtype=np.float64).reshape(len(numbers), len(grid.numbers)).astype(np.float32)
    return Columns(x, {i: pa.array(column, pa.large_string()) for i, column in texts.items()})


def check_width(grid: Grid, record: Record) -> None:
    """Refuse a record with another number of fields than the first.

    Raises:
        InputError: always, if it has.
    """
    found = len(record.fields)
    if found == grid.width:
        return
    if record.fields == [(b"", False)]:
        raise bad(grid.path, f"line {record.line}", "an empty line", "remove it")
    hint = "every line holds as many fields as the first"
    if grid.quoted:
        hint += "; one that holds the separator is put in quotes"
    raise bad(grid.path, f"line {record.line}", f"expected {grid.width} fields, found {found}", hint)


def text_of(path: Path, line: int, field: bytes, quoted: bool) -> str | None:
    """Return a field as text; None where it is empty, and not two quotes.

    Raises:
        InputError: it is not UTF-8.
    """
    if not field and not quoted:
        return None
    try:
        return field.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise not_text(path, line, "utf-8") from exc


def _number(grid: Grid, record: Record, column: int) -> float:
    field = record.fields[column][0].strip(b" \t")
    if not NUMBER.fullmatch(field):
        shown = printable(field.decode("utf-8", "backslashreplace"), 40)
        what = f"'{shown}' is not a number" if field else "no number"
        raise bad(grid.path, grid.place(record.line, column), what,
                  "every row needs a whole vector: mend the value, or drop the row")  # fmt: skip
    # Arrow reads C's nan(payload), Python's float does not.
    return math.nan if b"(" in field else float(field)


def line_of(chunk: Chunk, grid: Grid, row: int) -> int:
    """Return the line on which a record of a chunk begins, for a message."""
    for i, record in enumerate(records(chunk, grid.path, grid.delimiter, grid.quoted)):
        if i == row:
            return record.line
    return chunk.line


def solid(chunks: Iterator[Chunk], path: Path) -> Iterator[Chunk]:
    """Yield chunks without the blank lines at the end of the file.

    Raises:
        InputError: a blank line stands between two chunks; inside a chunk, its parser finds it.
    """
    blank = 0
    for chunk in chunks:
        kept = chunk.data.rstrip(b"\r\n")
        if kept and blank:
            raise bad(path, f"line {blank}", "an empty line", "remove it")
        if chunk.data.count(b"\n", len(kept)) > 1 or not kept:
            blank = blank or chunk.line + kept.count(b"\n") + bool(kept)
        if kept:
            yield Chunk(chunk.line, kept + b"\n")

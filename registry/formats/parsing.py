"""Lines of ``id number number …`` to arrays: Arrow's CSV parser where it fits, Python where not.

Three routes give one result. Arrow parses a chunk whose lines all have d spaces. Where ids hold spaces,
these are first replaced by a byte that the chunk does not hold, and put back in the parsed ids. What
Arrow refuses is read line by line, which either accepts it or names the line and the column at fault.

Numbers are read as double and rounded to float32, as ``np.float32(text)`` does.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..errors import printable
from ..vectors import Batch
from .ahead import ahead
from .base import MAX_DIM, bad, casting
from .lines import Chunk, line_chunks, not_text

NUMBER = re.compile(
    rb"[+-]?(?:(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?|nan(?:\(\w*\))?|inf(?:inity)?)", re.IGNORECASE
)
#: The first line of word2vec files: rows and dimension.
HEADER = re.compile(rb"(\d{1,18})[ \t]+(\d{1,18})[ \t\r]*")
_LOOK_AT = 100
#: Arrow keeps an object per column: beyond this many, Python's own loop costs less.
_ARROW_MAX_DIM = 20_000
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Layout:
    """How the lines of one file are cut: ``dim`` numbers after the id, which may hold ``spaces``."""

    path: Path
    dim: int
    spaces: bool


def parse(chunk: Chunk, layout: Layout) -> Batch:
    """Return the rows of some whole lines, none of them blank, as float32.

    Raises:
        InputError: a ragged line, a field that is no number, an id that is not UTF-8; line and column
            are named, the id being column 1.
    """
    if layout.dim <= _ARROW_MAX_DIM and not chunk.data.startswith(_BOM):
        for route in (_arrow, _masked):
            parsed = route(chunk.data, layout)
            if parsed is not None:
                return parsed
    return _careful(chunk, layout)


def tidy(data: bytes) -> bytes:
    """Return lines without the blanks and carriage returns at their ends."""
    text = np.frombuffer(data, dtype=np.uint8)
    # Searching for a pair of bytes would stop at every space: looking before each line feed is faster.
    last = text[np.flatnonzero(text == ord("\n")) - 1]
    if np.isin(last, np.frombuffer(b" \t\r", dtype=np.uint8)).any():
        return b"\n".join([line.rstrip(b" \t\r") for line in data.split(b"\n")])
    return data


def rows(chunks: Iterator[Chunk], layout: Layout) -> Iterator[Batch]:
    """Yield the rows of ``chunks``; blank lines are allowed at the end of the file only.

    Raises:
        InputError: as ``parse``, or a blank line between rows.
    """
    return ahead(lambda chunk: parse(chunk, layout), solid(chunks, layout.path))


def solid(chunks: Iterator[Chunk], path: Path) -> Iterator[Chunk]:
    """Yield chunks without the blanks at the ends of lines, and without blank lines at the end of the file.

    Raises:
        InputError: a blank line stands between two chunks; inside a chunk, its parser finds it.
    """
    blank = 0
    for chunk in chunks:
        data = tidy(chunk.data)
        kept = data.rstrip(b"\n")
        if kept and blank:
            raise bad(path, f"line {blank}", "an empty line", "remove it")
        if len(data) - len(kept) > 1 or not kept:
            blank = blank or chunk.line + kept.count(b"\n") + bool(kept)
        if kept:
            yield Chunk(chunk.line, data[: len(kept) + 1])


def head(path: Path, encoding: str) -> list[bytes]:
    """Return up to 100 first lines, without the blanks at their ends.

    Raises:
        InputError: as ``line_chunks``.
    """
    with closing(line_chunks(path, encoding)) as chunks:
        first = next(chunks, None)
    return tidy(first.data).split(b"\n", _LOOK_AT)[:-1][:_LOOK_AT] if first else []


@functools.lru_cache(maxsize=4)
def _csv_options(dim: int) -> dict[str, Any]:
    from pyarrow import csv

    names = ["id", *(str(j) for j in range(dim))]
    types = dict.fromkeys(names, pa.float64()) | {"id": pa.string()}
    return {
        "names": names,
        "parse_options": csv.ParseOptions(
            delimiter=" ", quote_char=False, escape_char=False, ignore_empty_lines=False
        ),
        "convert_options": csv.ConvertOptions(column_types=types, null_values=[]),
    }


def _arrow(data: bytes, layout: Layout) -> Batch | None:
    from pyarrow import csv

    options = dict(_csv_options(layout.dim))
    # One block: Arrow would otherwise cut the chunk again, and columns come in pieces.
    read = csv.ReadOptions(column_names=options.pop("names"), block_size=len(data) + 1)
    lines = data.count(b"\n")
    try:
        table = csv.read_csv(pa.BufferReader(data), read_options=read, **options)
    except pa.ArrowInvalid:
        return None
    if table.num_rows != lines:
        return None
    x = np.empty((lines, layout.dim), dtype=np.float32)
    with casting():
        for j in range(layout.dim):
            x[:, j] = table.column(j + 1).to_numpy()
    return Batch(vectors=x, ids=table.column(0).combine_chunks())


def _masked(data: bytes, layout: Layout) -> Batch | None:
    """Parse with what would mislead Arrow inside ids masked; None where that cannot be done."""
    text = np.frombuffer(data, dtype=np.uint8)
    free = [c for c in (1, 2, 3, 4, 5, 6, 14, 15, 16, 17) if bytes([c]) not in data][:2]
    odd = _spaces_of_ids(text, layout.dim)
    if len(free) < 2 or odd is None:
        return None
    rows_, places = odd
    if rows_.size and not layout.spaces:
        return None
    masked = text.copy()
    masked[places] = free[0]
    masked[text == ord("\r")] = free[1]
    parsed = _arrow(masked.tobytes(), layout)
    if parsed is None or parsed.ids is None:
        return None
    ids = parsed.ids
    for code, char in zip(free, " \r", strict=True):
        ids = pc.replace_substring(ids, chr(code), char)
    if any(ends_in_number(name.encode()) for name in ids.take(pa.array(rows_)).to_pylist()):
        return None
    return Batch(vectors=parsed.vectors, ids=ids)


def _spaces_of_ids(text: NDArray[np.uint8], dim: int) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Return the rows whose id holds spaces, and the places of these; None where a row is short."""
    spaces = np.flatnonzero(text == ord(" "))
    upto = np.searchsorted(spaces, np.flatnonzero(text == ord("\n")))
    counts = np.diff(upto, prepend=0)
    extra = counts - dim
    if extra.min() < 0:
        return None
    found = np.flatnonzero(extra)
    lengths = extra[found]
    starts = upto[found] - counts[found]
    within = np.arange(lengths.sum()) - np.repeat(lengths.cumsum() - lengths, lengths)
    return found, spaces[np.repeat(starts, lengths) + within]


def ends_in_number(name: bytes) -> bool:
    """Whether an id ends in a space and a number, as the id of a row with a number too many would."""
    _, space, last = name.rpartition(b" ")
    return bool(space) and NUMBER.fullmatch(last) is not None


def trailing_numbers(line: bytes) -> int:
    """Return how many numbers end a line, its first field being the id whatever it looks like."""
    count = 0
    for field in reversed(line.split(b" ", MAX_DIM + 1)[1:]):
        if not NUMBER.fullmatch(field):
            break
        count += 1
    return count


def _careful(chunk: Chunk, layout: Layout) -> Batch:
    ids, vectors = [], []
    for line, text in enumerate(chunk.data.split(b"\n")[:-1], chunk.line):
        name, values = _line(text, line, layout)
        ids.append(name)
        vectors.append(values)
    return Batch(vectors=np.stack(vectors), ids=pa.array(ids, pa.large_string()))


def _line(text: bytes, line: int, layout: Layout) -> tuple[str, NDArray[np.float32]]:
    if not text:
        raise bad(layout.path, f"line {line}", "an empty line", "remove it")
    name, *fields = text.rsplit(b" ", layout.dim)
    extra = name.count(b" ") if not layout.spaces or ends_in_number(name) else 0
    if len(fields) != layout.dim or extra:
        raise _ragged(text, line, layout, len(fields) + (extra and _surplus(name, layout)))
    try:
        decoded = name.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise not_text(layout.path, line, "utf-8") from exc
    values = [_number(field, line, j, layout) for j, field in enumerate(fields, 2)]
    with casting():
        return decoded, np.array(values).astype(np.float32)


def _surplus(name: bytes, layout: Layout) -> int:
    return trailing_numbers(name) if layout.spaces else name.count(b" ")


def _ragged(text: bytes, line: int, layout: Layout, found: int) -> Exception:
    what = f"expected an id and {layout.dim} numbers, found {found} numbers"
    hint = "every line holds as many numbers as the first"
    if found > layout.dim:
        hint += "; an id that has spaces can be held by glove text only, or, ending in a number, by Parquet"
    elif b"\t" in text:
        hint += ", separated by one space, not by tabs"
    return bad(layout.path, f"line {line}", what, hint)


def _number(field: bytes, line: int, column: int, layout: Layout) -> float:
    field = field.strip(b" \t")
    if not NUMBER.fullmatch(field):
        shown = printable(field.decode("utf-8", "backslashreplace"), 40)
        raise bad(layout.path, f"line {line}, column {column}", f"'{shown}' is not a number",
                  f"a line holds an id and {layout.dim} numbers, separated by single spaces")  # fmt: skip
    # Arrow reads C's nan(payload), Python's float does not.
    return math.nan if b"(" in field else float(field)

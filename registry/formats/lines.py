"""Text as chunks of whole lines: bounded memory, any encoding, compressed or not.

Only a line feed ends a line. ``str.splitlines`` would also cut at U+0085 and other characters that
occur inside words of real files.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from ..errors import UsageError, printable
from .base import MAX_LINE, bad, open_bytes, reading

CHUNK = 8 << 20
_BOM = codecs.BOM_UTF8


@dataclass(frozen=True, slots=True)
class Chunk:
    """Whole lines in UTF-8, each ended by a line feed; ``line`` is the number of the first."""

    line: int
    data: bytes


def check_encoding(name: str) -> str:
    """Return Python's own name of a text encoding.

    Raises:
        UsageError: Python knows none of that name.
    """
    try:
        # Codecs such as 'hex' exist but do not decode to text: this one refuses them.
        io.TextIOWrapper(io.BytesIO(), encoding=name)
        return codecs.lookup(name).name
    except (LookupError, ValueError) as exc:
        raise UsageError(
            f"unknown encoding '{printable(name)}'", hint="for example utf-8, latin-1, utf-16"
        ) from exc


def not_text(path: Path, line: int, encoding: str) -> Exception:
    """Return the error for bytes that are no text in ``encoding``."""
    return bad(path, f"line {line}", f"not {encoding.upper()} text",
               "name the file's encoding with --encoding, for example latin-1")  # fmt: skip


def decoded(path: Path, words: list[bytes], row: int, encoding: str) -> pa.Array:
    """Return ids of a binary file as Arrow strings; the first belongs to ``row``.

    Raises:
        InputError: one is no text in ``encoding``; its row is named.
    """
    text: list[str] = []
    for at, word in enumerate(words, row):
        try:
            text.append(word.decode(encoding))
        except UnicodeDecodeError as exc:
            raise bad(path, f"row {at}", f"the id is not {encoding.upper()} text",
                      "name the ids' encoding with --encoding, for example latin-1") from exc  # fmt: skip
    try:
        return pa.array(text, pa.large_string())
    except UnicodeEncodeError as exc:
        raise bad(path, "", f"ids of rows {row} and on are not {encoding.upper()} text") from exc


def line_chunks(path: Path, encoding: str = "utf-8", *, quoted: bool = False) -> Generator[Chunk, None, None]:
    """Yield the file in order, some 8 MiB at a time; a last line without line feed gets one.

    Where fields may be ``quoted``, a line feed between two quotes ends no line.

    UTF-8 is passed on unchecked (a byte order mark is skipped); other encodings are checked here.

    Raises:
        InputError: unreadable or damaged, a line over 64 MiB, or bytes outside ``encoding``.
    """
    encoding = check_encoding(encoding)
    with reading(path), open_bytes(path) as file:
        pieces = _raw(file) if encoding == "utf-8" else _transcoded(path, file, encoding)
        yield from _whole_lines(path, pieces, _after_last_record if quoted else _after_last_line)


def opening(chunks: Iterator[Chunk]) -> Chunk | None:
    """Return the first chunk, and the second with it if one of them is a single line; None of an empty file.

    A header may fill a chunk, and a last line without line feed comes in one of its own.
    """
    first = next(chunks, None)
    if first is None:
        return None
    second = next(chunks, None)
    if second is None or min(first.data.count(b"\n"), second.data.count(b"\n")) > 1:
        return first
    return Chunk(first.line, first.data + second.data)


def _raw(file: BinaryIO) -> Iterator[bytes]:
    first = file.read(max(CHUNK, len(_BOM)))
    yield first.removeprefix(_BOM)
    while piece := file.read(CHUNK):
        yield piece


def _transcoded(path: Path, file: BinaryIO, encoding: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    line = 1
    while True:
        piece = file.read(CHUNK)
        try:
            out = decoder.decode(piece, final=not piece).encode("utf-8")
        except UnicodeError as exc:
            raise not_text(path, line + _lines_before(exc), encoding) from exc
        line += out.count(b"\n")
        yield out
        if not piece:
            return


def _lines_before(exc: UnicodeError) -> int:
    if isinstance(exc, UnicodeDecodeError):
        return exc.object[: exc.start].count(b"\n")
    return exc.object[: exc.start].count("\n") if isinstance(exc, UnicodeEncodeError) else 0


def _after_last_line(data: bytes, start: int) -> int:
    return data.rfind(b"\n", start) + 1


def _after_last_record(data: bytes, start: int) -> int:
    if data.find(b'"') < 0:
        return _after_last_line(data, start)
    text = np.frombuffer(data, dtype=np.uint8)
    ends = np.flatnonzero(text == ord("\n"))
    outside = np.searchsorted(np.flatnonzero(text == ord('"')), ends) % 2 == 0
    return int(ends[outside][-1]) + 1 if outside.any() else 0


def _whole_lines(
    path: Path, pieces: Iterator[bytes], after_last: Callable[[bytes, int], int]
) -> Iterator[Chunk]:
    line, rest = 1, b""
    for piece in pieces:
        data = rest + piece
        cut = after_last(data, len(rest))
        rest = data[cut:]
        if cut:
            yield Chunk(line, data[:cut])
            line += data.count(b"\n", 0, cut)
        elif len(rest) > MAX_LINE:
            raise bad(path, f"line {line}", f"longer than {MAX_LINE >> 20} MiB",
                      "is this a text file of one vector a line? does a quote not end?")  # fmt: skip
    if rest:
        yield Chunk(line, rest + b"\n")

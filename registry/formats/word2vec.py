"""word2vec text: a line ``rows dim``, then ``word number … number`` on each line, compressed or not.

Also what fastText calls ``.vec``. Words hold no spaces: a line with another number of fields is ragged.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from ..vectors import Batch
from .base import Options, Source, bad, check_dim, fewer, more, no_rows, once
from .compression import codec_of, packed
from .lines import Chunk, check_encoding, line_chunks
from .parsing import HEADER, Layout, head, rows
from .writing import left_out, publish, refuse_ids, text_pieces, text_rows, widened

if TYPE_CHECKING:
    from ..tables import EmbeddingTable


def claims(path: Path, encoding: str) -> bool:
    """Whether text starts as word2vec's does: two integers, then a line with so many numbers.

    A first line of two integers before anything but rows of one number is taken for a header, too: the
    header then lies, and the reader says so.
    """
    lines = head(path, encoding)[:2]
    header = HEADER.fullmatch(lines[0]) if lines else None
    if not header:
        return False
    return len(lines) < 2 or lines[1].count(b" ") in (int(header[2]), 0) or lines[1].count(b" ") > 1


def read(path: Path, options: Options) -> Source:
    """Open word2vec text; the header gives rows and width."""
    lines = head(path, options.encoding)
    header = HEADER.fullmatch(lines[0]) if lines else None
    if not header:
        raise bad(path, "line 1", "not a header of two integers, rows and dimension",
                  "text without a header is --format glove")  # fmt: skip
    n, dim = int(header[1]), check_dim(path, "line 1", int(header[2]))
    if len(lines) < 2:
        raise no_rows(path) if n == 0 else fewer(path, n, 0)
    if n == 0:
        raise more(path, n)
    _plausible(path, n, dim, options.encoding)
    layout = Layout(path, dim, False)
    return Source(
        path=path,
        format="word2vec",
        dim=dim,
        dtype="float32",
        rows=n,
        batches=once(lambda: _batches(layout, n, options.encoding)),
    )


def _plausible(path: Path, n: int, dim: int, encoding: str) -> None:
    """Refuse at once a header that promises more than the file has bytes for."""
    least = n * (2 * dim + 1) - 1
    if not codec_of(path) and check_encoding(encoding) == "utf-8" and path.stat().st_size < least:
        raise fewer(path, n, "fewer")


def _batches(layout: Layout, n: int, encoding: str) -> Iterator[Batch]:
    done = 0
    with closing(line_chunks(layout.path, encoding)) as chunks:
        for batch in rows(_after_header(chunks), layout):
            done += len(batch.vectors)
            if done > n:
                raise more(layout.path, n)
            yield batch
    if done < n:
        raise fewer(layout.path, n, done)


def _after_header(chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    for chunk in chunks:
        if chunk.line > 1:
            yield chunk
            continue
        cut = chunk.data.index(b"\n") + 1
        if cut < len(chunk.data):
            yield Chunk(2, chunk.data[cut:])


def write(table: EmbeddingTable, dest: Path, *, overwrite: bool) -> tuple[str, ...]:
    """Write header, ids and float32 values; numbers read back to the same bits.

    Raises:
        InputError: an id holds a space or a line feed.
    """
    with publish(dest, overwrite=overwrite) as file, packed(file, dest) as out:
        out.write(f"{table.rows} {table.dim}\n".encode())
        for ids, vectors, _ in text_pieces(table):
            refuse_ids(ids, "[ \n]", "a space or a line feed", "word2vec text")
            out.write(text_rows(ids, vectors))
    return widened(table) + left_out(table, "word2vec text")

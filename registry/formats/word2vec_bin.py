"""word2vec binary: a line ``rows dim``, then ``word``, a space and the float32 values, compressed or not.

The original tool writes a line feed after each vector, gensim does not: both are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from ..errors import InputError
from ..vectors import Batch
from .base import (
    Options,
    Source,
    bad,
    check_dim,
    fewer,
    more,
    no_rows,
    once,
    open_bytes,
    reading,
)
from .compression import codec_of, packed
from .lines import check_encoding, decoded
from .parsing import HEADER
from .writing import left_out, pieces, publish, refuse_ids, widened

if TYPE_CHECKING:
    from ..tables import EmbeddingTable

_READ = 8 << 20
_MAX_HEADER = 64
_MAX_WORD = 1 << 20
_FASTTEXT = b"\xba\x16\x4f\x2f"


def read(path: Path, options: Options) -> Source:
    """Open word2vec binary; the header gives rows and width."""
    encoding = check_encoding(options.encoding)
    with reading(path), open_bytes(path) as file:
        line = file.readline(_MAX_HEADER)
    n, dim = _header(path, line)
    _plausible(path, len(line), n, dim)
    return Source(
        path=path,
        format="word2vec-bin",
        dim=dim,
        dtype="float32",
        rows=n,
        batches=once(lambda: _batches(path, n, dim, encoding)),
    )


def _header(path: Path, line: bytes) -> tuple[int, int]:
    if line.startswith(_FASTTEXT):
        raise bad(path, "", "a fastText model, not word2vec binary", "--format fasttext")
    header = HEADER.fullmatch(line.rstrip(b"\n"))
    if not header or not line.endswith(b"\n"):
        raise bad(path, "header", "not a line of two integers, rows and dimension",
                  "name the file's format with --format")  # fmt: skip
    n, dim = int(header[1]), check_dim(path, "header", int(header[2]))
    if n == 0:
        raise no_rows(path)
    return n, dim


def _plausible(path: Path, start: int, n: int, dim: int) -> None:
    """Refuse at once a header that promises more than the file has bytes for."""
    size = path.stat().st_size - start
    if not codec_of(path) and size < n * (4 * dim + 1):
        raise fewer(path, n, f"at most {size // (4 * dim + 1)}")


def _batches(path: Path, n: int, dim: int, encoding: str) -> Iterator[Batch]:
    rest, done = b"", 0
    with reading(path), open_bytes(path) as file:
        file.readline(_MAX_HEADER)
        while done < n:
            piece = file.read(_READ)
            data = rest + piece
            names, values, end = _cut(data, n - done, 4 * dim)
            if not piece and not names:
                raise fewer(path, n, done)
            if names:
                yield _batch(path, names, values, done, dim, encoding)
            done += len(names)
            rest = data[end:]
            if done < n and b" " not in rest[: _MAX_WORD + 1] and len(rest) > _MAX_WORD:
                raise bad(path, f"row {done}", "no end of the id", "is this word2vec binary?")
        if _goes_on(rest, file):
            raise more(path, n)


def _cut(data: bytes, limit: int, width: int) -> tuple[list[bytes], list[bytes], int]:
    """Return the words and the values of the whole rows in ``data``, and where the last one ends."""
    names: list[bytes] = []
    values: list[bytes] = []
    find, at, size = data.find, 0, len(data)
    for _ in range(limit):
        space = find(b" ", at) + 1
        end = space + width
        if not space or end > size:
            break
        names.append(data[at : space - 1])
        values.append(data[space:end])
        at = end
    return names, values, at


def _goes_on(rest: bytes, file: BinaryIO) -> bool:
    return bool(rest.strip(b"\r\n") or file.read(_MAX_HEADER).strip(b"\r\n"))


def _batch(path: Path, names: list[bytes], values: list[bytes], start: int, dim: int, encoding: str) -> Batch:
    # A bytearray, unlike bytes, gives an array that its receiver may write to.
    flat = np.frombuffer(bytearray().join(values), dtype="<f4").astype(np.float32, copy=False)
    words = [name.lstrip(b"\n") for name in names]
    return Batch(vectors=flat.reshape(-1, dim), ids=decoded(path, words, start, encoding))


def write(table: EmbeddingTable, dest: Path, *, overwrite: bool) -> tuple[str, ...]:
    """Write header, ids and float32 values.

    Raises:
        InputError: an id holds a space or a line feed, or over 1 MiB.
    """
    with publish(dest, overwrite=overwrite) as file, packed(file, dest) as out:
        out.write(f"{table.rows} {table.dim}\n".encode())
        for ids, vectors, _ in pieces(table):
            refuse_ids(ids, "[ \n]", "a space or a line feed", "word2vec binary")
            data, width = vectors.astype("<f4", copy=False).tobytes(), 4 * table.dim
            for i, name in enumerate(ids.to_pylist()):
                word = name.encode()
                if len(word) > _MAX_WORD:
                    raise InputError("an id over 1 MiB", hint="export as parquet")
                out.write(b"%b %b" % (word, data[i * width : (i + 1) * width]))
    return widened(table) + left_out(table, "word2vec binary")

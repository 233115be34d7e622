"""fastText's own binary models, read only: the vectors of their words.

As in ``model.get_word_vector`` and in the ``.vec`` file, a word's vector is the mean of its own row and of
the rows of its character n-grams, which lie in buckets behind the words. Buckets are picked off the file
as words need them, and are not kept. Quantised models are refused.
"""

from __future__ import annotations

import os
import shutil
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from ..errors import StorageError, printable
from ..vectors import Batch, split
from .base import (
    BATCH_BYTES,
    COPY_AGAIN,
    Options,
    Source,
    bad,
    batch_rows,
    casting,
    check_dim,
    fewer,
    no_rows,
    once,
    open_bytes,
    reading,
)
from .compression import codec_of
from .lines import check_encoding, decoded
from .subwords import ngrams

MAGIC = b"\xba\x16\x4f\x2f"
_VERSIONS = (11, 12)
_ARGS = struct.Struct("<12id")
_SIZES = struct.Struct("<3iq")
_SHAPE = struct.Struct("<2q")
#: After a word: how often it occurs, and whether it is a label.
_ENTRY = struct.Struct("<qb")
_PIECE = 1 << 20
_MAX_WORD = 1 << 16
_MAX_NGRAM = 64
#: So many bytes of words make a batch at most: each begins up to _MAX_NGRAM n-grams.
_LETTERS = 1 << 16
_SUPERVISED = 3
#: The word that stands for the end of a sentence.
_EOS = b"</s>"
_NOT_A_MODEL = "name the file's format with --format"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Model:
    """Where things are in the file.

    Attributes:
        words, labels: entries of the dictionary, words first.
        buckets: rows of n-grams behind the rows of words; 0 where words are not made of n-grams.
        plain_end: whether the end of a sentence has no n-grams; before format 11 it had.
        dictionary, matrix: where they begin, in bytes.
        shape: of the matrix.
    """

    path: Path
    dim: int
    minn: int
    maxn: int
    words: int
    labels: int
    buckets: int
    plain_end: bool
    dictionary: int
    matrix: int
    shape: tuple[int, int]

    @property
    def end(self) -> int:
        """Where the matrix ends."""
        return self.matrix + 4 * self.shape[0] * self.shape[1]


def read(path: Path, options: Options) -> Source:
    """Open a model; its dictionary is read through once."""
    encoding = check_encoding(options.encoding)
    with reading(path, struct.error), open_bytes(path) as file:
        model = _opened(path, file)
    return Source(
        path=path,
        format="fasttext",
        dim=model.dim,
        dtype="float32",
        rows=model.words,
        warnings=_told(model),
        batches=once(lambda: _batches(model, encoding)),
    )


def _told(model: _Model) -> tuple[str, ...]:
    told = []
    if model.buckets:
        told.append("subword buckets are left out: words outside the vocabulary have no vector")
    if model.labels:
        told.append(f"labels are left out: {model.labels}")
    return tuple(told)


class _Cursor:
    """Reads a file that need not be able to go back."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path, self._file = path, file
        self._data, self._at, self._before = b"", 0, 0

    @property
    def place(self) -> int:
        """How many bytes were read."""
        return self._before + self._at

    def take(self, count: int) -> bytes:
        """Return the next ``count`` bytes."""
        while len(self._data) - self._at < count:
            self._more()
        self._at += count
        return self._data[self._at - count : self._at]

    def entry(self) -> tuple[bytes, bool]:
        """Return the next word of the dictionary, and whether it is a label."""
        while True:
            end = self._data.find(b"\0", self._at, self._at + _MAX_WORD + 1) + 1
            after = end + _ENTRY.size
            if end and after <= len(self._data):
                word = self._data[self._at : end - 1]
                self._at = after
                return word, bool(self._data[after - 1])
            if not end and len(self._data) - self._at > _MAX_WORD:
                raise bad(self._path, "dictionary", f"no end of a word in {_MAX_WORD} bytes", COPY_AGAIN)
            self._more()

    def _more(self) -> None:
        piece = self._file.read(_PIECE)
        if not piece:
            raise bad(self._path, "", "truncated: it ends before its vectors", COPY_AGAIN)
        self._before += self._at
        self._data, self._at = self._data[self._at :] + piece, 0


def _opened(path: Path, file: BinaryIO) -> _Model:
    cursor = _Cursor(path, file)
    args, version = _args(path, cursor)
    dim, _, _, _, _, _, _, kind, bucket, minn, maxn, _ = args
    if version < 12 and kind == _SUPERVISED:
        maxn = 0  # such models are older than n-grams in supervised training
    size, words, labels, _ = _SIZES.unpack(cursor.take(_SIZES.size))
    pruned = struct.unpack("<q", cursor.take(8))[0] if version else -1
    if words < 0 or labels < 0 or size != words + labels or pruned < -1:
        raise bad(path, "dictionary", "its sizes are damaged", COPY_AGAIN)
    if words == 0:
        raise no_rows(path)
    if codec_of(path) is None and size * (_ENTRY.size + 1) > path.stat().st_size:
        raise fewer(path, words, "fewer")
    dictionary = cursor.place
    _walk(path, cursor, words, labels)
    if pruned > 0 or (version and cursor.take(1) != b"\0"):
        raise _quantised(path)
    shape = _SHAPE.unpack(cursor.take(_SHAPE.size))
    buckets = bucket if maxn and pruned else 0
    if shape[0] < words + buckets or shape[1] != dim:
        raise bad(path, "input matrix", f"of shape {shape}, but there are {words} words, {buckets} buckets"
                  f" and {dim} dimensions", COPY_AGAIN)  # fmt: skip
    model = _Model(path=path, dim=dim, minn=minn, maxn=maxn, words=words, labels=labels, buckets=buckets,
                   plain_end=version > 0, dictionary=dictionary, matrix=cursor.place,
                   shape=shape)  # fmt: skip
    if codec_of(path) is None and path.stat().st_size < model.end:
        raise fewer(path, words, "fewer")
    return model


def _args(path: Path, cursor: _Cursor) -> tuple[tuple[int, ...], int]:
    """Return the arguments of the training, and the version of the format; 0 before it had one."""
    first, version = cursor.take(len(MAGIC)), 0
    if first == MAGIC:
        (version,) = struct.unpack("<i", cursor.take(4))
        if version not in _VERSIONS:
            raise bad(
                path, "header", f"version {version} of fastText's format", "versions 11 and 12 are read"
            )
        first = b""
    *args, _ = _ARGS.unpack(first + cursor.take(_ARGS.size - len(first)))
    dim, window, _, _, _, _, loss, kind, bucket, minn, maxn, _ = args
    if dim < 1 or window < 0 or loss not in range(1, 5) or kind not in range(1, 4):
        raise bad(path, "header", "not a fastText model", _NOT_A_MODEL)
    check_dim(path, "header", dim)
    if bucket < 0 or minn < 0 or not 0 <= maxn <= _MAX_NGRAM:
        what = f"{bucket} buckets and n-grams of {minn} to {maxn} characters"
        raise bad(path, "header", f"damaged: {what}", COPY_AGAIN)
    return tuple(args), version


def _walk(path: Path, cursor: _Cursor, words: int, labels: int) -> None:
    """Pass the dictionary, in which words must come before labels: their places number their rows."""
    for i in range(words + labels):
        if cursor.entry()[1] != (i >= words):
            raise bad(path, f"dictionary, entry {i}", "words and labels are mixed up", COPY_AGAIN)


def _quantised(path: Path) -> Exception:
    return bad(path, "", "a quantised fastText model, whose vectors are approximations",
               "import the .bin that it was made from, or its .vec file")  # fmt: skip


def _batches(model: _Model, encoding: str) -> Iterator[Batch]:
    done = 0
    with _whole(model) as file:
        table = _Table(file.fileno(), model)
        file.seek(model.dictionary)
        for words in _groups(model, _Cursor(model.path, file)):
            ids = decoded(model.path, words, done, encoding)
            yield Batch(vectors=table.means(words, done), ids=ids)
            done += len(words)


@contextmanager
def _whole(model: _Model) -> Iterator[BinaryIO]:
    """Open the file, or inflate its first part to a temporary one: buckets lie anywhere."""
    with reading(model.path, struct.error, ValueError), open_bytes(model.path) as file:
        if codec_of(model.path) is None:
            yield file
            return
        with tempfile.TemporaryFile() as spill:
            _spill(model, file, cast(BinaryIO, spill))
            yield cast(BinaryIO, spill)


def _spill(model: _Model, file: BinaryIO, spill: BinaryIO) -> None:
    if shutil.disk_usage(tempfile.gettempdir()).free < model.end:
        raise StorageError(
            f"{printable(str(model.path))}: unpacked, its words and buckets need {model.end} bytes on disk",
            hint="point TMPDIR to a larger disk, or unpack it first",
        )
    left = model.end
    while left and (piece := file.read(min(left, BATCH_BYTES))):
        spill.write(piece)
        left -= len(piece)
    spill.flush()
    if left:
        raise fewer(model.path, model.words, "fewer")


def _groups(model: _Model, cursor: _Cursor) -> Iterator[list[bytes]]:
    """Yield words, as many at a time as make a batch of vectors, with a bounded number of n-grams."""
    group: list[bytes] = []
    letters = 0
    most = batch_rows(4 * model.dim)
    for _ in range(model.words):
        word, _ = cursor.entry()
        if group and (len(group) == most or letters + len(word) > _LETTERS):
            yield group
            group, letters = [], 0
        group.append(word)
        letters += len(word)
    yield group


class _Table:
    """The rows of words and buckets, read off the file one by one.

    The file is not mapped: pages of a map would count as memory, sixteen for each row that is picked.
    """

    def __init__(self, fd: int, model: _Model) -> None:
        self._fd, self._model = fd, model

    def means(self, words: list[bytes], first: int) -> NDArray[np.float32]:
        """Return the vectors of ``words``, of which the first is row ``first``."""
        own = self._block(first, len(words))
        if not self._model.buckets:
            return own
        owners, rows = self._grams(words)
        counts = 1.0 + np.bincount(owners, minlength=len(words))
        with casting():
            total = own.astype(np.float64)
            self._add(total, owners, rows)
            return (total / counts[:, None]).astype(np.float32)

    def _grams(self, words: list[bytes]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        model = self._model
        owners, hashes = ngrams(words, model.minn, model.maxn)
        rows = (hashes % np.uint32(model.buckets)).astype(np.int64) + model.words
        if model.plain_end and _EOS in words:
            kept = owners != words.index(_EOS)
            return owners[kept], rows[kept]
        return owners, rows

    def _add(self, total: NDArray[np.float64], owners: NDArray[np.int64], rows: NDArray[np.int64]) -> None:
        """Add rows to the sums of their owners; a row that several want is read once."""
        from scipy.sparse import csc_array

        order = np.argsort(rows, kind="stable")
        wanted, starts = np.unique(rows[order], return_index=True)
        ends = np.append(starts, len(rows))
        for part in split(len(wanted), batch_rows(4 * self._model.dim)):
            picked = self._rows(wanted[part])
            to = owners[order[ends[part.start] : ends[part.stop]]]
            starts_here = ends[part.start : part.stop + 1] - ends[part.start]
            once_each = csc_array((np.ones(len(to)), to, starts_here), (len(total), len(picked)))
            total += once_each @ picked.astype(np.float64)

    def _rows(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        width = 4 * self._model.dim
        places = (rows * width + self._model.matrix).tolist()
        return self._numbers([os.pread(self._fd, width, place) for place in places], len(rows))

    def _block(self, first: int, count: int) -> NDArray[np.float32]:
        size = 4 * self._model.dim * count
        place = self._model.matrix + 4 * self._model.dim * first
        return self._numbers([os.pread(self._fd, size, place)], count)

    def _numbers(self, pieces: list[bytes], count: int) -> NDArray[np.float32]:
        # A bytearray, unlike bytes, gives an array that its receiver may write to.
        data = bytearray().join(pieces)
        if len(data) != 4 * self._model.dim * count:
            raise fewer(self._model.path, self._model.words, "fewer")
        rows = np.frombuffer(data, dtype="<f4").reshape(count, self._model.dim)
        return rows.astype(np.float32, copy=False)

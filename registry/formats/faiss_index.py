"""A FAISS index file: the vectors it holds, or gives back.

Flat indexes, alone or with an id map, are read by their layout alone. Of the others FAISS makes the vectors
again, in a process of its own (see ``child``): exactly where they are kept as they are (HNSW, IVF and refined
ones over flat codes), from codes elsewhere, which is told. Ids are those of an id map or an inverted file,
else rows are numbered. An export writes a flat index, and the ids to ``DEST.ids.json``, which an import finds
by itself.

Source of the layout: faiss/impl/index_write.cpp.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import pyarrow as pa

from ..errors import InputError, printable
from ..vectors import Batch, Vectors, split
from . import child
from . import ids as idfile
from .arrays import Encoding, fill, row_major
from .base import COPY_AGAIN, Options, Source, bad, check_shape, fewer, once, reading

if TYPE_CHECKING:
    from ..tables import EmbeddingTable

_FLAT = {b"IxF2", b"IxFI", b"IxFl"}
_MAPS = {b"IxMp", b"IxM2"}
#: What FAISS calls an index, by the letters that its file begins with: of those that keep the vectors …
_EXACT = {
    b"IHNf": "IndexHNSWFlat", b"INSf": "IndexNSGFlat", b"IwFl": "IndexIVFFlat", b"IxRF": "IndexRefineFlat",
}  # fmt: skip
#: … and of those that keep codes of them.
_CODED = {
    b"IxSQ": "IndexScalarQuantizer", b"IxPq": "IndexPQ", b"IPfs": "IndexPQFastScan",
    b"IwSq": "IndexIVFScalarQuantizer", b"IwPQ": "IndexIVFPQ", b"IwQR": "IndexIVFPQR",
    b"IHNs": "IndexHNSWSQ", b"IHNp": "IndexHNSWPQ", b"IxPT": "IndexPreTransform",
    b"IxRq": "IndexResidualQuantizer", b"IwRQ": "IndexIVFResidualQuantizer",
    b"IxLS": "IndexLocalSearchQuantizer", b"IwLS": "IndexIVFLocalSearchQuantizer",
}  # fmt: skip
_METRICS = {0: "dot", 1: "l2"}
_WRITTEN = {"dot": (b"IxFI", 0), "cosine": (b"IxFI", 0), "l2": (b"IxF2", 1)}
_HEAD = struct.Struct("<4siqqq?i")
_COUNT = struct.Struct("<q")
#: What stands in two fields that FAISS no longer uses.
_UNUSED = 1 << 20
_NUMBERS = Encoding.of(np.dtype("<f4"))
_MANY = 65536
_SLAB = 8 << 20  # as its script has it


@dataclass(frozen=True, slots=True)
class _Head:
    """What any index begins with; ``end`` is where it goes on."""

    word: bytes
    dim: int
    rows: int
    metric: int
    end: int


@dataclass(frozen=True, slots=True)
class _Plan:
    """An index: ``inner`` is it, or what its id map is around."""

    path: Path
    mapped: bool
    inner: _Head
    start: int

    @property
    def flat(self) -> bool:
        return self.inner.word in _FLAT

    @property
    def shape(self) -> tuple[int, int]:
        return self.inner.rows, self.inner.dim

    @property
    def end(self) -> int:
        """Where the rows of a flat one end."""
        return self.start + 4 * self.inner.rows * self.inner.dim


def read(path: Path, options: Options) -> Source:
    """Open an index file.

    Raises:
        InputError: it is none, or of a kind that does not give its vectors back.
    """
    with reading(path), path.open("rb") as file:
        plan = _planned(path, file)
        _check_size(plan, file)
    n, d = check_shape(path, "", plan.shape)
    names = idfile.Names() if plan.mapped and not options.ids else idfile.names(path, options, n)
    metric = _METRICS.get(plan.inner.metric)
    return Source(
        path=path,
        format="faiss",
        dim=d,
        dtype="float32",
        rows=n,
        warnings=_told(plan) + names.told,
        declares={**({"metric": metric} if metric else {}), **names.declares},
        batches=once(lambda: _batches(plan, names)),
    )


def _planned(path: Path, file: BinaryIO) -> _Plan:
    outer = _head(path, file, 0)
    mapped = outer.word in _MAPS
    inner = _head(path, file, outer.end) if mapped else outer
    if inner.word not in _FLAT and inner.word not in _EXACT and inner.word not in _CODED:
        raise _unread(path, inner.word)
    if (inner.rows, inner.dim) != (outer.rows, outer.dim) or min(inner.rows, inner.dim) < 0:
        raise bad(path, "", "truncated or damaged: an id map of another size than its index", COPY_AGAIN)
    return _Plan(path, mapped, inner, inner.end + _COUNT.size)


def _head(path: Path, file: BinaryIO, start: int) -> _Head:
    file.seek(start)
    data = file.read(_HEAD.size)
    if not data.startswith(b"I") or len(data) < 4:
        raise bad(path, "", "not a FAISS index", "name the file's format with --format")
    if data.startswith(b"IB"):
        raise bad(path, "", "a binary FAISS index, which holds bits and not vectors",
                  "import the vectors that it was made from")  # fmt: skip
    if len(data) < _HEAD.size:
        raise bad(path, "", "the header of the index is truncated", COPY_AGAIN)
    word, dim, rows, _, _, _, metric = _HEAD.unpack(data)
    # Metrics other than the two common ones bring a number with them.
    return _Head(word, dim, rows, metric, start + _HEAD.size + 4 * (metric not in _METRICS))


def _unread(path: Path, word: bytes) -> InputError:
    return bad(path, "", f"a FAISS index of a kind that is not read ({printable(word.decode('latin-1'))})",
               "Flat, SQ, PQ, HNSW and IVF indexes give their vectors back; "
               "or import what it was made from")  # fmt: skip


def _check_size(plan: _Plan, file: BinaryIO) -> None:
    """Check that a flat index is as long as it says, and that another has a bit for each row at least."""
    path, (n, d) = plan.path, plan.shape
    size = file.seek(0, 2)
    if not plan.flat:
        if n > 8 * size:
            raise fewer(path, n, "fewer")
        return
    file.seek(plan.inner.end)
    count = file.read(_COUNT.size)
    whole = plan.end + (_COUNT.size + 8 * n if plan.mapped else 0)
    if size < whole:
        raise fewer(path, n, max(0, size - plan.start) // max(1, 4 * d) if not plan.mapped else "fewer")
    if _COUNT.unpack(count)[0] != n * d or size > whole:
        raise bad(
            path, "", f"truncated or damaged: {size:,} bytes, not the {whole:,} of {n} rows", COPY_AGAIN
        )


def _told(plan: _Plan) -> tuple[str, ...]:
    told = []
    if plan.inner.word in _CODED:
        told.append(f"vectors are reconstructed from an {_CODED[plan.inner.word]}: not the originals")
    if plan.inner.metric not in _METRICS:
        told.append(f"its metric, number {plan.inner.metric} of FAISS, is none that is known: say --metric")
    return tuple(told)


def _batches(plan: _Plan, names: idfile.Names) -> Iterator[Batch]:
    if not plan.flat:
        yield from _reconstructed(plan, names)
    elif plan.mapped and names.opened is None:
        feed = idfile.Feed(plan.path, plan.path, _id_map(plan))
        yield from (feed.batch(block) for block in _flat(plan))
    else:
        yield from names.batches(_flat(plan))


def _flat(plan: _Plan) -> Iterator[Vectors]:
    with reading(plan.path), plan.path.open("rb") as file:
        file.seek(plan.start)
        yield from row_major(file, plan.shape, _NUMBERS, lambda row: fewer(plan.path, plan.shape[0], row))


def _id_map(plan: _Plan) -> Iterator[pa.Array]:
    n = plan.inner.rows
    with reading(plan.path), plan.path.open("rb") as file:
        file.seek(plan.end)
        if _COUNT.unpack(file.read(_COUNT.size).ljust(_COUNT.size, b"\0"))[0] != n:
            raise bad(plan.path, "", f"truncated or damaged: its id map is not of {n} ids", COPY_AGAIN)
        for part in split(n, _MANY):
            ids = np.empty(part.stop - part.start, dtype="<i8")
            if fill(file, ids) < ids.nbytes:
                raise fewer(plan.path, n, "fewer")
            yield _decimal(ids)


def _decimal(ids: Any) -> pa.Array:
    return pa.array(ids).cast(pa.large_string())


def _reconstructed(plan: _Plan, names: idfile.Names) -> Iterator[Batch]:
    path = plan.path
    memory = (2 << 30) + 3 * path.stat().st_size
    with child.running(path, "faiss_child.py", library="FAISS", memory=memory) as running:
        told = running.document()
        if (told["rows"], told["dim"]) != plan.shape:
            raise bad(
                path, "", "truncated or damaged: its header is of another size than its rows", COPY_AGAIN
            )
        if names.opened and not told["ordered"]:
            raise bad(path, "", "its rows have ids of their own, and no other order", "leave --ids out")
        if names.opened or not told["named"]:
            blocks = (block for _, block in _sent(plan, running, named=told["named"]))
            yield from names.batches(blocks)
        else:
            for ids, block in _sent(plan, running, named=True):
                yield Batch(vectors=block, ids=_decimal(ids))
        running.finish()


def _sent(plan: _Plan, running: child.Child, *, named: bool) -> Iterator[tuple[Any, Vectors]]:
    n, d = plan.shape
    for part in split(n, max(1, _SLAB // (4 * d))):
        count = part.stop - part.start
        ids = np.empty(count if named else 0, dtype="<i8")
        block = np.empty((count, d), dtype="<f4")
        for numbers in (ids, block):
            if numbers.nbytes and fill(running.output, numbers) < numbers.nbytes:
                raise running.error()
        yield ids, _NUMBERS.decode(block)


def write(table: EmbeddingTable, dest: Path, *, overwrite: bool) -> tuple[str, ...]:
    """Write a flat index of the rows as they are, and the ids to ``dest.ids.json``."""
    word, metric = _WRITTEN[table.space.metric]
    head = partial(_head_bytes, word, metric)
    notes = idfile.write_array(table, dest, head, name="faiss", dtype="float32", overwrite=overwrite)
    if table.space.dtype == "float16":
        notes += ("float16 rows are kept as float32 by faiss, each exactly",)
    if table.space.metric == "cosine":
        notes += ("FAISS knows no cosine: an index of inner products over the rows as they are",)
    return notes


def _head_bytes(word: bytes, metric: int, shape: tuple[int, int], _: np.dtype[Any]) -> bytes:
    n, d = shape
    return _HEAD.pack(word, d, n, _UNUSED, _UNUSED, True, metric) + _COUNT.pack(n * d)

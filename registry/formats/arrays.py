"""The ``.npy`` header, read without ``eval`` or pickle; rows of numbers streamed, whatever holds them."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..vectors import Vectors
from .base import BATCH_BYTES, COPY_AGAIN, bad, batch_rows, fewer, keep, target

MAGIC = b"\x93NUMPY"
_MAX_HEADER = 1 << 20
_DESCR = re.compile(r"""['"]descr['"]\s*:\s*(?:['"]([^'"]{0,40})['"]|(\[))""")
_ORDER = re.compile(r"""['"]fortran_order['"]\s*:\s*(True|False)""")
_SHAPE = re.compile(r"""['"]shape['"]\s*:\s*\(([0-9L,\s]{0,400})\)""")
_DTYPE = re.compile(r"([<>|=]?)([?a-zA-Z])(\d{0,12})(\[\w+\])?")
_KINDS = {
    "i": "integers", "u": "unsigned integers", "b": "booleans", "?": "booleans",
    "c": "complex numbers", "S": "byte strings", "a": "byte strings", "U": "strings",
    "[": "records of several fields", "V": "raw bytes", "M": "dates", "m": "durations",
}  # fmt: skip
#: numpy knows no bfloat16: what ml_dtypes and JAX save, and the same after numpy has read and saved it.
_BFLOAT16 = ("<V2", "|V2")
_SCALED = "numpy.savez('v.npz', codes=codes, scale=scale), if value = code * scale; or .astype('float32')"


@dataclass(frozen=True, slots=True)
class Encoding:
    """How numbers are stored, and what they become.

    Attributes:
        stored: dtype in the file; bfloat16 by its bits, as ``uint16``.
        kept: ``float32`` or ``float16``.
        told: what to tell about the cast.
        bfloat16: whether the bits are the upper half of a float32.
    """

    stored: np.dtype[Any]
    kept: np.dtype[Any]
    told: tuple[str, ...] = ()
    bfloat16: bool = False

    @classmethod
    def of(cls, stored: np.dtype[Any]) -> Encoding:
        """Return the encoding of a float dtype."""
        return cls(stored, *target(stored))

    def decode(self, block: NDArray[Any]) -> Vectors:
        """Return what was read as it is kept, C-contiguous."""
        if not self.bfloat16:
            return keep(block, self.kept)
        bits = np.asarray(block, order="C").astype(np.uint32)
        bits <<= 16
        return bits.view(np.float32)


#: bfloat16 as safetensors and torch name it.
BFLOAT16 = Encoding(
    np.dtype("<u2"), np.dtype(np.float32), ("bfloat16 values are kept as float32, each exactly",), True
)


@dataclass(frozen=True, slots=True)
class ArrayHeader:
    """What stands before the numbers: ``kind`` and ``itemsize`` of ``dtype``, and where these begin."""

    shape: tuple[int, ...]
    fortran: bool
    descr: str
    start: int

    @property
    def kind(self) -> str:
        """The letter of the dtype: ``f`` float, ``U`` string, ``O`` object …; ``[`` for records."""
        found = _DTYPE.fullmatch(self.descr)
        return found[2] if found else self.descr[:1]

    @property
    def floats(self) -> bool:
        """Whether its numbers can be kept."""
        return self.kind == "f" or self.descr in _BFLOAT16


def header(path: Path, place: str, file: BinaryIO) -> ArrayHeader:
    """Read the header at the start of ``file``, and leave the file at the first number.

    Raises:
        InputError: it is no ``.npy`` header.
    """
    start = file.read(10)
    if not start.startswith(MAGIC):
        raise bad(path, place, "not an .npy array", "name the file's format with --format")
    wide = start[6:7] > b"\x01"
    size = start[8:10] + (file.read(2) if wide else b"")
    length = int.from_bytes(size, "little")
    text = file.read(min(length, _MAX_HEADER))
    if len(start) < 10 or len(text) < length:
        raise bad(path, place, "the .npy header is truncated", COPY_AGAIN)
    return _parsed(path, place, text.decode("latin-1"), len(start) + 2 * wide + length)


def _parsed(path: Path, place: str, text: str, start: int) -> ArrayHeader:
    descr, order, shape = _DESCR.search(text), _ORDER.search(text), _SHAPE.search(text)
    if not (descr and order and shape):
        raise bad(path, place, "the .npy header is damaged", COPY_AGAIN)
    # Python 2 wrote its long integers with an L.
    sizes = [part.strip().rstrip("L") for part in shape[1].split(",")]
    if not all(s.isdigit() and len(s) < 19 for s in sizes if s):
        raise bad(path, place, "the shape in the .npy header is damaged", COPY_AGAIN)
    return ArrayHeader(
        shape=tuple(int(s) for s in sizes if s),
        fortran=order[1] == "True",
        descr=descr[1] if descr[1] is not None else descr[2],
        start=start,
    )


def float_encoding(path: Path, place: str, head: ArrayHeader) -> Encoding:
    """Return the encoding of an array of floats.

    Raises:
        InputError: it holds something else, which is said.
    """
    kind = head.kind
    if head.descr in _BFLOAT16:
        told = (
            f"2-byte values of no dtype ({head.descr}) were read as bfloat16, kept as float32, each exactly"
        )
        return replace(BFLOAT16, told=(told,))
    if kind == "f":
        try:
            return Encoding.of(np.dtype(head.descr))
        except TypeError as exc:
            raise bad(path, place, f"floats of an unknown size, '{head.descr}'",
                      "save it as float32") from exc  # fmt: skip
    if kind == "O":
        raise bad(path, place, "Python objects, which would have to be unpickled: never done",
                  "save it again: numpy.save(path, numpy.stack(rows).astype('float32'))")  # fmt: skip
    what = _KINDS.get(kind, "values of an unknown kind")
    hint = _SCALED if head.descr[-2:] in ("i1", "u1") else "convert it with .astype('float32')"
    raise bad(path, place, f"holds {what} ({head.descr}), not floats", hint)


def check_size(path: Path, head: ArrayHeader, size: int, row: int) -> None:
    """Check that an array of ``size`` bytes, header included, holds the rows of ``row`` bytes it promises.

    Raises:
        InputError: it holds fewer or more.
    """
    n, have = head.shape[0], size - head.start
    if have < n * row:
        raise fewer(path, n, have // row)
    if have > n * row:
        what = f"{have - n * row} bytes follow the {n} rows that the header promises"
        raise bad(path, f"row {n}", what, "save it again, one array a file")


def row_major(
    file: BinaryIO,
    shape: tuple[int, int],
    encoding: Encoding,
    short: Callable[[int], Exception],
) -> Iterator[Vectors]:
    """Yield C-ordered rows from where ``file`` stands; ``short`` makes the error of an early end."""
    n, d = shape
    row = d * encoding.stored.itemsize
    step = batch_rows(d * max(encoding.stored.itemsize, encoding.kept.itemsize))
    for start in range(0, n, step):
        block = np.empty((min(step, n - start), d), dtype=encoding.stored)
        got = fill(file, block)
        if got < block.nbytes:
            raise short(start + got // row)
        yield encoding.decode(block)


def fill(file: BinaryIO, block: NDArray[Any]) -> int:
    """Read into ``block`` until it is full or the file ends, and return how many bytes came."""
    view = memoryview(block.reshape(-1).view(np.uint8).data)
    done = 0
    while done < len(view):
        # A bounded read: a zip member copies through a buffer of the size asked for.
        count = file.readinto(view[done : done + BATCH_BYTES])  # type: ignore[attr-defined]
        if not count:
            break
        done += count
    return done


def column_major(
    path: Path, fd: int, start: int, shape: tuple[int, int], encoding: Encoding
) -> Iterator[Vectors]:
    """Yield rows of a Fortran-ordered array: a strip of each column is read, and transposed.

    The file is not mapped: pages of a map would count as memory, and a file cut short while it is read
    would kill the process.
    """
    (n, d), size = shape, encoding.stored.itemsize
    step = min(n, max(batch_rows(d * size), min(4096 // size, (256 << 20) // (d * size) or 1)))
    for first in range(0, n, step):
        strips = np.empty((d, min(step, n - first)), dtype=encoding.stored)
        for j, strip in enumerate(strips):
            if not _read_at(fd, strip, start + (j * n + first) * size):
                raise fewer(path, n, "fewer")
        yield encoding.decode(strips.T)


def _read_at(fd: int, strip: NDArray[Any], offset: int) -> bool:
    view = memoryview(strip.view(np.uint8).data)
    done = 0
    while done < len(view):
        count = os.preadv(fd, [view[done:]], offset + done)
        if not count:
            return False
        done += count
    return True


def header_bytes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    """Return the header of a C-ordered array."""
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        out,
        {
            "descr": np.lib.format.dtype_to_descr(dtype),
            "fortran_order": False,
            "shape": shape,
        },
    )
    return out.getvalue()

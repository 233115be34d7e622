"""Quantised vectors of an ``.npz``: int8 or uint8 ``codes`` with their ``scale``, read as float32.

A value is ``code * scale``, ``(code - zero_point) * scale`` or ``code * scale + offset``, computed in float64
and rounded once. Each of the three is one number, one a column ``(d,)`` or ``(1, d)``, or one a row ``(n,)``
or ``(n, 1)``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..errors import printable
from ..vectors import Vectors
from .arrays import ArrayHeader, Encoding, check_size, fill, header
from .base import COPY_AGAIN, bad, casting, keep

_CODES = "codes"
_WORDS = {"scale": "scale", "scales": "scale", "zero_point": "zero_point", "zero_points": "zero_point",
          "offset": "offset", "offsets": "offset"}  # fmt: skip
_DTYPES = {"i1": "int8", "u1": "uint8"}

Member = Callable[[str], AbstractContextManager[BinaryIO]]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One of the numbers of a formula: ``word`` says which, ``each`` for what there is one."""

    word: str
    key: str
    dtype: np.dtype[Any]
    count: int
    each: str


@dataclass(frozen=True, slots=True)
class Scaling:
    """How codes become values."""

    path: Path
    codes: np.dtype[Any]
    parameters: Mapping[str, Parameter]

    @property
    def encoding(self) -> Encoding:
        """What codes are, and what they become."""
        scale = self.parameters["scale"]
        told = f"{self.codes.name} codes became float32: {self._formula()}, {scale.each}"
        return Encoding(self.codes, np.dtype(np.float32), (told,))

    def _formula(self) -> str:
        if "zero_point" in self.parameters:
            return "(code - zero_point) * scale"
        return "code * scale + offset" if "offset" in self.parameters else "code * scale"

    def apply(self, blocks: Iterator[Vectors], member: Member) -> Iterator[Vectors]:
        """Yield the values of blocks of codes; ``member`` opens an array of the archive."""
        with ExitStack() as opened:
            takes = {
                word: _taker(self.path, parameter, opened.enter_context(member(parameter.key)))
                for word, parameter in self.parameters.items()
            }
            for block in blocks:
                yield _values(block, {word: take(len(block)) for word, take in takes.items()})


def codes_key(heads: Mapping[str, ArrayHeader]) -> str | None:
    """Return the array of codes that a scale comes with; None where there is none."""
    if not any(_WORDS.get(key) == "scale" for key in heads):
        return None
    found = [key for key, head in heads.items() if len(head.shape) == 2 and head.descr[-2:] in _DTYPES]
    return _CODES if _CODES in found else found[0] if len(found) == 1 else None


def is_parameter(key: str) -> bool:
    """Whether an array of that name belongs to codes."""
    return key in _WORDS


def scaling(
    path: Path, key: str, heads: Mapping[str, ArrayHeader], sizes: Mapping[str, int]
) -> Scaling | None:
    """Return how the codes of array ``key`` become values; None where it holds none, or has no scale.

    Raises:
        InputError: a parameter has another shape, or there are two of one.
    """
    head = heads[key]
    keys = [name for name in heads if name in _WORDS and name != key]
    if head.descr[-2:] not in _DTYPES or "scale" not in {_WORDS[name] for name in keys}:
        return None
    place = f"array '{printable(key)}'"
    if head.fortran and len(head.shape) == 2 and head.shape[1] > 1:
        raise bad(path, place, "codes in Fortran order", "save them in C order: numpy.ascontiguousarray")
    found = {_WORDS[name]: _parameter(path, name, heads[name], head.shape, sizes[name]) for name in keys}
    if len(found) < len(keys) or {"zero_point", "offset"} <= set(found):
        raise bad(path, "", f"too many parameters of codes: {', '.join(keys)}",
                  "a scale, and a zero_point or an offset")  # fmt: skip
    return Scaling(path, np.dtype(head.descr), found)


def _parameter(path: Path, key: str, head: ArrayHeader, codes: tuple[int, ...], size: int) -> Parameter:
    place = f"array '{key}'"
    try:
        dtype = np.dtype(head.descr if head.kind in "fiu" else "")
    except TypeError as exc:
        raise bad(path, place, f"holds {head.descr}, not numbers",
                  "floats: one for all, one a column or one a row") from exc  # fmt: skip
    each = _each(path, place, head.shape, codes)
    count = int(np.prod(head.shape, dtype=np.int64))
    row = ArrayHeader((count,), False, head.descr, head.start)
    check_size(path, row, size, dtype.itemsize)
    return Parameter(_WORDS[key], key, dtype, count, each)


def _each(path: Path, place: str, shape: tuple[int, ...], codes: tuple[int, ...]) -> str:
    if shape in ((), (1,), (1, 1)):
        return "one scale for all"
    n, d = codes if len(codes) == 2 else (0, 0)
    kinds = {"one scale a column": ((d,), (1, d)), "one scale a row": ((n,), (n, 1))}
    fitting = [each for each, shapes in kinds.items() if shape in shapes]
    if len(fitting) == 1:
        return fitting[0]
    what = f"a shape of {shape} for codes of {codes}"
    if fitting:
        raise bad(path, place, f"{what}: one a row or one a column?", "save it as (n, 1) or as (1, d)")
    raise bad(path, place, what, "one number, one a column (d,), or one a row (n, 1)")


def _taker(path: Path, parameter: Parameter, file: BinaryIO) -> Callable[[int], NDArray[np.float64]]:
    """Return what gives the parameter of the next so many rows."""
    header(path, f"array '{parameter.key}'", file)

    def take(count: int) -> NDArray[np.float64]:
        block = np.empty(count, dtype=parameter.dtype)
        if fill(file, block) < block.nbytes:
            raise bad(path, f"array '{parameter.key}'", "truncated", COPY_AGAIN)
        with casting():
            return block.astype(np.float64)

    if parameter.each == "one scale a row":
        return lambda count: take(count)[:, None]
    whole = take(parameter.count)
    return lambda _: whole


def _values(codes: Vectors, parameters: Mapping[str, NDArray[np.float64]]) -> Vectors:
    with np.errstate(all="ignore"):
        x = codes.astype(np.float64)
        if "zero_point" in parameters:
            x -= parameters["zero_point"]
        x *= parameters["scale"]
        if "offset" in parameters:
            x += parameters["offset"]
        return keep(x, np.dtype(np.float32))

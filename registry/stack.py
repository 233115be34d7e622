"""Parts as one array that is never joined: slices are read where they lie."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .vectors import Vectors, split

#: Parts that had to be decoded and are still held: one for each of a few threads.
_HELD = 3


class Piece(Protocol):
    """One part: how many rows, and their vectors."""

    rows: int
    mapped: bool

    @property
    def vectors(self) -> Vectors:
        """``(rows, d)``: of a mapped part a view, else decoded anew each time."""


class Stack:
    """Rows ``(n, d)`` of several parts, or some of them; like a read-only array where it is sliced.

    A slice inside one mapped part is a view of the file; any other is a copy of its rows. ``np.asarray``
    makes the whole array. Threads may slice at the same time.
    """

    ndim = 2

    def __init__(
        self, pieces: Sequence[Piece], dim: int, dtype: str, rows: NDArray[np.int64] | None = None
    ) -> None:
        """Stack ``pieces``; of all their rows, keep ``rows`` (ascending) or all."""
        self._pieces = pieces
        self._starts = np.concatenate([[0], np.cumsum([piece.rows for piece in pieces], dtype=np.int64)])
        self._rows = rows
        self._decoded: dict[int, Vectors] = {}
        self._lock = Lock()
        self.dtype = np.dtype(dtype)
        self.shape = (int(self._starts[-1]) if rows is None else len(rows), dim)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def mapped(self) -> bool:
        """Whether slices inside a part are views of files."""
        return self._rows is None and all(piece.mapped for piece in self._pieces)

    @property
    def size(self) -> int:
        """How many numbers."""
        return self.shape[0] * self.shape[1]

    def runs(self) -> list[slice]:
        """Return the rows of each part, in order: best read one part after another."""
        edges = self._starts if self._rows is None else np.searchsorted(self._rows, self._starts)
        return [slice(a, b) for a, b in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True) if b > a]

    def sample(self, count: int) -> Vectors:
        """Return some ``count`` rows, evenly from a few parts."""
        runs = self.runs()
        chosen = [runs[i] for i in sorted({0, len(runs) // 2, len(runs) - 1})] if runs else []
        each = -(-count // max(len(chosen), 1))
        spread = [np.arange(run.start, run.stop)[:: -(-(run.stop - run.start) // each)] for run in chosen]
        return self[np.concatenate(spread)] if spread else np.empty(self.shape, dtype=self.dtype)

    def __getitem__(self, key: slice | NDArray[np.integer[Any]]) -> Vectors:
        """Return the rows of a slice, or those of an index array, in its order."""
        if isinstance(key, slice):
            start, stop, step = key.indices(len(self))
            at = int(np.searchsorted(self._starts, start, side="right")) - 1
            if self._rows is None and step == 1 and start < stop <= self._starts[at + 1]:
                return self._vectors(at)[start - self._starts[at] : stop - self._starts[at]]
            key = np.arange(start, stop, step)
        rows = key if self._rows is None else self._rows[key]
        out = np.empty((len(rows), self.shape[1]), dtype=self.dtype)
        owner = np.searchsorted(self._starts, rows, side="right") - 1
        for at in np.unique(owner).tolist():
            here = owner == at
            out[here] = self._vectors(at)[rows[here] - self._starts[at]]
        return out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return all rows in one array of their own."""
        if copy is False:
            raise ValueError("the rows of several parts cannot be one array without a copy")
        out = np.empty(self.shape, dtype=dtype or self.dtype)
        for run in self.runs():
            for part in split(run.stop - run.start, 1 << 16):
                rows = slice(run.start + part.start, run.start + part.stop)
                out[rows] = self[rows]
        return out

    def _vectors(self, at: int) -> Vectors:
        piece = self._pieces[at]
        if piece.mapped:
            return piece.vectors
        with self._lock:
            if at not in self._decoded:
                while len(self._decoded) >= _HELD:
                    del self._decoded[next(iter(self._decoded))]
                self._decoded[at] = piece.vectors
            return self._decoded[at]


#: Rows that are read slice by slice.
Stacked = Vectors | Stack

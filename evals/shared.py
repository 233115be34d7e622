"""The rows that two versions share by id: what a comparison of versions is about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from .suite import Skipped

if TYPE_CHECKING:
    from .subject import Subject

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """Rows of one id in two versions; those that are zero, special or not finite in either take no part.

    Position i stands for row ``old_rows[i]`` of the old version and row ``new_rows[i]`` of the new one.

    Attributes:
        old, new: the versions.
        ids: how many ids both hold, rows of zeros included.
        old_rows, new_rows: int64 ``(n,)``, n >= 1; ``new_rows`` ascends.
    """

    old: Subject
    new: Subject
    ids: int
    old_rows: Rows
    new_rows: Rows

    @classmethod
    def of(cls, old: Subject, new: Subject) -> Self:
        """Match the rows of two versions.

        Raises:
            Skipped: they share no id, or only rows that take no part.
        """
        rows = old.table.lookup(new.table.ids.combine_chunks())
        both = np.flatnonzero(rows >= 0)
        if not both.size:
            raise Skipped("no shared ids")
        valid = _among(rows[both], old.valid) & _among(both, new.valid)
        if not valid.any():
            raise Skipped(
                f"each of the {both.size:,} shared ids is a row of zeros, special or not finite in a version"
            )
        return cls(old=old, new=new, ids=both.size, old_rows=rows[both][valid], new_rows=both[valid])

    @property
    def n(self) -> int:
        """How many rows are compared."""
        return len(self.new_rows)

    @property
    def widths(self) -> tuple[int, int]:
        """Width of an old and of a new row."""
        return self.old.table.dim, self.new.table.dim

    @property
    def same_width(self) -> bool:
        """Whether old and new rows can be compared as they are."""
        return self.old.table.dim == self.new.table.dim

    def unchanged(self) -> bool:
        """Whether every shared row holds the same bytes in both versions."""
        a, b = self.old.space, self.new.space
        if (a.dim, a.dtype) != (b.dim, b.dtype):
            return False
        old, new = self.old.table.fingerprints, self.new.table.fingerprints
        return bool(np.array_equal(old[self.old_rows], new[self.new_rows]))

    def take(self, part: slice) -> tuple[Floats, Floats]:
        """Return the old and the new rows of some positions, in float64."""
        x = self.old.table.take(self.old_rows[part])
        y = self.new.table.take(self.new_rows[part])
        return x.astype(np.float64), y.astype(np.float64)


def _among(rows: Rows, known: Rows) -> NDArray[np.bool_]:
    """Whether each row is one of ``known``, which ascends."""
    place = np.searchsorted(known, rows)
    found = np.zeros(len(rows), dtype=bool)
    inside = place < len(known)
    found[inside] = known[place[inside]] == rows[inside]
    return found

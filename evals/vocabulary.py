"""Which rows the words of a dataset name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

    from ..registry.vectors import Vectors
    from .subject import Subject


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """Which rows the words of a dataset name.

    Attributes:
        rows: every valid row of a folded word, ascending; words without a row are left out.
        searched: the valid rows within the restriction, ascending.
        fold: whether words are compared in upper case.
    """

    rows: dict[str, list[int]]
    searched: NDArray[np.int64]
    fold: bool

    @classmethod
    def of(cls, subject: Subject, words: Iterable[str], *, restrict: int, fold: bool) -> Self:
        """Find the rows of ``words`` among the first ``restrict`` valid rows (0 = all)."""
        limit = restrict or subject.table.rows
        wanted = {word.upper() if fold else word for word in words}
        searched = subject.valid[: np.searchsorted(subject.valid, limit)]
        usable = np.zeros(limit, dtype=bool)
        usable[searched] = True
        rows: dict[str, list[int]] = {}
        for row, item in enumerate(_ids(subject, limit)):
            word = item.upper() if fold else item
            if word in wanted and usable[row]:
                rows.setdefault(word, []).append(row)
        return cls(rows=rows, searched=searched, fold=fold)

    def all(self, word: str) -> list[int]:
        """Return the rows of a word, ascending; empty where it has none."""
        return self.rows.get(word.upper() if self.fold else word, [])

    def base(self, subject: Subject) -> Vectors:
        """Return the rows that are searched, in their order: a view where there are no gaps."""
        vectors, rows = subject.table.vectors, self.searched
        return vectors[: len(rows)] if len(rows) and len(rows) == rows[-1] + 1 else vectors[rows]


def rows_of(subject: Subject, ids: pa.Array) -> NDArray[np.int64]:
    """Return the row of each id, matched exactly; -1 where it has none, or one that takes no part."""
    rows = subject.table.lookup(ids)
    # The last place is that of -1.
    takes_part = np.zeros(subject.table.rows + 1, dtype=bool)
    takes_part[subject.valid] = True
    return np.where(takes_part[rows], rows, -1)


def _ids(subject: Subject, limit: int) -> Iterable[str]:
    for block in subject.table.blocks():
        if block.start >= limit:
            return
        yield from block.ids[: limit - block.start].to_pylist()


def unique(names: Sequence[str]) -> list[str]:
    """Return names told apart: the second ``x`` becomes ``x #2``."""
    taken: set[str] = set()
    counts: dict[str, int] = {}
    out = []
    for name in names:
        told = name
        while told in taken:
            counts[name] = counts.get(name, 1) + 1
            told = f"{name} #{counts[name]}"
        taken.add(told)
        out.append(told)
    return out

"""Which rows the words of a dataset name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from ..registry.errors import printable

if TYPE_CHECKING:
    import pyarrow as pa

    from ..registry.vectors import Vectors
    from .subject import Subject

#: What may be, where few words are known.
OTHERWISE = "it may be of another language than the ids, or written otherwise"
#: What may be, where ids are looked up as they are.
EXACT = "its ids are matched exactly, case included"


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


def scarce(dataset: str, covered: int, total: int, *advice: str, what: str = "") -> list[str]:
    """Return a note where less than half of a dataset is in the vocabulary; else nothing.

    Args:
        dataset: its name.
        covered: items that could be measured.
        total: items there are.
        advice: what may be the cause, and what to do; empty texts are left out.
        what: of the dataset is meant, in the plural; by default all of it.
    """
    if 2 * covered >= total:
        return []
    part, verb = (f"the {what} of ", "are") if what else ("", "is")
    told = f"only {100 * covered // total}% of {part}'{printable(dataset, 140)}' {verb} in the vocabulary"
    return [f"{told} ({covered:,} of {total:,}): {'; '.join(filter(None, advice))}"]


class Matching(Protocol):
    """How a suite matches words with ids: the parameters of ``Vocabulary.of``."""

    @property
    def restrict_vocab(self) -> int:
        """Only the first so many rows are known words; 0 for all."""

    @property
    def case_fold(self) -> bool:
        """Whether words are compared in upper case."""


def advice(subject: Subject, suite: str, params: Matching) -> list[str]:
    """Return what may keep words out of a vocabulary, and what to do, for ``scarce``."""
    rows, first = subject.table.rows, params.restrict_vocab
    cut = f"{suite}.restrict_vocab takes the first {first:,} of {rows:,} rows (0: all)"
    return [
        cut if 0 < first < rows else "",
        "" if params.case_fold else f"{suite}.case_fold=true matches words of another case",
        OTHERWISE,
    ]


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

"""Questions a : b :: c : ? in a vocabulary, and the rows that answer them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from ..registry.vectors import split, unit_rows
from .solvers import nearest, pair_direction, search, three_cos_mul, unit
from .vocabulary import Vocabulary

if TYPE_CHECKING:
    import pyarrow as pa

    from .subject import Subject

Rows = NDArray[np.int64]
#: So many questions are answered at a time, and then progress is told.
_QUESTIONS: Final = 4096
_SCORES: Final = {"3cosmul": three_cos_mul, "pair-direction": pair_direction}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The distinct questions (a, b, c) in vocabulary, and which of them each covered question is.

    Attributes:
        triples: int64 ``(t, 3)``, the rows of a, b and c.
        excluded: int64 ``(t, e)``, every row that folds to a, b or c; -1 pads.
        right: for each question its right rows; None where it is not covered.
        which: int64 ``(questions,)``, row of ``triples``; -1 where not covered.
    """

    triples: Rows
    excluded: Rows
    right: list[frozenset[int] | None]
    which: Rows


def ask(questions: pa.Table, vocabulary: Vocabulary) -> Asked:
    """Find the rows of the words of each question."""
    numbers: dict[tuple[int, ...], int] = {}
    excluded: list[list[int]] = []
    right: list[frozenset[int] | None] = []
    which = np.full(questions.num_rows, -1, dtype=np.int64)
    columns = [questions.column(name).to_pylist() for name in ("a", "b", "c", "answers")]
    for i, (a, b, c, answers) in enumerate(zip(*columns, strict=True)):
        given = [vocabulary.all(word) for word in (a, b, c)]
        rows = [row for answer in answers for row in vocabulary.all(answer)]
        if not rows or not all(given):
            right.append(None)
            continue
        triple = tuple(variants[0] for variants in given)
        which[i] = numbers.setdefault(triple, len(numbers))
        if which[i] == len(excluded):
            excluded.append(sorted({row for variants in given for row in variants}))
        right.append(frozenset(rows))
    return Asked(
        triples=np.array(list(numbers), dtype=np.int64).reshape(-1, 3),
        excluded=padded(excluded),
        right=right,
        which=which,
    )


def padded(lists: list[list[int]]) -> Rows:
    """Return lists of rows as one int64 array ``(n, longest)``, filled with -1."""
    width = max(map(len, lists), default=0)
    filled = [rows + [-1] * (width - len(rows)) for rows in lists]
    return np.array(filled, dtype=np.int64).reshape(len(lists), width)


def answer(method: str, subject: Subject, vocabulary: Vocabulary, asked: Asked, k: int) -> Rows:
    """Return int64 ``(questions, k)``, the rows that answer best, best first; -1 where there is none.

    Args:
        method: ``3cosadd``, ``3cosmul`` or ``pair-direction``.
        subject: the table.
        vocabulary: the rows that answer.
        asked: the questions; at least one of them covered.
        k: how many rows.
    """
    searched, base = vocabulary.searched, vocabulary.base(subject)
    words, places = np.unique(asked.triples, return_inverse=True)
    places = places.reshape(-1, 3)
    excluded = np.searchsorted(searched, asked.excluded)
    excluded[asked.excluded < 0] = -1
    if method == "3cosadd":
        a, b, c = unit_rows(subject.table.take(words))[places].swapaxes(0, 1)
        queries, rows = b - a + c, np.empty((len(places), k), dtype=np.int64)
        for part in split(len(queries), _QUESTIONS):
            subject.tell(f"analogies by {method}", part.start, len(queries))
            rows[part] = nearest(queries[part], base, k, excluded[part])
    else:
        scores = _SCORES[method](unit(subject.table.take(words)), places)
        rows = search(scores, base, k, excluded).rows
    found = np.where(rows >= 0, searched[rows], -1)
    return np.where(asked.which[:, None] >= 0, found[asked.which], -1)

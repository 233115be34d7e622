"""Norms by place in the table: quantiles over logarithmic bins of the row number.

Most tables of words are ordered by frequency, so a row's place is its frequency rank; of other tables it is
no more than a place. Source: Schakel & Wilson 2015, section 4 (length against frequency).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from .subject import Subject

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
#: Of the norms in a bin.
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
#: Rows of the first bin; every other one ends at twice the row of the one before.
_FIRST = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class NormsByRank:
    """Quantiles of the norms of rows, by their place in the table.

    Attributes:
        ref: how the table is called.
        starts, ends: int64 ``(b,)``, first and last row number of each bin, counted from 1.
        counts: int64 ``(b,)``, rows of each bin that take part; at least one.
        quantiles: float64 ``(b, 5)``, those of ``QUANTILES``.
    """

    ref: str
    starts: Rows
    ends: Rows
    counts: Rows
    quantiles: Floats


def norms_by_rank(subject: Subject) -> NormsByRank:
    """Return the quantiles of the norms of the valid rows of a table, one pass over it (``Subject.norms``).

    Rows of zeros, special rows and those that are not finite take no part, but keep their place.
    """
    ends = edges(subject.table.rows)
    starts = np.concatenate([[0], ends[:-1]])[: len(ends)]
    cuts = np.searchsorted(subject.valid, np.concatenate([starts, ends[-1:]]))
    kept = np.flatnonzero(np.diff(cuts))
    norms = subject.norms[subject.valid]
    found = [np.quantile(norms[cuts[b] : cuts[b + 1]], QUANTILES) for b in kept]
    return NormsByRank(
        ref=subject.ref,
        starts=starts[kept] + 1,
        ends=ends[kept],
        counts=np.diff(cuts)[kept],
        quantiles=np.array(found, dtype=np.float64).reshape(-1, len(QUANTILES)),
    )


def edges(rows: int) -> Rows:
    """Return the last row number of each bin: 16, 32, 64 …, the last one 1.4 to 2.8 times the one before."""
    if not rows:
        return np.zeros(0, dtype=np.int64)
    doublings = max(round(float(np.log2(rows / _FIRST))), 0)
    found = _FIRST << np.arange(doublings + 1, dtype=np.int64)
    found[-1] = rows
    return found

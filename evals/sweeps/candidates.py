"""What a sweep finds: a few rows for every query, and a proof about all the others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...registry.vectors import Vectors


@dataclass(frozen=True, slots=True)
class Candidates:
    """The rows that may be among the nearest of some queries.

    Attributes:
        rows: int64 ``(q, K)``, base rows in any order, each once at most; -1 where there are fewer.
        ceiling: float64 ``(q,)``, the highest true score that any row not in ``rows`` can have; -inf where
            none was left out.
    """

    rows: NDArray[np.int64]
    ceiling: NDArray[np.float64]


def bar(scores: Vectors, columns: NDArray[np.int64]) -> None:
    """Set the scores of excluded columns ``(q, e)`` to -infinity; columns out of range are elsewhere."""
    row, e = np.nonzero((columns >= 0) & (columns < scores.shape[1]))
    scores[row, columns[row, e]] = -np.inf

"""What each item adds to the change of a statistic that is no mean: it is left out, alone or with others."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..registry.errors import UsageError
from .statistics import Floats, Ties

Cells = NDArray[np.int64]
#: Counts that a statistic is given at a time.
_BLOCK = 1 << 21
#: Counts that it is given in all: up to 5,792 items are left out one by one, some seconds of work.
_COUNTS = 1 << 25
#: Cells of very many items: those of 32 classes of ties, two of them an item.
_LEAST_CELLS = 528


def left_out_together(ties: Ties) -> tuple[Cells, Ties]:
    """Return the cell of each item, whose items are left out together, and the ties of the cells.

    Up to 5,792 items are cells of their own. Of more, those of the same ties make a cell; where that leaves
    too many, ties are dealt to classes first. Items that depend on each other still share a tie, so the error
    of what the cells add is right, on fewer degrees of freedom.

    Args:
        ties: of the items, as in ``tied_error``, int64 ``(n, t)``.

    Returns:
        Int64 ``(n,)``, numbers below c that all occur, and int64 ``(c, t)``.

    Source: Shao & Tu 1995, section 2.3 (groups); own (classes of ties).
    """
    n, columns = ties.shape
    most = max(_LEAST_CELLS, _COUNTS // n)
    if n <= most:
        return np.arange(n), ties
    cells, own = _alike(ties)
    if len(own) <= most:
        return cells, own
    numbers, which = np.unique(ties, return_inverse=True)
    classes = most if columns == 1 else int((math.sqrt(8 * most + 1) - 1) / 2)
    # The same deal every time, and none that follows the order of the items.
    dealt = np.random.default_rng(0).permutation(len(numbers)) % classes
    return _alike(dealt[which].reshape(ties.shape))


def _alike(ties: Ties) -> tuple[Cells, Ties]:
    low, high = ties.min(axis=1), ties.max(axis=1)
    keys, cells = np.unique(low * (int(high.max()) + 1) + high, return_inverse=True)
    own = np.empty((len(keys), ties.shape[1]), dtype=np.int64)
    own[cells] = ties
    return cells, own


def jackknife_changes(
    old: Floats, new: Floats, statistic: Callable[[Floats, Floats], Floats], cells: Cells | None = None
) -> Floats | None:
    """Return what each common item adds to the change of a statistic: n theta - (n - 1) theta without it.

    Their mean is the change, less its bias; they stand for independent items where these are. A cell of m
    items adds s = n theta - (n - m) theta without them, which stands for one item of c in the place of m
    of n: mean + (s - m mean) c / n.

    Args:
        old: ``(n, k)`` finite values of the items before, n >= 1.
        new: ``(n, k)`` values of the same items now.
        statistic: ``(values (n, k), counts (b, n)) -> (b,)``, as in ``suite.Statistic``.
        cells: int64 ``(n,)``, numbers below c that all occur: items that are left out together; by default
            each one alone.

    Returns:
        float64 ``(c,)``; None where the statistic is undefined, of all items or without one of the cells.

    Raises:
        UsageError: no items, values that are not finite, or shapes that differ.

    Source: Tukey 1958; Efron & Tibshirani 1993, section 11.5; Busing, Meijer & van der Leeden 1999 (cells).
    """
    if old.shape != new.shape or old.ndim != 2 or not len(old):
        raise UsageError(f"{old.shape} old and {new.shape} new values cannot be paired")
    if not (np.isfinite(old).all() and np.isfinite(new).all()):
        raise UsageError("statistics need finite numbers")
    n, rows = len(old), max(1, _BLOCK // len(old))
    cells = np.arange(n) if cells is None else cells
    sizes = np.bincount(cells)
    if len(sizes) < 2:
        return None
    change = statistic(new, np.ones((1, n))) - statistic(old, np.ones((1, n)))
    without = np.empty(len(sizes))
    for start in range(0, len(sizes), rows):
        block = np.arange(start, min(start + rows, len(sizes)))
        counts = (cells != block[:, None]).astype(np.float64)
        without[block] = statistic(new, counts) - statistic(old, counts)
    sums = n * change - (n - sizes) * without
    if not bool(np.isfinite(sums).all()):
        return None
    mean = float(sums.sum()) / n
    added: Floats = mean + (sums - sizes * mean) * (len(sizes) / n)
    return added

"""Correlations of many resamples of the same items at once, without drawing or sorting any of them.

A resample is how often each item occurs in it; every sum is a product with those counts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Mean square about the mean below which values of size 1 are equal, but for the rounding of their mean.
_EQUAL = 1e-24


def counted_pearson(values: Floats, counts: Floats) -> Floats:
    """Return Pearson's correlation of resamples, float64 ``(b,)``; NaN where a side is constant.

    Args:
        values: ``(n, 2)``, finite.
        counts: ``(b, n)``, how often each item occurs in each resample.
    """
    # Scaled first: squares of values such as 1e200 or 1e-200 leave the range of float64.
    size = np.abs(values).max(axis=0)
    x, y = (values / np.where(size > 0, size, 1.0)).T
    return _correlations(np.broadcast_to(x, counts.shape), np.broadcast_to(y, counts.shape), counts)


def counted_spearman(values: Floats, counts: Floats) -> Floats:
    """Return Spearman's correlation of resamples, ranked anew each; ties share their average rank.

    Args:
        values: ``(n, 2)``, finite.
        counts: ``(b, n)``, how often each item occurs in each resample.

    Returns:
        float64 ``(b,)``; NaN where a side is constant.
    """
    x, y = (_counted_ranks(column, counts) for column in values.T)
    return _correlations(x, y, counts)


def _counted_ranks(column: Floats, counts: Floats) -> Floats:
    """Return the average rank of each value ``(n,)`` in each resample, float64 ``(b, n)``."""
    distinct, which = np.unique(column, return_inverse=True)
    sizes = np.zeros((len(counts), len(distinct)))
    order = np.argsort(which, kind="stable")
    starts = np.flatnonzero(np.diff(which[order], prepend=-1))
    np.add.reduceat(counts[:, order], starts, axis=1, out=sizes)
    # The ranks of a group of s after t others are t + 1 … t + s.
    ranks: Floats = (np.cumsum(sizes, axis=1) - (sizes - 1) / 2)[:, which]
    return ranks


def _correlations(x: Floats, y: Floats, counts: Floats) -> Floats:
    """Return the correlation of the rows of x and y ``(b, n)``, each item counted so many times."""
    total = counts.sum(axis=1, keepdims=True)
    x = x - (counts * x).sum(axis=1, keepdims=True) / total
    y = y - (counts * y).sum(axis=1, keepdims=True) / total
    xx, yy, xy = ((counts * a * b).sum(axis=1) for a, b in ((x, x), (y, y), (x, y)))
    spread = np.sqrt(xx * yy)
    r = np.full(len(counts), np.nan)
    there = np.minimum(xx, yy) > _EQUAL * total[:, 0]
    np.divide(xy, spread, out=r, where=there)
    return np.clip(r, -1.0, 1.0, out=r)

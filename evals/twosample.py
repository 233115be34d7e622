"""Do two sets of rows come from one distribution? Maximum mean discrepancy, with a permutation test.

Source: Gretton, Borgwardt, Rasch, Schölkopf & Smola 2012: lemma 6 (the unbiased estimate of MMD²), section 8
(the median heuristic); Phipson & Smyth 2010 for the added one of p.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .statistics import normal_quantile

Floats = NDArray[np.float64]

#: Permuted numbers held at a time.
_BLOCK = 1 << 21
#: Squared distances below this share of the squared length of rows are their rounding.
_NO_DISTANCE = 1e-14


@dataclass(frozen=True, slots=True, kw_only=True)
class Discrepancy:
    """The unbiased estimate of MMD², its interval, and the p-value that there is none."""

    value: float
    low: float
    high: float
    p: float


def discrepancy(x: Floats, y: Floats, rng: np.random.Generator, *, permutations: int) -> Discrepancy | str:
    """Compare two independent samples under the kernel exp(-|a - b|² / median of |a - b|²).

    The median is taken over all pairs of the pooled rows, so rows that are turned, moved or scaled together
    give the same value. For p the pooled rows are dealt into two sets of m at random:
    p = (1 + b) / (1 + B), with b the deals whose estimate is at least the observed one. The interval is
    normal, with the variance of the estimate's projection on single rows; near 0 it is wide rather than
    narrow.

    Args:
        x: ``(m, d)``, finite, m >= 2.
        y: ``(m, d)``, finite.
        rng: where the deals come from.
        permutations: B, at least 1.

    Returns:
        The comparison, or the reason why there is none.
    """
    m = len(x)
    kernel = _kernel(np.concatenate([x, y]))
    if kernel is None:
        return "most of the sampled rows are equal: their distances have no scale"
    within, between = 1 / (m * (m - 1)), 1 / (m * m)
    total, cross = float(kernel.sum()), float(kernel[:m, m:].sum())
    p = _permuted_p(kernel, m, cross, rng, permutations)
    # What each row adds: its mean similarity with its own set, less that with the other one.
    own = np.concatenate([kernel[:m, :m].sum(axis=1), kernel[m:, m:].sum(axis=1)])
    terms = own / (m - 1) - (kernel.sum(axis=1) - own) / m
    variance = 4 * (terms[:m].var(ddof=1) + terms[m:].var(ddof=1)) / m
    half = normal_quantile() * math.sqrt(variance)
    value = (total - 2 * cross) * within - 2 * cross * between
    return Discrepancy(value=value, low=max(value - half, -2.0), high=min(value + half, 2.0), p=p)


def _kernel(rows: Floats) -> Floats | None:
    """Return the kernel matrix with a diagonal of zeros; None where the median distance is 0."""
    # In units of the largest number and about their mean, squares neither overflow nor cancel.
    rows = rows / (float(np.abs(rows).max()) or 1.0)
    length = float(np.square(rows).sum(axis=1).mean())
    rows -= rows.mean(axis=0)
    own = np.einsum("ij,ij->i", rows, rows)
    squares = np.maximum(own[:, None] + own - 2 * (rows @ rows.T), 0.0)
    median = float(np.median(squares[np.triu_indices(len(rows), 1)]))
    if median <= _NO_DISTANCE * length:
        return None
    kernel: Floats = np.exp(-squares / median)
    np.fill_diagonal(kernel, 0.0)
    return kernel


def _permuted_p(kernel: Floats, m: int, cross: float, rng: np.random.Generator, permutations: int) -> float:
    """Return p: the sum of all pairs is fixed, so the estimate falls as the sum between the sets grows."""
    sums, slack = kernel.sum(axis=1), 1e-12 * float(kernel.sum())
    dealt = np.zeros((max(1, _BLOCK // (2 * m)), 2 * m))
    dealt[:, :m] = 1.0
    beyond = 0
    for start in range(0, permutations, len(dealt)):
        chosen = rng.permuted(dealt[: permutations - start], axis=1)
        inside = np.einsum("bn,bn->b", chosen @ kernel, chosen)
        beyond += int((chosen @ sums - inside <= cross + slack).sum())
    return (1 + beyond) / (1 + permutations)

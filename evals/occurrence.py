"""How often rows would occur in the exact neighbour lists, from the approximate lists of all rows.

Of m of the n rows both lists are known. A slot of a list where they differ takes one occurrence from a row
that the index found and gives one to a row that it missed: the swaps. Every figure of the exact k-occurrences
N differs from that of the approximate ones by what all swaps together do, which a sample of m lists of swaps
tells about in two ways:

- Moments (``corrected_skewness``): with Δ the difference that all swaps make to a row, N^r is a polynomial in
  Δ. Sums over rows of the powers of Δ are estimated without bias from the swaps of the sample, as the
  factorial moments of a sample of lists are.
- Sums Σ φ(N) (``reach``): a net change of N by t moves φ(N) by no more than t times its steepest chord there.
  Chords are added up over the swaps of each list, and the mean over lists is estimated like any other. That
  bounds what the swaps can do, and says nothing of what they do: no estimate moves, its interval grows.

Sources: own; Johnson, Kemp & Kotz 2005, section 6.3 (factorial moments of a sample without replacement);
Shao & Tu 1995, section 2.3 (jackknife over groups).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .double_sampling import SUPPOSED, upper_mean
from .statistics import Interval, normal_quantile

if TYPE_CHECKING:
    from .graphs import ApproximateGraph

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

#: Groups of lists that the jackknife leaves out in turn.
_GROUPS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Swaps:
    """Where the exact lists of some rows differ from the approximate ones.

    Attributes:
        counts: int64 ``(n,)``, the k-occurrence of each row in the approximate lists of all n rows.
        lists: int64 ``(s,)``, in which of the m lists each swap is.
        rows: int64 ``(s,)``, the row, 0 … n-1.
        signs: int64 ``(s,)``, 1 where it is only in the exact list, -1 where it is only in the other.
        m: lists of the sample.
    """

    counts: Rows
    lists: Rows
    rows: Rows
    signs: Rows
    m: int

    @classmethod
    def of(cls, graph: ApproximateGraph, valid: Rows) -> Swaps:
        """Compare the lists of a graph of all rows, whose row numbers are ``valid``."""
        true, found = (np.searchsorted(valid, g.rows) for g in (graph.exact, graph.checked))
        same = true[:, :, None] == found[:, None, :]
        missed, wrong = np.nonzero(~same.any(axis=2)), np.nonzero(~same.any(axis=1))
        return cls(
            counts=np.bincount(np.searchsorted(valid, graph.found.rows).ravel(), minlength=len(valid)),
            lists=np.concatenate([missed[0], wrong[0]]),
            rows=np.concatenate([true[missed], found[wrong]]),
            signs=np.repeat([1, -1], [len(missed[0]), len(wrong[0])]),
            m=len(true),
        )

    def without(self, group: int, groups: int) -> Swaps:
        """Return the swaps of all lists but every ``groups``-th, from number ``group`` on."""
        kept = self.lists % groups != group
        left = self.m - len(range(group, self.m, groups))
        return Swaps(
            counts=self.counts, lists=self.lists[kept], rows=self.rows[kept], signs=self.signs[kept], m=left
        )

    def per_list(self, up: Floats, down: Floats) -> Floats:
        """Return the sums ``(m,)`` of ``up`` or ``down`` ``(s,)`` over the swaps of each list."""
        worth = np.where(self.signs > 0, up, down)
        return np.bincount(self.lists, worth, minlength=self.m).astype(np.float64, copy=False)


def corrected_skewness(swaps: Swaps) -> tuple[float, Interval] | None:
    """Return the skewness of the exact k-occurrences of all rows, and its interval.

    Returns:
        None where their variance, as estimated from the sample or all but a group of it, is not positive.
    """
    groups = min(_GROUPS, swaps.m)
    whole = _skewness(swaps)
    parts = [_skewness(swaps.without(i, groups)) for i in range(groups)]
    if whole is None or None in parts:
        return None
    without = np.array(parts, dtype=np.float64)
    unknown, scatter = 1 - swaps.m / len(swaps.counts), without - without.mean()
    value = whole + unknown * (groups - 1) * (whole - float(without.mean()))
    variance = unknown * ((groups - 1) / groups * float(scatter @ scatter) + _unseen(swaps))
    half = normal_quantile() * math.sqrt(variance)
    return value, (value - half, value + half)


def _skewness(swaps: Swaps) -> float | None:
    """Return the estimate from unbiased moments; None where the variance is not positive."""
    n, m = len(swaps.counts), swaps.m
    rows, place = np.unique(swaps.rows, return_inverse=True)
    net = np.bincount(place, swaps.signs, minlength=len(rows))
    touched = np.bincount(place, minlength=len(rows)).astype(np.float64)
    one = n / m
    two = one * (n - 1) / (m - 1)
    three = two * (n - 2) / (m - 2)
    # Swaps of one row are +1 or -1: their odd powers add up to ``net``, their even ones to ``touched``.
    pairs = net**2 - touched
    triples = net**3 - 3 * net * touched + 2 * net
    first = one * net
    second = two * pairs + one * touched
    third = three * triples + 3 * two * (net * touched - net) + one * net
    before, counts = swaps.counts[rows].astype(np.float64), swaps.counts.astype(np.float64)
    square = float(np.square(counts).sum() + (2 * before * first + second).sum())
    cube = float((counts**3).sum() + (3 * before**2 * first + 3 * before * second + third).sum())
    mean = float(counts.mean())
    variance = square / n - mean**2
    if variance <= 0:
        return None
    return float((cube / n - 3 * mean * square / n + 2 * mean**3) / variance**1.5)


def _unseen(swaps: Swaps) -> float:
    """Return the variance that supposed lists (``double_sampling``) with one wrong slot each would add."""
    counts = swaps.counts.astype(np.float64)
    apart = counts - counts.mean()
    spread = float(apart.std())
    if spread == 0:
        return 0.0
    skew = float((apart**3).mean()) / spread**3
    # What one occurrence more of a row adds to the skewness, times n.
    weight = 3 * np.square(apart) / spread**3 - 3 * skew * apart / spread**2
    usual = float(counts @ np.square(weight)) / float(counts.sum())
    return SUPPOSED * 2 * usual / (swaps.m * (swaps.m - 1))


def reach(swaps: Swaps, worth: Callable[[Floats], Floats], *, bend: int) -> tuple[float, float]:
    """Return how far below and above the mean of φ(N) over all rows may be that of the approximate counts.

    Args:
        swaps: of a sample of lists.
        worth: φ, of float64 counts of any shape.
        bend: φ is a straight line from there on.

    Returns:
        Both >= 0, at the confidence in force.
    """
    counts, place = np.unique(swaps.counts[swaps.rows], return_inverse=True)
    chords = np.array([_chords(int(count), worth, bend) for count in counts]).reshape(-1, 4).T[:, place]
    rises, falls = swaps.per_list(chords[0], chords[2]), swaps.per_list(chords[1], chords[3])
    one = float(np.abs(np.diff(worth(np.arange(bend + 2.0)))).mean())
    return upper_mean(falls, one), upper_mean(rises, one)


def _chords(count: int, worth: Callable[[Floats], Floats], bend: int) -> tuple[float, float, float, float]:
    """Return the steepest rise and fall >= 0 of φ per occurrence more, and per occurrence less."""
    here = worth(np.array(float(count)))
    more, less = np.arange(count + 1.0, max(count, bend) + 3), np.arange(float(count))
    up, down = (worth(more) - here) / (more - count), (worth(less) - here) / (count - less)
    final = np.diff(worth(more[-2:]))
    up = np.concatenate([up, final])
    return (
        float(up.max(initial=0.0)),
        float((-up).max(initial=0.0)),
        float(down.max(initial=0.0)),
        float((-down).max(initial=0.0)),
    )


def moved(swaps: Swaps) -> float:
    """Return the most that all k-occurrences together change by, over n: both ends of each swapped slot."""
    one = np.ones(len(swaps.rows))
    return upper_mean(swaps.per_list(one, one), 2.0)

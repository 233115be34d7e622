"""Figures of items whose values are exact, or approximate with the exact ones of some of them.

An approximate neighbour list gives an item an approximate value a. Of m of the q items, drawn without regard
to their values, the exact value y is known too, and the mean of their differences d = y - a is what the mean
of all a lacks. So the estimate of the mean of y is mean(a) + mean(d): the difference estimator of double
sampling. Its variance is S_y²/q + (1/m - 1/q) S_d² = S_a²/q + S_d²/m + 2 S_ad/q: that of the mean of a, whose
interval is known, and what the correction adds to it. Sources: Cochran 1977, chapter 7 (differences), chapter
12 (double sampling) and chapter 6 (a ratio, where only some items have a value).

Most differences are 0 where most neighbours are found, and m of them may show none at all. That is no proof
that there is none: four further differences are supposed when the variance is taken, two up and two down, as
large as the items' own scatter, or 1 where a value is yes or no. Without any difference that widens a 95%
interval by about 4/m of that, a little more than the rule of three. Source: own, after Agresti & Coull 1998
(two successes and two failures).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from .statistics import Interval, bootstrap_mean, normal_quantile, wilson

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

#: Differences that are supposed beside those seen.
SUPPOSED = 4
#: Fewer exact values than this say nothing.
_LEAST = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A number from n items, with its interval where one is known."""

    value: float
    n: int
    low: float | None = None
    high: float | None = None

    def over(self, divisor: float) -> Figure:
        """Return the number in units of ``divisor``, above 0."""
        low, high = (None if end is None else end / divisor for end in (self.low, self.high))
        return Figure(value=self.value / divisor, n=self.n, low=low, high=high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """What exact values of some items make of the mean of approximate ones.

    Attributes:
        value: the mean that all exact values would have.
        before: the mean of the approximate ones.
        error: standard error that the correction adds.
    """

    value: float
    before: float
    error: float

    def interval(self, before: Interval) -> Interval:
        """Return the interval about ``value``, from that about ``before``."""
        more = normal_quantile() * self.error
        below, above = max(self.before - before[0], 0.0), max(before[1] - self.before, 0.0)
        return self.value - math.hypot(below, more), self.value + math.hypot(above, more)


@dataclass(frozen=True, slots=True, kw_only=True)
class Values:
    """The values of items; NaN where an item has none.

    Attributes:
        found: float64 ``(q,)``, exact, or by approximate lists.
        exact: float64 ``(m,)``, those of some items by exact lists; None where ``found`` is exact.
        places: int64 ``(m,)``, which items these are, ascending.
    """

    found: Floats
    exact: Floats | None = None
    places: Rows | None = None

    def some(self, which: NDArray[np.bool_]) -> Values:
        """Return the values of some of the items, bool ``(q,)``."""
        if self.exact is None or self.places is None:
            return Values(found=self.found[which])
        here = which[self.places]
        places = np.cumsum(which)[self.places[here]] - 1
        return Values(found=self.found[which], exact=self.exact[here], places=places)

    def of(self, function: Callable[[Floats], Floats]) -> Values:
        """Return a function of each value."""
        exact = None if self.exact is None else function(self.exact)
        return Values(found=function(self.found), exact=exact, places=self.places)

    def mean(self, rng: np.random.Generator, low: float = -math.inf, high: float = math.inf) -> Figure | str:
        """Return the mean of the items that have a value, at least one, or why it is not known.

        Args:
            rng: of the bootstrap behind the interval.
            low: the least that a mean can be.
            high: the most.
        """
        scored = self.found[np.isfinite(self.found)]
        return self._figure(scored, bootstrap_mean(scored, rng), low, high, least=0.0)

    def share(self) -> Figure | str:
        """Return the share of items whose value is 1, not 0, or why it is not known."""
        scored = self.found[np.isfinite(self.found)]
        return self._figure(scored, wilson(float(scored.sum()), len(scored)), 0.0, 1.0, least=1.0)

    def _figure(
        self, scored: Floats, interval: Interval, low: float, high: float, least: float
    ) -> Figure | str:
        value = float(scored.mean())
        if self.exact is not None:
            corrected = self.corrected(least)
            if isinstance(corrected, str):
                return corrected
            value, interval = corrected.value, corrected.interval(interval)
        return Figure(
            value=min(max(value, low), high),
            n=len(scored),
            low=max(interval[0], low),
            high=min(interval[1], high),
        )

    def corrected(self, least: float = 0.0) -> Correction | str:
        """Return the corrected mean of all items, or why there is none; of approximate values only.

        Args:
            least: of the size of a supposed difference; otherwise it is that of the items' scatter.
        """
        exact, places = cast(Floats, self.exact), cast(Rows, self.places)
        scored = np.isfinite(self.found)
        known = int((scored[places] | np.isfinite(exact)).sum())
        if known < _LEAST:
            return _too_few(known)
        q, m = len(self.found), len(exact)
        everywhere, here, there = _parts(self.found), _parts(self.found[places]), _parts(exact)
        total, weight = (everywhere[i].sum() / q + (there[i] - here[i]).sum() / m for i in (0, 1))
        if weight <= 0:
            return _too_few(0)
        value = float(total / weight)
        a, y = ((parts[0] - value * parts[1]) / weight for parts in (here, there))
        # The scatter is that of items which have a value: the others are all 0.
        size = max(float(np.square(y).sum()) / known, (least / float(weight)) ** 2)
        error = _error(y - a, a, size, q)
        return Correction(value=value, before=float(self.found[scored].mean()), error=error)

    def quantile(self, p: float) -> Figure | str:
        """Return a quantile of the values, of which none is NaN, or why it is not known.

        The share of items up to a value is a mean like any other, and corrected like one; the quantile is
        where it reaches p, and the interval lies between where it reaches p less and p plus its error. Of
        exact values it is interpolated, and has no interval.

        Source: Rao, Kovar & Mantel 1990 (difference estimator of a distribution); Woodruff 1952 (interval).
        """
        q = len(self.found)
        if self.exact is None or self.places is None:
            return Figure(value=float(np.quantile(self.found, p)), n=q)
        m, here = len(self.exact), self.found[self.places]
        if m < _LEAST:
            return _too_few(m)
        values, place = np.unique(np.concatenate([self.found, self.exact, here]), return_inverse=True)
        steps = np.bincount(place, np.repeat([1 / q, 1 / m, -1 / m], [q, m, m]), minlength=len(values))
        reached = np.maximum.accumulate(np.cumsum(steps))

        def at(share: float) -> float:
            place = int(np.searchsorted(reached, min(max(share, 0.0), 1.0) - 1e-9))
            return float(values[min(place, len(values) - 1)])

        value = at(p)
        a, y = ((x <= value).astype(np.float64) for x in (here, self.exact))
        error = math.hypot(math.sqrt(p * (1 - p) / q), _error(y - a, a, 1.0, q))
        half = normal_quantile() * error
        return Figure(value=value, n=q, low=at(p - half), high=at(p + half))


def upper_mean(values: Floats, one: float) -> float:
    """Return how large the mean of what few items add up to may be: the upper end of its interval.

    Args:
        values: float64 ``(m,)`` >= 0 of a sample of items; mostly 0.
        one: the least that a supposed item adds.
    """
    return float(values.mean()) + normal_quantile() * _error(
        values, np.zeros_like(values), one * one, len(values)
    )


def _parts(values: Floats) -> tuple[Floats, Floats]:
    """Return values with 0 in place of NaN, and what each weighs: 1 or 0."""
    scored = np.isfinite(values)
    return np.where(scored, values, 0.0), scored.astype(np.float64)


def _error(differences: Floats, a: Floats, size: float, q: int) -> float:
    """Return sqrt(S_d²/m + 2 S_ad/q), with some supposed differences beside those seen.

    Args:
        differences: ``(m,)``.
        a: ``(m,)``, the approximate values that they correct.
        size: least squared size of a supposed difference; it is no less than that of those seen.
        q: items.
    """
    m = len(differences)
    seen = differences[differences != 0]
    size = max(size, float(np.square(seen).mean()) if len(seen) else 0.0)
    apart = differences - differences.mean()
    scatter = (float(apart @ apart) + SUPPOSED * size) / (m - 1)
    together = float(apart @ (a - a.mean())) / (m - 1)
    return math.sqrt(scatter / m + 2 * max(together, 0.0) / q)


def _too_few(known: int) -> str:
    return f"only {known} of the rows with exact neighbours have one: {_LEAST} tell what the others lack"

"""Intervals, paired tests and corrections: pure functions of numbers, a generator, and a confidence.

The confidence of every interval is .95 unless it is given, or ``at_confidence`` surrounds the call: like
NumPy's ``errstate`` it holds for the calls inside, so a suite need not carry it to each of its numbers.

Every random choice comes from the generator that is passed in, and is drawn block by block, so
memory stays at some tens of megabytes whatever the number of items. Above some tens of thousands of
different values the bulk of them is drawn from its normal limit, and only the extremes one by one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..registry.errors import UsageError

Floats = NDArray[np.float64]
Interval = tuple[float, float]
#: Which items depend on each other; see ``tied_error``.
Ties = NDArray[np.int64]

CONFIDENCE = 0.95
_confidence = ContextVar("confidence", default=CONFIDENCE)

#: A family of very many tests at a very small alpha stops at the second.
_LEAST_PERMUTATIONS, _MOST_PERMUTATIONS = 9_999, 99_999
#: Random numbers drawn at a time.
_BLOCK = 1 << 21
#: Up to this many distinct values, how often each one is drawn is drawn instead of every item.
_FEW = 256
#: So many extremes are resampled or flipped one by one; the others are drawn from their limit.
_EXTREMES = 8192
#: So many fair coins are as good as infinitely many: 2 to their negative is the least float64 above 0.
_MOST_COINS = 1074
#: A bootstrap of more different values than this draws only the extremes one by one.
_MANY = 1 << 16


@contextmanager
def at_confidence(confidence: float) -> Iterator[None]:
    """Make intervals at this confidence inside the block, where a call does not say another.

    Raises:
        UsageError: it does not lie between 0 and 1, exclusive.
    """
    token = _confidence.set(_share(confidence))
    try:
        yield
    finally:
        _confidence.reset(token)


def normal_quantile(confidence: float | None = None) -> float:
    """Return z of a two-sided interval: 1.96 at a confidence of .95, which is the one in force if None."""
    from scipy.special import ndtri

    return float(ndtri(0.5 + _share(confidence) / 2))


class Sums:
    """The mean of values that come in blocks, its error, and the least of them."""

    __slots__ = ("_apart", "_mean", "_n", "least")

    def __init__(self) -> None:
        self._n, self._mean, self._apart, self.least = 0, 0.0, 0.0, math.inf

    def add(self, values: Floats) -> None:
        """Add a block ``(b,)``, b >= 1, float64.

        Source: Chan, Golub & LeVeque 1983, equation 2.1.
        """
        mean, n = float(values.mean()), self._n + len(values)
        gap = mean - self._mean
        self._apart += float(np.square(values - mean).sum()) + gap * gap * self._n * len(values) / n
        self._mean += gap * len(values) / n
        self._n, self.least = n, min(self.least, float(values.min()))

    @property
    def mean(self) -> tuple[float, float]:
        """The mean of all values, and its standard error (0 of one value)."""
        if self._n < 2:
            return self._mean, 0.0
        return self._mean, math.sqrt(self._apart / (self._n - 1) / self._n)


def normal_interval(mean: float, error: float, low: float = -math.inf, high: float = math.inf) -> Interval:
    """Return the normal interval of a mean with a standard error, cut to what it can be."""
    half = normal_quantile() * error
    return max(mean - half, low), min(mean + half, high)


def wilson(successes: float, n: int, confidence: float | None = None) -> Interval:
    """Return the Wilson score interval of a proportion, within ``[0, 1]``.

    Without trials nothing is known, and the interval is ``(0, 1)``.

    Args:
        successes: how many of the trials succeeded, ``0 … n``; a fraction where credit is partial.
        n: trials.
        confidence: between 0 and 1, exclusive; by default the one in force.

    Raises:
        UsageError: an argument outside its range.

    Source: Wilson 1927; Brown, Cai & DasGupta 2001, section 3.1.1.
    """
    if not 0 <= successes <= n:
        raise UsageError(f"{successes} successes of {n} trials is no proportion")
    z = normal_quantile(confidence)
    if n == 0:
        return 0.0, 1.0
    p, z2 = successes / n, z * z
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = z / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return low, high


def fisher_z(r: float, n: int, confidence: float | None = None) -> Interval:
    """Return the interval of a correlation by Fisher's transform, within ``[-1, 1]``.

    The standard error is ``1/sqrt(n - 3)``: exact in the limit for Pearson's r, a little narrow for
    Spearman's. Up to three pairs say nothing, and the interval is ``(-1, 1)``.

    Args:
        r: the correlation, ``-1 … 1``.
        n: pairs.
        confidence: between 0 and 1, exclusive; by default the one in force.

    Raises:
        UsageError: an argument outside its range.

    Source: Fisher 1921.
    """
    if not -1 <= r <= 1:
        raise UsageError(f"{r} is no correlation")
    z = normal_quantile(confidence)
    if n <= 3:
        return -1.0, 1.0
    if abs(r) == 1:
        return r, r
    half = z / math.sqrt(n - 3)
    return math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half)


def bootstrap_mean(
    values: ArrayLike,
    rng: np.random.Generator,
    *,
    confidence: float | None = None,
    resamples: int = 1000,
) -> Interval:
    """Return the percentile bootstrap interval of the mean of independent items.

    A single value says nothing about its own spread: its interval is the point itself.

    Args:
        values: ``(n,)`` finite numbers, n >= 1.
        rng: where the resamples come from.
        confidence: between 0 and 1, exclusive; by default the one in force.
        resamples: how many.

    Raises:
        UsageError: no values, values that are not finite, or an argument outside its range.

    Source: Efron 1979; Efron & Tibshirani 1993, section 13.3.
    """
    x = _finite(values)
    distinct, counts = np.unique(x, return_counts=True)
    if len(distinct) <= _FEW:
        drawn = rng.multinomial(len(x), counts / len(x), size=_positive(resamples))
        return _percentiles(drawn @ distinct / len(x), confidence)
    if len(distinct) > _MANY:
        return _percentiles(_means_of_many(x, rng, resamples), confidence)

    def means(rows: int) -> Floats:
        index = rng.integers(0, len(x), size=(rows, len(x)), dtype=np.int32)
        mean: Floats = x[index].mean(axis=1)
        return mean

    return _percentiles(_blocked(means, len(x), resamples), confidence)


def tied_mean(values: ArrayLike, ties: Ties, confidence: float | None = None) -> Interval:
    """Return the interval of a mean of shares whose items depend on each other where they share a tie.

    It is that of a t test with the error of ``tied_error``, within ``[0, 1]``. Where everything is wrong, or
    everything right, it is Wilson's, of as many trials as there are ties, or items if these are fewer. A
    bootstrap of clusters holds a question to be free of those that share its second pair only, and its
    interval is too narrow.

    Args:
        values: ``(n,)``, 0 to 1, n >= 1.
        ties: of the items, as in ``tied_error``.
        confidence: between 0 and 1, exclusive; by default the one in force.

    Raises:
        UsageError: no values, values that are not finite, or lengths that differ.

    Source: Tabord-Meehan 2019.
    """
    from scipy.stats import t

    x = _finite(values)
    mean = float(x.mean())
    if len(ties) != len(x):
        raise UsageError(f"{len(x)} values and the ties of {len(ties)}")
    if mean in (0, 1):
        trials = _coins(ties)
        return wilson(mean * trials, trials, confidence)
    quantile = float(t.ppf(0.5 + _share(confidence) / 2, tied_degrees(ties)))
    half = quantile * tied_error(x, ties)
    return max(mean - half, 0.0), min(mean + half, 1.0)


def mcnemar_exact(losses: int, wins: int) -> float:
    """Return the one-sided p-value that losses exceed wins by chance, in ``(0, 1]``.

    Losses are items that were right and are wrong now, wins the other way round; under the null
    each of them is a fair coin: ``P(Binomial(losses + wins, 1/2) >= losses)``. Without either it
    is 1.

    Raises:
        UsageError: a negative count.

    Source: McNemar 1947; exact form as in Fay 2010.
    """
    if losses < 0 or wins < 0:
        raise UsageError(f"{losses} losses and {wins} wins cannot be counted")
    from scipy.stats import binom

    return float(binom.sf(losses - 1, losses + wins, 0.5)) if losses else 1.0


def paired_p(
    old: ArrayLike,
    new: ArrayLike,
    rng: np.random.Generator,
    *,
    worse: Literal["lower", "higher"],
    ties: Ties | None = None,
    permutations: int = 9999,
) -> float:
    """Return the one-sided p-value that the new values are worse than the old ones, item by item.

    Where items are tied, it is a t test with the error of ``tied_error``, G/t - 1 degrees of freedom (as
    there), and p no smaller than if a fair coin had fallen for the worse for each tie of the items that
    differ, or for each of these items if they are fewer.
    Where all values are 0 or 1, it is McNemar's exact test. Otherwise the signs of the differences
    are flipped at random, and p is ``(1 + b) / (1 + B)`` with b the flips whose sum is at least the
    observed one (sums equal up to rounding count as at least). Of more than 8,192 different
    differences the largest are flipped one by one and the sum of the others is drawn from its
    normal limit, whose variance is the sum of their squares.

    Args:
        old: ``(n,)`` finite values of the items before, n >= 1.
        new: ``(n,)`` values of the same items now.
        rng: where the flips come from.
        worse: whether ``lower`` or ``higher`` values are worse.
        ties: of the items, as in ``tied_error``.
        permutations: B, at least 1.

    Returns:
        p in ``(0, 1]``; 1 when no item differs.

    Raises:
        UsageError: no values, values that are not finite, or lengths that differ.

    Source: Fisher 1935, section 21; Phipson & Smyth 2010 for the added one; Tabord-Meehan 2019 (ties).
    """
    before, after = _finite(old), _finite(new)
    if len(before) != len(after):
        raise UsageError(f"{len(before)} old and {len(after)} new values cannot be paired")
    loss = before - after if worse == "lower" else after - before
    if ties is not None:
        return tied_p(loss, ties)
    if is_binary(before) and is_binary(after):
        return mcnemar_exact(int((loss > 0).sum()), int((loss < 0).sum()))
    size = np.abs(loss[loss != 0])
    observed, slack = loss.sum(), 1e-12 * size.sum()
    flipped = _flipped_sums(size, rng, _positive(permutations))
    beyond = int((flipped >= observed - slack).sum())
    return (1 + beyond) / (1 + permutations)


def tied_error(values: ArrayLike, ties: Ties) -> float:
    """Return the standard error of the mean of items that depend on each other where they share a tie.

    V = Σ over pairs of items that share a tie of (x - mean)(y - mean). With G ties, t of them an item, no
    more than m = G/t items are free of each other, and the error is sqrt(V m/(m - 1)) / n. It is no smaller
    than if all items were independent (V of few ties may even be negative).

    Args:
        values: ``(n,)`` finite numbers, n >= 1.
        ties: int64 ``(n, 1)`` or ``(n, 2)``, numbers >= 0 that both columns share.

    Source: Aronow, Samii & Assenova 2015, equation 3; Cameron & Miller 2014.
    """
    x = _finite(values)
    free, independent = _free(ties), mean_error(x)
    total = _product_of_tied(x - x.mean(), ties[:, 0], ties[:, -1])
    if free <= 1 or total <= 0:
        return independent
    return max(math.sqrt(total * free / (free - 1)) / len(x), independent)


def _product_of_tied(apart: Floats, first: NDArray[np.int64], second: NDArray[np.int64]) -> float:
    """Return the sum of products over all ordered pairs of items that share a number, each pair once."""
    size = int(max(first.max(), second.max())) + 1
    other = second != first
    sums = np.bincount(first, weights=apart, minlength=size)
    sums += np.bincount(second[other], weights=apart[other], minlength=size)
    # Items that share both numbers were counted under each of them.
    both = np.minimum(first, second) * size + np.maximum(first, second)
    _, dyad = np.unique(both[other], return_inverse=True)
    twice = np.bincount(dyad, weights=apart[other])
    return float(sums @ sums - twice @ twice)


def tied_degrees(ties: Ties) -> float:
    """Return the degrees of freedom of a t test of tied items, at least 1; see ``tied_error``."""
    return max(_free(ties) - 1, 1.0)


def _free(ties: Ties) -> float:
    return float(len(np.unique(ties)) / ties.shape[1])


def _coins(ties: Ties) -> int:
    """Return how many fair coins decide of tied items at most: one a tie, and no more than one an item."""
    return min(len(ties), len(np.unique(ties)))


def tied_p(loss: Floats, ties: Ties) -> float:
    """Return the one-sided p-value that the mean of tied losses is above 0 by chance; see ``paired_p``."""
    from scipy.stats import t

    mean = float(loss.mean())
    if mean <= 0:
        return 1.0
    # Of few items that differ the t test makes too much: three losses among a thousand items are three coins.
    error, least = tied_error(loss, ties), smallest_tied_p(ties[loss != 0])
    return max(float(t.sf(mean / error, tied_degrees(ties))), least) if error else least


def smallest_tied_p(ties: Ties) -> float:
    """Return a bound that ``paired_p`` of tied items cannot fall below: a fair coin for each tie or item.

    It is above 0 however many there are.
    """
    return math.ldexp(1.0, -min(_coins(ties), _MOST_COINS))


def mean_error(values: ArrayLike) -> float:
    """Return the standard error of the mean of independent values, 0 for one of them."""
    x = _finite(values)
    return float(x.std(ddof=1)) / math.sqrt(len(x)) if len(x) > 1 else 0.0


def smallest_p(old: ArrayLike, new: ArrayLike, *, permutations: int = 9999) -> float:
    """Return a bound that ``paired_p`` of so many items cannot fall below, whatever they do.

    A test whose alpha lies under it can never reject. It is ``2^-n``, and at least one flip in
    ``permutations + 1`` where values are not all 0 or 1.
    """
    before, after = _finite(old), _finite(new)
    exact = is_binary(before) and is_binary(after)
    return max(0.5 ** len(before), 0.0 if exact else 1 / (1 + permutations))


def detectable(error: float, alpha: float, *, power: float = 0.8, degrees: float | None = None) -> float:
    """Return the smallest change that a one-sided test at ``alpha`` finds with this power.

    Args:
        error: standard error of the change, >= 0.
        alpha: between 0 and 1, exclusive; divided by the number of tests, where several share it.
        power: likewise.
        degrees: of freedom of a t test; None where the test is normal in the limit.

    Raises:
        UsageError: a share outside its range.

    Source: Cohen 1988, section 12.2 (the normal form); Bloom 1995 (t).
    """
    from scipy.stats import norm, t

    law = norm() if degrees is None else t(degrees)
    return error * float(law.isf(_share(alpha)) + law.ppf(_share(power)))


def permutations_for(tests: int, alpha: float) -> int:
    """Return how many permutations a family of tests needs: ten times what Holm's smallest alpha asks for."""
    return math.ceil(min(_MOST_PERMUTATIONS, max(_LEAST_PERMUTATIONS, 10 * tests / alpha)))


def holm(pvalues: ArrayLike) -> Floats:
    """Return Holm's adjusted p-values, in the order given; all tests below alpha may be rejected.

    Args:
        pvalues: ``(m,)`` in ``[0, 1]``; m may be 0.

    Raises:
        UsageError: a p-value outside ``[0, 1]``.

    Source: Holm 1979.
    """
    p = np.asarray(pvalues, dtype=np.float64)
    if not bool(np.all((p >= 0) & (p <= 1))):
        raise UsageError("a p-value lies between 0 and 1")
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def _means_of_many(x: Floats, rng: np.random.Generator, draws: int) -> Floats:
    """Return the means of ``draws`` resamples of many values.

    How often each extreme is drawn is multinomial, as in the plain bootstrap; the sum of the m
    draws that fall among the others is normal with m times their mean and variance.
    """
    by_distance = np.argsort(-np.abs(x - x.mean()), kind="stable")
    extremes, rest = x[by_distance[:_EXTREMES]], x[by_distance[_EXTREMES:]]
    shares = np.full(_EXTREMES + 1, 1 / len(x))
    shares[-1] = len(rest) / len(x)

    def means(rows: int) -> Floats:
        drawn = rng.multinomial(len(x), shares, size=rows)
        bulk = drawn[:, -1]
        noise = rest.std() * np.sqrt(bulk) * rng.standard_normal(rows)
        mean: Floats = (drawn[:, :-1] @ extremes + bulk * rest.mean() + noise) / len(x)
        return mean

    return _blocked(means, _EXTREMES, draws)


def _flipped_sums(size: Floats, rng: np.random.Generator, draws: int) -> Floats:
    """Return ``draws`` sums of ``size`` under random signs."""
    distinct, counts = np.unique(size, return_counts=True)
    if len(distinct) <= _FEW:
        positive = rng.binomial(counts, 0.5, size=(draws, len(counts)))
        few: Floats = (2.0 * positive - counts) @ distinct
        return few
    size = np.sort(size)[::-1]
    large, rest = size[:_EXTREMES], size[_EXTREMES:]

    def sums(rows: int) -> Floats:
        random = rng.integers(0, 256, size=(rows, -(-len(large) // 8)), dtype=np.uint8)
        positive = np.unpackbits(random, axis=1, count=len(large))
        flipped: Floats = 2.0 * (positive @ large) - large.sum()
        return flipped

    spread = math.sqrt(float(rest @ rest))
    return _blocked(sums, len(large), draws) + spread * rng.standard_normal(draws)


def _blocked(draw: Callable[[int], Floats], width: int, draws: int) -> Floats:
    """Return ``draw`` called for blocks of resamples of ``width`` numbers each, put together."""
    rows = max(1, _BLOCK // max(1, width))
    starts = range(0, _positive(draws), rows)
    return np.concatenate([draw(min(rows, draws - start)) for start in starts])


def _percentiles(statistics: Floats, confidence: float | None) -> Interval:
    tail = (1 - _share(confidence)) / 2
    low, high = np.quantile(statistics, [tail, 1 - tail])
    return float(low), float(high)


def _share(confidence: float | None) -> float:
    if confidence is None:
        return _confidence.get()
    if not 0 < confidence < 1:
        raise UsageError(f"a confidence lies between 0 and 1, not at {confidence}")
    return confidence


def _positive(count: int) -> int:
    if count < 1:
        raise UsageError(f"at least one resample is needed, not {count}")
    return count


def _finite(values: ArrayLike) -> Floats:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or not x.size or not bool(np.isfinite(x).all()):
        raise UsageError("statistics need a list of at least one finite number")
    return x


def is_binary(x: Floats) -> bool:
    """Whether every value is 0 or 1."""
    return bool(np.all((x == 0) | (x == 1)))

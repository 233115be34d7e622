"""Sums and Gram matrices of rows: of a few in float64, of many at the rate of the float32 product.

A product of float32 runs at twice the rate of one of float64. Its error is kept below what the rounding of
float32 rows does to them anyway: rows are taken in tiles of some thousand, each tile's product is added up in
float64, and what all rows have in common (the mean of a few of them) is taken off first and put back in
float64, so that a common component does not drown the rest.

With tiles of t rows an entry of the Gram matrix of n centred rows y is off by no more than
t · 2⁻²⁴ · sum |y_i y_j|. The roundings are independent, and a BLAS adds a few hundred products at most into
one number, which leaves about 2⁻²⁴ · sum |y_i y_j| / sqrt(n / 1000): a tenth of a rounding of float32 at
100,000 rows. That is small beside the large directions, and all there is of a direction in which the rows
hardly vary: such rows are for float64 (``Sums.varies_everywhere``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ..registry.errors import UsageError

Array = NDArray[np.float64]
Tile = NDArray[np.float32]


#: A mean whose square is less than this share of the rows' mean square drowns nothing.
_SLIGHT = 0.1
#: A variance of less than this share of their mean is blurred in float32 by more than a thousandth.
_LEAST = 2.0**-14


def centre_of(mean: Array, mean_square: float) -> Tile:
    """Return what to take off rows of this mean ``(d,)``; zeros where the rows are far longer than it.

    It is the mean, rounded to half of float32's digits: entries below the last digit of the rows would be
    rounded away the same way in row after row.
    """
    if mean @ mean < _SLIGHT * mean_square:
        return np.zeros(len(mean), dtype=np.float32)
    largest = float(np.abs(mean).max(initial=0.0))
    step = 2.0 ** (math.frexp(largest)[1] - 12)
    taken: Tile = (np.round(mean / step) * step).astype(np.float32)
    return taken


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """How many rows, their sum ``(d,)`` and X'X ``(d, d)``, float64; they merge."""

    n: int
    sum: Array
    gram: Array

    @classmethod
    def zero(cls, dim: int) -> Self:
        """Return those of no rows."""
        return cls(n=0, sum=np.zeros(dim), gram=np.zeros((dim, dim)))

    @classmethod
    def of(cls, rows: Array) -> Self:
        """Return those of a few rows, float64 ``(m, d)``."""
        return cls(n=len(rows), sum=rows.sum(axis=0), gram=rows.T @ rows)

    def merge(self, other: Sums) -> Self:
        """Return those of both sets of rows."""
        if not self.n or not other.n:
            some = self if self.n else other
            return type(self)(n=some.n, sum=some.sum, gram=some.gram)
        return type(self)(n=self.n + other.n, sum=self.sum + other.sum, gram=self.gram + other.gram)

    def scaled(self, factor: float) -> Self:
        """Return those of the same rows times ``factor``."""
        return type(self)(n=self.n, sum=self.sum * factor, gram=self.gram * factor**2)

    def varies_everywhere(self) -> bool:
        """Whether no direction has a variance so small beside the others that float32 products blur it."""
        if self.n < 2:
            return False
        covariance = self.covariance()
        d = len(covariance)
        covariance[np.diag_indices(d)] -= _LEAST * float(np.trace(covariance)) / d
        try:
            np.linalg.cholesky(covariance)
        except np.linalg.LinAlgError:
            return False
        return True

    def covariance(self) -> Array:
        """Return the sample covariance (divided by the number of rows - 1), float64 ``(d, d)``.

        Raises:
            UsageError: there are fewer than two rows.
        """
        if self.n < 2:
            raise UsageError(f"a covariance needs at least two rows that are not zero, not {self.n}")
        covariance: Array = (self.gram - np.outer(self.sum, self.sum) / self.n) / (self.n - 1)
        return covariance


class Tiles:
    """Adds up tiles of float32 rows, from which it takes ``centre``, float32 ``(d,)``, off."""

    def __init__(self, centre: Tile) -> None:
        self.centre = centre
        self._centred = bool(centre.any())
        self._n = 0
        self._sum = np.zeros(len(centre))
        self._gram, self._product = np.zeros((0, 0)), np.zeros((0, 0), dtype=np.float32)

    def add(self, tile: Tile, spare: Tile) -> None:
        """Add a tile of rows ``(m, d)``; ``spare``, of that shape or the tile itself, may be written to."""
        centred = np.subtract(tile, self.centre, out=spare) if self._centred else tile
        if not self._n:  # of several that wait for tiles, only those that get one take memory
            d = len(self.centre)
            self._gram, self._product = np.zeros((d, d)), np.empty((d, d), dtype=np.float32)
        self._n += len(centred)
        self._sum += centred.sum(axis=0, dtype=np.float64)
        np.matmul(centred.T, centred, out=self._product)
        self._gram += self._product

    def sums(self) -> Sums:
        """Return what was added up, the centre put back."""
        centre = self.centre.astype(np.float64)
        if not self._n:
            return Sums.zero(len(centre))
        crossed = np.outer(centre, self._sum + self._n / 2 * centre)
        return Sums(n=self._n, sum=self._sum + self._n * centre, gram=self._gram + (crossed + crossed.T))

"""Rows in the float32 form that the sweep multiplies, and how far its products can be off."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...registry.errors import InputError
from ...registry.vectors import Vectors, split
from ..threads import in_threads

Floats = NDArray[np.float32]

_PREPARE_ROWS = 16384
NOT_FINITE, NO_NEIGHBOURS = "a row is not finite", "NaN and infinity have no neighbours"
#: Unit roundoff of float32, and its smallest normal number.
_U, _TINY = 2.0**-24, 2.0**-126


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Rows in the float32 form whose inner products order neighbours.

    Attributes:
        rows: float32 ``(n, D)``. Cosine: unit rows. Dot: the rows times a power of two. L2: the centred
            rows times a power of two, then ``-|x|²/2`` and 1, so that the product of one row with the
            ``mirrored`` other is ``-|x - y|²/2``.
        norms: float64 ``(n,)``, norms of the rows (without the two added columns).
        unit: what a product is multiplied with to be a score.
    """

    rows: Floats
    norms: NDArray[np.float64]
    metric: str
    unit: float

    def mirrored(self, part: slice) -> Floats:
        """Return some rows as left factors: for L2 the two added columns change places."""
        if self.metric != "l2":
            return self.rows[part]
        left = self.rows[part].copy()
        left[:, -2:] = left[:, [-1, -2]]
        return left

    def ceiling(self, floor: Floats, largest: float) -> NDArray[np.float64]:
        """Return the highest true score that a product of at most ``floor`` can stand for.

        Rounding of an inner product of D terms, in whatever order: gamma_D |x||y| (Higham 2002, Accuracy
        and Stability of Numerical Algorithms, section 3.1); four more units for the rounding of the
        factors, and an absolute term for underflow.

        Args:
            floor: float32 ``(n,)``, products of each of these rows.
            largest: the largest norm on the other side.
        """
        terms = self.rows.shape[1] + 4
        size = self.norms * largest
        if self.metric == "l2":
            size = np.square(self.norms + largest) / 2
        bound = size * (terms * _U / (1 - terms * _U)) + 4 * terms * _TINY
        ceiling: NDArray[np.float64] = (floor.astype(np.float64) + bound) * self.unit
        return ceiling


def prepare(x: Vectors, y: Vectors, metric: str) -> tuple[Prepared, Prepared]:
    """Return queries ``x`` and base ``y`` prepared alike; one object twice where ``x is y``.

    Raises:
        InputError: a row is not finite.
    """
    sides = (x,) if x is y else (x, y)
    if metric == "cosine":
        made = [_directions(side) for side in sides]
        return made[0], made[-1]
    centre = _mean(y) if metric == "l2" else np.zeros(y.shape[1])
    norms = [_norms(side, centre) for side in sides]
    # A power of two changes no digit, and keeps huge and tiny rows inside float32.
    largest = max(float(norm.max(initial=0.0)) for norm in norms)
    scale = float(2.0 ** -np.ceil(np.log2(largest))) if largest > 0 else 1.0
    made = [_scaled(side, norm, centre, scale, metric) for side, norm in zip(sides, norms, strict=True)]
    return made[0], made[-1]


def _directions(x: Vectors) -> Prepared:
    out, norms = np.empty(x.shape, dtype=np.float32), np.empty(len(x))

    def fill(part: slice) -> None:
        block = x[part].astype(np.float64)
        lengths = checked_norms(block)
        norms[part] = lengths > 0
        block /= np.where(lengths > 0, lengths, 1.0)[:, None]
        out[part] = block

    in_threads(fill, list(split(len(x), _PREPARE_ROWS)))
    return Prepared(rows=out, norms=norms, metric="cosine", unit=1.0)


def _scaled(
    x: Vectors,
    norms: NDArray[np.float64],
    centre: NDArray[np.float64],
    scale: float,
    metric: str,
) -> Prepared:
    d, spare = x.shape[1], 2 * (metric == "l2")
    out = np.empty((len(x), d + spare), dtype=np.float32)

    def fill(part: slice) -> None:
        out[part, :d] = (x[part].astype(np.float64) - centre) * scale

    in_threads(fill, list(split(len(x), _PREPARE_ROWS)))
    norms = norms * scale
    if spare:
        out[:, d], out[:, d + 1] = np.square(norms) / -2, 1.0
    return Prepared(rows=out, norms=norms, metric=metric, unit=(1 + bool(spare)) * scale**-2.0)


def _mean(x: Vectors) -> NDArray[np.float64]:
    total = np.zeros(x.shape[1])
    for part in split(len(x), _PREPARE_ROWS):
        total += x[part].sum(axis=0, dtype=np.float64)
    if not np.isfinite(total).all():
        raise InputError(NOT_FINITE, hint=NO_NEIGHBOURS)
    return total / len(x)


def _norms(x: Vectors, centre: NDArray[np.float64]) -> NDArray[np.float64]:
    norms = np.empty(len(x))

    def fill(part: slice) -> None:
        norms[part] = checked_norms(x[part].astype(np.float64) - centre)

    in_threads(fill, list(split(len(x), _PREPARE_ROWS)))
    return norms


def checked_norms(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the norms of the rows of ``x`` ``(n, d)``.

    Raises:
        InputError: one of them is not finite.
    """
    norms: NDArray[np.float64] = np.sqrt(np.einsum("ij,ij->i", x, x))
    if not np.isfinite(norms).all():
        raise InputError(NOT_FINITE, hint=NO_NEIGHBOURS)
    return norms

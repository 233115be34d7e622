"""How even the directions of a table are by the partition function, and what each remedy would do to it.

A remedy is a linear map after centring. The covariance after it, and so IsoScore, follows exactly from the
moments. The mean cosine does not: it is that of unit rows *after* the remedy, and lengths change row by row.
It is taken from a sample of rows that the remedy is applied to, and where the sample is not the whole table
it has an interval.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..registry.errors import InputError
from ..registry.vectors import Vectors, row_norms, split, unit_rows
from . import spectrum, transforms
from .moments import Moments
from .statistics import normal_quantile
from .threads import in_threads

if TYPE_CHECKING:
    from .subject import Subject

Floats = NDArray[np.float64]

#: What is tried, by the names of ``transforms``, with their default parameters.
REMEDIES = ("center", "whiten", "all-but-the-top")
#: Shares of variance, and of a row's length, below which what a remedy leaves is rounding.
_NO_VARIANCE, _NO_LENGTH = 1e-7, 1e-6
_BLOCK_ROWS = 4096


def partition_isotropy(subject: Subject, moments: Moments) -> float:
    """Return min Z(c) / max Z(c), Z(c) = Σ exp(c'u) over the unit rows u; 1 when directions are even.

    c goes over the eigenvectors of U'U, and as their signs mean nothing, over both of each. Where
    eigenvalues are equal any eigenvectors serve, and the value depends on which. Cosines lie between
    -1 and 1, so that no sum can overflow.

    Args:
        subject: the table, with at least one row that is not zero.
        moments: its moments.

    Source: Mu & Viswanath 2018, section 2.2.
    """
    basis = np.linalg.eigh(moments.unit_gram)[1].astype(np.float32)
    sums, kept = np.zeros((2, moments.dim)), np.zeros(subject.table.rows, dtype=bool)
    kept[subject.valid] = True
    for block in subject.table.blocks():
        sums += _partition(block.vectors, kept[block.start : block.start + len(block.vectors)], basis)
    return float(sums.min() / sums.max())


def _partition(rows: Vectors, kept: NDArray[np.bool_], basis: NDArray[np.float32]) -> Floats:
    """Return Z(c) and Z(-c) of the rows that are kept for each column c of ``basis``, ``(2, d)``."""
    parts = list(split(len(rows), _BLOCK_ROWS))
    sums = np.zeros((len(parts), 2, basis.shape[1]))

    def add(i: int) -> None:
        powers = np.exp(unit_rows(rows[parts[i]][kept[parts[i]]]) @ basis)
        sums[i] = powers.sum(axis=0, dtype=np.float64), (1 / powers).sum(axis=0, dtype=np.float64)

    in_threads(add, range(len(parts)))
    total: Floats = sums.sum(axis=0)
    return total


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanCosine:
    """Mean cosine of the pairs of n rows; low and high where they are a sample."""

    value: float
    n: int
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """Mean cosine and IsoScore after a remedy, or the reason why there is none."""

    mean_cosine: MeanCosine | str
    isoscore: float | str


def effect(name: str, moments: Moments, sample: Vectors) -> Effect:
    """Return what the remedy ``name`` does to a table.

    Args:
        name: one of ``REMEDIES``.
        moments: of the table, of rows that are not all equal.
        sample: rows of it that are not zero, ``(m, d)``.
    """
    try:
        remedy = transforms.fit(name, {}, moments, sample, dtype="float32", unit=False)
        after = remedy.apply(sample)
    except InputError as exc:
        return Effect(mean_cosine=exc.message, isoscore=exc.message)
    before = moments.covariance()
    covariance = before if remedy.matrix is None else remedy.matrix.T @ before @ remedy.matrix
    if name != "whiten" and np.trace(covariance) <= _NO_VARIANCE * np.trace(before):
        nothing = "nothing but rounding is left of the rows"
        return Effect(mean_cosine=nothing, isoscore=nothing)
    return Effect(
        mean_cosine=_mean_cosine(_clear(name, sample, after, moments), moments.n_unit),
        isoscore=_isoscore(covariance, moments.n_unit),
    )


def _clear(name: str, before: Vectors, after: Vectors, moments: Moments) -> Vectors:
    """Return the rows whose direction is more than rounding. Whitening keeps no axis of rounding."""
    if name == "whiten":
        return after
    common = float(np.linalg.norm(moments.sum / moments.n_unit))
    return after[row_norms(after) > _NO_LENGTH * np.maximum(row_norms(before), common)]


def _isoscore(covariance: Floats, n: int) -> float | str:
    if len(covariance) == 1:
        return "one dimension is always evenly used"
    ratio = spectrum.participation_ratio(spectrum.eigenvalues(covariance, n - 1))
    return min(spectrum.isoscore(ratio, len(covariance)), 1.0)


def _mean_cosine(rows: Vectors, population: int) -> MeanCosine | str:
    """Return the mean cosine of pairs of ``rows``, a sample of ``population`` drawn without replacement."""
    if len(rows) < 2:
        return f"{len(rows)} of the rows have a direction left"
    m, units = len(rows), unit_rows(rows).astype(np.float64)
    # The mean cosine of each row with the others.
    own = (units @ units.sum(axis=0) - np.einsum("ij,ij->i", units, units)) / (m - 1)
    value = min(max(float(own.mean()), -1.0), 1.0)
    if m >= population:
        return MeanCosine(value=value, n=m, low=None, high=None)
    # A mean over pairs: twice the error of the mean over rows (Hoeffding 1948), less what is not sampled.
    error = 2 * float(own.std(ddof=1)) * math.sqrt((1 - m / population) / m)
    half = normal_quantile() * error
    return MeanCosine(value=value, n=m, low=max(value - half, -1.0), high=min(value + half, 1.0))

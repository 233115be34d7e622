"""Statistics of a table that merge: one pass, any split of the rows, the same result up to rounding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ..registry.errors import InputError, UsageError
from ..registry.vectors import Vectors, split

#: Rows of one product.
_BLOCK_ROWS = 4096

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """First and second moments of rows and of unit rows, and of the norms.

    Rows of zeros are counted in ``n`` and take no part in anything else: they are padding or unused ids,
    and have no direction. Everything is accumulated in float64; a merge is associative and commutative
    up to rounding (norms: Chan, Golub & LeVeque 1983, eq. 2.1).

    Attributes:
        n: rows.
        dim: d.
        sum: sum of the rows, float64 ``(d,)``.
        gram: X'X, float64 ``(d, d)``.
        n_unit: rows that are not zero.
        unit_sum, unit_gram: the same of the unit rows u = x / |x|.
        norm_mean: mean norm; 0 where there are no rows.
        norm_m2: sum of squared deviations of the norms from their mean.
        norm_min, norm_max: infinity and -infinity where there are no rows.
    """

    n: int
    dim: int
    sum: Array
    gram: Array
    n_unit: int
    unit_sum: Array
    unit_gram: Array
    norm_mean: float
    norm_m2: float
    norm_min: float
    norm_max: float

    @classmethod
    def zero(cls, dim: int) -> Self:
        """Return the moments of no rows: the neutral element of ``merge``."""
        return cls(
            n=0,
            dim=dim,
            sum=np.zeros(dim),
            gram=np.zeros((dim, dim)),
            n_unit=0,
            unit_sum=np.zeros(dim),
            unit_gram=np.zeros((dim, dim)),
            norm_mean=0.0,
            norm_m2=0.0,
            norm_min=np.inf,
            norm_max=-np.inf,
        )

    @classmethod
    def of(cls, block: Vectors) -> Self:
        """Return the moments of the rows of ``block`` ``(m, d)``, float16, float32 or float64.

        Raises:
            InputError: a row is not finite, or ``block`` is not two-dimensional.
        """
        x = np.asarray(block)
        if x.ndim != 2:
            raise InputError(f"rows must be (n, d), not {x.shape}")
        total = cls.zero(x.shape[1])
        for rows in split(len(x), _BLOCK_ROWS):
            total = total.merge(cls._of_few(x[rows]))
        return total

    @classmethod
    def _of_few(cls, x: Vectors) -> Self:
        # In float32 the noise of the products would pass for small eigenvalues of rows that lie in a plane.
        rows = x.astype(np.float64, copy=False)
        norms = _finite_norms(rows)
        keep = norms > 0
        if not keep.all():
            rows, norms = rows[keep], norms[keep]
        if not len(norms):
            return replace(cls.zero(x.shape[1]), n=len(keep))
        total, gram = _products(rows)
        unit_total, unit_gram = _products(rows / norms[:, None])
        mean = float(norms.mean())
        return cls(
            n=len(keep),
            dim=x.shape[1],
            sum=total,
            gram=gram,
            n_unit=len(norms),
            unit_sum=unit_total,
            unit_gram=unit_gram,
            norm_mean=mean,
            norm_m2=float(np.square(norms - mean).sum()),
            norm_min=float(norms.min()),
            norm_max=float(norms.max()),
        )

    def merge(self, other: Moments) -> Self:
        """Return the moments of both sets of rows together.

        Raises:
            UsageError: the widths differ.
        """
        if self.dim != other.dim:
            raise UsageError(f"moments of width {self.dim} and {other.dim} cannot be merged")
        n_unit = self.n_unit + other.n_unit
        share, gap = other.n_unit / max(n_unit, 1), other.norm_mean - self.norm_mean
        return type(self)(
            n=self.n + other.n,
            dim=self.dim,
            sum=self.sum + other.sum,
            gram=self.gram + other.gram,
            n_unit=n_unit,
            unit_sum=self.unit_sum + other.unit_sum,
            unit_gram=self.unit_gram + other.unit_gram,
            norm_mean=self.norm_mean + gap * share,
            norm_m2=self.norm_m2 + other.norm_m2 + gap * gap * self.n_unit * share,
            norm_min=min(self.norm_min, other.norm_min),
            norm_max=max(self.norm_max, other.norm_max),
        )

    @property
    def zero_rows(self) -> int:
        """How many rows are all zeros."""
        return self.n - self.n_unit

    @property
    def norm_std(self) -> float:
        """Standard deviation of the norms (divided by their number); 0 where there are no rows."""
        return float(np.sqrt(self.norm_m2 / max(self.n_unit, 1)))

    @property
    def mean_cosine(self) -> float | None:
        """Mean cosine of all pairs of distinct rows, exact in one pass; None below two unit rows.

        Source: own; (|sum u|^2 - n) / (n (n - 1)), the expectation of Ethayarajh 2019, section 3.
        """
        n = self.n_unit
        if n < 2:
            return None
        mean = float((self.unit_sum @ self.unit_sum - n) / (n * (n - 1)))
        return min(1.0, max(-1.0, mean))  # rounding may step over

    def covariance(self) -> Array:
        """Return the sample covariance of the rows that are not zero (divided by their number - 1).

        Returns:
            float64 ``(d, d)``.

        Raises:
            UsageError: there are fewer than two such rows.
        """
        return _covariance(self.n_unit, self.sum, self.gram)

    def unit_covariance(self) -> Array:
        """Return the sample covariance of the unit rows (divided by their number - 1).

        Returns:
            float64 ``(d, d)``.

        Raises:
            UsageError: there are fewer than two of them.
        """
        return _covariance(self.n_unit, self.unit_sum, self.unit_gram)

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return plain arrays by name; ``from_arrays`` gives the moments back."""
        return {f.name: np.asarray(getattr(self, f.name)) for f in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Read what ``to_arrays`` wrote."""
        values: dict[str, Any] = {f.name: arrays[f.name] for f in fields(cls)}
        for name, value in values.items():
            if np.ndim(value) == 0:
                values[name] = np.asarray(value).item()
        return cls(**values)


def _finite_norms(x: Array) -> Array:
    norms: Array = np.sqrt(np.einsum("ij,ij->i", x, x))
    if not np.isfinite(norms).all():
        raise InputError("a row is not finite", hint="rows with NaN or infinity have no moments")
    return norms


def _products(x: Array) -> tuple[Array, Array]:
    """Return the sum and X'X of a few rows."""
    return x.sum(axis=0), x.T @ x


def _covariance(n: int, total: Array, gram: Array) -> Array:
    if n < 2:
        raise UsageError(f"a covariance needs at least two rows that are not zero, not {n}")
    covariance: Array = (gram - np.outer(total, total) / n) / (n - 1)
    return covariance

"""Statistics of a table that merge: one pass, any split of the rows, the same result up to rounding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ..registry.errors import InputError, UsageError
from ..registry.vectors import Vectors, split
from .products import Array, Sums, Tile, Tiles, centre_of
from .threads import in_threads

#: Rows of one product in float64.
_BLOCK_ROWS = 4096
#: From so many rows on products are in float32; the error is that of fewer than a rounding (``products``).
_MANY_ROWS = 16_384
#: Entries of one product in float32, its rows within bounds, and the rows that tell what all have in common.
_TILE, _TILE_ROWS, _PILOT = 1 << 20, (512, 4096), 256
#: The rows are cut into so many runs, each with its own sums, of so many bytes together.
_RUNS, _SUM_BYTES = 8, 1 << 26
#: Squared norms between which float32 loses nothing to its range.
_SAFE = (1e-24, 1e24)
#: Norms are one where they differ by less than this share: unit rows are these rows, but for their rounding.
_EVEN = 2.0**-21


@dataclass(frozen=True, slots=True, kw_only=True)
class _Common:
    """What many rows may have in common, as a few of them tell: about their means, and perhaps one norm."""

    row: Tile
    unit: Tile
    norm: float

    @classmethod
    def of(cls, pilot: Vectors) -> Self:
        x = pilot.astype(np.float64)
        with np.errstate(all="ignore"):
            norms = np.sqrt(np.einsum("ij,ij->i", x, x))
            wild = ~np.isfinite(norms) | (norms == 0)
            if wild.all():
                none: Tile = np.zeros(x.shape[1], dtype=np.float32)
                return cls(row=none, unit=none, norm=1.0)
            x, norms = x[~wild], norms[~wild]
            row = centre_of(x.mean(axis=0), float(np.square(norms).mean()))
            unit = centre_of((x / norms[:, None]).mean(axis=0), 1.0)
            return cls(row=row, unit=unit, norm=float(norms.mean()))

    def is_norm_of(self, norms: Array) -> bool:
        """Whether all these norms are the one of the few."""
        return max(self.norm - float(norms.min()), float(norms.max()) - self.norm) <= _EVEN * self.norm


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """First and second moments of rows and of unit rows, and of the norms.

    Rows of zeros are counted in ``n`` and take no part in anything else: they are padding or unused ids,
    and have no direction. Everything is accumulated in float64; a merge is associative and commutative
    up to rounding (norms: Chan, Golub & LeVeque 1983, eq. 2.1).

    Attributes:
        n: rows.
        rows: number, sum and X'X of the rows that are not zero.
        units: the same of the unit rows u = x / |x|; None where they were not asked for.
        norm_mean: mean norm; 0 where there are no rows.
        norm_m2: sum of squared deviations of the norms from their mean.
        norm_min, norm_max: infinity and -infinity where there are no rows.
    """

    n: int
    rows: Sums
    units: Sums | None
    norm_mean: float
    norm_m2: float
    norm_min: float
    norm_max: float

    @classmethod
    def zero(cls, dim: int, *, unit: bool = True) -> Self:
        """Return the moments of no rows: the neutral element of ``merge``."""
        return cls(
            n=0,
            rows=Sums.zero(dim),
            units=Sums.zero(dim) if unit else None,
            norm_mean=0.0,
            norm_m2=0.0,
            norm_min=np.inf,
            norm_max=-np.inf,
        )

    @classmethod
    def of(cls, block: Vectors, *, unit: bool = True) -> Self:
        """Return the moments of the rows of ``block`` ``(m, d)``, float16, float32 or float64.

        Args:
            block: the rows.
            unit: whether the moments of the unit rows are wanted too: they cost a second product.

        Raises:
            InputError: a row is not finite, or ``block`` is not two-dimensional.
        """
        x = np.asarray(block)
        if x.ndim != 2:
            raise InputError(f"rows must be (n, d), not {x.shape}")
        if len(x) >= _MANY_ROWS and x.dtype != np.float64:
            many = cls._of_many(x, unit)
            if all(sums.varies_everywhere() for sums in (many.rows, many.units) if sums is not None):
                return many
        total = cls.zero(x.shape[1], unit=unit)
        for rows in split(len(x), _BLOCK_ROWS):
            total = total.merge(cls._of_few(x[rows], unit))
        return total

    @classmethod
    def _of_few(cls, x: Vectors, unit: bool) -> Self:
        # Of few rows in float32 the noise of the products would pass for small eigenvalues of a plane's rows.
        rows = x.astype(np.float64, copy=False)
        norms = _finite_norms(rows)
        keep = norms > 0
        if not keep.all():
            rows, norms = rows[keep], norms[keep]
        if not len(norms):
            return replace(cls.zero(x.shape[1], unit=unit), n=len(keep))
        units = Sums.of(rows / norms[:, None]) if unit else None
        return cls._of_norms(norms, len(keep), Sums.of(rows), units)

    @classmethod
    def _of_norms(cls, norms: Array, n: int, rows: Sums, units: Sums | None) -> Self:
        mean = float(norms.mean())
        return cls(
            n=n,
            rows=rows,
            units=units,
            norm_mean=mean,
            norm_m2=float(np.square(norms - mean).sum()),
            norm_min=float(norms.min()),
            norm_max=float(norms.max()),
        )

    @classmethod
    def _of_many(cls, x: Vectors, unit: bool) -> Self:
        """Return the moments of many rows, run by run beside each other, added up in order."""
        d = x.shape[1]
        size = min(max(_TILE // max(d, 1), _TILE_ROWS[0]), _TILE_ROWS[1])
        count = max(1, min(_RUNS, _SUM_BYTES // (16 * max(d, 1) ** 2)))
        runs = list(split(len(x), -(-len(x) // (count * size)) * size))
        common = _Common.of(x[:: len(x) // _PILOT])
        found: list[Self] = [cls.zero(d, unit=unit)] * len(runs)

        def run(i: int) -> None:
            found[i] = cls._run(x[runs[i]], size, common, unit)

        in_threads(run, range(len(runs)))
        total = cls.zero(d, unit=unit)
        for moments in found:
            total = total.merge(moments)
        return total

    @classmethod
    def _run(cls, x: Vectors, size: int, common: _Common, unit: bool) -> Self:
        rest, norms = cls.zero(x.shape[1], unit=unit), [np.zeros(0)]
        even, rows, units = Tiles(common.row), Tiles(common.row), Tiles(common.unit)
        y: Tile = np.empty((size, x.shape[1]), dtype=np.float32)
        for part in split(len(x), size):
            tile = x[part].astype(np.float32, copy=False)
            lengths = _tame_norms(tile, common.row)
            if lengths is None or len(tile) < size:
                rest = rest.merge(cls._of_few(tile, unit))
                continue
            norms.append(lengths)
            if not unit or common.is_norm_of(lengths):
                even.add(tile, y)
                continue
            rows.add(tile, y)
            np.multiply(tile, (1 / lengths).astype(np.float32)[:, None], out=y)
            units.add(y, y)
        found = np.concatenate(norms)
        if not len(found):
            return rest
        alike = even.sums()
        both = units.sums().merge(alike.scaled(1 / common.norm)) if unit else None
        return rest.merge(cls._of_norms(found, len(found), rows.sums().merge(alike), both))

    def merge(self, other: Moments) -> Self:
        """Return the moments of both sets of rows together; of unit rows, if both have them.

        Raises:
            UsageError: the widths differ.
        """
        if self.dim != other.dim:
            raise UsageError(f"moments of width {self.dim} and {other.dim} cannot be merged")
        n_unit = self.n_unit + other.n_unit
        share, gap = other.n_unit / max(n_unit, 1), other.norm_mean - self.norm_mean
        return type(self)(
            n=self.n + other.n,
            rows=self.rows.merge(other.rows),
            units=self.units.merge(other.units) if self.units and other.units else None,
            norm_mean=self.norm_mean + gap * share,
            norm_m2=self.norm_m2 + other.norm_m2 + gap * gap * self.n_unit * share,
            norm_min=min(self.norm_min, other.norm_min),
            norm_max=max(self.norm_max, other.norm_max),
        )

    @property
    def dim(self) -> int:
        """Width of a row: d."""
        return len(self.rows.sum)

    @property
    def n_unit(self) -> int:
        """How many rows are not all zeros."""
        return self.rows.n

    @property
    def sum(self) -> Array:
        """Sum of the rows, float64 ``(d,)``."""
        return self.rows.sum

    @property
    def gram(self) -> Array:
        """X'X, float64 ``(d, d)``."""
        return self.rows.gram

    @property
    def unit_sum(self) -> Array:
        """Sum of the unit rows, float64 ``(d,)``."""
        return self._of_units.sum

    @property
    def unit_gram(self) -> Array:
        """U'U of the unit rows, float64 ``(d, d)``."""
        return self._of_units.gram

    @property
    def _of_units(self) -> Sums:
        if self.units is None:
            raise UsageError(
                "these moments are without those of the unit rows", hint="Moments.of(…, unit=True)"
            )
        return self.units

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
        return self.rows.covariance()

    def unit_covariance(self) -> Array:
        """Return the sample covariance of the unit rows (divided by their number - 1).

        Returns:
            float64 ``(d, d)``.

        Raises:
            UsageError: there are fewer than two of them.
        """
        return self._of_units.covariance()

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return plain arrays by name; ``from_arrays`` gives the moments back."""
        names = [*_PLAIN, "unit_sum", "unit_gram"] if self.units is not None else _PLAIN
        return {name: np.asarray(getattr(self, name)) for name in names}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Read what ``to_arrays`` wrote."""
        n = int(arrays["n_unit"])
        units = None
        if "unit_gram" in arrays:
            units = Sums(n=n, sum=arrays["unit_sum"], gram=arrays["unit_gram"])
        return cls(
            n=int(arrays["n"]),
            rows=Sums(n=n, sum=arrays["sum"], gram=arrays["gram"]),
            units=units,
            norm_mean=float(arrays["norm_mean"]),
            norm_m2=float(arrays["norm_m2"]),
            norm_min=float(arrays["norm_min"]),
            norm_max=float(arrays["norm_max"]),
        )


#: What is stored of every moments; those of unit rows come on top.
_PLAIN = ("n", "dim", "sum", "gram", "n_unit", "norm_mean", "norm_m2", "norm_min", "norm_max")


def _finite_norms(x: Array) -> Array:
    norms: Array = np.sqrt(np.einsum("ij,ij->i", x, x))
    if not np.isfinite(norms).all():
        raise InputError("a row is not finite", hint="rows with NaN or infinity have no moments")
    return norms


def _tame_norms(tile: Tile, centre: Tile) -> Array | None:
    """Return the norms of a tile of float32; None where it needs the range of float64.

    That is: a row is zero, tiny, huge or not finite, or the centre outweighs the rows it is taken off.
    """
    with np.errstate(all="ignore"):
        squares = np.einsum("ij,ij->i", tile, tile)
        tame = squares.size and _SAFE[0] < squares.min() and squares.max() < _SAFE[1]
        if not tame or float(centre @ centre) > 4 * float(squares.mean(dtype=np.float64)):
            return None
    norms: Array = np.sqrt(squares.astype(np.float64))
    return norms

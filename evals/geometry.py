"""Where each shared row went from one version to another: alignment, similarity, lengths.

X and Y are the shared rows ``(n, d)`` (the narrower version padded with zeros), U and V their unit rows, Xc
and Yc their centred rows. Three passes over the rows; memory does not hold a second copy of a table.

- **Displacement**: 1 - cos(u_i, Q v_i), with the orthogonal Q that maximises the sum of those cosines, from
  the singular value decomposition of U'V (Schönemann 1966), as Hamilton, Leskovec & Jurafsky 2016, section
  2.3 align embeddings. Rows are *not* centred here: a cosine is taken about the origin, so a translation is
  movement. Its mean is 1 - |U'V|_*/n.
- **Procrustes residual**: (|Xc|² + |Yc|² - 2 |Xc'Yc|_*) / (|Xc|² + |Yc|²): lengths count, location does not.
- **Eigenspaces and PIP loss** are in ``evals.subspaces``, about the rows as they are.
- **Debiased CKA**: the unbiased HSIC of Song et al. 2012, eq. 5, for linear kernels, normalised (Nguyen,
  Raghu & Kornblith 2021, section 3). With a_i = |xc_i|² the row sums of its kernel without diagonal are -a,
  so no n x n matrix is formed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..registry.vectors import split
from . import subspaces
from .shared import Floats, Shared
from .threads import in_threads

#: Variance, in units of the squared mean norm, below what float32 rows can hold: all rows are equal.
_NO_VARIANCE = 1e-14
#: The same for what similarities of rows have in common, in units of their sum of squares.
_NO_HSIC = 1e-9
#: Rows of one float32 product: few enough that its rounding stays near 1e-7.
_BLOCK_ROWS = 4096
#: Parts of the rows that are summed beside each other, and the memory that their sums may take.
_STRIPS, _STRIP_BYTES = 8, 256 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """How the shared rows moved.

    Attributes:
        displacement: float64 ``(n,)``, cosine distance after alignment.
        raw_cosine: float64 ``(n,)``; None where the widths differ.
        norm_ratio: float64 ``(n,)``, new norm over old norm.
        scalars: metric -> its value, or the reason why there is none.
    """

    displacement: Floats
    raw_cosine: Floats | None
    norm_ratio: Floats
    scalars: dict[str, float | str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sums:
    """First moments: norms ``(n,)``, means and means of unit rows ``(d,)`` of the old and new rows."""

    norms: tuple[Floats, Floats]
    means: tuple[Floats, Floats]
    unit_means: tuple[Floats, Floats]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Products:
    """Second moments; the centred rows are in units of the mean norm of their version.

    Attributes:
        unit: U'V, float64 ``(D, D)`` with D the larger width.
        old, new, cross: Xc'Xc, Yc'Yc and Xc'Yc.
        a, b: float64 ``(n,)``, squared norms of the centred rows.
    """

    unit: Floats
    old: Floats
    new: Floats
    cross: Floats
    a: Floats
    b: Floats


def unmoved(n: int) -> Geometry:
    """Return the geometry of ``n`` rows that hold the same bytes in both versions: exact."""
    one = ("cka", "eigenspace_overlap")
    zero = ("procrustes_residual", "norm_shift", "centroid_shift", "mean_cosine_change",
            "eigenspace_instability", "pip_loss", "pip_loss_relative")  # fmt: skip
    return Geometry(
        displacement=np.zeros(n),
        raw_cosine=np.ones(n),
        norm_ratio=np.ones(n),
        scalars={**dict.fromkeys(one, 1.0), **dict.fromkeys(zero, 0.0)},
    )


def measure(shared: Shared) -> Geometry:
    """Return the geometry of the shared rows."""
    sums, raw = _first_pass(shared)
    products = _second_pass(shared, sums)
    old, new = sums.norms
    return Geometry(
        displacement=_displacement(shared, sums, _rotation(products.unit)),
        raw_cosine=raw if shared.same_width else None,
        norm_ratio=new / old,
        scalars={
            "procrustes_residual": _residual(products, float(new.mean() / old.mean())),
            "cka": _cka(products),
            "norm_shift": float(new.mean() / old.mean() - 1),
            "centroid_shift": _centroid_shift(shared, sums),
            "mean_cosine_change": _mean_cosine_change(sums, shared.n),
            **subspaces.measure(_grams(products, sums)),
        },
    )


def _first_pass(shared: Shared) -> tuple[_Sums, Floats]:
    norms = np.empty(shared.n), np.empty(shared.n)
    totals = [np.zeros(d) for d in shared.widths], [np.zeros(d) for d in shared.widths]
    raw = np.full(shared.n, np.nan)
    for part in split(shared.n, _BLOCK_ROWS):
        shared.new.tell("movement", part.start, shared.n)
        rows, units = shared.take(part), []
        for side, x in enumerate(rows):
            norms[side][part] = np.linalg.norm(x, axis=1)
            units.append(x / norms[side][part, None])
            totals[0][side] += x.sum(axis=0)
            totals[1][side] += units[side].sum(axis=0)
        if shared.same_width:
            raw[part] = 1 - _half_squares(units[0] - units[1])
    means, unit_means = ((old / shared.n, new / shared.n) for old, new in totals)
    return _Sums(norms=norms, means=means, unit_means=unit_means), raw


def _half_squares(x: Floats) -> Floats:
    """Return |x_i|²/2: for the difference of unit rows 1 - cosine, without cancellation near 0."""
    halves: Floats = np.einsum("ij,ij->i", x, x) / 2
    return halves


def _second_pass(shared: Shared, sums: _Sums) -> _Products:
    width = max(shared.widths)
    scales = [float(norms.mean()) for norms in sums.norms]
    a, b = np.empty(shared.n), np.empty(shared.n)

    def add(total: Floats, part: slice) -> None:
        rows = shared.take(part)
        u, v = (
            _widen(x / n[part, None], width).astype(np.float32) for x, n in zip(rows, sums.norms, strict=True)
        )
        apart = [(x - m) / s for x, m, s in zip(rows, sums.means, scales, strict=True)]
        a[part], b[part] = (2 * _half_squares(x) for x in apart)
        total[0] += u.T @ v
        # In float64: the PIP loss is what these leave of each other, and eigenspaces count small axes too.
        x, y = (_widen(z, width) for z in apart)
        for sum_, left, right in zip(total[1:], (x, y, x), (x, y, y), strict=True):
            sum_ += left.T @ right

    unit, old, new, cross = _in_strips(add, (4, width, width), shared.n)
    return _Products(unit=unit, old=old, new=new, cross=cross, a=a, b=b)


def _in_strips(add: Callable[[Floats, slice], None], shape: tuple[int, ...], n: int) -> Floats:
    """Return the sum of what ``add`` adds for all blocks of n rows.

    The rows are cut into strips that do not depend on the number of threads, so neither do the bits.
    """
    most = _STRIP_BYTES // (8 * math.prod(shape))
    strips = list(split(n, -(-n // min(max(most, 1), _STRIPS))))
    totals = np.zeros((len(strips), *shape))

    def work(strip: int) -> None:
        start, stop = strips[strip].start, strips[strip].stop
        for part in split(stop - start, _BLOCK_ROWS):
            add(totals[strip], slice(start + part.start, start + part.stop))

    in_threads(work, range(len(strips)))
    total: Floats = totals.sum(axis=0)
    return total


def _widen(x: Floats, width: int) -> Floats:
    """Return rows padded with zeros to ``width``."""
    if x.shape[1] == width:
        return x
    out = np.zeros((len(x), width))
    out[:, : x.shape[1]] = x
    return out


def _rotation(unit: Floats) -> Floats:
    """Return the orthogonal Q ``(D, D)`` that maximises the sum of u_i'Q v_i. Source: Schönemann 1966."""
    left, _, right = np.linalg.svd(unit)
    rotation: Floats = left @ right
    return rotation


def _displacement(shared: Shared, sums: _Sums, rotation: Floats) -> Floats:
    moved = np.empty(shared.n)

    def move(part: slice) -> None:
        x, y = shared.take(part)
        u = x / sums.norms[0][part, None]
        v = (y / sums.norms[1][part, None]) @ rotation[:, : y.shape[1]].T
        v[:, : x.shape[1]] -= u
        moved[part] = _half_squares(v)

    in_threads(move, list(split(shared.n, _BLOCK_ROWS)))
    return np.minimum(moved, 2.0)


def _grams(products: _Products, sums: _Sums) -> subspaces.Grams:
    """Return the products of the rows as they are: those of the centred rows, moved back."""
    n, width = len(products.a), len(products.unit)
    units = float(sums.norms[0].mean()), float(sums.norms[1].mean())
    old, new = (np.pad(m / unit, (0, width - len(m))) for m, unit in zip(sums.means, units, strict=True))
    return subspaces.Grams(
        n=n,
        old=products.old + n * np.outer(old, old),
        new=products.new + n * np.outer(new, new),
        cross=products.cross + n * np.outer(old, new),
        units=units,
    )


def _residual(products: _Products, ratio: float) -> float | str:
    """Return the Procrustes residual; ``ratio`` is the new mean norm over the old one."""
    old, new = products.a.sum(), products.b.sum() * ratio**2
    if max(products.a.mean(), products.b.mean()) <= _NO_VARIANCE:
        return "the shared rows are all equal, in both versions"
    nuclear = np.linalg.svd(products.cross, compute_uv=False).sum() * ratio
    return float(np.clip(1 - 2 * nuclear / (old + new), 0.0, 1.0))


def _cka(products: _Products) -> float | str:
    n = len(products.a)
    if n < 4:
        return f"debiased CKA needs at least 4 shared rows; there are {n}"
    if min(products.a.mean(), products.b.mean()) <= _NO_VARIANCE:
        return "the shared rows of a version are all equal"
    own = _hsic(products.old, products.a, products.a), _hsic(products.new, products.b, products.b)
    whole = np.square(products.old).sum(), np.square(products.new).sum()
    # Where all similarities are equal, such as of orthogonal rows, rounding alone is left.
    if any(value <= _NO_HSIC * square for value, square in zip(own, whole, strict=True)):
        return f"{n} shared rows are too few to tell the similarities of a version from none"
    between = _hsic(products.cross, products.a, products.b)
    return float(np.clip(between / np.sqrt(own[0]) / np.sqrt(own[1]), -1.0, 1.0))


def _hsic(cross: Floats, a: Floats, b: Floats) -> float:
    """Return n(n-3) times the unbiased HSIC of two linear kernels on centred rows.

    ``cross`` is Xc'Yc; a, b are the squared norms of the rows. Source: Song et al. 2012, eq. 5.
    """
    n, diagonal = len(a), float(a @ b)
    trace = float(np.square(cross).sum()) - diagonal
    return trace + float(a.sum() * b.sum()) / ((n - 1) * (n - 2)) - 2 * diagonal / (n - 2)


def _centroid_shift(shared: Shared, sums: _Sums) -> float | str:
    if not shared.same_width:
        return widths_differ(shared)
    return float(np.linalg.norm(sums.means[1] - sums.means[0]) / sums.norms[0].mean())


def _mean_cosine_change(sums: _Sums, n: int) -> float | str:
    if n < 2:
        return "one shared row has no other to be compared with"
    means = [(n * float(m @ m) - 1) / (n - 1) for m in sums.unit_means]
    old, new = (min(1.0, max(-1.0, mean)) for mean in means)  # rounding may step over
    return new - old


def widths_differ(shared: Shared) -> str:
    """Return the reason why old and new rows cannot be compared as they are."""
    return "the widths differ: {} and {}".format(*shared.widths)

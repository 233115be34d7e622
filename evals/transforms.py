"""Transforms of a space: fitted on a table once, then applied to any rows, and to queries in the same way.

=================== ==================================================== ====================================
name                row x becomes                                        parameters
=================== ==================================================== ====================================
``center``          x - mean
``normalize``       x, of unit length
``whiten``          (x - mean) V Λ^-1/2: uncorrelated, variance 1        ``dim``: only the first so many
``all-but-the-top`` x - mean, without its first components               ``components`` (d/100, at least 1)
``pca``             (x - mean) V, the first components                   ``dim`` (d/2)
``truncate``        its first numbers, of unit length if x was           ``dim`` (d/2)
``quantize``        what a codec leaves of it                            ``codec``: fp16, bf16, int8, int4
``adapter``         its best linear image in another version's space     ``method``: ridge, orthogonal;
                                                                         ``ridge`` (1e-3)
=================== ==================================================== ====================================

V and Λ are the eigenvectors and eigenvalues of the covariance of the rows. Sources: Mu & Viswanath 2018
(all-but-the-top); Su et al. 2021 (whitening of sentence embeddings); Kusupati et al. 2022 (truncation);
Schönemann 1966 (orthogonal Procrustes); Hoerl & Kennard 1970 (ridge). Rows of zeros are padding: they stay
zeros, and nothing is fitted on them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from ..registry.errors import CorruptBlob, InputError, UnknownChoice, UsageError, printable
from ..registry.vectors import Vectors, row_norms, split
from . import codecs
from .moments import Moments

NAMES = ("center", "normalize", "whiten", "all-but-the-top", "pca", "truncate", "quantize", "adapter")
CODECS = ("fp16", "bf16", "int8", "int4")
METHODS = ("ridge", "orthogonal")
#: Transforms that a table's statistics decide; the others are the same whatever the rows.
FITTED = frozenset({"center", "whiten", "all-but-the-top", "pca", "quantize", "adapter"})
_PARAMS: Mapping[str, Mapping[str, type]] = {
    "center": {},
    "normalize": {},
    "whiten": {"dim": int},
    "all-but-the-top": {"components": int},
    "pca": {"dim": int},
    "truncate": {"dim": int},
    "quantize": {"codec": str},
    "adapter": {"method": str, "ridge": float},
}
#: Rows of one step of a sum over pairs.
_BLOCK = 4096
#: Numbers of one step of a product: it holds some arrays of 8 MiB.
_STEP = 1 << 20
#: Integers of so many bits are added in float64 without rounding.
_EXACT_BITS = 53
#: Noise of a covariance, as a share of what adds up to it: float32 products, and sums in float64.
_NOISE32, _NOISE64 = 2.0**-23, 1e-14

Floats = NDArray[np.float32]
Array = NDArray[np.float64]


def check_params(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a transform, read from text where they are text.

    Raises:
        UnknownChoice: no such transform or parameter.
        UsageError: a value that is none.
    """
    if name not in _PARAMS:
        raise UnknownChoice("transform", name, NAMES)
    kinds = _PARAMS[name]
    read: dict[str, Any] = {}
    for key, value in given.items():
        if key not in kinds:
            raise UnknownChoice(f"parameter of {name}", key, kinds)
        try:
            read[key] = kinds[key](value)
            if kinds[key] is int and not isinstance(value, str) and read[key] != value:
                raise ValueError
        except (OverflowError, TypeError, ValueError) as exc:
            raise UsageError(f"-p {key}={printable(str(value), 60)}: expected {kinds[key].__name__}") from exc
    for key, known in (("codec", CODECS), ("method", METHODS)):
        if key in read and read[key] not in known:
            raise UnknownChoice(key, read[key], known)
    if not 0 <= read.get("ridge", 0.0) < np.inf:
        raise UsageError(f"-p ridge={read['ridge']}: from 0 on")
    return read


@dataclass(frozen=True, slots=True, kw_only=True)
class Transform:
    """A fitted transform: ``y = (x - shift) @ matrix + offset``, then a codec, then unit length.

    Attributes:
        name: one of ``NAMES``.
        params: as they were in force.
        dim_in, dim_out: widths of what goes in and what comes out.
        dtype: of what comes out.
        shift: float32 ``(dim_in,)``; None for none.
        matrix: float64 ``(dim_in, dim_out)``; None to keep the first ``dim_out`` numbers.
        offset: float32 ``(dim_out,)``; None for none.
        unit: whether rows are scaled to unit length last; zero rows stay zero.
        codec: a trained FAISS codec, serialised, uint8; None for none.
    """

    name: str
    dim_in: int
    dim_out: int
    params: Mapping[str, Any] = field(default_factory=dict)
    dtype: str = "float32"
    shift: Floats | None = None
    matrix: Array | None = None
    offset: Floats | None = None
    unit: bool = False
    codec: NDArray[np.uint8] | None = None

    def apply(self, rows: Vectors, first: int = 0) -> Vectors:
        """Return transformed rows ``(m, dim_out)``; ``rows`` ``(m, dim_in)`` is left as it is.

        The bits of a row depend on that row alone: not on the rows beside it, nor on the number of threads.

        Args:
            rows: float32 or float16.
            first: the number of the first one, for a message.

        Raises:
            InputError: the rows are of another width, hold NaN or infinity, or outgrow the dtype.
        """
        if rows.ndim != 2 or rows.shape[1] != self.dim_in:
            raise InputError(
                f"rows of shape {rows.shape} do not fit this transform, which takes width {self.dim_in}",
                hint="apply it to vectors of the encoder that its parent version is from",
            )
        if len(bad := np.flatnonzero(~np.isfinite(rows).all(axis=1))):
            raise InputError(f"row {first + bad[0]}: NaN or infinity", hint="mend the source")
        out = np.empty((len(rows), self.dim_out), dtype=self.dtype)
        matrix = None if self.matrix is None else _Slices.of(self.matrix, axis=0)
        with np.errstate(over="ignore", invalid="ignore"):
            for part in split(len(rows), max(1, _STEP // max(self.dim_in, self.dim_out))):
                out[part] = self._block(rows[part], matrix)
        if len(bad := np.flatnonzero(~np.isfinite(out).all(axis=1))):
            norm = float(row_norms(rows[bad[:1]])[0])
            raise InputError(
                f"{self.name} makes numbers that {self.dtype} cannot hold of a row of length {norm:.3g}",
                hint="scale the vectors before they are registered",
            )
        return out

    def _block(self, rows: Vectors, matrix: _Slices | None) -> Vectors:
        x: Floats = np.array(rows, dtype=np.float32, order="C")
        if self.shift is not None:
            x -= self.shift
        y: Vectors = x[:, : self.dim_out] if matrix is None else _Slices.of(x, axis=1).times(matrix)
        if self.offset is not None:
            y = y + self.offset
        if self.codec is not None:
            y = _decoded(self.codec, y)
        if self.unit:
            y = _unit(y)
        y[~rows.any(axis=1)] = 0
        return y

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return named arrays; ``from_arrays`` gives the transform back."""
        head = {"name": self.name, "params": dict(self.params), "dim_in": self.dim_in,
                "dim_out": self.dim_out, "dtype": self.dtype, "unit": self.unit}  # fmt: skip
        text = np.frombuffer(json.dumps(head, sort_keys=True).encode(), dtype=np.uint8)
        arrays = {name: getattr(self, name) for name in ("shift", "matrix", "offset", "codec")}
        return {"head": text} | {name: array for name, array in arrays.items() if array is not None}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Read what ``to_arrays`` wrote.

        Raises:
            CorruptBlob: it is nothing of the kind.
        """
        try:
            head = json.loads(bytes(arrays["head"]))
            rest: dict[str, Any] = {name: array for name, array in arrays.items() if name != "head"}
            return cls(**head, **rest)
        except (KeyError, TypeError, ValueError) as exc:
            raise CorruptBlob("a fitted transform that this embreg cannot read",
                              hint="'embreg verify' tells what is damaged") from exc  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Slices:
    """A matrix as integers: ``(high + low 2^-bits) * scale``, ``scale`` a power of two for each line.

    A BLAS adds in an order that depends on where in a product a row stands, on the number of threads and
    on the processor. Integers of few enough bits are added without rounding, and then no order matters.
    Source: Ozaki, Ogita, Oishi & Rump 2012, error-free transformation of a product, with two slices.
    """

    high: Array
    low: Array
    scale: Array
    bits: int

    @classmethod
    def of(cls, x: Vectors, axis: int) -> Self:
        """Slice ``x`` for a sum over ``axis``, which decides how many bits there are."""
        bits = (_EXACT_BITS - (x.shape[axis] - 1).bit_length()) // 2
        exponents = np.frexp(np.abs(x).max(axis=axis, keepdims=True).astype(np.float64))[1]
        scaled = x * np.ldexp(1.0, bits - exponents)
        high = np.rint(scaled)
        scaled -= high
        low = np.rint(np.ldexp(1.0, bits) * scaled)
        return cls(high=high, low=low, scale=np.ldexp(1.0, exponents - bits), bits=bits)

    def times(self, other: Self) -> Array:
        """Return the product, rounded once to float64: each sum below is exact."""
        rest = self.high @ other.low + self.low @ other.high
        product: Array = self.high @ other.high + rest * np.ldexp(1.0, -self.bits)
        product *= self.scale
        product *= other.scale
        return product


def _unit(rows: Vectors) -> Array:
    """Return rows of unit length in float64, by the same steps whatever stands beside them."""
    y = rows.astype(np.float64)
    norms = np.sqrt(np.square(y).sum(axis=1, keepdims=True))
    norms[norms == 0] = 1.0
    y /= norms
    return y


def fit(
    name: str, params: Mapping[str, Any], moments: Moments, sample: Floats, *, dtype: str, unit: bool
) -> Transform:
    """Fit any transform but an adapter.

    Args:
        name: one of ``NAMES``.
        params: see ``check_params``; those left out get their defaults.
        moments: of the table; zero rows take no part in a mean or covariance.
        sample: rows of the table, float32 ``(m, d)``, that a codec is trained on.
        dtype: of the table.
        unit: whether its rows have unit length, which truncation then restores.

    Raises:
        UsageError: a parameter that does not fit this table.
        InputError: too few rows to fit it.
    """
    d = moments.dim
    if name in ("center", "whiten", "all-but-the-top", "pca") and moments.n_unit < 2:
        raise InputError(f"{name} needs at least two rows that are not zero")
    if name == "normalize":
        return Transform(name=name, dim_in=d, dim_out=d, dtype=dtype, unit=True)
    if name == "truncate":
        keep = _at_most(name, "dim", params, default=max(1, d // 2), most=d)
        return Transform(name=name, params={"dim": keep}, dim_in=d, dim_out=keep, dtype=dtype, unit=unit)
    if name == "quantize":
        if not len(sample):
            raise InputError("quantize needs a row that is not zero")
        return _quantizer(params.get("codec", "int8"), sample, dtype)
    shift = (moments.sum / moments.n_unit).astype(np.float32)
    if name == "center":
        return Transform(name=name, dim_in=d, dim_out=d, shift=shift)
    values, basis, rank = _principal(moments)
    if name == "all-but-the-top":
        if d < 2:
            raise InputError("all-but-the-top would leave nothing of rows of width 1")
        top = _at_most(name, "components", params, default=max(1, round(d / 100)), most=d - 1)
        away = np.eye(d) - basis[:, :top] @ basis[:, :top].T
        return Transform(name=name, params={"components": top}, dim_in=d, dim_out=d, shift=shift,
                         matrix=away)  # fmt: skip
    if name == "whiten" and not rank:
        raise InputError("all rows are equal: there is nothing to whiten")
    most = rank if name == "whiten" else d
    keep = _at_most(name, "dim", params, default=most if name == "whiten" else max(1, d // 2), most=most)
    matrix = basis[:, :keep] / np.sqrt(values[:keep]) if name == "whiten" else basis[:, :keep]
    return Transform(name=name, params={"dim": keep}, dim_in=d, dim_out=keep, shift=shift,
                     matrix=matrix)  # fmt: skip


def _at_most(name: str, key: str, params: Mapping[str, Any], *, default: int, most: int) -> int:
    value = int(params.get(key, default))
    if not 1 <= value <= most:
        raise UsageError(f"{name}: {key}={value}, but it goes from 1 to {most} here")
    return value


def _principal(moments: Moments) -> tuple[Array, Array, int]:
    """Return the principal axes of the rows that are not zero.

    Returns:
        Eigenvalues of the covariance, largest first; its eigenvectors, each with a positive peak; and how
        many of them, from the first, vary by more than the noise of what was added up.
    """
    covariance = moments.covariance()
    with _one_thread():
        values, basis = np.linalg.eigh((covariance + covariance.T) / 2)
    values, basis = np.maximum(values[::-1], 0.0), np.ascontiguousarray(basis[:, ::-1])
    largest = basis[np.abs(basis).argmax(axis=0), np.arange(basis.shape[1])]
    spread = np.sqrt(np.maximum(np.diagonal(covariance), 0.0))
    noise = _NOISE32 * np.square(np.abs(basis).T @ spread) + least_variance(moments)
    clear = np.append(values > noise, False)
    return values, basis * np.where(largest < 0, -1.0, 1.0), min(int(clear.argmin()), moments.n_unit - 1)


def _one_thread() -> threadpool_limits:
    """A BLAS adds in another order with more threads: on one, the same rows give the same fit."""
    return threadpool_limits(1, user_api="blas")


def least_variance(moments: Moments) -> float:
    """Return the variance below which rows of these moments are equal, but for rounding."""
    return _NOISE64 * float(np.trace(moments.gram)) / max(1, moments.n_unit)


def _quantizer(codec: str, sample: Floats, dtype: str) -> Transform:
    import faiss

    d = sample.shape[1]
    kept = "float16" if codec == "fp16" else dtype
    index: Any = codecs.trained(codec, sample)
    return Transform(name="quantize", params={"codec": codec}, dim_in=d, dim_out=d, dtype=kept,
                     codec=faiss.serialize_index(index))  # fmt: skip


def _decoded(codec: NDArray[np.uint8], rows: Floats) -> Floats:
    import faiss

    index: Any = faiss.deserialize_index(codec)
    x = np.ascontiguousarray(rows)
    decoded: Floats = index.sa_decode(index.sa_encode(x))
    return decoded


@dataclass(slots=True)
class Paired:
    """Sums over pairs of rows (x in one space, y in another): enough to fit a linear map, in one pass."""

    n: int
    sum_x: Array
    sum_y: Array
    xx: Array
    xy: Array

    @classmethod
    def of(cls, pairs: Iterator[tuple[Vectors, Vectors]], dim_x: int, dim_y: int) -> Self:
        """Add up pairs of blocks ``(m, dim_x)`` and ``(m, dim_y)``, in float64."""
        total = cls(0, np.zeros(dim_x), np.zeros(dim_y), np.zeros((dim_x, dim_x)), np.zeros((dim_x, dim_y)))
        for x, y in pairs:
            for part in split(len(x), _BLOCK):
                a, b = x[part].astype(np.float64), y[part].astype(np.float64)
                total.n += len(a)
                total.sum_x += a.sum(axis=0)
                total.sum_y += b.sum(axis=0)
                with _one_thread():
                    total.xx += a.T @ a
                    total.xy += a.T @ b
        return total


def fit_adapter(params: Mapping[str, Any], pairs: Paired) -> Transform:
    """Fit the linear map that takes rows x nearest to their partners y, in the sense of least squares.

    ``ridge``: W = (X'X + λ tr(X'X)/d I)^-1 X'Y on centred rows, λ the parameter ``ridge``. ``orthogonal``:
    the rotation (reflections allowed) from the singular vectors of X'Y, scaled by tr(S) / tr(X'X); between
    widths it is a partial isometry.

    Raises:
        InputError: fewer than two pairs.
    """
    method, strength = params.get("method", "ridge"), float(params.get("ridge", 1e-3))
    if pairs.n < 2:
        raise InputError(f"an adapter needs at least two shared ids to be fitted on; there are {pairs.n}")
    mean_x, mean_y = pairs.sum_x / pairs.n, pairs.sum_y / pairs.n
    xx = pairs.xx - pairs.n * np.outer(mean_x, mean_x)
    xy = pairs.xy - pairs.n * np.outer(mean_x, mean_y)
    trace = float(np.trace(xx))
    if trace <= _NOISE64 * float(np.trace(pairs.xx)):
        raise InputError("all shared rows are equal in the space that the adapter starts from")
    kept: dict[str, Any] = {"method": method}
    if method == "orthogonal":
        with _one_thread():
            left, values, right = np.linalg.svd(xy, full_matrices=False)
            matrix = left @ right * (values.sum() / trace)
    else:
        kept["ridge"] = strength
        damped = xx + max(strength, 1e-12) * trace / len(xx) * np.eye(len(xx))
        with _one_thread():
            matrix = np.linalg.solve(damped, xy)
    return Transform(
        name="adapter",
        params=kept,
        dim_in=len(mean_x),
        dim_out=len(mean_y),
        shift=mean_x.astype(np.float32),
        matrix=matrix,
        offset=mean_y.astype(np.float32),
    )

"""Exact k nearest neighbours, blocked and tie-safe: the one hot kernel, and the oracle of recall."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..registry.errors import InputError, UnknownChoice, UsageError
from ..registry.stack import Stack, Stacked
from ..registry.types import METRICS
from ..registry.vectors import Vectors, split
from .devices import device_for
from .sweeps import float32, int8, on_torch, rates
from .sweeps.candidates import Candidates, bar
from .sweeps.prepared import checked_norms
from .threads import in_threads

Rows = NDArray[np.int64]
#: Elements of one float64 score block of the exact route (64 MiB).
_EXACT_BLOCK = 8 << 20
#: Elements gathered at a time to be scored in float64.
_RESCORE_BLOCK = 1 << 20
#: Multiplications below which the exact route is taken at once.
_SMALL = 1 << 25
#: Cosines are multiples of its inverse.
_GRID = 2.0**40
#: Largest and smallest normal number of float32: between them it holds 24 binary digits.
_LARGEST, _TINY = float(np.finfo(np.float32).max), float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, slots=True)
class Neighbors:
    """The nearest rows of some queries, best first.

    Attributes:
        rows: int64 ``(q, k)``, row numbers of the base.
        scores: float32 ``(q, k)``: cosine, inner product or negated squared distance, so that higher
            is always nearer.
    """

    rows: Rows
    scores: NDArray[np.float32]


def neighbors(
    queries: Stacked, base: Stacked, k: int, metric: str = "cosine", *, exclude: Rows | None = None
) -> Neighbors:
    """Return the ``k`` rows of ``base`` nearest to each query, exactly.

    Scores are float64 inner products (of float64-normalised rows for cosine) or negated squared
    distances, rounded to the 24 binary digits of float32, whatever their size; the order is (score
    descending, row ascending). Scores outside the range of float32 are saturated, or rounded to its
    denormals, only after that: rows of any length are ordered alike. Cosines are rounded to a multiple
    of 2**-40 first, so that orthogonal rows tie at 0 whatever the noise of their norms. A zero row has
    cosine 0 with every row; that of a float64 row below about 1e-145 is noise, as its squares are.

    Args:
        queries: ``(q, d)`` float16, float32 or float64; read only, never changed.
        base: ``(n, d)``, likewise; a stack of parts is read slice by slice.
        k: at least 1, at most the number of rows that may answer.
        metric: ``cosine``, ``dot`` or ``l2``.
        exclude: int64 ``(q, e)``, rows of the base that may not answer each query; -1 pads.

    Raises:
        UnknownChoice: another metric.
        UsageError: ``k`` is out of range, or ``exclude`` does not fit.
        InputError: the arrays are not ``(q, d)`` and ``(n, d)``, or hold NaN or infinity.
    """
    x, y = _checked(queries, "queries"), _checked(base, "base")
    if x.shape[1] != y.shape[1]:
        raise InputError(f"queries have {x.shape[1]} dimensions, base has {y.shape[1]}")
    barred = _check_exclude(exclude, len(x), len(y))
    _check_call(k, len(y), _most_barred(barred), metric)
    return _nearest(x, y, k, metric, barred)


def self_neighbors(
    x: Stacked, k: int, metric: str = "cosine", *, tell: Callable[[int, int], None] | None = None
) -> Neighbors:
    """Return the ``k`` nearest other rows of each row of ``x`` ``(n, d)``; see ``neighbors``.

    ``tell`` is told how many tasks of how many are done, where the work is cut into tasks.

    Raises:
        UnknownChoice: another metric.
        UsageError: ``k`` is below 1 or above n - 1.
        InputError: ``x`` is not ``(n, d)``, or holds NaN or infinity.
    """
    y = _checked(x, "x")
    _check_call(k, len(y), 1, metric)
    own = np.arange(len(y))[:, None]
    return _nearest(y, y, k, metric, own, itself=True, tell=tell)


def scores(x: Vectors, y: Vectors, metric: str) -> NDArray[np.float64]:
    """Return the score of each row of ``x`` ``(m, d)`` with each of ``y`` ``(n, d)``, float64 ``(m, n)``.

    It has the digits of a score of ``neighbors``, but the range of float64.
    """
    return _score(_in_float64(x, metric), _in_float64(y, metric), metric).astype(np.float64)


def between(x: Vectors, y: Vectors, metric: str) -> NDArray[np.float64]:
    """Return the score of each row of ``x`` ``(m, d)`` with its counterpart in ``y``, float64 ``(m,)``.

    It has the digits of a score of ``neighbors``, but the range of float64.
    """
    left, right = _in_float64(x, metric), _in_float64(y, metric)
    if metric == "l2":
        right -= left
        exact = -np.einsum("ij,ij->i", right, right)
    else:
        exact = np.einsum("ij,ij->i", left, right)
    return _rounded(exact, metric).astype(np.float64)


def beyond(scores: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which scores of ``neighbors`` may have left the range of float32."""
    size = np.abs(scores)
    return (size < _TINY) | (size >= _LARGEST)


def _checked(x: Stacked, what: str) -> Stacked:
    y = x if isinstance(x, Stack) else np.asarray(x)
    if y.ndim != 2 or y.shape[1] == 0:
        raise InputError(f"{what} must be (n, d) with d >= 1, not {y.shape}")
    if y.dtype.kind != "f" or y.dtype.itemsize > 8:
        raise InputError(f"{what} must be float16, float32 or float64, not {y.dtype}")
    if isinstance(y, Stack) or y.dtype.isnative:
        return y
    return y.astype(y.dtype.newbyteorder("="))


def _check_exclude(exclude: Rows | None, q: int, n: int) -> Rows:
    if exclude is None:
        return np.empty((q, 0), dtype=np.int64)
    rows = np.asarray(exclude)
    if rows.ndim != 2 or len(rows) != q or rows.dtype.kind not in "iu":
        raise UsageError(f"exclude must be whole numbers ({q}, e), not {rows.dtype} {rows.shape}")
    if rows.size and (rows.min() < -1 or rows.max() >= n):
        raise UsageError(f"exclude holds rows outside 0 … {n - 1} (-1 pads)")
    return rows.astype(np.int64, copy=False)


def _most_barred(exclude: Rows) -> int:
    """Return the largest number of distinct rows that one query excludes."""
    if not exclude.size:
        return 0
    rows = np.sort(exclude, axis=1)
    new = (rows[:, 1:] != rows[:, :-1]) & (rows[:, 1:] >= 0)
    return int((new.sum(axis=1) + (rows[:, 0] >= 0)).max())


def _check_call(k: int, n: int, barred: int, metric: str) -> None:
    if metric not in METRICS:
        raise UnknownChoice("metric", metric, METRICS)
    if k < 1:
        raise UsageError(f"k must be at least 1, not {k}")
    if k > n - barred:
        left = f", {barred} of them excluded" if barred else ""
        raise UsageError(
            f"k = {k} neighbours cannot be found among n = {n} rows{left}",
            hint=f"k can be at most {max(n - barred, 0)}",
        )


def _nearest(
    x: Stacked,
    y: Stacked,
    k: int,
    metric: str,
    exclude: Rows,
    *,
    itself: bool = False,
    tell: Callable[[int, int], None] | None = None,
) -> Neighbors:
    """Answer by the fastest way that there is here, all of which give the same answers.

    ``itself`` says that ``x`` is ``y`` and every row excludes itself.
    """
    products = len(x) * y.size
    if products < _SMALL:
        return _saturated(*_exact(x, y, k, metric, exclude))
    device = device_for(products, x.size + y.size)
    if device == "cpu" and int8.serves(y.shape[1]):
        if itself:
            return _saturated(*int8.self_neighbors(y, k, metric, tell))
        return _saturated(*int8.neighbors(x, y, k, metric, exclude))
    whole = np.asarray(y)
    asked = whole if itself else np.asarray(x)
    if device == "cpu" and not rates.bf16_pays(y.shape[1]):
        sweep, sweep_self = float32.sweep, float32.sweep_self
    else:
        sweep = partial(on_torch.sweep, device=device)
        sweep_self = partial(on_torch.sweep_self, device=device)
    found = sweep_self(whole, k, metric) if itself else sweep(asked, whole, k, metric, exclude)
    return _proven(asked, whole, k, metric, exclude, found)


def _proven(
    x: Vectors,
    y: Vectors,
    k: int,
    metric: str,
    exclude: Rows,
    found: Candidates,
) -> Neighbors:
    """Score the candidates in float64; answer anew where that proves nothing.

    The answer is proven where the k-th score is above the ceiling of all that any other row can have.
    """
    kept = found.rows
    rows, scores = np.empty((len(x), k), dtype=np.int64), np.empty((len(x), k))

    def rescore(part: slice) -> None:
        rows[part], scores[part] = _rescored(x[part], y, k, metric, kept[part])

    block = max(1, _RESCORE_BLOCK // (kept.shape[1] * y.shape[1]))
    in_threads(rescore, list(split(len(x), block)))
    unsure = np.flatnonzero(~(scores[:, -1] > _rounded(found.ceiling, metric)))
    if len(unsure):
        rows[unsure], scores[unsure] = _exact(x[unsure], y, k, metric, exclude[unsure])
    return _saturated(rows, scores)


def _rescored(x: Vectors, y: Vectors, k: int, metric: str, kept: Rows) -> tuple[Rows, Vectors]:
    kept = np.sort(kept, axis=1)
    left = _in_float64(x, metric)
    right = _in_float64(np.take(y, kept.ravel(), axis=0), metric).reshape(*kept.shape, -1)
    if metric == "l2":
        right -= left[:, None, :]
        exact = -np.einsum("qkd,qkd->qk", right, right)
    else:
        exact = np.einsum("qd,qkd->qk", left, right)
    scores = _rounded(exact, metric)
    scores[kept < 0] = -np.inf
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(kept, best, axis=1), np.take_along_axis(scores, best, axis=1)


def _rounded(scores: NDArray[np.float64], metric: str) -> Vectors:
    """Round scores to 24 binary digits: in float32 where its range holds them all, else in float64."""
    if metric == "cosine":
        return (np.rint(scores * _GRID) / _GRID).astype(np.float32)
    with np.errstate(over="ignore"):
        near = scores.astype(np.float32)
    size = np.abs(near)
    if not size.size or (size.min() >= _TINY and size.max() <= _LARGEST):
        return near
    outside = ((size < _TINY) & (scores != 0)) | (size > _LARGEST)
    if not outside.any():
        return near
    wide = near.astype(np.float64)
    digits, exponent = np.frexp(scores[outside])
    wide[outside] = np.ldexp(digits.astype(np.float32).astype(np.float64), exponent)
    return wide


def _saturated(rows: Rows, scores: Vectors) -> Neighbors:
    return Neighbors(rows, np.clip(scores, -_LARGEST, _LARGEST).astype(np.float32))


def _exact(x: Stacked, y: Stacked, k: int, metric: str, exclude: Rows) -> tuple[Rows, Vectors]:
    """Answer every query in float64: the definition itself, block by block."""
    rows, scores = np.empty((len(x), k), dtype=np.int64), np.empty((len(x), k))
    wide = min(len(y), max(4096, k))

    def answer(part: slice) -> None:
        rows[part], scores[part] = _exact_few(x[part], y, k, metric, exclude[part], wide)

    in_threads(answer, list(split(len(x), max(1, _EXACT_BLOCK // wide))))
    return rows, scores


def _exact_few(x: Vectors, y: Stacked, k: int, metric: str, exclude: Rows, wide: int) -> tuple[Rows, Vectors]:
    queries = _in_float64(x, metric)
    rows = np.empty((len(x), 0), dtype=np.int64)
    scores: Vectors = np.empty((len(x), 0), dtype=np.float32)
    for part in split(len(y), wide):
        block = _score(queries, _in_float64(y[part], metric), metric)
        bar(block, exclude - part.start)
        new = _best(block, min(k, block.shape[1]))
        scores = np.hstack([scores, np.take_along_axis(block, new, axis=1)])
        rows = np.hstack([rows, new + part.start])
        # Earlier blocks come first and hold lower rows: a stable sort keeps ties by row.
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        rows, scores = np.take_along_axis(rows, order, axis=1), np.take_along_axis(scores, order, axis=1)
    return rows, scores


def _in_float64(x: Vectors, metric: str) -> NDArray[np.float64]:
    y = x.astype(np.float64)
    norms = checked_norms(y)
    if metric == "cosine":
        norms[norms == 0] = 1.0
        y /= norms[:, None]
    return y


def _score(x: NDArray[np.float64], y: NDArray[np.float64], metric: str) -> Vectors:
    if metric == "l2":
        from scipy.spatial.distance import cdist

        # Differences taken one by one: 2xy - x² - y² would cancel between near duplicates.
        scores: NDArray[Any] = -cdist(x, y, "sqeuclidean")
    else:
        scores = x @ y.T
    return _rounded(scores, metric)


def _best(scores: Vectors, k: int) -> Rows:
    """Return the columns of the ``k`` best of each row, ascending; of equals the lowest columns."""
    kth = np.partition(scores, scores.shape[1] - k, axis=1)[:, [scores.shape[1] - k]]
    better, equal = scores > kth, scores == kth
    room = k - better.sum(axis=1, keepdims=True)
    taken = better | (equal & (np.cumsum(equal, axis=1) <= room))
    return np.nonzero(taken)[1].reshape(len(scores), k)

"""Exact nearest neighbours behind a filter of 8-bit products: the fast path, in C (``_int8.c``).

A row is centred and scaled, ``v = w x - m``, and written as whole numbers, ``v = step * codes + residual``,
so that the score of two rows is ``<v, v'> + offset + offset'`` (L2: half the negated squared distance, with
``offset = -|v|²/2``; else ``offset = <v, m> + |m|²/2``). Products of codes cost a third of float32's, and

    <v, v'>  <=  step step' <codes, codes'> + |residual| |v'| + |step codes| |residual'|    (Cauchy-Schwarz)

bounds every score from above, with room for the rounding of the bound itself. Pairs whose bound is below the
k-th best score that either row holds so far are done with; all others are scored in float32, with its bound,
and what is left of them in float64. So the answer is exact whatever the codes lose: a bad fit costs time.
In a self-join every product serves both of its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ...registry.errors import InputError
from ...registry.stack import Stack, Stacked
from ...registry.vectors import Vectors, split
from ..threads import in_threads, workers
from .prepared import NO_NEIGHBOURS, NOT_FINITE

T = TypeVar("T")
Rows = NDArray[np.int64]
Floats = NDArray[np.float64]
Tell = Callable[[int, int], None]

_METRICS = {"cosine": 0, "dot": 1, "l2": 2}
#: Rows of a panel; dimensions are padded to two groups of four.
_LANES, _DIMENSIONS = 16, 8
#: Rows and columns of a task of the self-join, and rows packed at a time.
_CHUNK = 2048
#: Rows of the base packed and swept at a time, at most and at least.
_STRIP, _LEAST = 8192, 256
#: Bytes of codes and answers held at a time; above, queries are asked some at a time.
_HELD = 1 << 30
#: Rows that the centre and the scale are taken from.
_SAMPLE = 16384
#: Dimensions whose codes cannot overflow 32 bits.
_WIDEST = 1 << 17
#: Norms are scaled to 1 or so, by the sample; above this they leave the range of float32.
_LONGEST = 2.0**30


@cache
def instructions() -> dict[str, int]:
    """Return the instruction sets that can be used here, the fastest first; none where C was not built.

    Each was seen to multiply right on this processor.
    """
    try:
        from . import _int8
    except ImportError:  # there was no compiler
        return {}
    return _int8.sets()


def serves(d: int) -> bool:
    """Return whether rows of ``d`` dimensions can be swept here."""
    return bool(instructions()) and d <= _WIDEST


def neighbors(x: Stacked, y: Stacked, k: int, metric: str, exclude: Rows) -> tuple[Rows, Floats]:
    """Return the ``k`` rows of ``y`` ``(n, d)`` nearest to each of ``x`` ``(q, d)``, and their scores.

    Best first, ties by row; the scores are those of ``knn.neighbors`` before they are saturated.

    Args:
        x: the queries.
        y: the base, read strip by strip: only ``x`` is held in another form.
        k: how many neighbours.
        metric: ``cosine``, ``dot`` or ``l2``.
        exclude: int64 ``(q, e)``, base rows that may not answer a query; -1 pads.

    Raises:
        InputError: a row is not finite.
    """
    rows, scores = np.empty((len(x), k), dtype=np.int64), np.empty((len(x), k))
    wide = y.dtype if x.dtype == y.dtype else np.dtype(np.float64)
    each = x.shape[1] * (1 + wide.itemsize) + 16 * k + 64
    for part in split(len(x), max(_LEAST, _HELD // each)):
        queries = np.ascontiguousarray(x[part], dtype=wide)
        barred = np.sort(np.ascontiguousarray(exclude[part]), axis=1)
        rows[part], scores[part] = _retried(partial(_ask, queries, y, k, barred), y, metric)
    return rows, scores


def self_neighbors(x: Stacked, k: int, metric: str, tell: Tell | None = None) -> tuple[Rows, Floats]:
    """Return the ``k`` other rows of ``x`` ``(n, d)`` nearest to each, and their scores: ``neighbors``.

    ``tell`` is told of each task that is done, and of how many.
    """
    if isinstance(x, Stack) or len(x) * (2 * x.shape[1] + 16 * k + 64) > _HELD:
        return neighbors(x, x, k, metric, np.arange(len(x))[:, None])
    return _retried(partial(_join, np.ascontiguousarray(x), k, tell), x, metric)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    """How rows become codes: ``v = x / |x| - centre`` for cosine, else ``v = scale x - centre``."""

    metric: str
    centre: Floats
    scale: float

    @property
    def quads(self) -> int:
        return len(self.centre) // 4

    @property
    def unit(self) -> float:
        """Units of the products for each unit of a score."""
        return {"cosine": 1.0, "dot": self.scale**2, "l2": self.scale**2 / 2}[self.metric]


class _TooLong(Exception):
    """A row is too long for the scale that a sample gave."""

    def __init__(self, norm: float) -> None:
        super().__init__(norm)
        self.norm = norm


def _retried(work: Callable[[_Form], T], y: Stacked, metric: str) -> T:
    """Do ``work`` with the form that a sample of ``y`` gives; with another where a row is too long for it."""
    form = _form(y, metric)
    while True:
        try:
            return work(form)
        except _TooLong as exc:
            form = _scaled(form, exc.norm)


def _form(y: Stacked, metric: str) -> _Form:
    sample = y.sample(_SAMPLE) if isinstance(y, Stack) else y[:: -(-len(y) // _SAMPLE)]
    sample = sample.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        norms = np.sqrt(np.einsum("ij,ij->i", sample, sample))
        if not np.isfinite(norms).all():
            raise InputError(NOT_FINITE, hint=NO_NEIGHBOURS)
    if metric == "cosine":
        sample /= np.where(norms > 0, norms, 1.0)[:, None]
    centre = np.zeros(-(-y.shape[1] // _DIMENSIONS) * _DIMENSIONS)
    centre[: y.shape[1]] = sample.mean(axis=0)
    form = _Form(metric=metric, centre=centre, scale=1.0)
    return form if metric == "cosine" else _scaled(form, float(norms.max()))


def _scaled(form: _Form, norm: float) -> _Form:
    """Return the form in which a row of this norm has one of 1/2 to 1; a power of two changes no digit."""
    scale = 2.0 ** -np.clip(np.ceil(np.log2(norm)), -500, 500) if norm > 0 else 1.0
    return _Form(metric=form.metric, centre=form.centre * (scale / form.scale), scale=float(scale))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Codes:
    """Room for packed rows, as ``_int8`` takes it.

    Attributes:
        arrays: codes as left factors (or None), codes as right factors (or None), minus 64 times their sum;
            steps, offsets, norms and norms of residuals in the units of products, each rounded so that the
            bound holds; norms of the rows as they came.
    """

    arrays: tuple[Any, ...]

    @classmethod
    def room(cls, rows: int, form: _Form, *, left: bool, right: bool) -> _Codes:
        padded = -(-rows // _LANES) * _LANES
        size = padded * form.quads * 4
        codes = [_aligned(size) if wanted else None for wanted in (left, right)]
        floats = [np.empty(padded, dtype=np.float32) for _ in range(4)]
        return cls(arrays=(*codes, np.empty(padded, dtype=np.int32), *floats, np.empty(padded)))

    def fill(self, x: Vectors, form: _Form, at: int) -> None:
        """Pack rows ``x``, to be the rows from ``at`` on (a multiple of 16).

        Raises:
            InputError: a row is not finite.
            _TooLong: a row is too long for the scale.
        """
        from . import _int8

        rows, (n, d) = np.ascontiguousarray(x), x.shape
        bad = _int8.pack(
            rows, x.itemsize, n, d, self.arrays, at, form.centre, _METRICS[form.metric], form.scale
        )
        if bad >= 0:
            raise InputError(NOT_FINITE, hint=NO_NEIGHBOURS)
        longest = float(self.arrays[-1][at : at + len(x)].max(initial=0.0))
        if form.metric != "cosine" and longest * form.scale > _LONGEST:
            raise _TooLong(longest)


def _aligned(size: int) -> NDArray[np.uint8]:
    """Return bytes that start at a cache line."""
    room = np.empty(size + 64, dtype=np.uint8)
    start = -room.ctypes.data % 64
    return room[start : start + size]


class _Board:
    """The best answers of each row so far, in heaps whose first is the worst."""

    def __init__(self, rows: int, k: int) -> None:
        self.k = k
        self.bar = np.full(-(-rows // _LANES) * _LANES, -np.inf, dtype=np.float32)
        self.scores, self.answers = np.empty((rows, k)), np.empty((rows, k), dtype=np.int64)
        self.held, self.locks = np.zeros(rows, dtype=np.int64), np.zeros(rows, dtype=np.uint8)

    def side(self, codes: _Codes, raw: Vectors, first: int, exclude: Rows) -> tuple[Any, ...]:
        """Return what ``_int8.sweep`` takes of one side."""
        heaps = (self.bar, self.scores, self.answers, self.held, self.locks, self.k)
        return (codes.arrays, raw, raw.itemsize, len(raw), first, *heaps, exclude, exclude.shape[1])

    def best(self) -> tuple[Rows, Floats]:
        order = np.lexsort((self.answers, -self.scores), axis=1)
        return np.take_along_axis(self.answers, order, axis=1), np.take_along_axis(self.scores, order, axis=1)


def _ask(x: Vectors, y: Stacked, k: int, exclude: Rows, form: _Form) -> tuple[Rows, Floats]:
    """Ask all queries of every strip of the base."""
    codes, board = _Codes.room(len(x), form, left=True, right=False), _Board(len(x), k)
    for part in split(len(x), _CHUNK):
        codes.fill(x[part], form, part.start)
    left = board.side(codes, x, 0, exclude)
    strips = _strips(y)
    nobody = (None,) * 5 + (k, None, 0)

    def sweep(at: int) -> None:
        ahead = at + workers()
        _will_need(y, strips[ahead : ahead + 1])
        raw = np.ascontiguousarray(y[strips[at]])
        packed = _Codes.room(len(raw), form, left=False, right=True)
        packed.fill(raw, form, 0)
        right = (packed.arrays, raw, raw.itemsize, len(raw), strips[at].start, *nobody)
        _sweep(left, right, x.shape[1], form, (slice(0, len(x)), slice(0, len(raw))))

    in_threads(sweep, range(len(strips)))
    return board.best()


def _strips(y: Stacked) -> list[slice]:
    """Cut the base into strips, one part after another and else in no order.

    In the order of the rows each could be better than the last, for every query: tables are sorted.
    """
    height = min(_STRIP, max(_LEAST, -(-len(y) // (4 * workers()))))
    runs = y.runs() if isinstance(y, Stack) else [slice(0, len(y))]
    rng, strips = np.random.default_rng(0), []
    for i in rng.permutation(len(runs)).tolist():
        parts = list(split(runs[i].stop - runs[i].start, height))
        strips += [
            slice(runs[i].start + parts[j].start, runs[i].start + parts[j].stop)
            for j in rng.permutation(len(parts)).tolist()
        ]
    return strips


def _join(x: Vectors, k: int, tell: Tell | None, form: _Form) -> tuple[Rows, Floats]:
    """Compare all rows with each other: every pair of chunks once, in no order."""
    codes, board = _Codes.room(len(x), form, left=True, right=True), _Board(len(x), k)
    in_threads(lambda part: codes.fill(x[part], form, part.start), list(split(len(x), _CHUNK)))
    side = board.side(codes, x, 0, np.empty((len(x), 0), dtype=np.int64))
    pairs = list(_pairs(len(x)))
    order = np.random.default_rng(0).permutation(len(pairs)).tolist()
    in_threads(lambda at: _sweep(side, side, x.shape[1], form, pairs[at], same=True), order, tell)
    return board.best()


def _pairs(n: int) -> Iterator[tuple[slice, slice]]:
    chunk = min(_CHUNK, -(-n // (8 * workers() * _LANES)) * _LANES)
    chunks = list(split(n, chunk))
    for i, rows in enumerate(chunks):
        for columns in chunks[i:]:
            yield rows, columns


def _sweep(
    left: tuple[Any, ...],
    right: tuple[Any, ...],
    d: int,
    form: _Form,
    block: tuple[slice, slice],
    *,
    same: bool = False,
) -> None:
    from . import _int8

    panels = [(part.start // _LANES, -(-part.stop // _LANES)) for part in block]
    fastest = next(iter(instructions().values()))
    triangle = same and block[0] == block[1]
    (p0, p1), (q0, q1) = panels
    metric = _METRICS[form.metric]
    _int8.sweep(left, right, d, form.quads, metric, same, form.unit, fastest, p0, p1, q0, q1, triangle)


def _will_need(y: Stacked, strips: list[slice]) -> None:
    """Let strips of a mapped base be read while others are worked on."""
    from . import _int8

    for strip in strips if not isinstance(y, Stack) or y.mapped else []:
        rows = y[strip]
        if rows.flags.c_contiguous:
            _int8.will_need(rows)

"""Lossy forms in which vectors are kept: what is left of a row once it has been encoded and decoded.

============== ===================================================================== ==============
name           decoded row                                                            bytes
============== ===================================================================== ==============
``fp16``       IEEE half precision (FAISS ``SQfp16``)                                 2d
``bf16``       brain float (FAISS ``SQbf16``)                                         2d
``int8``       256 even steps between the extremes of each dimension (FAISS ``SQ8``)  d
``int4``       16 of them (FAISS ``SQ4``)                                             ⌈d/2⌉
``1-bit``      mean ± mean absolute deviation of each dimension, by the sign of the   ⌈d/8⌉
               row about the mean
``pq``         product quantizer with a codebook of 256 for every 4 dimensions, or    d/4, d/2, …
               every 2 or w where 4 does not divide d (FAISS ``PQ``)
``opq``        the same after a learned rotation (FAISS ``OPQ``); slow to train       d/4, d/2, …
``rabitq``     the signs of the row about the mean after a random rotation, and two   ⌈d/8⌉ + 8
               numbers more (FAISS ``RaBitQ``)
``truncate-F`` the first d·F dimensions, F = ``1/2``, ``1/4``, ``1/8`` (Matryoshka),  d·F values
               scaled to the length of the row
============== ===================================================================== ==============

What is searched is the decoded row, but for ``rabitq``: there the distance to a row is estimated without bias
from its code and the two numbers, as FAISS does for queries that are not quantized themselves (``qb = 0``).
Lengths that differ from row to row cost a truncated row one number more.

Sources: Jégou, Douze & Schmid 2011 (PQ); Ge et al. 2013 (OPQ); Gao & Long 2024 (RaBitQ); Kusupati et al. 2022
(truncation).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..registry.errors import IndexFailed, UnknownChoice, printable
from ..registry.vectors import row_norms
from .knn import Neighbors, neighbors

Floats = NDArray[np.float32]

_SCALAR = {"fp16": "SQfp16", "bf16": "SQbf16", "int8": "SQ8", "int4": "SQ4"}
_TRUNCATED = {"truncate-1/2": 2, "truncate-1/4": 4, "truncate-1/8": 8}
_CODEBOOK = 256
#: What tells FAISS to multiply matrices of any size.
_BY_PRODUCTS = 20
#: Lengths of rows that differ by less than this are one.
_ONE_LENGTH = 1e-3
NAMES = (*_SCALAR, "1-bit", "pq", "opq", "rabitq", *_TRUNCATED)


class Unfit(Exception):
    """Raised where a codec cannot be fitted to these rows; the message is the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec:
    """A codec fitted to a table.

    Attributes:
        name: one of ``NAMES``.
        bytes: of one encoded row.
        through: returns rows, float32 ``(m, d)``, as they are after encoding and decoding.
        centre: float64 ``(d,)``, about which distances are estimated from codes; None where the decoded rows
            are searched.
        scale: about the length of a row.
    """

    name: str
    bytes: int
    through: Callable[[Floats], Floats]
    centre: NDArray[np.float64] | None = None
    scale: float = 1.0

    def nearest(
        self, queries: Floats, rows: Floats, decoded: Floats, k: int, metric: str, exponent: int = 0
    ) -> Neighbors:
        """Return the ``k`` encoded rows that seem nearest to each query; all have scores in one unit.

        Args:
            queries: float32 ``(q, d)``, as they are or decoded.
            rows: float32 ``(m, d)``, what was encoded.
            decoded: float32 ``(m, d)``, what became of it.
            k: at most m.
            metric: ``cosine`` (of unit rows), ``dot`` or ``l2``.
            exponent: in units of its power of two, squares of lengths are numbers of float32.
        """
        if self.centre is None:
            if exponent:
                queries, decoded = (np.ldexp(x, -exponent) for x in (queries, decoded))
            return neighbors(queries, decoded, k, metric)
        # The decoded row is the estimate: (q - c)'(x - c) is estimated, |x - c|² and c'x are known.
        apart = (rows - self.centre) / self.scale
        if metric == "dot":
            known = 2 * (rows @ (self.centre / self.scale)) / self.scale
        else:
            known = -np.einsum("ij,ij->i", apart, apart)
        asked = np.insert(2 * (queries - self.centre) / self.scale, 0, 1.0, axis=1)
        kept = np.insert((decoded - self.centre) / self.scale, 0, known, axis=1)
        return neighbors(asked, kept, k, "dot")


def fit(name: str, rows: Floats, itemsize: int) -> Codec:
    """Fit a codec to some rows of a table, never to queries.

    Args:
        name: one of ``NAMES``.
        rows: float32 ``(m, d)``, m >= 1, C-contiguous.
        itemsize: bytes of one number of the table, for what truncation keeps.

    Raises:
        Unfit: there are too few rows or dimensions.
        IndexFailed: FAISS refused.
    """
    d = rows.shape[1]
    if name in _TRUNCATED:
        return _truncated(name, rows, d // _TRUNCATED[name], itemsize)
    if name == "1-bit":
        return _signs(rows)
    if name in _SCALAR:
        return _faiss(name, _SCALAR[name], rows)
    if name == "rabitq":
        return _rabitq(rows)
    if len(rows) < _CODEBOOK:
        raise Unfit(f"a codebook of {_CODEBOOK} cannot be trained on {len(rows)} rows")
    parts = d // sub_width(d)
    rotation = f"OPQ{parts}_{d}," if name == "opq" else ""
    # "np" leaves out the polysemous reordering of codes, which costs minutes and decodes alike.
    return _scaled(name, f"{rotation}PQ{parts}x8np", rows, rows)


def sub_width(d: int) -> int:
    """Return the width of a PQ sub-vector: 4 where it divides ``d``, else the smallest divisor above 1."""
    return 4 if d % 4 == 0 else next((w for w in range(2, d) if d % w == 0), d)


def _truncated(name: str, rows: Floats, keep: int, itemsize: int) -> Codec:
    if keep < 1:
        raise Unfit(f"nothing is left of {rows.shape[1]} dimensions")

    def through(rows: Floats) -> Floats:
        whole, left = row_norms(rows), row_norms(rows[:, :keep])
        longer = np.divide(whole, left, out=np.ones_like(whole), where=left > 0)
        out = np.zeros_like(rows)
        with np.errstate(over="ignore"):
            out[:, :keep] = rows[:, :keep] * longer[:, None]
        return out

    lengths = row_norms(rows)
    differ = lengths.max() - lengths.min() > _ONE_LENGTH * lengths.max()
    return Codec(name=name, bytes=(keep + int(differ)) * itemsize, through=through)


def _rabitq(rows: Floats) -> Codec:
    centre = rows.mean(axis=0, dtype=np.float64)
    codec = _scaled("rabitq", f"RR{rows.shape[1]},RaBitQ", rows, rows - centre)
    return replace(codec, centre=centre)


def _scaled(name: str, factory: str, rows: Floats, apart: NDArray[np.floating[Any]]) -> Codec:
    """Return a FAISS codec that rows enter at a length of about 1.

    It squares them in float32, and ends the process where that overflows. By a power of two, nothing else
    is changed.
    """
    scale = 2.0 ** np.rint(np.log2(np.sqrt(np.square(apart, dtype=np.float64).sum(axis=1).mean()) or 1.0))
    index = _train(factory, (rows / scale).astype(np.float32))

    def through(x: Floats) -> Floats:
        decoded = index.sa_decode(index.sa_encode((x / scale).astype(np.float32)))
        with np.errstate(over="ignore"):
            out: Floats = (decoded.astype(np.float64) * scale).astype(np.float32)
        return out

    return Codec(name=name, bytes=int(index.sa_code_size()), through=through, scale=float(scale))


def _signs(rows: Floats) -> Codec:
    mean = rows.mean(axis=0, dtype=np.float64)
    spread = np.abs(rows - mean).mean(axis=0)
    with np.errstate(over="ignore"):
        high, low = (mean + spread).astype(np.float32), (mean - spread).astype(np.float32)
    centre = mean.astype(np.float32)
    return Codec(
        name="1-bit", bytes=-(-rows.shape[1] // 8), through=lambda x: np.where(x >= centre, high, low)
    )


def trained(name: str, rows: Floats) -> Any:
    """Return the FAISS codec of a scalar quantizer, trained on float32 rows ``(m, d)``.

    Raises:
        UnknownChoice: ``name`` is none of ``fp16``, ``bf16``, ``int8``, ``int4``.
        IndexFailed: FAISS refused.
    """
    if name not in _SCALAR:
        raise UnknownChoice("codec", name, _SCALAR)
    return _train(_SCALAR[name], rows)


def _faiss(name: str, factory: str, rows: Floats) -> Codec:
    index = _train(factory, rows)
    return Codec(
        name=name, bytes=int(index.sa_code_size()), through=lambda x: index.sa_decode(index.sa_encode(x))
    )


def _train(factory: str, rows: Floats) -> Any:
    import faiss

    try:
        index: Any = faiss.index_factory(rows.shape[1], factory)
        if factory.startswith("PQ"):
            # FAISS warns on the console below 39 rows for each centroid.
            index.pq.cp.min_points_per_centroid = 1
        with _by_products():
            index.train(np.ascontiguousarray(rows))
    except RuntimeError as exc:
        raise IndexFailed(f"FAISS cannot train {factory}: {printable(str(exc))}") from exc
    return index


@contextmanager
def _by_products() -> Iterator[None]:
    """Let FAISS look centroids up by matrix products from few rows on.

    By its default (1.15.1) it compares some 10,000 rows with 256 centroids one by one, which takes ten
    times as long.
    """
    import faiss

    before = faiss.cvar.distance_compute_blas_threshold
    faiss.cvar.distance_compute_blas_threshold = _BY_PRODUCTS
    try:
        yield
    finally:
        faiss.cvar.distance_compute_blas_threshold = before

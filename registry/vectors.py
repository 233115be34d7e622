"""Rows of numbers: what every reader yields and every room computes with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

Vectors = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Some consecutive rows of a source.

    Attributes:
        vectors: ``(m, d)`` C-contiguous float32 or float16; the receiver may keep it.
        ids: Arrow string or large_string array of length m, without nulls; None where the source has no
            ids (the rows are then numbered from 0).
        attributes: Arrow record batch of m rows with the other columns; None where there are none.
    """

    vectors: Vectors
    ids: pa.Array | None = None
    attributes: pa.RecordBatch | None = None


def row_norms(x: Vectors) -> NDArray[np.float64]:
    """Return the Euclidean norm of each row of ``x`` ``(n, d)``, accumulated in float64 where needed.

    Float32 sums that overflow or lose their digits to denormals are computed again in float64, so a
    finite row always has a finite norm, and only an all-zero row has norm 0.
    """
    y = x.astype(np.float32, copy=False)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        squares = np.einsum("ij,ij->i", y, y)
    norms: NDArray[np.float64] = np.sqrt(squares.astype(np.float64))
    doubtful = ~((squares > 1e-30) & (squares < 1e30))
    if doubtful.any():
        z = y[doubtful].astype(np.float64)
        norms[doubtful] = np.sqrt(np.einsum("ij,ij->i", z, z))
    return norms


def unit_rows(x: Vectors) -> NDArray[np.float32]:
    """Return a float32 copy of ``x`` ``(n, d)`` with every row divided by its norm; zero rows stay 0."""
    norms = row_norms(x)
    norms[norms == 0] = 1.0
    small = norms < 1e-18
    if small.any() or (norms > 1e18).any():
        return (x.astype(np.float64) / norms[:, None]).astype(np.float32)
    return x.astype(np.float32, copy=False) * (1.0 / norms).astype(np.float32)[:, None]


def fingerprints(x: Vectors) -> NDArray[np.uint64]:
    """Return xxh3-64 of each row's bytes, as uint64 ``(n,)``; ``x`` must be C-contiguous."""
    width = x.shape[1] * x.itemsize
    view = x.reshape(-1).view(np.uint8).data
    hash_of = xxhash.xxh3_64_intdigest
    values = [hash_of(view[i : i + width]) for i in range(0, x.shape[0] * width, width)]
    return np.array(values, dtype=np.uint64)


def hash_ids(ids: Iterable[str], seed: int = 0) -> NDArray[np.uint64]:
    """Return xxh3-64 of each id's UTF-8 bytes, as uint64."""
    hash_of = xxhash.xxh3_64_intdigest
    return np.array([hash_of(i.encode(), seed) for i in ids], dtype=np.uint64)


class SetHash:
    """A digest of a *set* of (id, fingerprint) pairs, added one batch at a time, in any order.

    Each pair is hashed to 128 bits (xxh3-128 of the id, seeded with the fingerprint) and the hashes are
    summed, each 64-bit lane modulo 2**64: a multiset hash in the sense of Clarke et al. 2003 (MSet-Add).
    It guards against accident, not against an adversary, as the fingerprints do.
    """

    def __init__(self) -> None:
        self._lanes = np.zeros(2, dtype=np.uint64)

    def add(self, ids: Sequence[str], prints: NDArray[np.uint64]) -> None:
        """Add pairs; ``ids`` and ``prints`` have one length."""
        if not ids:
            return
        hash_of = xxhash.xxh3_128_digest
        joined = b"".join(map(hash_of, map(str.encode, ids), prints.tolist()))
        with np.errstate(over="ignore"):
            self._lanes += np.frombuffer(joined, dtype=">u8").reshape(-1, 2).sum(axis=0, dtype=np.uint64)

    def hexdigest(self) -> str:
        """Return 32 hex digits."""
        return "".join(f"{int(lane):016x}" for lane in self._lanes)


def split(length: int, size: int) -> Iterator[slice]:
    """Yield slices of at most ``size`` that cover ``range(length)`` in order."""
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))

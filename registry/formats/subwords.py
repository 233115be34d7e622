"""fastText's character n-grams: which rows of its table a word is made of besides its own.

Source: Bojanowski et al. 2017, "Enriching Word Vectors with Subword Information", section 3.2; the hash and
the edge cases are those of ``Dictionary::computeSubwords`` in fastText's ``dictionary.cc``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_OFFSET, _PRIME = np.uint32(2166136261), np.uint32(16777619)


def ngrams(words: Sequence[bytes], minn: int, maxn: int) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
    """Return the n-grams of ``<word>`` for some words, ``minn`` to ``maxn`` characters long.

    The brackets alone are no n-gram. Characters are those of UTF-8, in bytes that need not be: a byte
    ``10xxxxxx`` goes on with the character before it.

    Returns:
        For each n-gram the number of its word, ascending, and the FNV-1a hash of its bytes, taken as signed.
    """
    text = np.frombuffer(b"".join([b"<%b>" % word for word in words]), dtype=np.uint8)
    lengths = np.array([len(word) + 2 for word in words], dtype=np.int64)
    ends = np.append(np.repeat(lengths.cumsum(), lengths), 0)
    first = lengths.cumsum() - lengths
    owner = np.repeat(np.arange(len(words)), lengths)
    # One byte more: a cursor may stand behind the last one.
    going_on = np.append((text & 0xC0) == 0x80, False)
    signed = text.view(np.int8).astype(np.int32).view(np.uint32)

    start = np.flatnonzero(~going_on[:-1])
    at, hashes = start.copy(), np.full(len(start), _OFFSET, dtype=np.uint32)
    found: list[tuple[NDArray[np.int64], NDArray[np.uint32]]] = []
    for n in range(1, maxn + 1):
        alive = at < ends[start]
        start, at, hashes = start[alive], at[alive], hashes[alive]
        if not len(start):
            break
        hashes = (hashes ^ signed[at]) * _PRIME
        at = at + 1
        _finish(at, hashes, ends[start], going_on, signed)
        if n >= minn:
            kept = slice(None) if n > 1 else (start != first[owner[start]]) & (at != ends[start])
            found.append((owner[start][kept], hashes[kept]))
    if not found:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.uint32)
    owners = np.concatenate([o for o, _ in found])
    order = np.argsort(owners, kind="stable")
    return owners[order], np.concatenate([h for _, h in found])[order]


def _finish(
    at: NDArray[np.int64],
    hashes: NDArray[np.uint32],
    ends: NDArray[np.int64],
    going_on: NDArray[np.bool_],
    signed: NDArray[np.uint32],
) -> None:
    """Move cursors, in place, behind the character in which they stand."""
    inside = np.flatnonzero((at < ends) & going_on[at])
    while len(inside):
        hashes[inside] = (hashes[inside] ^ signed[at[inside]]) * _PRIME
        at[inside] += 1
        inside = inside[(at[inside] < ends[inside]) & going_on[at[inside]]]

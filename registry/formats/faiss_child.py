"""Run by ``faiss_index`` in a process of its own: sends the vectors that a FAISS index gives back."""

from __future__ import annotations

import json
import signal
import sys
from typing import Any

import faiss
import numpy as np

_SLAB = 8 << 20
_ELSEWHERE = "its inverted lists lie in another file, which is not followed"


def main(path: str) -> None:
    """Send what is there in one line, then rows in the order of their ids, each slab after its ids."""
    whole = _opened(path)
    signal.alarm(0)
    # The first one owns all: the others point into it.
    index = faiss.downcast_index(whole)
    names = None
    if isinstance(index, faiss.IndexIDMap | faiss.IndexIDMap2):
        names = faiss.vector_to_array(index.id_map)
        index = faiss.downcast_index(index.index)
    keys = _own_ids(index)
    named = names if names is not None else keys
    told = {"rows": index.ntotal, "dim": index.d, "named": named is not None,
            "ordered": names is not None or keys is None}  # fmt: skip
    out = sys.stdout.buffer
    out.write(json.dumps(told).encode() + b"\n")
    step = max(1, _SLAB // (4 * index.d))
    for start in range(0, index.ntotal, step):
        count = min(step, index.ntotal - start)
        if keys is None:
            rows = index.reconstruct_n(start, count)
        else:
            rows = index.reconstruct_batch(keys[start : start + count])
        if named is not None:
            out.write(named[start : start + count].astype("<i8").data.cast("B"))
        out.write(np.ascontiguousarray(rows, dtype="<f4").data.cast("B"))


def _opened(path: str) -> Any:
    """Read an index, mapped: the vectors of a large one are not in memory all at once."""
    flags = getattr(faiss, "IO_FLAG_MMAP_IFC", 0) | faiss.IO_FLAG_ONDISK_SAME_DIR
    try:
        return faiss.read_index(path, flags)
    except RuntimeError as exc:
        # Lists on disk are looked for beside a file, and a mapped one has no place.
        if "IO_FLAG_ONDISK_SAME_DIR" in str(exc):
            raise ValueError(_ELSEWHERE) from exc
        raise


def _own_ids(index: Any) -> Any:
    """Return the ids of an inverted file, ascending; None where rows are numbered from 0.

    They are prepared to be looked up: an inverted file keeps its rows by list, not by id.
    """
    inner: Any = index
    while isinstance(inner, faiss.IndexPreTransform):
        inner = faiss.downcast_index(inner.index)
    if not isinstance(inner, faiss.IndexIVF):
        return None
    lists: Any = inner.invlists
    lists = faiss.downcast_InvertedLists(lists)
    if isinstance(lists, faiss.OnDiskInvertedLists):
        raise ValueError(_ELSEWHERE)
    sizes = [lists.list_size(i) for i in range(lists.nlist)]
    parts = [faiss.rev_swig_ptr(lists.get_ids(i), n).copy() for i, n in enumerate(sizes) if n]
    ids = np.sort(np.concatenate(parts)) if parts else np.empty(0, np.int64)
    numbered = bool(np.array_equal(ids, np.arange(len(ids))))
    kinds = type(inner.direct_map)
    inner.set_direct_map_type(kinds.Array if numbered else kinds.Hashtable)
    return None if numbered else ids


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Run by ``hdf5`` in a process of its own: tells what an HDF5 file holds, and sends one of its datasets.

It sends no more than is there, in no other order: the reader on the other side judges it.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

import h5py
import numpy as np

_MOST = 1000
_DEEPEST = 8
_SLAB = 8 << 20
_BAND = 128 << 20
_IDS = 4096


def main(path: str, command: str, name: str = "") -> None:
    """Carry out one command."""
    with h5py.File(path, "r", rdcc_nbytes=_SLAB) as file:
        found: dict[str, Any] = {}
        links: list[str] = []
        _walk(file, "", found, links, set())
        if command == "list":
            told = {"tables": [_told(*item) for item in found.items()], "links": links,
                    "distance": _distance(file)}  # fmt: skip
            sys.stdout.write(json.dumps(told) + "\n")
        else:
            signal.alarm(0)
            (_rows if command == "rows" else _ids)(found[name], sys.stdout.buffer)


def _walk(group: Any, above: str, found: dict[str, Any], links: list[str], seen: set[Any]) -> None:
    """Collect datasets; a link other than a hard one may lead out of the file, and is not followed."""
    for key in group:
        name = above + key
        if len(found) + len(links) >= _MOST:
            return
        if not isinstance(group.get(key, getlink=True), h5py.HardLink):
            links.append(name)
            continue
        item = group[key]
        if isinstance(item, h5py.Dataset):
            found[name] = item
        elif isinstance(item, h5py.Group) and item.id not in seen and name.count("/") < _DEEPEST:
            seen.add(item.id)
            _walk(item, name + "/", found, links, seen)


def _told(name: str, data: Any) -> dict[str, Any]:
    plan = data.id.get_create_plist()
    filters = [plan.get_filter(i) for i in range(plan.get_nfilters())]
    # The shape of a virtual dataset is that of others, which would be opened to learn it.
    outside = plan.get_layout() == h5py.h5d.VIRTUAL or plan.get_external_count() > 0
    text = h5py.check_string_dtype(data.dtype) is not None
    return {
        "name": name,
        "shape": [] if outside else list(data.shape or ()),
        "dtype": data.dtype.newbyteorder("<").str,
        "text": text,
        "outside": outside,
        "stored": 0 if outside else data.id.get_storage_size(),
        "chunk": list(data.chunks or ()),
        "filtered": bool(filters),
        "unknown": [f"{f[0]} {f[3].decode('latin-1')}" for f in filters if not h5py.h5z.filter_avail(f[0])],
    }


def _distance(file: Any) -> str | None:
    if "distance" not in file.attrs:
        return None
    kind = file.attrs.get_id("distance")
    if kind.shape != () or h5py.check_string_dtype(kind.dtype) is None:
        return None
    value = file.attrs["distance"]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _slabs(data: Any) -> Iterator[Any]:
    """Yield whole chunks of rows, so that each is unpacked once."""
    row = max(1, data.dtype.itemsize * int(np.prod(data.shape[1:], dtype=np.int64)))
    step = max(1, _SLAB // row)
    if data.chunks:
        tall = data.chunks[0]
        step = max(1, min(max(tall, step // tall * tall), _BAND // row))
    for start in range(0, data.shape[0], step):
        yield data[start : start + step]


def _rows(data: Any, out: BinaryIO) -> None:
    for slab in _slabs(data):
        numbers = np.ascontiguousarray(slab, dtype=slab.dtype.newbyteorder("<"))
        out.write(numbers.reshape(-1).view(np.uint8).data)


def _ids(data: Any, out: BinaryIO) -> None:
    """Send the lengths of some ids, then the ids, and so on."""
    for start in range(0, data.shape[0], _IDS):
        values = data[start : start + _IDS].tolist()
        names = [value if isinstance(value, bytes) else str(value).encode() for value in values]
        out.write(np.array([len(name) for name in names], dtype="<i8").tobytes())
        out.write(b"".join(names))


if __name__ == "__main__":
    main(*sys.argv[1:])

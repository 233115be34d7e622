"""safetensors: named tensors, one of them the table; alone, or in shards behind an index file.

The library judges the header: lengths, dtypes, offsets that overlap or leave holes. The numbers are then
read, not mapped, for the reasons that ``arrays.column_major`` gives. An export writes one tensor,
``embedding``, and the ids to ``DEST.ids.json``, which an import of ``DEST`` finds by itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..vectors import Vectors
from . import checkpoints, ids
from .arrays import Encoding, row_major
from .base import Options, Source, bad, fewer, reading
from .checkpoints import Tensor

if TYPE_CHECKING:
    from ..tables import EmbeddingTable

#: Of a header, in the library's reader too.
_MAX_HEADER = 100_000_000
_NAME = "embedding"


def claims(head: bytes) -> bool:
    """Return whether a file that begins so is one: the length of a header, then the header's brace."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _MAX_HEADER


def read(path: Path, options: Options) -> Source:
    """Open a ``.safetensors`` or its ``.safetensors.index.json``; ``options.tensor`` names the table."""
    return checkpoints.read("safetensors", path, options, _listed, _blocks)


def _listed(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise bad(path, "", "no such file", "every shard lies beside the index")
    with reading(path, SafetensorError), safe_open(path, framework="numpy") as file:
        heads = {name: file.get_slice(name) for name in file.offset_keys()}
        starts = _starts(path)
        return {
            name: Tensor(
                name=name,
                path=path,
                shape=tuple(head.get_shape()),
                dtype=head.get_dtype(),
                numbers=starts.get(name),
            )
            for name, head in heads.items()
        }


def _starts(path: Path) -> dict[str, int]:
    """Return where in the file each tensor begins, which the library knows but does not tell."""
    with reading(path, ValueError, LookupError, TypeError, RecursionError), path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(min(length, _MAX_HEADER)))
        header.pop("__metadata__", None)
        return {name: 8 + length + int(entry["data_offsets"][0]) for name, entry in header.items()}


def _blocks(tensor: Tensor, encoding: Encoding) -> Iterator[Vectors]:
    n, d = tensor.shape
    with reading(tensor.path), tensor.path.open("rb") as file:
        file.seek(tensor.numbers)
        yield from row_major(file, (n, d), encoding, lambda row: fewer(tensor.path, n, row))


def write(table: EmbeddingTable, dest: Path, *, overwrite: bool) -> tuple[str, ...]:
    """Write the vectors to ``dest`` as tensor ``embedding``, and the ids to ``dest.ids.json``."""
    return ids.write_array(table, dest, _header, name="safetensors", overwrite=overwrite)


def _header(shape: tuple[int, int], dtype: np.dtype[Any]) -> bytes:
    size = shape[0] * shape[1] * dtype.itemsize
    entry = {"dtype": f"F{8 * dtype.itemsize}", "shape": shape, "data_offsets": (0, size)}
    text = json.dumps({_NAME: entry}, separators=(",", ":")).encode()
    # Blanks after the header align the numbers, as the library writes them.
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text

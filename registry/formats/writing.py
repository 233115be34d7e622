"""How an export reaches the disk: whole, or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import InputError, StorageError, printable
from ..vectors import Vectors, split
from .base import BATCH_BYTES, batch_rows

if TYPE_CHECKING:
    from ..tables import EmbeddingTable


@contextmanager
def publish(dest: Path, *, overwrite: bool) -> Iterator[BinaryIO]:
    """Open a file that appears as ``dest`` only when the block ends well, fsynced and complete.

    Raises:
        InputError: ``dest`` exists and ``overwrite`` is false.
        StorageError: the disk refused.
    """
    if dest.is_dir() or (dest.exists() and not overwrite):
        raise _taken(dest)
    partial = dest.with_name(f".{dest.name[:200]}.{secrets.token_hex(6)}.partial")
    try:
        with partial.open("x+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        _place(partial, dest, overwrite)
    except OSError as exc:
        if isinstance(exc, StorageError):
            raise
        raise StorageError(
            f"{printable(str(dest))}: cannot be written: {printable(exc.strerror or str(exc))}",
            hint="nothing was written there; choose another place",
        ) from exc
    finally:
        with suppress(OSError):  # it was never made, or the disk takes no changes
            partial.unlink(missing_ok=True)


def _taken(dest: Path) -> InputError:
    hint = "choose another name" if dest.is_dir() else "choose another name, or say --overwrite"
    return InputError(f"{printable(str(dest))}: exists already", hint=hint)


def _place(partial: Path, dest: Path, overwrite: bool) -> None:
    if overwrite:
        partial.replace(dest)
    else:
        _link(partial, dest)
    directory = os.open(dest.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _link(partial: Path, dest: Path) -> None:
    """Create ``dest`` only if it is not there: a rename would replace what came in the meantime."""
    try:
        dest.hardlink_to(partial)
    except FileExistsError as exc:
        raise _taken(dest) from exc
    except OSError:
        # Some mounts have no hard links.
        partial.replace(dest)


def pieces(table: EmbeddingTable) -> Iterator[tuple[pa.Array, Vectors, pa.Table | None]]:
    """Yield ids, vectors and attributes of a table, some MiB at a time.

    Raises:
        InputError: the table has no rows.
    """
    if table.rows == 0:
        raise InputError("a table without rows cannot be exported")
    for ids, vectors, extra in table.batches():
        for part in split(len(vectors), batch_rows(vectors.shape[1] * vectors.itemsize)):
            length = part.stop - part.start
            cut = extra.slice(part.start, length) if extra is not None else None
            yield ids.slice(part.start, length), vectors[part], cut


def left_out(table: EmbeddingTable, name: str) -> tuple[str, ...]:
    """Return what to tell of a format that holds ids and vectors only."""
    extra = [c for c in table.column_names if c not in ("id", "vector", "fingerprint")]
    told = ", ".join(printable(c, 40) for c in extra)
    return (f"attributes are not kept by {name}: {told}",) if extra else ()


def refuse_ids(ids: pa.Array, pattern: str, why: str, name: str) -> None:
    """Refuse ids that a text format cannot hold.

    Args:
        ids: some ids of the table.
        pattern: RE2 expression that finds a forbidden id.
        why: what is forbidden, for the message.
        name: of the format.

    Raises:
        InputError: an id matches; it is named.
    """
    found = pc.match_substring_regex(ids, pattern)
    row = pc.index(found, True).as_py()
    if row >= 0:
        shown = printable(ids[row].as_py(), 60)
        raise InputError(
            f"id '{shown}': {why}, which {name} cannot hold",
            hint="export as parquet, arrow, npy or npz",
        )


def text_rows(ids: pa.Array, vectors: Vectors) -> pa.Buffer:
    """Return ``id number … number`` lines; each number is the shortest that reads back as float32."""
    return text_lines([ids, numbers_text(vectors, " ")], " ")


def numbers_text(vectors: Vectors, between: str) -> pa.Array:
    """Return the numbers of each row, joined; each is the shortest that reads back as float32."""
    flat = pa.array(vectors.astype(np.float32, copy=False).reshape(-1)).cast(pa.string())
    offsets = pa.array(np.arange(len(vectors) + 1, dtype=np.int32) * np.int32(vectors.shape[1]))
    return pc.binary_join(pa.ListArray.from_arrays(offsets, flat), between).cast(pa.large_string())


def glued(*parts: pa.Array | str) -> pa.Array:
    """Return pieces of text glued together, row by row, as large_string; a null among them makes a null."""
    texts = [pa.scalar(part, pa.large_string()) if isinstance(part, str) else part.cast(pa.large_string())
             for part in parts]  # fmt: skip
    return pc.binary_join_element_wise(*texts, pa.scalar("", pa.large_string()))


def text_lines(columns: Sequence[pa.Array], between: str) -> pa.Buffer:
    """Return columns of text, without nulls, as lines."""
    first, *others = columns
    ended = glued(first, *(part for column in others for part in (between, column)), "\n")
    return ended.buffers()[2].slice(0, pc.sum(pc.binary_length(ended)).as_py())


def text_pieces(table: EmbeddingTable) -> Iterator[tuple[pa.Array, Vectors, pa.Table | None]]:
    """Yield ids, vectors and attributes in pieces whose text fits in memory comfortably."""
    for ids, vectors, extra in pieces(table):
        for part in split(len(vectors), max(1, BATCH_BYTES // 4 // (4 * vectors.shape[1]))):
            length = part.stop - part.start
            cut = extra.slice(part.start, length) if extra is not None else None
            yield ids.slice(part.start, length), vectors[part], cut


def widened(table: EmbeddingTable) -> tuple[str, ...]:
    """Return what to tell of numbers written as text, which says nothing of their size."""
    return ("float16 numbers read back as float32",) if table.space.dtype == "float16" else ()

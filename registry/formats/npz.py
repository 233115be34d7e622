"""NumPy ``.npz``: a zip of arrays, one of them the vectors, perhaps another the ids.

Vectors that were quantised are read from ``codes`` and ``scale``: see ``scaled``.

Members are inflated as a stream. Only a Fortran-ordered member is spilled to a temporary file, since its
rows lie scattered over the whole of it.
"""

from __future__ import annotations

import lzma
import shutil
import struct
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..errors import InputError, StorageError, did_you_mean, printable
from ..vectors import Vectors, split
from . import ids as idfile
from . import scaled
from .arrays import (
    ArrayHeader,
    Encoding,
    check_size,
    column_major,
    fill,
    float_encoding,
    header,
    header_bytes,
    row_major,
)
from .base import (
    BATCH_BYTES,
    COPY_AGAIN,
    Options,
    Source,
    bad,
    check_shape,
    fewer,
    more,
    once,
    reading,
)
from .lines import check_encoding
from .writing import left_out, pieces, publish, refuse_ids

if TYPE_CHECKING:
    from ..tables import EmbeddingTable

#: What zipfile raises for damaged archives, apart from OSError and EOFError.
_DAMAGE = (
    zipfile.BadZipFile, zipfile.LargeZipFile, lzma.LZMAError, struct.error, NotImplementedError,
    RuntimeError, ValueError, OverflowError, LookupError,
)  # fmt: skip
_ID_KEYS = ("ids", "id", "words", "vocab", "tokens", "keys", "names", "index", "labels")
_MAX_ID = 1 << 20


@dataclass(frozen=True, slots=True)
class _Plan:
    path: Path
    vectors: str
    head: ArrayHeader
    numbers: Encoding
    scaling: scaled.Scaling | None
    encoding: str


def read(path: Path, options: Options) -> Source:
    """Open an ``.npz``; of several tables of floats, ``options.tensor`` names the one."""
    encoding = check_encoding(options.encoding)
    heads, sizes = _headers(path)
    key = _vectors_key(path, heads, options.tensor)
    head, place = heads[key], f"array '{printable(key)}'"
    scaling = scaled.scaling(path, key, heads, sizes)
    numbers = scaling.encoding if scaling else float_encoding(path, place, head)
    n, d = check_shape(path, place, head.shape)
    check_size(path, head, sizes[key], d * numbers.stored.itemsize)
    plan = _Plan(path, key, head, numbers, scaling, encoding)
    inside = None if options.ids else _ids_key(path, heads, key, n, options.id_column)
    names = _inside(plan, inside) if inside else idfile.names(path, options, n)
    return Source(
        path=path,
        format="npz",
        dim=d,
        dtype=numbers.kept.name,
        rows=n,
        warnings=numbers.told + names.told,
        declares=names.declares,
        batches=once(lambda: names.batches(_blocks(plan))),
    )


def _inside(plan: _Plan, key: str) -> idfile.Names:
    return idfile.Names(lambda: idfile.Feed(plan.path, plan.path, _names(plan, key)))


@contextmanager
def _member(path: Path, key: str) -> Iterator[BinaryIO]:
    with reading(path, *_DAMAGE), zipfile.ZipFile(path) as archive:
        name = key if key in archive.namelist() else f"{key}.npy"
        with archive.open(name) as file:
            yield cast(BinaryIO, file)


def _headers(path: Path) -> tuple[dict[str, ArrayHeader], dict[str, int]]:
    heads, sizes = {}, {}
    with reading(path, *_DAMAGE), zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.filename.endswith(".npy"):
                key = info.filename.removesuffix(".npy")
                sizes[key] = info.file_size
                with archive.open(info) as file:
                    heads[key] = header(path, f"array '{printable(key)}'", cast(BinaryIO, file))
    if not heads:
        raise bad(path, "", "a zip file without arrays", "a torch checkpoint or another archive?")
    return heads, sizes


def _vectors_key(path: Path, heads: Mapping[str, ArrayHeader], wanted: str | None) -> str:
    told = ", ".join(printable(key, 40) for key in heads)
    if wanted is not None:
        if wanted not in heads:
            raise bad(path, "", f"no array '{printable(wanted)}'",
                      did_you_mean(wanted, heads, f"arrays: {told}"))  # fmt: skip
        return wanted
    tables = _tables(heads)
    if len(tables) > 1:
        raise bad(path, "", f"several tables of floats: {', '.join(map(printable, tables))}",
                  "name one with --tensor")  # fmt: skip
    if tables or len(heads) == 1:
        return (tables or list(heads))[0]
    # The reader of the array says what it is instead.
    likely = [key for key, head in heads.items() if len(head.shape) == 2 and head.kind != "U"]
    if likely:
        return likely[0]
    raise bad(path, "", f"no two-dimensional array of floats among: {told}", "one row per id")


def _tables(heads: Mapping[str, ArrayHeader]) -> list[str]:
    flat = [key for key, head in heads.items() if len(head.shape) == 2 and head.floats]
    codes = scaled.codes_key(heads)
    return flat if codes is None else [codes, *(key for key in flat if not scaled.is_parameter(key))]


def _ids_key(
    path: Path, heads: Mapping[str, ArrayHeader], vectors: str, n: int, wanted: str | None
) -> str | None:
    others = {key: head for key, head in heads.items() if key != vectors}
    if wanted is not None:
        if wanted not in others:
            raise bad(path, "", f"no array '{printable(wanted)}'",
                      did_you_mean(wanted, others, "name the array of ids"))  # fmt: skip
        return _checked_ids(path, wanted, others[wanted], n)
    lists = [key for key, head in others.items() if len(head.shape) == 1 and head.kind in "USO"]
    named = [key for key in lists if key.lower() in _ID_KEYS]
    fitting = [key for key in lists if others[key].shape[0] == n]
    chosen = named or fitting
    if len(chosen) > 1:
        raise bad(path, "", f"several arrays of strings: {', '.join(map(printable, chosen))}",
                  "name the ids with --id-column")  # fmt: skip
    return _checked_ids(path, chosen[0], others[chosen[0]], n) if chosen else None


def _checked_ids(path: Path, key: str, head: ArrayHeader, n: int) -> str:
    place = f"array '{printable(key)}'"
    if head.kind == "O":
        raise bad(path, place, "ids as Python objects, which would have to be unpickled: never done",
                  "save the ids as strings: numpy.array(ids, dtype=str); or give --ids")  # fmt: skip
    if head.kind not in "US" or len(head.shape) != 1:
        raise bad(path, place, "not a list of strings", "save the ids as numpy.array(ids, dtype=str)")
    if head.shape[0] != n:
        raise bad(path, place, f"{head.shape[0]} ids for {n} rows", "one id for each row")
    size = int(head.descr.lstrip("<>|=")[1:] or 0)
    if size > _MAX_ID:
        raise bad(path, place, f"ids of {size} characters", "save them in a text file: --ids")
    return key


def _blocks(plan: _Plan) -> Iterator[Vectors]:
    blocks = _stored(plan)
    return plan.scaling.apply(blocks, lambda key: _member(plan.path, key)) if plan.scaling else blocks


def _stored(plan: _Plan) -> Iterator[Vectors]:
    n, d = plan.head.shape
    with _member(plan.path, plan.vectors) as file:
        header(plan.path, "", file)
        if plan.head.fortran and d > 1:
            yield from _spilled(plan, file, n, d)
        else:
            yield from row_major(file, (n, d), plan.numbers, lambda row: fewer(plan.path, n, row))
        # Reading past the end also has zipfile check the member's sum.
        if file.read(1):
            raise more(plan.path, n)


def _spilled(plan: _Plan, file: BinaryIO, n: int, d: int) -> Iterator[Vectors]:
    size = n * d * plan.numbers.stored.itemsize
    with tempfile.TemporaryFile() as spill:
        if shutil.disk_usage(tempfile.gettempdir()).free < size:
            raise StorageError(
                f"{printable(str(plan.path))}: its Fortran-ordered array needs {size} bytes on disk",
                hint="point TMPDIR to a larger disk, or save the array in C order, or as .npy",
            )
        left = size
        while left and (piece := file.read(min(left, BATCH_BYTES))):
            spill.write(piece)
            left -= len(piece)
        spill.flush()
        if left:
            raise fewer(plan.path, n, "fewer")
        yield from column_major(plan.path, spill.fileno(), 0, (n, d), plan.numbers)


def _names(plan: _Plan, key: str) -> Iterator[pa.Array]:
    with _member(plan.path, key) as file:
        head = header(plan.path, "", file)
        dtype, n = np.dtype(head.descr), head.shape[0]
        step = max(1, min(65536, BATCH_BYTES // max(1, dtype.itemsize)))
        for part in split(n, step):
            block = np.empty(part.stop - part.start, dtype=dtype)
            if block.nbytes and fill(file, block) < block.nbytes:
                raise bad(plan.path, f"array '{printable(key)}'", "truncated", COPY_AGAIN)
            yield _text(plan, key, block, part.start)


def _text(plan: _Plan, key: str, block: NDArray[Any], start: int) -> pa.Array:
    place = f"array '{printable(key)}', rows {start} to {start + len(block) - 1}"
    try:
        names = block.tolist()
        if block.dtype.kind == "S":
            names = [name.decode(plan.encoding) for name in names]
        return pa.array(names, pa.large_string())
    except ValueError as exc:
        raise bad(plan.path, place, "ids that are no text", "name their --encoding") from exc


def write(table: EmbeddingTable, dest: Path, *, overwrite: bool) -> tuple[str, ...]:
    """Write arrays ``vectors`` and ``ids`` (fixed-width strings, deflated).

    Raises:
        InputError: an id ends in a NUL, or is so long that all ids padded to it would pass 4 GiB.
    """
    dtype = np.dtype(table.space.dtype).newbyteorder("<")
    with (
        publish(dest, overwrite=overwrite) as file,
        zipfile.ZipFile(file, "w") as archive,
    ):
        with _entry(archive, "vectors.npy", zipfile.ZIP_STORED) as out:
            out.write(header_bytes((table.rows, table.dim), dtype))
            for _, vectors, _ in pieces(table):
                out.write(vectors.astype(dtype, copy=False).data.cast("B"))
        with _entry(archive, "ids.npy", zipfile.ZIP_DEFLATED) as out:
            _write_ids(table, out)
    return left_out(table, "npz")


def _entry(archive: zipfile.ZipFile, name: str, method: int) -> IO[bytes]:
    # A fixed date: the same table gives the same file.
    info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    info.compress_type = method
    return archive.open(info, "w", force_zip64=True)


def _write_ids(table: EmbeddingTable, out: IO[bytes]) -> None:
    width = 1
    for ids, _, _ in table.batches():
        refuse_ids(ids, "\\x00$", "a NUL at its end", "npz")
        width = max(width, pc.max(pc.utf8_length(ids)).as_py())
    if 4 * width * table.rows > 4 << 30 or width > _MAX_ID:
        raise InputError(f"ids of up to {width} characters are too long for npz",
                         hint="export as parquet")  # fmt: skip
    dtype = np.dtype(f"<U{width}")
    out.write(header_bytes((table.rows,), dtype))
    for block in table.blocks(max(1, BATCH_BYTES // (4 * width))):
        out.write(np.array(block.ids.to_pylist(), dtype=dtype).tobytes())

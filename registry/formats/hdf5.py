"""HDF5 as ann-benchmarks writes it: ``train`` holds the vectors, the attribute ``distance`` their metric.

Another dataset is named as ``--tensor``; ids are a dataset ``ids`` of strings, or the one that
``--id-column`` names. Only what lies in the file is read: links, virtual datasets and external storage are
not followed. The library reads in a process of its own, see ``child``. An export writes ``train``, ``ids``
and ``distance``.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ..errors import UsageError, did_you_mean, printable
from ..vectors import Vectors
from . import child
from . import ids as idfile
from .arrays import Encoding, fill, row_major
from .base import Options, Source, bad, check_shape, once
from .lines import check_encoding
from .writing import left_out, pieces, publish, refuse_ids

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from ..tables import EmbeddingTable

_SCRIPT = "hdf5_child.py"
_LIBRARY = "the HDF5 library"
_TABLE, _IDS, _DISTANCE = "train", "ids", "distance"
_METRICS = {
    "angular": "cosine", "cosine": "cosine", "euclidean": "l2", "l2": "l2",
    "dot": "dot", "ip": "dot", "inner_product": "dot",
}  # fmt: skip
_DISTANCES = {"cosine": "angular", "l2": "euclidean", "dot": "dot"}
_ID_NAMES = (_IDS, "id", "words", "tokens", "keys", "names")
#: Only rows that are all the same are packed better.
_MOST_PACKED = 1000
_MAX_CHUNK = 256 << 20
_MAX_ID = 1 << 20
_PIECE = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """What a file says of one dataset.

    Attributes:
        dtype: numpy's name of it, little-endian.
        text: whether it holds strings.
        outside: whether its numbers lie elsewhere: in other files, or in other datasets.
        stored: bytes that it takes in the file.
        chunk: shape of a chunk; empty where it is not cut.
        filtered: whether chunks are packed.
        unknown: filters that are not there to unpack them.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    text: bool
    outside: bool
    stored: int
    chunk: tuple[int, ...]
    filtered: bool
    unknown: tuple[str, ...]

    @property
    def place(self) -> str:
        """Where an error about it is."""
        return f"dataset '{printable(self.name, 100)}'"

    @property
    def flat(self) -> bool:
        """Whether it could be a table of floats; of what lies elsewhere nothing is known."""
        return (self.outside or len(self.shape) == 2) and self.dtype[1:2] == "f"


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    datasets: Mapping[str, Dataset]
    links: Sequence[str]
    distance: str | None


def read(path: Path, options: Options) -> Source:
    """Open an HDF5 file; ``options.tensor`` names the dataset of the vectors.

    Raises:
        InputError: it holds none, several could be meant, or it claims more than it stores.
        UsageError: h5py is not installed.
    """
    _require(path)
    encoding = check_encoding(options.encoding)
    file = _listed(path)
    table = _checked(path, _table(file, options.tensor))
    numbers = _encoding(path, table)
    n, d = check_shape(path, table.place, table.shape)
    inside = None if options.ids else _ids(file, table, options.id_column)
    names = _inside(path, inside, encoding) if inside else idfile.names(path, options, n)
    said, told = _metric(file.distance)
    return Source(
        path=path,
        format="hdf5",
        dim=d,
        dtype=numbers.kept.name,
        rows=n,
        warnings=numbers.told + names.told + told,
        declares={**said, **names.declares},
        batches=once(lambda: names.batches(_blocks(path, table, numbers))),
    )


def _require(path: Path) -> None:
    if importlib.util.find_spec("h5py") is None:
        raise UsageError(f"{printable(str(path))}: HDF5 needs the package h5py",
                         hint="pip install 'embreg[hdf5]'")  # fmt: skip


def _script(path: Path, *words: str) -> AbstractContextManager[child.Child]:
    return child.running(path, _SCRIPT, *words, library=_LIBRARY)


def _listed(path: Path) -> _File:
    with _script(path, "list") as running:
        told = running.document()
        running.finish()
    found = [Dataset(**_frozen(entry)) for entry in told["tables"]]
    return _File(path, {dataset.name: dataset for dataset in found}, told["links"], told["distance"])


def _frozen(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}


def _table(file: _File, wanted: str | None) -> Dataset:
    name = wanted.strip("/") if wanted is not None else _TABLE
    if name in file.links:
        raise bad(file.path, f"dataset '{printable(name, 100)}'", "a link, which may lead out of the file",
                  "links are not followed: copy the dataset itself into the file")  # fmt: skip
    if name in file.datasets:
        return file.datasets[name]
    if wanted is not None:
        hint = did_you_mean(name, file.datasets, f"datasets: {_told(file.datasets.values())}")
        raise bad(file.path, "", f"no dataset '{printable(wanted, 100)}'", hint)
    tables = [dataset for dataset in file.datasets.values() if dataset.flat]
    if len(tables) == 1:
        return tables[0]
    if tables:
        raise bad(file.path, "", f"several datasets could be the table: {_told(tables)}",
                  "name one with --tensor")  # fmt: skip
    held = _told(file.datasets.values()) or "none"
    raise bad(file.path, "", f"no two-dimensional dataset of floats among: {held}", "one row per id")


def _told(datasets: Any) -> str:
    told = [f"{printable(d.name, 80)} ({' x '.join(map(str, d.shape))})" for d in list(datasets)[:20]]
    return ", ".join(told)


def _encoding(path: Path, table: Dataset) -> Encoding:
    if table.dtype[1:2] != "f":
        what = "strings" if table.text else table.dtype
        raise bad(path, table.place, f"holds {what}, not floats", "convert it with .astype('float32')")
    return Encoding.of(np.dtype(table.dtype))


def _checked(path: Path, dataset: Dataset) -> Dataset:
    """Refuse what lies elsewhere, cannot be unpacked, or promises more than can be there."""
    if dataset.outside:
        raise bad(path, dataset.place, "its numbers lie in other files or datasets, which are not followed",
                  "copy them into this dataset")  # fmt: skip
    if dataset.unknown:
        told = printable(", ".join(dataset.unknown), 100)
        raise bad(path, dataset.place, f"packed with a filter that is not here: {told}",
                  "write it again with gzip: h5repack -f GZIP=4 OLD NEW")  # fmt: skip
    size = np.dtype(dataset.dtype).itemsize
    claimed = size * _product(dataset.shape)
    have = min(dataset.stored, path.stat().st_size)
    if claimed > have * (_MOST_PACKED if dataset.filtered else 1):
        packed = f", packed over {_MOST_PACKED} times" if dataset.filtered else ""
        what = f"promises {claimed:,} bytes, of which the file holds {have:,}{packed}"
        raise bad(path, dataset.place, what, "rows that were never written, or a damaged file")
    if size * _product(dataset.chunk) > _MAX_CHUNK and dataset.chunk:
        raise bad(path, dataset.place, f"chunks of {dataset.chunk}, over {_MAX_CHUNK >> 20} MiB each",
                  "write it again with smaller chunks: h5repack -l CHUNK=1000x100 OLD NEW")  # fmt: skip
    return dataset


def _product(shape: Sequence[int]) -> int:
    total = 1
    for length in shape:
        total *= length
    return total


def _metric(distance: str | None) -> tuple[dict[str, Any], tuple[str, ...]]:
    if distance is None:
        return {}, ()
    metric = _METRICS.get(distance.lower())
    if metric is None:
        return {}, (f"its distance '{printable(distance, 40)}' is none that is known: say --metric",)
    return {"metric": metric}, ()


def _ids(file: _File, table: Dataset, wanted: str | None) -> Dataset | None:
    others = {name: d for name, d in file.datasets.items() if name != table.name}
    if wanted is not None:
        if wanted.strip("/") not in others:
            raise bad(file.path, "", f"no dataset '{printable(wanted, 100)}'",
                      did_you_mean(wanted, others, "name the dataset of ids"))  # fmt: skip
        return _checked_ids(file.path, others[wanted.strip("/")], table)
    known = [d for name, d in others.items() if name in _ID_NAMES and d.shape == table.shape[:1] and d.text]
    return _checked_ids(file.path, known[0], table) if known else None


def _checked_ids(path: Path, ids: Dataset, table: Dataset) -> Dataset:
    if len(ids.shape) != 1 or not (ids.text or ids.dtype[1:2] in "iu"):
        raise bad(path, ids.place, "not a list of strings or integers", "name the ids with --id-column")
    if ids.shape != table.shape[:1]:
        raise bad(path, ids.place, f"{ids.shape[0]} ids for {table.shape[0]} rows", "one id for each row")
    return _checked(path, ids)


def _inside(path: Path, ids: Dataset, encoding: str) -> idfile.Names:
    return idfile.Names(lambda: idfile.Feed(path, path, _names(path, ids, encoding)))


def _blocks(path: Path, table: Dataset, numbers: Encoding) -> Iterator[Vectors]:
    n, d = table.shape
    with _script(path, "rows", table.name) as running:
        yield from row_major(running.output, (n, d), numbers, lambda _: running.error())
        running.finish()


def _names(path: Path, ids: Dataset, encoding: str) -> Iterator[pa.Array]:
    with _script(path, "ids", ids.name) as running:
        for start in range(0, ids.shape[0], _PIECE):
            lengths = _bytes(running, 8 * min(_PIECE, ids.shape[0] - start)).view("<i8")
            if lengths.min() < 0 or lengths.max() > _MAX_ID:
                raise bad(path, ids.place, f"ids of {lengths.max()} bytes", "save them in a text file: --ids")
            text = _bytes(running, int(lengths.sum()))
            yield _text(path, ids, lengths, text, encoding)
        running.finish()


def _bytes(running: child.Child, count: int) -> Any:
    block = np.empty(count, dtype=np.uint8)
    if count and fill(running.output, block) < count:
        raise running.error()
    return block


def _text(path: Path, ids: Dataset, lengths: Any, text: Any, encoding: str) -> pa.Array:
    ends = np.concatenate([[0], np.cumsum(lengths)]).astype("<i8")
    names = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(lengths), [None, pa.py_buffer(ends), pa.py_buffer(text)]
    )
    try:
        if encoding != "utf-8":
            return pa.array([name.decode(encoding) for name in names.to_pylist()], pa.large_string())
        return names.cast(pa.large_string())
    except (ValueError, pa.ArrowInvalid) as exc:
        raise bad(path, ids.place, "ids that are no text", "name their --encoding") from exc


def write(table: EmbeddingTable, dest: Path, *, overwrite: bool) -> tuple[str, ...]:
    """Write datasets ``train`` and ``ids``, and the attribute ``distance``.

    Raises:
        InputError: an id holds a NUL, which ends a string of HDF5.
        UsageError: h5py is not installed.
    """
    _require(dest)
    import h5py

    for ids, _, _ in table.batches():
        refuse_ids(ids, "\\x00", "a NUL", "hdf5")
    with publish(dest, overwrite=overwrite) as whole, h5py.File(whole, "w") as file:
        dtype = np.dtype(table.space.dtype).newbyteorder("<")
        vectors = file.create_dataset(_TABLE, (table.rows, table.dim), dtype)
        names = file.create_dataset(_IDS, (table.rows,), h5py.string_dtype())
        file.attrs[_DISTANCE] = _DISTANCES[table.space.metric]
        done = 0
        for ids, block, _ in pieces(table):
            vectors[done : done + len(block)] = block
            names[done : done + len(block)] = np.array(ids.to_pylist(), dtype=object)
            done += len(block)
    return left_out(table, "hdf5")

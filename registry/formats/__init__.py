"""Foreign formats, one file each: read as a stream of row batches, written back as a stream.

``open_source`` reads a header and promises the rows; ``write_table`` writes a table, whole or not at all.
A format is chosen by suffix, then by its first bytes, and loaded when it is first needed. A module of a
format, or a value in a module of several, has ``read(path, options) -> Source`` and, if it writes,
``write(table, dest, *, overwrite) -> notes``.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ..errors import UnknownChoice, UsageError, printable
from ..vectors import Batch
from .base import Options, Source, bad, once, open_bytes, packed_away, reading
from .compression import bare, codec_of

if TYPE_CHECKING:
    from ..tables import EmbeddingTable

__all__ = ["FORMATS", "Format", "Options", "Source", "open_source", "source_of_table", "write_table"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """One foreign format.

    Attributes:
        module: in this package; ``MODULE:VALUE`` where several formats share one.
        suffixes: of file names, lower case; the first format that has one writes it.
        magic: first bytes, where it has any of its own.
        takes: the options it understands.
        packed: whether it is read and written through a compression, one piece after the other.
        index: how the name of a file ends that lists the shards of a divided one, which is read only.
        guest: suffixes of other formats that its files have as well, told by their first bytes.
        writes: whether it is written.
        tokens: whether its tables have a row for each token.
    """

    name: str
    module: str
    suffixes: tuple[str, ...]
    magic: tuple[bytes, ...] = ()
    takes: frozenset[str] = frozenset()
    packed: bool = False
    index: str | None = None
    guest: tuple[str, ...] = ()
    writes: bool = True
    tokens: bool = False


_ARRAY = frozenset({"ids", "id_column", "encoding"})
_NAMED = _ARRAY | {"tensor"}
_TEXT = frozenset({"encoding"})
_COLUMNS = frozenset({"id_column", "vector_column"})
_RECORDS = _COLUMNS | _TEXT
_FAISS = (b"IxF2", b"IxFI", b"IxFl", b"IxMp", b"IxM2", b"IxSQ", b"IxPq", b"IwFl", b"IwSq", b"IwPQ", b"IHNf")
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")

#: Every format by its name.
FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        f.name: f
        for f in (
            Format(name="npy", module="npy", suffixes=(".npy",), magic=(b"\x93NUMPY",), takes=_ARRAY,
                   packed=True),
            Format(name="npz", module="npz", suffixes=(".npz",), magic=_ZIP, takes=_NAMED),
            Format(name="glove", module="glove", suffixes=(".txt", ".glove"), takes=_TEXT, packed=True),
            Format(name="word2vec", module="word2vec", suffixes=(".vec", ".w2v"), takes=_TEXT, packed=True),
            Format(name="word2vec-bin", module="word2vec_bin", suffixes=(".bin",), takes=_TEXT, packed=True),
            Format(name="fasttext", module="fasttext", suffixes=(".ftz",), magic=(b"\xba\x16\x4f\x2f",),
                   takes=_TEXT, packed=True, guest=(".bin",), writes=False),
            Format(name="jsonl", module="jsonl", suffixes=(".jsonl", ".ndjson"), takes=_RECORDS, packed=True),
            Format(name="csv", module="delimited:CSV", suffixes=(".csv",), takes=_RECORDS, packed=True),
            Format(name="tsv", module="delimited:TSV", suffixes=(".tsv",), takes=_RECORDS, packed=True),
            Format(name="tensorboard", module="tensorboard", suffixes=(), takes=_TEXT),
            Format(name="parquet", module="parquet", suffixes=(".parquet", ".pq"), magic=(b"PAR1",),
                   takes=_COLUMNS),
            Format(name="arrow", module="arrow", suffixes=(".arrow", ".feather", ".ipc", ".arrows"),
                   magic=(b"ARROW1", b"\xff\xff\xff\xff", b"FEA1"), takes=_COLUMNS),
            Format(name="safetensors", module="safetensors", suffixes=(".safetensors",), takes=_NAMED,
                   index=".safetensors.index.json", tokens=True),
            Format(name="hdf5", module="hdf5", suffixes=(".h5", ".hdf5", ".hdf"),
                   magic=(b"\x89HDF\r\n\x1a\n",), takes=_NAMED),
            Format(name="faiss", module="faiss_index", suffixes=(".faiss", ".index"), magic=_FAISS,
                   takes=_ARRAY),
            Format(name="torch", module="torch_checkpoint", suffixes=(".pt", ".pth"), magic=_ZIP,
                   takes=_NAMED, index=".bin.index.json", guest=(".bin",), writes=False, tokens=True),
        )
    }
)  # fmt: skip

_PICKLES = tuple(bytes([0x80, protocol]) for protocol in range(2, 6))
_TEXTS = ("glove", "word2vec")
_NEVER = (b"\0never",)
#: What to write for users of a format that is read only.
_INSTEAD = {"torch": "safetensors, which torch users read", "fasttext": "word2vec, which is fastText's .vec"}
_DEFAULT = Options()


def open_source(
    path: str | Path,
    *,
    format: str | None = None,  # noqa: A002
    options: Options = _DEFAULT,
) -> Source:
    """Open a file of vectors and read its header.

    Args:
        path: the file.
        format: one of ``FORMATS``; by default told from the suffix, else from the first bytes.
        options: what the user says of ids, columns and encoding.

    Raises:
        InputError: the file is missing, or cannot be what it claims.
        UnknownChoice: no such format.
        UsageError: an option that the format has no use for.
    """
    path = Path(path)
    if format is not None and format not in FORMATS:
        raise UnknownChoice("format", format, FORMATS)
    head = _head(path)
    chosen = FORMATS[format] if format else _detect(path, head, options)
    _check_packing(path, chosen)
    _check_options(chosen, options)
    if not chosen.tokens:  # elsewhere a tokenizer tells of the encoder, not of the rows
        options = replace(options, tokenizer=None)
    source: Source = _module(chosen).read(path, options)
    return source


def source_of_table(table: EmbeddingTable) -> Source:
    """Return a table in memory, or of a registry, as a source; its vectors are not copied."""
    return Source(
        path=Path("table"),
        format="table",
        dim=table.dim,
        dtype=table.space.dtype,
        rows=table.rows,
        batches=once(lambda: _rows_of(table)),
    )


def _rows_of(table: EmbeddingTable) -> Iterator[Batch]:
    for ids, vectors, extra in table.batches():
        attributes = None
        if extra is not None:
            columns = [column.combine_chunks() for column in extra.columns]
            attributes = pa.RecordBatch.from_arrays(columns, schema=extra.schema)
        yield Batch(vectors=vectors, ids=ids, attributes=attributes)


def write_table(
    table: EmbeddingTable,
    dest: str | Path,
    *,
    format: str | None = None,  # noqa: A002
    overwrite: bool = False,
) -> tuple[str, ...]:
    """Write a table to ``dest``, which appears complete or not at all.

    Args:
        table: what to write; it is streamed part by part.
        dest: the file; after the suffix of a text, of ``.bin`` or ``.npy``, another of ``.gz``, ``.bz2``,
            ``.zst`` or ``.xz`` compresses.
        format: one of ``FORMATS``; by default told from the suffix.
        overwrite: whether a file that is there may be replaced.

    Returns:
        What could not be kept, one sentence each: attributes, in formats without columns.

    Raises:
        InputError: the format cannot hold one of the ids, the table has no rows, or ``dest`` exists.
        UnknownChoice: no such format.
        UsageError: the suffix of ``dest`` tells no format, or one that is read only.
        StorageError: the disk refused.
    """
    dest = Path(dest)
    if format is not None and format not in FORMATS:
        raise UnknownChoice("format", format, FORMATS)
    chosen = FORMATS[format] if format else _by_suffix(dest)
    if chosen is None:
        raise UsageError(f"{printable(str(dest))}: its suffix tells no format", hint=_choices())
    if not chosen.writes:
        raise UsageError(f"{printable(str(dest))}: {chosen.name} is read, not written",
                         hint=f"export as {_INSTEAD[chosen.name]}")  # fmt: skip
    codec = bare(dest)[1]
    if codec and not chosen.packed:
        raise UsageError(f"{printable(str(dest))}: {chosen.name} is not written through {codec.name}",
                         hint=f"leave {codec.suffix} out")  # fmt: skip
    notes: tuple[str, ...] = _module(chosen).write(table, dest, overwrite=overwrite)
    return notes


def _module(chosen: Format) -> Any:
    module, _, value = chosen.module.partition(":")
    found = importlib.import_module(f".{module}", __name__)
    return getattr(found, value) if value else found


def _choices() -> str:
    return f"name it with --format: {', '.join(FORMATS)}"


def _head(path: Path) -> bytes:
    """Return the first bytes, inflated where they are packed, of a file that is one and is not empty."""
    from . import torch_checkpoint

    with reading(path):
        if not path.exists():
            raise bad(path, "", "no such file", "check the path")
        if not path.is_file():
            what = "a directory" if path.is_dir() else "not a regular file"
            raise bad(path, "", f"{what}, not a file of vectors", "name one file")
        if path.stat().st_size == 0:
            raise bad(path, "", "empty: it has no bytes", "copy or download the file again")
        with open_bytes(path) as file:
            head = file.read(512)
    if head.startswith(torch_checkpoint.LEGACY):
        raise bad(path, "", "a torch checkpoint from before 1.6, a bare pickle: never loaded",
                  torch_checkpoint.LEGACY_REMEDY)  # fmt: skip
    if head.startswith(_PICKLES):
        raise bad(path, "", "a pickle (gensim or torch), which could run code: never loaded",
                  "in gensim: KeyedVectors.load(…).save_word2vec_format('vectors.txt')")  # fmt: skip
    return head


def _by_suffix(path: Path) -> Format | None:
    name, codec = bare(path)
    last = name.suffix.lower()
    return next((f for f in FORMATS.values() if last in f.suffixes and (f.packed or not codec)), None)


def _detect(path: Path, head: bytes, options: Options) -> Format:
    name = path.name.lower()
    indexed = next((f for f in FORMATS.values() if f.index and name.endswith(f.index)), None)
    if indexed is not None:
        return indexed
    by_suffix = _by_suffix(path)
    by_magic = _by_magic(path, head, by_suffix)
    if by_magic:
        _check_packing(path, by_magic)
    if by_suffix is None:
        if by_magic is None:
            raise bad(path, "", "neither its suffix nor its first bytes tell the format", _choices())
        return by_magic
    if by_magic and bare(path)[0].suffix.lower() in by_magic.guest:
        return by_magic
    if by_magic and by_magic is not by_suffix:
        raise bad(path, "", f"named as {by_suffix.name}, but it begins as {by_magic.name}",
                  f"--format {by_magic.name}")  # fmt: skip
    if by_suffix.name in _TEXTS:
        from . import word2vec

        return FORMATS["word2vec" if word2vec.claims(path, options.encoding) else "glove"]
    return by_suffix


def _by_magic(path: Path, head: bytes, by_suffix: Format | None) -> Format | None:
    from . import safetensors, torch_checkpoint

    if by_suffix is not None and head.startswith(by_suffix.magic or _NEVER):
        return by_suffix
    if safetensors.claims(head):
        return FORMATS["safetensors"]
    if head.startswith(_ZIP):
        return FORMATS["torch" if torch_checkpoint.claims(path, head) else "npz"]
    return next((f for f in FORMATS.values() if head.startswith(f.magic or _NEVER)), None)


def _check_packing(path: Path, chosen: Format) -> None:
    codec = codec_of(path)
    if codec and not chosen.packed:
        raise packed_away(path, chosen.name, codec)


def _check_options(chosen: Format, options: Options) -> None:
    for field in fields(options):
        given = getattr(options, field.name) != field.default
        if given and field.name not in chosen.takes | {"tokenizer"}:
            flag = "--" + field.name.replace("_", "-")
            raise UsageError(f"format {chosen.name} has no use for {flag}",
                             hint=f"leave {flag} out")  # fmt: skip

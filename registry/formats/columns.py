"""Which columns of an Arrow table are ids, vectors and attributes, and how they become a batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import did_you_mean, printable
from ..vectors import Batch, Vectors
from .base import Options, bad, casting, check_dim, keep, target
from .writing import pieces

if TYPE_CHECKING:
    from ..tables import EmbeddingTable

#: What columns of vectors are called, and columns of ids, the likeliest first.
VECTORS = ("vector", "vectors", "embedding", "embeddings", "emb")
IDS = ("id", "ids", "word", "token", "key", "name", "index", "__index_level_0__")
_RESERVED = ("id", "vector", "fingerprint")
_FLOATS = {pa.float16(): np.float16, pa.float32(): np.float32, pa.float64(): np.float64}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to make of each column.

    Attributes:
        id: column of the ids; None numbers the rows.
        vector: the list column, or None where ``wide`` columns hold one dimension each.
        attributes: the name that each further column is kept under.
        source, kept: dtypes of the numbers as they are and as they are kept.
    """

    path: Path
    id: str | None
    vector: str | None
    wide: tuple[str, ...]
    attributes: Mapping[str, str]
    source: np.dtype[Any]
    kept: np.dtype[Any]
    warnings: tuple[str, ...]


def plan(path: Path, schema: pa.Schema, options: Options) -> Plan:
    """Return what to make of a schema.

    Raises:
        InputError: a named column is missing, or no column or several could be the vectors.
    """
    doubled = [name for name in set(schema.names) if schema.names.count(name) > 1]
    if doubled:
        raise bad(path, "", f"two columns are called '{printable(doubled[0])}'", "rename one")
    for wanted in (options.id_column, options.vector_column):
        if wanted is not None and wanted not in schema.names:
            raise _missing(path, schema, wanted)
    vector = _vector_column(path, schema, options.vector_column)
    ident = options.id_column or _id_column(schema, vector)
    wide = () if vector else _wide_columns(path, schema, ident)
    source = _source_dtype(path, schema, vector, wide)
    kept, cast = target(source)
    rest = [f for f in schema if f.name not in (ident, vector, *wide) and not _print(f)]
    attributes, renamed = kept_names(rest)
    told = _told(rest) if wide else ()
    if ident and not options.id_column and ident.lower() not in IDS:
        told += (f"ids were taken from column '{printable(ident, 40)}'",)
    return Plan(path=path, id=ident, vector=vector, wide=wide, attributes=attributes, source=source,
                kept=kept, warnings=cast + renamed + told)  # fmt: skip


def _missing(path: Path, schema: pa.Schema, wanted: str) -> Exception:
    known = ", ".join(printable(name, 40) for name in schema.names[:20])
    return bad(path, "", f"no column '{printable(wanted)}'",
               did_you_mean(wanted, schema.names, f"columns: {known}"))  # fmt: skip


def _print(field: pa.Field) -> bool:
    """Whether a column holds the fingerprints of a stored table: they are computed anew."""
    return bool(field.name == "fingerprint" and field.type == pa.uint64())


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds strings."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind)
                or pa.types.is_string_view(kind))  # fmt: skip


def _storage(kind: pa.DataType) -> pa.DataType:
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def is_list(kind: pa.DataType) -> bool:
    """Whether a column of this type can hold vectors."""
    kind = _storage(kind)
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind)
                or pa.types.is_fixed_size_list(kind))  # fmt: skip


def _vector_column(path: Path, schema: pa.Schema, wanted: str | None) -> str | None:
    if wanted is not None:
        if not is_list(schema.field(wanted).type):
            raise bad(path, f"column '{printable(wanted)}'",
                      f"holds {_named(schema.field(wanted).type)}, not lists of floats",
                      "one dimension a column needs no --vector-column")  # fmt: skip
        return wanted
    lists = [f for f in schema if is_list(f.type)]
    floats = [f.name for f in lists if _storage(f.type).value_type in _FLOATS]
    named = [name for name in floats if name.lower() in VECTORS]
    if len(floats) > 1 and len(named) != 1:
        raise bad(path, "", f"several columns of vectors: {', '.join(map(printable, floats))}",
                  "name one with --vector-column")  # fmt: skip
    if floats:
        return named[0] if named else str(floats[0])
    # A list of something else may still be what was meant; its type is then the error.
    meant = [f.name for f in lists if f.name.lower() in VECTORS]
    return str(meant[0]) if meant else None


def _id_column(schema: pa.Schema, vector: str | None) -> str | None:
    fields = [f for f in schema if f.name != vector]
    texts = [f.name for f in fields if is_text(f.type)]
    numbers = [f.name for f in fields if pa.types.is_integer(f.type) and not _print(f)]
    for known in IDS:
        for names in (texts, numbers):
            if found := [name for name in names if name.lower() == known]:
                return str(found[0])
    return str(texts[0]) if texts else None


def _wide_columns(path: Path, schema: pa.Schema, ident: str | None) -> tuple[str, ...]:
    found = tuple(f.name for f in schema if f.name != ident and f.type in _FLOATS)
    if not found:
        told = ", ".join(f"{printable(f.name, 40)} ({_named(f.type)})" for f in list(schema)[:20])
        raise bad(path, "", f"no column of floats or of lists of floats among: {told}",
                  "vectors are lists of floats, or one column of floats a dimension")  # fmt: skip
    check_dim(path, "", len(found))
    return found


def _source_dtype(path: Path, schema: pa.Schema, vector: str | None, wide: Sequence[str]) -> np.dtype[Any]:
    if vector is None:
        return np.result_type(*{np.dtype(_FLOATS[schema.field(name).type]) for name in wide})
    kind = _storage(schema.field(vector).type).value_type
    if kind not in _FLOATS:
        raise bad(path, f"column '{printable(vector)}'", f"holds lists of {_named(kind)}, not of floats",
                  "cast them to float32")  # fmt: skip
    return np.dtype(_FLOATS[kind])


def _named(kind: pa.DataType) -> str:
    return printable(str(kind), 60)


def kept_names(fields: Sequence[pa.Field]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the name that each attribute is kept under, and what to tell of those that another has."""
    names = {f.name for f in fields}
    kept, told = {}, []
    for field in fields:
        name = field.name
        while name in _RESERVED or (name != field.name and name in names):
            name += "_"
        kept[field.name] = name
        if name != field.name:
            told.append(f"column '{field.name}' is kept as the attribute '{name}'")
    return kept, tuple(told)


def _told(rest: Sequence[pa.Field]) -> tuple[str, ...]:
    numbers = [f.name for f in rest if pa.types.is_integer(f.type) or pa.types.is_decimal(f.type)]
    told = ", ".join(printable(name, 40) for name in numbers[:20])
    return (f"columns that are not floats are attributes, not dimensions: {told}",) if told else ()


def width(chosen: Plan, schema: pa.Schema, first: pa.RecordBatch | None) -> int:
    """Return d; lists of any length need the ``first`` row to tell.

    Raises:
        InputError: the dimension is 0 or over the limit, or the first vector is missing.
    """
    if chosen.vector is None:
        return len(chosen.wide)
    place = f"column '{printable(chosen.vector)}'"
    kind = _storage(schema.field(chosen.vector).type)
    if pa.types.is_fixed_size_list(kind):
        return check_dim(chosen.path, place, kind.list_size)
    length = pc.list_value_length(_lists(first.column(chosen.vector)))[0].as_py() if first else 0
    if length is None:
        raise _null(chosen.path, 0, chosen.vector, "vector")
    return check_dim(chosen.path, place, length)


def to_batch(chosen: Plan, d: int, columns: pa.RecordBatch, start: int) -> Batch:
    """Return some rows, of which the first is row ``start`` of the source.

    Raises:
        InputError: a null or ragged vector, a null id, text that is not UTF-8.
    """
    if chosen.vector is not None:
        vectors = _from_lists(chosen, d, _lists(columns.column(chosen.vector)), start)
    else:
        vectors = _from_wide(chosen, columns, start)
    ids = None
    if chosen.id is not None:
        ids = strings(chosen.path, columns.column(chosen.id), start, chosen.id)
    extra = [_plain(columns.column(name)) for name in chosen.attributes]
    attributes = pa.RecordBatch.from_arrays(extra, list(chosen.attributes.values()))
    return Batch(vectors=vectors, ids=ids, attributes=attributes if extra else None)


def _plain(column: pa.Array) -> pa.Array:
    # Batches of one column may each bring another dictionary: values can be joined, codes cannot.
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _lists(column: pa.Array) -> pa.Array:
    return column.storage if isinstance(column, pa.ExtensionArray) else column


def _null(path: Path, row: int, column: str, what: str) -> Exception:
    return bad(path, f"row {row}, column '{printable(column)}'", f"the {what} is null",
               "every row needs an id and a whole vector: drop the row or fill it")  # fmt: skip


def _from_lists(chosen: Plan, d: int, column: pa.Array, start: int) -> Vectors:
    name = str(chosen.vector)
    if column.null_count:
        raise _null(chosen.path, start + _first(pc.is_null(column)), name, "vector")
    if not pa.types.is_fixed_size_list(column.type):
        ragged = pc.not_equal(pc.list_value_length(column), d)
        row = _first(ragged)
        if row >= 0:
            found = pc.list_value_length(column)[row].as_py()
            raise bad(chosen.path, f"row {start + row}, column '{printable(name)}'",
                      f"expected {d} numbers, found {found}", "every vector has one length")  # fmt: skip
    flat = column.flatten()
    if flat.null_count:
        place = _first(pc.is_null(flat))
        raise bad(chosen.path, f"row {start + place // d}, column '{printable(name)}'",
                  f"number {place % d} of the vector is null", "drop the row or fill it")  # fmt: skip
    x = flat.to_numpy(zero_copy_only=False).reshape(-1, d)
    # A copy: what Arrow hands out is read-only, and may be a window on the mapped file.
    return np.array(x, order="C") if x.dtype == chosen.kept else keep(x, chosen.kept)


def _first(mask: pa.Array) -> int:
    return int(pc.index(mask, True).as_py())


def _from_wide(chosen: Plan, columns: pa.RecordBatch, start: int) -> Vectors:
    x = np.empty((columns.num_rows, len(chosen.wide)), dtype=chosen.kept)
    with casting():
        for j, name in enumerate(chosen.wide):
            column = columns.column(name)
            if column.null_count:
                raise _null(chosen.path, start + _first(pc.is_null(column)), name, "number")
            x[:, j] = column.to_numpy(zero_copy_only=False)
    return x


def strings(path: Path, column: pa.Array, start: int, name: str) -> pa.Array:
    """Return a column of ids as large_string; integers become their decimal digits.

    Raises:
        InputError: a null, or values that are neither strings nor integers.
    """
    if column.null_count:
        raise _null(path, start + _first(pc.is_null(column)), name, "id")
    kind = column.type
    if not (is_text(kind) or pa.types.is_integer(kind) or pa.types.is_large_binary(kind)
            or pa.types.is_binary(kind)):  # fmt: skip
        raise bad(path, f"column '{printable(name)}'", f"holds {_named(kind)}, which cannot be ids",
                  "name a column of strings or integers with --id-column")  # fmt: skip
    try:
        if pa.types.is_dictionary(kind):
            column = column.dictionary_decode()
        text = column.cast(pa.large_string())
        text.validate(full=True)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as exc:
        raise bad(path, f"rows from {start}, column '{printable(name)}'",
                  f"ids that are not UTF-8 text: {printable(str(exc), 80)}") from exc  # fmt: skip
    if text.null_count:
        raise _null(path, start + _first(pc.is_null(text)), name, "id")
    return text


def export_schema(table: EmbeddingTable) -> pa.Schema:
    """Return the columns of an export: ``id``, ``vector`` (fixed-size list), then the attributes."""
    kind = pa.float16() if table.space.dtype == "float16" else pa.float32()
    fields = [
        pa.field("id", pa.large_string(), nullable=False),
        pa.field("vector", pa.list_(kind, table.dim), nullable=False),
    ]
    for _, _, extra in table.batches():
        return pa.schema([*fields, *(extra.schema if extra is not None else ())])
    return pa.schema(fields)


def exported(table: EmbeddingTable, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Yield the rows of an export, some MiB at a time."""
    for ids, vectors, extra in pieces(table):
        flat = pa.array(vectors.reshape(-1), schema.field("vector").type.value_type)
        columns = [ids.cast(pa.large_string()), pa.FixedSizeListArray.from_arrays(flat, table.dim)]
        columns += [column.combine_chunks() for column in (extra.columns if extra is not None else ())]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)

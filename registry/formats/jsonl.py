"""JSON Lines: one object a line, with an id, a vector and further plain fields, its attributes.

Fields are told apart by the first lines (some 8 MiB of them). The vector is the one list of numbers, or the
one called ``vector``, ``embedding`` …; the id is the field called ``id``, ``_id``, ``key``, ``word`` …, else
the first one of text. Strings, numbers and booleans are attributes; lists and objects are left out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ..errors import InputError, did_you_mean, printable
from ..vectors import Batch, Vectors
from . import attributes
from .base import Options, Source, bad, check_dim, no_rows, once
from .columns import VECTORS, kept_names
from .compression import packed
from .json_rows import HINT, Plan, kind_of, numbered, parse, parsed_object, vector_of
from .lines import Chunk, line_chunks, opening
from .parsing import solid
from .writing import glued, numbers_text, publish, text_lines, text_pieces, widened

if TYPE_CHECKING:
    from ..tables import EmbeddingTable

_IDS = ("id", "_id", "ids", "key", "word", "token", "name", "custom_id", "index", "text")
_NAMED = (*VECTORS, "values")
#: Characters within text that other readers of lines take for the end of one.
_BREAKS = str.maketrans({c: f"\\u{ord(c):04x}" for c in "\x85\u2028\u2029"})
_TYPES = {
    frozenset({"text"}): pa.large_string(),
    frozenset({"bool"}): pa.bool_(),
    frozenset({"int"}): pa.int64(),
    frozenset({"float"}): pa.float64(),
    frozenset({"int", "float"}): pa.float64(),
}


def read(path: Path, options: Options) -> Source:
    """Open JSON Lines; the fields are told by the first lines."""
    with closing(line_chunks(path, options.encoding)) as chunks:
        first = opening(solid(chunks, path))
    if first is None:
        raise no_rows(path)
    plan = _plan(path, first, options)
    return Source(
        path=path,
        format="jsonl",
        dim=plan.dim,
        dtype="float32",
        rows=None,
        warnings=plan.warnings,
        batches=once(lambda: _batches(plan, options.encoding)),
    )


def _batches(plan: Plan, encoding: str) -> Iterator[Batch]:
    with closing(line_chunks(plan.path, encoding)) as chunks:
        for chunk in solid(chunks, plan.path):
            yield parse(chunk, plan)


# -- what the fields are -------------------------------------------------------------------------------------


def _plan(path: Path, chunk: Chunk, options: Options) -> Plan:
    kinds: dict[str, set[str]] = {}
    first: dict[str, Any] = {}
    for line, text in numbered(chunk):
        found = parsed_object(path, line, text)
        first = first or found
        for name, value in found.items():
            kinds.setdefault(name, set()).add(kind_of(value))
    for wanted in (options.id_column, options.vector_column):
        if wanted is not None and wanted not in kinds:
            known = ", ".join(printable(name, 40) for name in list(kinds)[:20])
            raise bad(path, "", f"no field '{printable(wanted)}'",
                      did_you_mean(wanted, kinds, f"fields: {known}"))  # fmt: skip
    vector = options.vector_column or _vector_field(path, kinds)
    ident = options.id_column or _id_field(first, vector)
    rest = [name for name in kinds if name not in (ident, vector)]
    types = {name: _TYPES[key] for name in rest if (key := frozenset(kinds[name] - {"null"})) in _TYPES}
    left_out = [name for name in rest if name not in types]
    kept, renamed = kept_names([pa.field(name, pa.null()) for name in types])
    told = _told(left_out) + renamed
    if ident and not options.id_column and ident.lower() not in _IDS:
        told += (f"ids were taken from field '{printable(ident, 40)}'",)
    values = vector_of(path, chunk.line, first, vector, None)
    return Plan(
        path=path,
        id=ident,
        whole=ident is not None and kinds[ident] == {"int"},
        vector=vector,
        dim=check_dim(path, f"line {chunk.line}", len(values)),
        kinds=types,
        kept=kept,
        left_out=frozenset(left_out),
        warnings=told,
    )


def _told(left_out: Sequence[str]) -> tuple[str, ...]:
    if not left_out:
        return ()
    listed = ", ".join(printable(name, 40) for name in left_out[:20])
    what = "fields without one kind of plain value in the first lines are left out"
    return (f"{what}, as are those that come up later: {listed}",)


def _vector_field(path: Path, kinds: Mapping[str, set[str]]) -> str:
    lists = [name for name, found in kinds.items() if "list" in found]
    lists = lists or [name for name, found in kinds.items() if found == {"empty"}]
    named = [name for name in lists if name.lower() in _NAMED]
    if len(lists) > 1 and len(named) != 1:
        listed = ", ".join(printable(name, 40) for name in lists[:20])
        raise bad(
            path, "", f"several fields hold lists of numbers: {listed}", "name one with --vector-column"
        )
    if lists:
        return (named or lists)[0]
    # Something else may still be what was meant; what it is instead is then the error.
    meant = [name for name in kinds if name.lower() in _NAMED]
    if not meant:
        listed = ", ".join(printable(name, 40) for name in list(kinds)[:20])
        raise bad(path, "", f"no field holds a list of numbers among: {listed}", HINT)
    return meant[0]


def _id_field(first: Mapping[str, Any], vector: str) -> str | None:
    fields = {name: type(value) for name, value in first.items() if name != vector}
    for known in _IDS:
        for name, kind in fields.items():
            if name.lower() == known and kind in (str, int, type(None)):
                return name
    return next((name for name, kind in fields.items() if kind is str), None)


# -- writing -------------------------------------------------------------------------------------------------


def write(table: EmbeddingTable, dest: Path, *, overwrite: bool) -> tuple[str, ...]:
    """Write ``id``, ``vector`` and the attributes, an object a line.

    Raises:
        InputError: a vector holds NaN or infinity, which JSON has no words for.
    """
    names, told = attributes.kept(table)
    keys = [f"{_json(name)}: " for name in names]
    mended: set[str] = set()
    with publish(dest, overwrite=overwrite) as file, packed(file, dest) as out:
        for ids, vectors, extra in text_pieces(table):
            _check_finite(ids, vectors)
            columns = [_prefixed('{"id": ', map(_json, ids.to_pylist())), _list(vectors)]
            if extra is not None:
                columns += [_prefixed(key, _jsons(attributes.plain(extra.column(name)), name, mended))
                            for name, key in zip(names, keys, strict=True)]  # fmt: skip
            columns[-1] = glued(columns[-1], "}")
            out.write(text_lines(columns, ", "))
    if mended:
        listed = ", ".join(printable(name, 40) for name in sorted(mended))
        told += (f"NaN and infinity, which JSON has no words for, became null in attributes: {listed}",)
    return widened(table) + told


def _check_finite(ids: pa.Array, vectors: Vectors) -> None:
    rows = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(rows):
        shown = printable(ids[int(rows[0])].as_py(), 60)
        raise InputError(f"id '{shown}': NaN or infinity, which JSON cannot hold", hint="export as parquet")


def _list(vectors: Vectors) -> pa.Array:
    return glued('"vector": [', numbers_text(vectors, ", "), "]")


def _prefixed(key: str, values: Iterator[str]) -> pa.Array:
    return pa.array([key + value for value in values], pa.large_string())


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False).translate(_BREAKS)


def _jsons(column: pa.Array, name: str, mended: set[str]) -> Iterator[str]:
    for value in column.to_pylist():
        if isinstance(value, float) and not math.isfinite(value):
            mended.add(name)
            yield "null"
        else:
            yield _json(value)

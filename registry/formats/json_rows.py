"""Lines of JSON to rows, by two routes with one result: Arrow's parser where it fits, Python's where not.

Arrow's takes NaN for a number, and more than one object a line: what it reads is held against that. What a
file's plan leaves out it does not look at.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..errors import InputError, printable
from ..vectors import Batch, Vectors
from .base import MAX_DIM, bad, casting
from .lines import CHUNK, Chunk, not_text

HINT = 'one object a line: {"id": "a", "vector": [0.1, 0.2]}'
_LONG = MAX_DIM + 1000
_ARROW_MAX_BYTES = 2 * CHUNK
_KINDS = {str: "text", bool: "bool", int: "int", float: "float", type(None): "null", dict: "nested"}
_PYTHON = {pa.large_string(): (str,), pa.bool_(): (bool,), pa.int64(): (int,), pa.float64(): (int, float)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to make of each field.

    Attributes:
        id: None numbers the rows; ``whole`` is whether all ids so far are integers.
        kinds: type of each attribute's field.
        kept: the name that it is kept under.
        left_out: fields that are passed over; if there are any, so are others that come up later.
    """

    path: Path
    id: str | None
    whole: bool
    vector: str
    dim: int
    kinds: Mapping[str, pa.DataType]
    kept: Mapping[str, str]
    left_out: frozenset[str]
    warnings: tuple[str, ...]


def kind_of(value: Any) -> str:
    """Return what a value is: text, bool, int, float, null, list (of numbers), empty or nested."""
    if isinstance(value, list):
        if not value:
            return "empty"
        return "list" if all(type(v) in (int, float) for v in value) else "nested"
    if type(value) is int and not -(2**63) <= value < 2**63:
        return "nested"
    return _KINDS[type(value)]


def parse(chunk: Chunk, plan: Plan) -> Batch:
    """Return the rows of some whole lines, none of them blank.

    Raises:
        InputError: a line that is no object, lacks id or vector, or differs from the first ones; it is named.
    """
    # A chunk is that long by one line only, which may hold any number of values: they are counted first.
    found = _arrow(chunk.data, plan) if len(chunk.data) <= _ARROW_MAX_BYTES else None
    return found or _careful(chunk, plan)


def _arrow(data: bytes, plan: Plan) -> Batch | None:
    import pyarrow.json as pj

    count = data.count(b"\n")
    # So a line feed ends an object wherever there is one, and every line holds at least one.
    if not (data.startswith(b"{") and data.endswith(b"}\n") and data.count(b"}\n{") == count - 1):
        return None
    read = pj.ReadOptions(use_threads=False, block_size=len(data) + 1)
    # Unknown fields are never inferred: deep ones would exhaust the stack.
    unknown = "ignore" if plan.left_out else "error"
    options = pj.ParseOptions(explicit_schema=_schema(plan), unexpected_field_behavior=unknown)
    try:
        data.decode()
        table = pj.read_json(pa.BufferReader(data), read_options=read, parse_options=options)
    except (pa.ArrowException, UnicodeDecodeError):
        return None
    if table.num_rows != count:
        return None
    table = table.combine_chunks()
    vectors = _rows_of(_only(table, plan.vector), plan.dim)
    ids = _only(table, plan.id) if plan.id is not None else None
    extra = [_only(table, name) for name in plan.kinds]
    if vectors is None or (ids is not None and ids.null_count) or not all(map(_is_finite, extra)):
        return None
    return _batch(vectors, ids, extra, plan)


def _schema(plan: Plan) -> pa.Schema:
    fields = [pa.field(name, pa.string() if kind == pa.large_string() else kind)
              for name, kind in plan.kinds.items()]  # fmt: skip
    if plan.id is not None:
        fields.append(pa.field(plan.id, pa.int64() if plan.whole else pa.string()))
    return pa.schema([*fields, pa.field(plan.vector, pa.list_(pa.float64()))])


def _only(table: pa.Table, name: str) -> pa.Array:
    return table.column(name).chunk(0)


def _rows_of(column: pa.Array, d: int) -> NDArray[np.float32] | None:
    if column.null_count or not pc.all(pc.equal(pc.list_value_length(column), d)).as_py():
        return None
    flat = column.flatten()
    if flat.null_count:
        return None
    x = flat.to_numpy()
    # The word NaN is no JSON, but Arrow reads it.
    if not np.isfinite(x).all():
        return None
    with casting():
        rows: NDArray[np.float32] = x.astype(np.float32).reshape(-1, d)
    return rows


def _is_finite(column: pa.Array) -> bool:
    return not pa.types.is_floating(column.type) or pc.all(pc.is_finite(column)).as_py() is not False


def _batch(vectors: Vectors, ids: pa.Array | None, extra: Sequence[pa.Array], plan: Plan) -> Batch:
    columns = [column.cast(kind) for column, kind in zip(extra, plan.kinds.values(), strict=True)]
    kept = pa.RecordBatch.from_arrays(columns, list(plan.kept.values())) if columns else None
    return Batch(vectors=vectors, ids=None if ids is None else ids.cast(pa.large_string()), attributes=kept)


def _careful(chunk: Chunk, plan: Plan) -> Batch:
    ids: list[str] = []
    vectors: list[NDArray[np.float32]] = []
    extra: dict[str, list[Any]] = {name: [] for name in plan.kinds}
    for line, text in numbered(chunk):
        found = parsed_object(plan.path, line, text)
        if plan.id is not None:
            ids.append(_id(plan, line, found))
        vectors.append(_float32(vector_of(plan.path, line, found, plan.vector, plan.dim)))
        for name, column in extra.items():
            column.append(_value(plan, line, name, found.get(name)))
        if not plan.left_out and (new := found.keys() - plan.kinds.keys() - {plan.id, plan.vector}):
            what = f"field '{printable(min(new), 40)}' comes up for the first time"
            raise bad(plan.path, f"line {line}", what,
                      "give it a value in the first line: that tells the fields")  # fmt: skip
    columns = [pa.array(column, plan.kinds[name]) for name, column in extra.items()]
    names = pa.array(ids, pa.large_string()) if plan.id is not None else None
    return _batch(np.stack(vectors), names, columns, plan)


def numbered(chunk: Chunk) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a chunk with their numbers."""
    return enumerate(chunk.data.split(b"\n")[:-1], chunk.line)


def parsed_object(path: Path, line: int, text: bytes) -> dict[str, Any]:
    """Return the object of one line.

    Raises:
        InputError: it is none, or holds what JSON does not know.
    """
    if not text:
        raise bad(path, f"line {line}", "an empty line", "remove it")
    if len(text) > _LONG and text.count(b",") > _LONG:
        raise bad(path, f"line {line}", "more values than a row can have", f"a vector has {MAX_DIM} at most")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise bad(path, f"line {line}", "a field stands twice in one object", "keep one of them")
        return found

    def refused(word: str) -> NoReturn:
        raise bad(path, f"line {line}", f"{word} is no JSON number", "drop the row, or mend its vector")

    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=unique, parse_constant=refused,
                           parse_int=_integer)  # fmt: skip
        if b"\\u" in text:
            # A half of a surrogate pair can be escaped, but is no character.
            json.dumps(value, ensure_ascii=False).encode()
    except InputError:
        raise
    except UnicodeDecodeError as exc:
        raise not_text(path, line, "utf-8") from exc
    except UnicodeEncodeError as exc:
        raise bad(path, f"line {line}", "half of a surrogate pair, which is no character", "mend it") from exc
    except json.JSONDecodeError as exc:
        raise bad(path, f"line {line}, column {exc.colno}", f"no valid JSON: {exc.msg}", HINT) from exc
    except (ValueError, RecursionError) as exc:
        raise bad(path, f"line {line}", f"no valid JSON: {printable(str(exc), 80)}", HINT) from exc
    if not isinstance(value, dict):
        raise bad(path, f"line {line}", "not a JSON object", HINT)
    return value


def _integer(text: str) -> int | float:
    # As an integer it would lose its sign.
    return -0.0 if text == "-0" else int(text)


def _field(path: Path, line: int, found: Mapping[str, Any], name: str) -> Any:
    value = found.get(name)
    if value is None:
        what = "is null" if name in found else "is missing"
        raise bad(path, f"line {line}", f"field '{printable(name, 40)}' {what}",
                  "every row needs an id and a whole vector: drop the row or fill it")  # fmt: skip
    return value


def _id(plan: Plan, line: int, found: Mapping[str, Any]) -> str:
    value = _field(plan.path, line, found, str(plan.id))
    if type(value) not in (str, int):
        what = f"field '{printable(str(plan.id), 40)}' is neither text nor an integer"
        raise bad(plan.path, f"line {line}", what,
                  "name the field of the ids with --id-column")  # fmt: skip
    return str(value)


def vector_of(path: Path, line: int, found: Mapping[str, Any], name: str, d: int | None) -> list[int | float]:
    """Return the numbers of one row, ``d`` of them unless it is None.

    Raises:
        InputError: the field is missing or null, or holds something else.
    """
    value = _field(path, line, found, name)
    place = f"line {line}, field '{printable(name, 40)}'"
    if not isinstance(value, list):
        raise bad(path, place, "not a list of numbers", "name the field of the vectors with --vector-column")
    for i, number in enumerate(value):
        if type(number) not in (int, float):
            shown = printable(json.dumps(number), 40)
            raise bad(path, place, f"number {i} of the vector is {shown}", "drop the row or mend it")
    if d is not None and len(value) != d:
        raise bad(path, place, f"expected {d} numbers, found {len(value)}", "every vector has one length")
    return value


def _float32(values: list[int | float]) -> NDArray[np.float32]:
    with casting():
        try:
            return np.array(values, dtype=np.float64).astype(np.float32)
        except OverflowError:
            # An integer beyond float64.
            return np.array([_float(v) for v in values], dtype=np.float64).astype(np.float32)


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _value(plan: Plan, line: int, name: str, value: Any) -> Any:
    kind = plan.kinds[name]
    if value is None or (type(value) in _PYTHON[kind] and kind_of(value) != "nested"):
        return value
    raise bad(plan.path, f"line {line}", f"field '{printable(name, 40)}' is no {kind}, as in the first lines",
              "give the field one kind of value, or leave it out")  # fmt: skip

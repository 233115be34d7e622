"""Vectors that no registry holds, as tables: arrays, tensors, lists, Arrow tables, data frames.

Nothing of the caller's is changed, and what is float32 or float16 in rows already is not copied.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from ..registry.errors import InputError, UsageError, printable
from ..registry.formats import columns
from ..registry.formats.base import Options, check_shape, keep, no_rows, target
from ..registry.tables import EmbeddingTable, normalised
from ..registry.types import Space
from ..registry.vectors import row_norms

if TYPE_CHECKING:
    from ..registry.vectors import Vectors

#: Kinds of dtypes that hold no floats, in words.
_KINDS = {
    "i": "integers", "u": "unsigned integers", "b": "booleans", "c": "complex numbers", "U": "text",
    "S": "byte strings", "O": "Python objects", "M": "dates", "m": "durations", "V": "records",
}  # fmt: skip
_AS_FLOATS = "convert it with .astype('float32')"


@runtime_checkable
class ArrowTable(Protocol):
    """A table of pyarrow, or a data frame of any library that hands out Arrow."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Return the table as a stream of Arrow batches."""


#: What can be measured without a registry.
Plain = ArrayLike | ArrowTable | EmbeddingTable
#: Names of rows: strings or integers, or the name of the column that holds them.
Ids = Iterable[str | int] | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A table that was made of plain vectors.

    Attributes:
        table: the rows.
        numbered: whether nobody named them.
        notes: what became of the numbers, one line each.
    """

    table: EmbeddingTable
    numbered: bool
    notes: tuple[str, ...] = ()


def to_table(what: Plain, *, ids: Ids | None = None, metric: str | None = None, name: str) -> Taken:
    """Return plain vectors as a table.

    Floats of other widths than 16 and 32 bits become float32, bfloat16 exactly. Numbers in lists may be
    integers; an array of integers may as well be codes or packed bits, and is refused.

    Args:
        what: ``(n, d)``: a numpy array or what becomes one, a torch tensor, a list of rows; an Arrow table or
            data frame with a column of vectors, or one of floats a dimension; or a table.
        ids: of the rows, each once; None numbers them, where ``what`` brings none.
        metric: ``cosine`` (by default), ``dot`` or ``l2``.
        name: how to call it in a message.

    Raises:
        InputError: it cannot be a table, or the ids cannot be its ids.
        UsageError: an ``EmbeddingTable`` is to get other ids, or another metric.
    """
    if isinstance(what, EmbeddingTable):
        if ids is not None or metric is not None:
            raise UsageError(f"{_shown(name)}: an EmbeddingTable has its ids and its metric")
        return Taken(table=what, numbered=False)
    arrow = what if isinstance(what, pa.Table) else pa.table(what) if _hands_out_arrow(what) else None
    if arrow is not None:
        return _from_arrow(arrow, ids, metric, name)
    if isinstance(ids, str):
        raise UsageError(f"{_shown(name)}: an array has no column '{printable(ids, 60)}'", hint="ids=[…]")
    x, notes = _floats(what, name)
    table = _table(x, _ids(ids, len(x), name), metric)
    return Taken(table=table, numbered=ids is None, notes=notes)


def is_tensor(what: object) -> bool:
    """Whether something is a torch tensor; torch is not loaded for the question."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(what, torch.Tensor)


def listed(values: Any) -> list[Any]:
    """Return the values of a list, array, series, tensor or Arrow column as Python's own."""
    for method in ("to_pylist", "tolist", "to_list"):
        if hasattr(values, method):
            found = getattr(values, method)()
            return found if isinstance(found, list) else [found]
    return list(values)


def _shown(name: str) -> str:
    return printable(name, 60)


def _hands_out_arrow(what: object) -> bool:
    return isinstance(what, ArrowTable) and not isinstance(what, np.ndarray)


def _table(x: Vectors, ids: pa.Array | None, metric: str | None, attributes: Any = None) -> EmbeddingTable:
    space = Space(
        dim=x.shape[1],
        dtype=x.dtype.name,
        metric=metric or "cosine",
        normalised=normalised(row_norms(x), x.dtype.name),
    )
    return EmbeddingTable.from_arrays(ids, x, space=space, attributes=attributes)


def _floats(what: Any, name: str) -> tuple[Vectors, tuple[str, ...]]:
    """Return ``(n, d)`` in rows of float32 or float16, the caller's own memory where it is that already."""
    x = _array(what, name)
    source = Path(name)
    if x.ndim and not len(x):
        raise no_rows(source)
    if x.dtype.name == "bfloat16":  # numpy knows it through ml_dtypes only
        x = x.astype(np.float32)
    if x.dtype.kind in "iu" and isinstance(what, list | tuple):
        x = x.astype(np.float64)
    elif x.dtype.kind != "f":
        kind = _KINDS.get(x.dtype.kind, "values of an unknown kind")
        told = f"{kind} ({type(what).__name__})" if x.dtype.kind == "O" else f"{kind} ({x.dtype})"
        hint = _AS_FLOATS if x.dtype.kind in "iub" else "one row of floats per id: (n, d)"
        raise InputError(f"{_shown(name)}: holds {told}, not floats", hint=hint)
    check_shape(source, "", x.shape)
    kept, notes = target(x.dtype)
    return keep(x, kept), () if isinstance(what, list | tuple) else notes


def _array(what: Any, name: str) -> NDArray[Any]:
    if is_tensor(what):
        return _tensor(what, name)
    if isinstance(what, np.ma.MaskedArray) and np.ma.is_masked(what):
        raise InputError(f"{_shown(name)}: some numbers are masked", hint="leave those rows out")
    if isinstance(what, list | tuple):
        what = [_tensor(row, name) if is_tensor(row) else row for row in what]
    try:
        return np.asarray(what)
    except (ValueError, TypeError, OverflowError) as exc:
        raise _no_array(what, name, exc) from exc


def _no_array(what: Any, name: str, exc: Exception) -> InputError:
    """Return the error for rows of several lengths, or for whatever numpy refused."""
    lengths = [len(row) if hasattr(row, "__len__") else 0 for row in what] if isinstance(what, list) else []
    for row, length in enumerate(lengths):
        if length != lengths[0]:
            told = f"row {row}: expected {lengths[0]} numbers, found {length}"
            return InputError(f"{_shown(name)}: {told}", hint="every vector has one length")
    return InputError(f"{_shown(name)}: no array of numbers: {printable(str(exc), 80)}")


def _tensor(what: Any, name: str) -> NDArray[Any]:
    """Return a tensor as an array, over the same memory where it is on the CPU; other floats as float32."""
    import torch

    kept = (torch.float16, torch.float32, torch.float64)
    try:
        x = what.detach().to("cpu")
        if x.is_floating_point() and x.dtype not in kept:
            x = x.to(torch.float32)
        array: NDArray[Any] = x.resolve_conj().resolve_neg().numpy()
    except (RuntimeError, TypeError, NotImplementedError) as exc:
        raise InputError(
            f"{_shown(name)}: a tensor that numpy cannot hold: {printable(str(exc), 80)}",
            hint="a dense tensor of floats",
        ) from exc
    return array


def _ids(given: Any, rows: int, name: str) -> pa.Array | None:
    """Return names of rows as text, each once.

    Raises:
        InputError: another number of them, one twice, or something else than text and integers.
    """
    if given is None:
        return None
    values = listed(given)
    if len(values) != rows:
        raise InputError(f"{_shown(name)}: {len(values):,} ids for {rows:,} rows", hint="one id for each row")
    for row, value in enumerate(values):
        if not isinstance(value, str | int | np.integer) or isinstance(value, bool):
            told = f"the id of row {row} is of type {type(value).__name__}"
            raise InputError(f"{_shown(name)}: {told}", hint="ids are text or integers")
    try:
        ids = pa.array([str(value) for value in values], pa.large_string())
    except UnicodeEncodeError as exc:
        raise InputError(f"{_shown(name)}: an id is no Unicode text ({exc.reason})") from exc
    return _unique(ids, name)


def _unique(ids: pa.Array, name: str) -> pa.Array:
    first: dict[str, int] = {}
    if len(ids.unique()) == len(ids):
        return ids
    for row, value in enumerate(ids.to_pylist()):
        if first.setdefault(value, row) != row:
            told = f"the id '{printable(value, 60)}' is in rows {first[value]} and {row}"
            raise InputError(f"{_shown(name)}: {told}", hint="every row needs an id of its own")
    return ids


def _from_arrow(given: pa.Table, ids: Ids | None, metric: str | None, name: str) -> Taken:
    """Return an Arrow table: its columns of ids, vectors and attributes are found as those of a file are."""
    source = Path(name)
    column = ids if isinstance(ids, str) else None
    try:
        chosen = columns.plan(source, given.schema, Options(id_column=column))
        batches = given.combine_chunks().to_batches()
        if not batches:
            raise no_rows(source)
        d = columns.width(chosen, given.schema, batches[0])
        starts = np.cumsum([0, *map(len, batches)]).tolist()
        read = [columns.to_batch(chosen, d, *pair) for pair in zip(batches, starts, strict=False)]
    except InputError as exc:  # a hint that names an option speaks to the command line
        raise InputError(exc.message, hint="select the columns" if "--" in exc.hint else exc.hint) from exc
    vectors = read[0].vectors if len(read) == 1 else np.concatenate([batch.vectors for batch in read])
    named = None if chosen.id is None else pa.concat_arrays([batch.ids for batch in read])
    if ids is not None and column is None:
        named = _ids(ids, len(vectors), name)
    extra = [batch.attributes for batch in read if batch.attributes is not None]
    attributes = None
    if extra:
        whole = pa.Table.from_batches(extra).combine_chunks()
        attributes = dict(zip(whole.column_names, (c.combine_chunks() for c in whole.columns), strict=True))
    table = _table(vectors, None if named is None else _unique(named, name), metric, attributes)
    return Taken(table=table, numbered=named is None, notes=chosen.warnings)

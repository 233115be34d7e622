"""Attributes in text: what they are written as, and what type the text of a column is read as.

A type is told from the first rows of a file. Text that is quoted there stays text, so that ids of another
system (``"007"``) are not taken for numbers; an export quotes all text for that reason.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from ..errors import printable
from .parsing import NUMBER
from .writing import glued

if TYPE_CHECKING:
    from ..tables import EmbeddingTable

_INTEGER = re.compile(rb"-?(?:0|[1-9]\d*)")
_PADDED, _DIGIT = re.compile(rb"[+-]?0\d"), re.compile(rb"\d")
_LOWEST, _HIGHEST = -(2**63), 2**63 - 1
_EXACT = 15
_BOOLEANS = (b"true", b"false")
_WHOLE = r"^-?\d+$"


def kind_of(values: Sequence[tuple[bytes, bool]]) -> pa.DataType:
    """Return the type of a column by some of its values, each with whether it is quoted.

    Empty fields that are not quoted are nulls and tell nothing. Text is what is nothing else.
    """
    told = [value for value, quoted in values if value or quoted]
    if not told or any(quoted for _, quoted in values):
        return pa.large_string()
    if all(value in _BOOLEANS for value in told):
        return pa.bool_()
    if all(_INTEGER.fullmatch(value) for value in told):
        fits = all(len(value) <= 20 and _LOWEST <= int(value) <= _HIGHEST for value in told)
        return pa.int64() if fits else pa.large_string()
    if all(map(_is_float, told)) and any(map(_DIGIT.search, told)):
        return pa.float64()
    return pa.large_string()


def _is_float(value: bytes) -> bool:
    """Whether a float keeps a number as it is written: no padding, and not a whole one of too many digits."""
    whole = _INTEGER.fullmatch(value) is not None and len(value) > _EXACT
    return NUMBER.fullmatch(value) is not None and not _PADDED.match(value) and not whole


def typed(column: pa.Array, kind: pa.DataType) -> tuple[pa.Array, int]:
    """Return a column of text as values of a type, and the first row that is none; -1 where all are."""
    if kind == pa.large_string():
        return column.cast(kind), -1
    try:
        return column.cast(kind), -1
    except pa.ArrowInvalid:
        return column, next(i for i, text in enumerate(column) if not _fits(text, kind))


def _fits(text: pa.Scalar, kind: pa.DataType) -> bool:
    try:
        text.cast(kind)
    except pa.ArrowInvalid:
        return False
    return True


def kept(table: EmbeddingTable) -> tuple[list[str], tuple[str, ...]]:
    """Return the attributes that text can hold, one value a row, and what to tell of the others."""
    for _, _, extra in table.batches():
        if extra is not None:
            names = [field.name for field in extra.schema if _is_plain(field.type)]
            others = [field.name for field in extra.schema if not _is_plain(field.type)]
            return names, _left_out(others)
        break
    return [], ()


def _left_out(names: Sequence[str]) -> tuple[str, ...]:
    listed = ", ".join(printable(name, 40) for name in names)
    return (f"attributes of several values a row are not kept: {listed}",) if names else ()


def _is_plain(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    binary = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)
    return not (pa.types.is_nested(kind) or binary or isinstance(kind, pa.BaseExtensionType))


def plain(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Return a column as booleans, integers, floats or large_string; dates and decimals become text."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.dictionary_decode(), kind.value_type
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind):
        return column
    if pa.types.is_floating(kind):
        return column.cast(pa.float64())
    return column.cast(pa.large_string())


def as_text(column: pa.Array) -> tuple[pa.Array, bool]:
    """Return a plain column as text, nulls kept, and whether it was text before.

    Whole floats get a point, so that they read back as floats.
    """
    if column.type == pa.large_string():
        return column, True
    text = column.cast(pa.large_string())
    if pa.types.is_floating(column.type):
        text = pc.if_else(pc.match_substring_regex(text, _WHOLE), glued(text, ".0"), text)
    return text, False

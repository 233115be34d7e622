"""Vectors that stand as text in one field: ``[0.1, 0.2]``, or numbers between commas or blanks.

So does ``str`` write lists and arrays, and so do pgvector and many a data frame.
"""

from __future__ import annotations

import re
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..errors import printable
from .base import MAX_DIM, casting
from .parsing import NUMBER

_OPEN, _CLOSE = r"[\[({]", r"[\])}]"
_TOKEN = r"[^\s,\[\](){}]+"  # noqa: S105
_WHOLE = rf"^\s*{_OPEN}?\s*(?:{_TOKEN}(?:(?:\s*,\s*|\s+){_TOKEN})*)?\s*,?\s*{_CLOSE}?\s*$"
_APART = r"[\[\](){},\s]+"
#: More letters a number than this are not worth the memory.
_LONG = 1000
_TOKENS = re.compile(_TOKEN.encode())
#: The same for Python, possessive: nothing is to be tried again, or kept in memory for that.
_SHAPE = re.compile(
    rb"^\s*+[\[({]?+\s*+(?:T(?:(?:\s*+,\s*+|\s++)T)*+)?+\s*+,?+\s*+[\])}]?+\s*+$".replace(
        b"T", _TOKEN.encode() + b"+"
    )
)


def looks_like(text: bytes) -> bool:
    """Whether a field holds a vector of several numbers, or of one in brackets."""
    count = width(text)
    if count > MAX_DIM or not _SHAPE.match(text):
        return False
    if not all(NUMBER.fullmatch(word[0]) for word in _TOKENS.finditer(text)):
        return False
    return count > 1 or (count == 1 and text.strip()[:1] in (b"[", b"(", b"{"))


def width(text: bytes) -> int:
    """Return how many numbers a field holds; of too many, one too many."""
    return sum(1 for _ in islice(_TOKENS.finditer(text), MAX_DIM + 1))


def parsed(column: pa.Array, d: int) -> NDArray[np.float32] | None:
    """Return ``(m, d)`` float32 of a column of text; None where a field is no vector of ``d`` numbers."""
    longest = pc.max(pc.binary_length(column)).as_py() or 0
    if (
        column.null_count
        or longest > _LONG * (d + 1)
        or not pc.all(pc.match_substring_regex(column, _WHOLE)).as_py()
    ):
        return None
    # Blanks at both ends of every field, so that splitting leaves one empty word there.
    apart = pc.replace_substring_regex(column, _APART, " ")
    words = pc.split_pattern(pc.utf8_trim(apart, " "), " ")
    if not pc.all(pc.equal(pc.list_value_length(words), d)).as_py():
        return None
    try:
        flat = words.flatten().cast(pa.float64())
    except pa.ArrowInvalid:
        return None
    with casting():
        rows: NDArray[np.float32] = flat.to_numpy().astype(np.float32).reshape(-1, d)
    return rows


def fault(column: pa.Array, d: int) -> tuple[int, str]:
    """Return the first row of a column that ``parsed`` refuses, and what is wrong with it."""
    for row, text in enumerate(column.to_pylist()):
        if what := _fault(text, d):
            return row, what
    return 0, "no vector"


def _fault(text: str | None, d: int) -> str:
    if text is None:
        return "no vector"
    words = (word[0] for word in islice(_TOKENS.finditer(text.encode()), MAX_DIM))
    wrong = next((word for word in words if not NUMBER.fullmatch(word)), None)
    if wrong is not None:
        return f"'{printable(wrong.decode(), 40)}' is not a number"
    if (count := width(text.encode())) != d:
        return f"expected {d} numbers, found {count}" + " or more" * (count > MAX_DIM)
    return "" if _SHAPE.match(text.encode()) else "no list of numbers: a comma too many, or a bracket inside"

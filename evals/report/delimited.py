"""Tables as CSV, for spreadsheets: RFC 4180 with line feeds, numbers with all their digits.

A text that a spreadsheet would take for a formula gets an apostrophe before it, and control characters become
visible escapes; JSON keeps every text as it is.
"""

from __future__ import annotations

import csv
import io
import math
from typing import TYPE_CHECKING, Any

from ...registry.errors import printable

if TYPE_CHECKING:
    import pyarrow as pa

#: What begins a formula, or hides its beginning (OWASP, CSV Injection); the wide letters do in some locales.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def delimited(table: pa.Table) -> str:
    """Return a table as CSV with a line of headings; what is missing is empty."""
    drawn = io.StringIO()
    writer = csv.writer(drawn, lineterminator="\n")
    writer.writerow(map(guarded, table.column_names))
    columns = [column.to_pylist() for column in table.columns]
    writer.writerows([_cell(value) for value in row] for row in zip(*columns, strict=True))
    return drawn.getvalue()


def guarded(text: str) -> str:
    """Return a text that is one in every spreadsheet, without control characters."""
    shown = text if text.isprintable() else printable(text, len(text) + 1)
    return f"'{shown}" if text.startswith(_FORMULA) else shown


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    return guarded(str(value))

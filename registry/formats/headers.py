"""What the columns of a table in text are, told from its header and its first rows.

**Header.** The first line is one if none of its fields, the first aside, is a number other than 0, 1, 2 … (or
1, 2, 3 …) in order. A line of such numbers alone is one if it starts with what ids are called, with
nothing, or with the number before them. A file without header calls its columns 0, 1, 2 …

**Vectors** are, in this order: the column that ``--vector-column`` names, which holds text such as
``[0.1, 0.2]``; columns called 0, 1, 2 …; a column of such text called ``vector`` or ``embedding``; the
longest series of columns called ``NAME0, NAME1 …``, in which a number counts on, from 0 or 1; all columns of
floats; all columns of integers. Without header all columns but the ids are the vector.

**Ids** are the column called ``id``, ``word``, ``token`` …, else the first column of text, or of anything but
floats where there is no header. What is left are attributes, of the type that their first rows have.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa

from ..errors import did_you_mean, printable
from . import attributes, vectortext
from .base import Options, bad, check_dim, no_rows
from .columns import IDS, VECTORS, kept_names
from .lines import Chunk
from .parsing import NUMBER
from .records import Grid, Record, check_width, records, text_of
from .tensorboard import metadata_of

_LOOK_ROWS = 2000
_LOOK_FIELDS = 200_000
_SERIES = re.compile(r"(.*?)(\d{1,9})", re.DOTALL | re.ASCII)
_WHOLE = re.compile(rb"\s*[+-]?\d+\s*")
_OTHERS = (b"\t", b";", b",")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """The first records of a file, by column: each field with whether it is quoted."""

    path: Path
    delimiter: bytes
    header: bool
    names: tuple[str, ...]
    columns: Sequence[Sequence[tuple[bytes, bool]]]

    def values(self, column: int) -> list[bytes]:
        """Return the fields that are not empty."""
        return [value for value, _ in self.columns[column] if value]

    def is_numeric(self, column: int) -> bool:
        """Whether a column holds numbers and nothing else."""
        values = self.values(column)
        return bool(values) and all(NUMBER.fullmatch(value.strip(b" \t")) for value in values)

    def is_float(self, column: int) -> bool:
        """Whether a column holds numbers, and one of them is not whole."""
        return self.is_numeric(column) and not all(map(_WHOLE.fullmatch, self.values(column)))

    def is_vector(self, column: int) -> bool:
        """Whether a column holds vectors as text."""
        values = self.values(column)
        return bool(values) and all(map(vectortext.looks_like, values))


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to make of a file.

    Attributes:
        id, vector: columns; None where there is none, or where each dimension has its own.
        kinds: type of each attribute's column.
        kept: the name that it is kept under.
    """

    grid: Grid
    header: bool
    dim: int
    id: int | None
    vector: int | None
    kinds: Mapping[int, pa.DataType]
    kept: Mapping[int, str]
    warnings: tuple[str, ...]


def plan(path: Path, first: Chunk, delimiter: bytes, options: Options) -> Plan:
    """Return what to make of a file that begins with the records of a chunk.

    Args:
        path: the file, for messages.
        first: its first whole records.
        delimiter: the usual one, which is taken if the first line holds it.
        options: which columns the user names.

    Raises:
        InputError: a named column is missing, or no column or several could be the vectors.
    """
    look = _look(path, first, delimiter)
    for wanted in (options.id_column, options.vector_column):
        if wanted is not None and wanted not in look.names:
            known = ", ".join(printable(name, 40) for name in look.names[:20])
            raise bad(path, "", f"no column '{printable(wanted)}'",
                      did_you_mean(wanted, look.names, f"columns: {known}"))  # fmt: skip
    ident = _id_by_name(look, options)
    vector, dims, told = _vector_columns(look, ident, options)
    if ident is None:
        ident, more_told = _id_by_content(look, vector, dims)
        told += more_told
    taken = {ident, vector, *dims}
    rest = [i for i in range(len(look.names)) if i not in taken]
    kept, renamed = kept_names([pa.field(look.names[i], pa.null()) for i in rest])
    texts = (*(i for i in (ident, vector) if i is not None), *rest)
    return Plan(
        grid=Grid(
            path=path, delimiter=look.delimiter, quoted=True, names=look.names, numbers=dims, texts=texts
        ),
        header=look.header,
        dim=_dim(look, vector, dims),
        id=ident,
        vector=vector,
        kinds={i: attributes.kind_of(look.columns[i]) for i in rest},
        kept={i: kept[look.names[i]] for i in rest},
        warnings=told + renamed + _beside(path, ident),
    )


def _beside(path: Path, ident: int | None) -> tuple[str, ...]:
    if ident is None and metadata_of(path) is not None:
        return ("ids may stand in the metadata beside it: --format tensorboard reads them",)
    return ()


def _look(path: Path, chunk: Chunk, usual: bytes) -> _Look:
    line = chunk.data[: chunk.data.index(b"\n")]
    delimiter = next((d for d in (usual, *_OTHERS) if d in line), usual)
    taken: list[Record] = []
    seen = 0
    for record in islice(records(chunk, path, delimiter, True), _LOOK_ROWS):
        taken.append(record)
        seen += len(record.fields)
        if seen > _LOOK_FIELDS:
            break
    fields = taken[0].fields
    if fields == [(b"", False)]:
        raise bad(path, "line 1", "an empty line", "remove it")
    header = _is_header([field for field, _ in fields])
    names = _names(path, fields) if header else tuple(map(str, range(len(fields))))
    grid = Grid(path=path, delimiter=delimiter, quoted=True, names=names, numbers=(), texts=())
    body = taken[1:] if header else taken
    if not body:
        raise no_rows(path)
    check_width(grid, body[0])
    fitting = [record.fields for record in body if len(record.fields) == len(names)]
    return _Look(path=path, delimiter=delimiter, header=header, names=names,
                 columns=list(zip(*fitting, strict=True)))  # fmt: skip


def _names(path: Path, fields: Sequence[tuple[bytes, bool]]) -> tuple[str, ...]:
    names = [text_of(path, 1, *field) or "" for field in fields]
    names = [name if quoted else name.strip(" \t") for name, (_, quoted) in zip(names, fields, strict=True)]
    twice, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise bad(path, "line 1", f"two columns are called '{printable(twice)}'", "rename one")
    return tuple(names)


def is_numeric(field: bytes) -> bool:
    """Whether a field of the first line is no name: a number, or a vector as text."""
    return NUMBER.fullmatch(field.strip()) is not None or vectortext.looks_like(field)


def _is_header(fields: list[bytes]) -> bool:
    numeric = [field.strip() for field in fields[1:] if is_numeric(field)]
    if len(fields) == 1:
        return not is_numeric(fields[0])
    counting = any(numeric == [b"%d" % i for i in range(start, start + len(numeric))] for start in (0, 1))
    if len(numeric) < len(fields) - 1 or not counting:
        return counting or not numeric
    first = fields[0].strip().lower()
    return not first or first.decode("latin-1") in IDS or first == b"%d" % (int(numeric[0]) - 1)


def _id_by_name(look: _Look, options: Options) -> int | None:
    if options.id_column is not None:
        return look.names.index(options.id_column)
    if not look.header:
        first = not look.is_float(0) and not look.is_vector(0) and options.vector_column != look.names[0]
        return 0 if first and len(look.names) > 1 else None
    lower = [name.lower() for name in look.names]
    # A data frame's index has no name.
    found = [known for known in IDS if known in lower] + ([""] if lower[0] == "" else [])
    return lower.index(found[0]) if found else None


def _id_by_content(
    look: _Look, vector: int | None, dims: Sequence[int]
) -> tuple[int | None, tuple[str, ...]]:
    if not look.header:
        return None, ()
    taken = {vector, *dims}
    texts = [i for i in range(len(look.names))
             if i not in taken and look.values(i) and not look.is_numeric(i)]  # fmt: skip
    if not texts:
        return None, ()
    return texts[0], (f"ids were taken from column '{printable(look.names[texts[0]], 40)}'",)


def _vector_columns(
    look: _Look, ident: int | None, options: Options
) -> tuple[int | None, tuple[int, ...], tuple[str, ...]]:
    """Return the column that holds vectors as text, or those that hold a dimension each, and what to tell."""
    if options.vector_column is not None:
        return look.names.index(options.vector_column), (), ()
    free = [i for i in range(len(look.names)) if i != ident]
    if not look.header:
        if len(free) == 1 and look.is_vector(free[0]):
            return free[0], (), ()
        return None, tuple(free), ()
    series = _series(look, free)
    if "" in series:
        return None, series[""], ()
    named = [i for i in free if look.names[i].lower() in VECTORS and look.is_vector(i)]
    if named:
        return _only(look, named), (), ()
    if series:
        return None, _longest(look, series), ()
    floats = tuple(i for i in free if look.is_float(i))
    found = floats or tuple(i for i in free if look.is_numeric(i))
    if not found:
        raise _no_vectors(look, free)
    return None, found, _told(look, sorted(set(free) - set(found)))


def _told(look: _Look, others: Sequence[int]) -> tuple[str, ...]:
    if not any(map(look.is_numeric, others)):
        return ()
    listed = ", ".join(printable(look.names[i], 40) for i in others[:20])
    return (f"columns that are not floats are attributes, not dimensions: {listed}",)


def _series(look: _Look, free: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Return columns whose names count on, by what stands before the number; most of them hold numbers."""
    numbered: dict[str, dict[int, int]] = {}
    doubled = set()
    for i in free:
        if found := _SERIES.fullmatch(look.names[i]):
            group = numbered.setdefault(found[1], {})
            if int(found[2]) in group:
                doubled.add(found[1])
            group[int(found[2])] = i
    series = {}
    for prefix, group in numbered.items():
        start = min(group)
        whole = start in (0, 1) and max(group) == start + len(group) - 1 and prefix not in doubled
        if whole and (len(group) > 1 or prefix == ""):
            columns = tuple(group[number] for number in sorted(group))
            if 2 * sum(map(look.is_numeric, columns)) >= len(columns):
                series[prefix] = columns
    return series


def _longest(look: _Look, series: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    longest = max(map(len, series.values()))
    found = [columns for columns in series.values() if len(columns) == longest]
    if len(found) > 1:
        listed = ", ".join(f"{look.names[c[0]]} … {look.names[c[-1]]}" for c in found)
        raise bad(look.path, "", f"several series of columns could be the vector: {listed}",
                  "keep one of them in the file")  # fmt: skip
    return found[0]


def _only(look: _Look, found: Sequence[int]) -> int:
    if len(found) > 1:
        listed = ", ".join(look.names[i] for i in found)
        raise bad(look.path, "", f"several columns of vectors: {listed}", "name one with --vector-column")
    return found[0]


def _no_vectors(look: _Look, free: Sequence[int]) -> Exception:
    texts = [look.names[i] for i in free if look.is_vector(i)]
    hint = f"--vector-column {texts[0]}" if texts else "one column a dimension, or --vector-column"
    listed = ", ".join(look.names[:20])
    return bad(look.path, "", f"no columns of numbers, apart from the ids, among: {listed}", hint)


def _dim(look: _Look, vector: int | None, dims: Sequence[int]) -> int:
    if vector is None:
        return check_dim(look.path, "", len(dims))
    place = f"column '{printable(look.names[vector], 40)}'"
    return check_dim(look.path, place, vectortext.width(look.columns[vector][0][0]))
